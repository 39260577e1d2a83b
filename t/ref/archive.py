"""Fixtures of lib/store/archive, made by Python's own tarfile and zipfile, and the way back through webdataset.

  archive.py [OUT]          writes t/data/archive/
  archive.py check SHARD... reads what sd-pack wrote (.tar) with webdataset 1.0.2 and Pillow, and prints a line a
                            sample: key, endings, size of the picture, caption, path in the .json

Run with Python 3.11; only check needs pip install webdataset==1.0.2 pillow numpy.
"""

import io
import os
import struct
import sys
import tarfile
import zipfile

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data")
LONG = "long/" * 40 + "é" * 60 + ".png"


def picture(name):
    with open(os.path.join(ROOT, "image", name), "rb") as f:
        return f.read()


def add(tar, name, data, **fields):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    tar.addfile(info, io.BytesIO(data) if data else None)


def good_tar(path, form, long_names):
    with tarfile.open(path, "w", format=form) as tar:
        add(tar, "./sub", b"", type=tarfile.DIRTYPE)
        add(tar, "./a.png", picture("rgb.png"))
        add(tar, "./sub/b.jpg", picture("420.jpg"), mtime=1e9 + 0.5 if form == tarfile.PAX_FORMAT else 1e9)
        add(tar, "./sub/b.txt", "a cät".encode())
        if long_names:
            add(tar, LONG, picture("lossy.webp"))


def good_zip(path, method):
    with zipfile.ZipFile(path, "w", method) as z:
        z.writestr(zipfile.ZipInfo("sub/"), b"")
        for name, data in (("a.png", picture("rgb.png")), ("sub/b.jpg", picture("420.jpg")),
                           ("sub/b.txt", "a cät".encode()), ("é.bmp", picture("rgb.bmp"))):
            z.writestr(zipfile.ZipInfo(name), data, compress_type=method)


def odd_tar(path):
    png = picture("rgb.png")
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        add(tar, "good.png", png)
        add(tar, "../up.png", png)
        add(tar, "sub/../../up.png", png)
        add(tar, "/abs.png", png)
        add(tar, "sym.png", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add(tar, "hard.png", b"", type=tarfile.LNKTYPE, linkname="good.png")
        add(tar, "pipe.png", b"", type=tarfile.FIFOTYPE)
        add(tar, "device.png", b"", type=tarfile.CHRTYPE)
        add(tar, "sparse.png", png, type=tarfile.GNUTYPE_SPARSE)
        add(tar, "good.png", png)
        add(tar, "..png", png)
        add(tar, "last.png", png)


def odd_zip(path):
    png = picture("rgb.png")
    with zipfile.ZipFile(path, "w") as z:
        for name in ("good.png", "../up.png", "/abs.png", "n-l.png", "locked.png", "method.png", "crc.png", "last.png"):
            z.writestr(zipfile.ZipInfo(name), png)
        link = zipfile.ZipInfo("sym.png")
        link.external_attr = 0o120777 << 16
        z.writestr(link, "/etc/passwd")
    data = bytearray(open(path, "rb").read())

    def entry(name):
        at = data.rindex(name)
        return at - 46

    data[entry(b"locked.png") + 8] |= 1
    struct.pack_into("<H", data, entry(b"method.png") + 10, 99)
    data[entry(b"crc.png") + 16] ^= 1
    for at in (data.index(b"n-l.png"), data.rindex(b"n-l.png")):
        data[at + 1] = 0
    open(path, "wb").write(data)


def write(out):
    os.makedirs(out, exist_ok=True)
    at = lambda name: os.path.join(out, name)
    good_tar(at("ustar.tar"), tarfile.USTAR_FORMAT, False)
    good_tar(at("gnu.tar"), tarfile.GNU_FORMAT, True)
    good_tar(at("pax.tar"), tarfile.PAX_FORMAT, True)
    good_zip(at("stored.zip"), zipfile.ZIP_STORED)
    good_zip(at("deflated.zip"), zipfile.ZIP_DEFLATED)
    odd_tar(at("odd.tar"))
    odd_zip(at("odd.zip"))


def check(shards):
    import webdataset

    for sample in webdataset.WebDataset(shards, shardshuffle=False).decode("pil"):
        endings = sorted(k for k in sample if not k.startswith("__"))
        image = next(sample[k] for k in endings if k in ("png", "jpg", "jpeg", "webp", "bmp"))
        size = image.size if hasattr(image, "size") else len(image)
        print(sample["__key__"], ",".join(endings), size, sample.get("txt"), sample.get("json", {}).get("path"))


if __name__ == "__main__":
    if sys.argv[1:2] == ["check"]:
        check(sys.argv[2:])
    else:
        write(sys.argv[1] if len(sys.argv) > 1 else os.path.join(ROOT, "archive"))
