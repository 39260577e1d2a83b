"""Kinds of picture files that Pillow reads but does not write: PNG of few bits, interlaced or of 16 bits with alpha; BMP of all
its headers and depths, with runs; JPEG by way of jpeg_kinds.c. Used by image.py."""
import os
import struct
import subprocess
import tempfile
import zlib

import numpy as np

ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))  # x, y, dx, dy


def png(samples, depth, colour_type, interlaced=False, palette=None, trns=None, extra=()):
    """samples: [height, width, channels], values below 2**depth; every row is stored as it is. extra: (type, bytes) chunks."""
    height, width, channels = samples.shape

    def pack(rows):
        out = b""
        for row in rows:
            bits = "".join(format(int(v), f"0{depth}b") for v in row.reshape(-1))
            bits += "0" * (-len(bits) % 8)
            out += b"\0" + int(bits, 2).to_bytes(len(bits) // 8, "big")
        return out

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    parts = [samples[y::dy, x::dx] for x, y, dx, dy in ADAM7] if interlaced else [samples]
    out = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, interlaced))
    for kind, data in extra:
        out += chunk(kind, data)
    if palette is not None:
        out += chunk(b"PLTE", palette)
    if trns is not None:
        out += chunk(b"tRNS", trns)
    return out + chunk(b"IDAT", zlib.compress(b"".join(pack(p) for p in parts if p.size), 9)) + chunk(b"IEND", b"")


def bmp(rows, bits, header=40, compression=0, palette=b"", masks=(), top_down=False, colours=0):
    """rows: the file's rows from the top, or the bytes of all pixels when they are compressed."""
    width, height = rows[1] if isinstance(rows, tuple) else (len(rows[0]) * 8 // bits, len(rows))
    if isinstance(rows, tuple):
        data = rows[0]
    else:
        padded = [bytes(r) + bytes(-len(r) % 4) for r in rows]
        data = b"".join(padded if top_down else padded[::-1])
    if header == 12:
        info = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        info = struct.pack("<IiiHHIIiiII", header, width, -height if top_down else height, 1, bits, compression, len(data), 2835,
                           2835, colours, 0)
        info += b"".join(struct.pack("<I", m) for m in masks)
        info += bytes(max(0, header - len(info)))
    start = 14 + len(info) + len(palette)
    return struct.pack("<2sIHHI", b"BM", start + len(data), 0, 0, start) + info + palette + data


def run_length(indices, bits):
    """Runs, a literal stretch, a jump, ends of lines and of the picture, all in one: the file's pixel bytes."""
    out = b""
    for y, row in enumerate(indices[::-1]):
        x = 0
        if y == 2:
            out += bytes((0, 2, 3, 0))  # three pixels to the right are left out
            x = 3
        if y == 4:
            n = 5
            body = bytes(row[:n]) if bits == 8 else bytes([row[0] << 4 | row[1], row[2] << 4 | row[3], row[4] << 4])
            out += bytes((0, n)) + body + bytes(len(body) % 2)
            x = n
        while x < len(row):
            n = 1
            while x + n < len(row) and row[x + n] == row[x] and n < 255:
                n += 1
            out += bytes((n, row[x] if bits == 8 else row[x] << 4 | row[x]))
            x += n
        out += bytes((0, 0))
    return out + bytes((0, 1))


def runs_with_gaps(width, height, colours):
    ramp = np.add.outer(np.arange(height) // 2, np.arange(width) // 3)
    return (ramp % colours).astype(np.uint8)


_tool = []


def jpeg(kind, samples):
    if not _tool:
        here = os.path.dirname(os.path.abspath(__file__))
        _tool.append(os.path.join(tempfile.mkdtemp(), "jpeg_kinds"))
        subprocess.check_call(["cc", "-o", _tool[0], os.path.join(here, "jpeg_kinds.c"), "-ljpeg"])
    height, width, _ = samples.shape
    return subprocess.run([_tool[0], kind, str(width), str(height)], input=samples.tobytes(), stdout=subprocess.PIPE,
                          check=True).stdout
