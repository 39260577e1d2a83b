#!/usr/bin/env python3
"""Compares lib/image/resize with OpenCV and Pillow on photographs, and measures it; not part of make check.

    python3 t/ref/resize_photos.py [--speed] PHOTO...        (Pillow 12, opencv-python 4.10, numpy, a C compiler)

FILTERS="area lanczos" in the environment picks filters for --speed. Sizes are those that buckets of 512 and 1024 make of each picture, and some that enlarge. Prints for each filter the
largest difference of a byte and how many of all differ; with --speed the source megapixels a second, one thread each, in processor time."""
import ctypes
import glob
import os
import subprocess
import sys
import tempfile
import time

import cv2
import numpy as np
from PIL import Image

root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
filters = ["auto", "nearest", "linear", "cubic", "lanczos4", "area", "lanczos", "box", "pil-bicubic"]
opencv = {"nearest": cv2.INTER_NEAREST_EXACT, "linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC,
          "lanczos4": cv2.INTER_LANCZOS4, "area": cv2.INTER_AREA}
pillow = {"lanczos": Image.LANCZOS, "box": Image.BOX, "pil-bicubic": Image.BICUBIC}


class Picture(ctypes.Structure):
    _fields_ = [("width", ctypes.c_uint32), ("height", ctypes.c_uint32), ("channels", ctypes.c_int),
                ("data", ctypes.c_void_p)]


def build():
    so = os.path.join(tempfile.mkdtemp(), "resize.so")
    sources = glob.glob("lib/image/resize*.c", root_dir=root) + ["lib/base/err.c"]
    stub = os.path.join(os.path.dirname(so), "alloc.c")
    with open(stub, "w") as f:  # sd_image_alloc without the decoders
        f.write('#include "image/image.h"\n#include <stdlib.h>\n'
                "int sd_image_alloc(struct sd_image *im, uint64_t w, uint64_t h, int c, struct sd_err *err)\n"
                "{ (void)err; *im = (struct sd_image){(uint32_t)w, (uint32_t)h, c, calloc(w * h, (size_t)c)}; return 0; }\n"
                "void sd_image_free(struct sd_image *im) { free(im->data); }\n")
    subprocess.check_call(["cc", "-std=gnu17", "-O3", "-shared", "-fPIC", "-fno-math-errno", "-Ilib", "-o", so, *sources, stub,
                           "-lm"], cwd=root)
    return ctypes.CDLL(so)


lib = build()


def ours(a, size, name, look=True):
    h, w, c = a.shape
    a = np.ascontiguousarray(a)
    source, to, err = Picture(w, h, c, a.ctypes.data), Picture(), ctypes.create_string_buffer(1024)
    assert lib.sd_image_resize(ctypes.byref(source), size[0], size[1], filters.index(name), ctypes.byref(to), err) == 0
    if not look:
        return lib.sd_image_free(ctypes.byref(to))
    out = np.ctypeslib.as_array(ctypes.cast(to.data, ctypes.POINTER(ctypes.c_uint8)), (to.height, to.width, c)).copy()
    lib.sd_image_free(ctypes.byref(to))
    return out


def theirs(a, size, name):
    if name == "auto":
        name = "area" if a.shape[1] >= size[0] and a.shape[0] >= size[1] else "lanczos"
    if name in opencv:
        return cv2.resize(a, size, interpolation=opencv[name])
    return np.array(Image.fromarray(a).resize(size, pillow[name]))


def bucket_sizes(w, h):
    """What covers the bucket nearest in shape, for two areas of training, and enlargements by a little and a lot."""
    sizes = []
    for side in (512, 1024):
        bw = round(side * (w / h) ** 0.5 / 64) * 64
        bh = round(side * (h / w) ** 0.5 / 64) * 64
        scale = max(bw / w, bh / h)
        sizes.append((int(w * scale + 0.5), int(h * scale + 0.5)))
    return sizes + [(w // 2, h // 2), (w // 3, h // 4), (w + 7, h + 11), (w * 13 // 10, h * 13 // 10)]


def load(path):
    with Image.open(path) as im:
        im.draft("RGB", (2048, 2048))  # huge ones at half their size: time
        return np.array(im.convert("RGB"))


def compare(paths):
    worst = {f: [0, 0, 0] for f in filters}
    for path in paths:
        a = load(path)
        alpha = cv2.resize(np.ascontiguousarray(a[::-1, :, 1]), (a.shape[1], a.shape[0]))
        for picture in (a, np.dstack([a, alpha])):
            for size in bucket_sizes(a.shape[1], a.shape[0]):
                for name in filters:
                    d = np.abs(ours(picture, size, name).astype(np.int16) - theirs(picture, size, name))
                    w = worst[name]
                    w[0], w[1], w[2] = max(w[0], int(d.max())), w[1] + int((d > 0).sum()), w[2] + d.size
    for name, (most, differ, n) in worst.items():
        print(f"{name:12} largest difference {most}, {differ} of {n} bytes differ")


def speed(paths):
    cv2.setNumThreads(1)
    a = load(paths[0])
    h, w, _ = a.shape
    print(f"{w}x{h} RGB, source megapixels a second of processor time, best of 9 (ours, theirs)")
    for name, size in [(n, s) for n in (os.environ.get("FILTERS") or " ".join(filters[1:])).split() for s in ((w * 3 // 10, h * 3 // 10), (w * 3 // 2, h * 3 // 2))]:
        best = []
        for f in (lambda *x: ours(*x, look=False), theirs):
            times = []
            for _ in range(9):
                start = time.process_time()
                f(a, size, name)
                times.append(time.process_time() - start)
            best.append(w * h / 1e6 / min(times))
        print(f"{name:12} to {size[0]}x{size[1]}: {best[0]:8.1f} {best[1]:8.1f}  ratio {best[0] / best[1]:.2f}")


if __name__ == "__main__":
    arguments = [a for a in sys.argv[1:] if a != "--speed"]
    (speed if "--speed" in sys.argv else compare)(arguments)
