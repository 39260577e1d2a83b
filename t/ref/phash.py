#!/usr/bin/env python3
"""Makes t/data/phash: a small picture, the same picture as other programs save it, and the perceptual hashes that
numpy computes of these and of other pictures in the repository.

    python3 t/ref/phash.py        (Pillow, numpy)

phash.txt: NAME HASH SURE, both in hexadecimal. The reference works in floating point; SURE has a 1 for each bit whose
coefficient is so far from the median that rounding cannot turn it. NAME is relative to the repository's root."""
import glob
import os

import numpy as np
from PIL import Image

root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
os.chdir(root)
os.makedirs("t/data/phash", exist_ok=True)


def scene(seed, width=72, height=60):
    """Soft hills and a few discs: a picture with as much at low frequencies as photographs have."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / 60.0
    im = np.zeros((height, width, 3))
    for _ in range(9):
        fx, fy, phase = rng.uniform(-9, 9, 2).tolist() + [rng.uniform(0, 6.3)]
        im += np.sin(fx * x + fy * y + phase)[..., None] * rng.uniform(5, 30, 3)
    for _ in range(4):
        inside = (x - rng.uniform(0, 1.2)) ** 2 + (y - rng.uniform(0, 1)) ** 2 < rng.uniform(0.01, 0.06)
        im = np.where(inside[..., None], rng.uniform(-100, 100, 3), im)
    return Image.fromarray(np.clip(im + 128, 0, 255).astype(np.uint8))


def area(grey):
    """[h, w] to [32, 32]: the mean over the area that each cell covers."""
    def weights(n):
        edges = np.arange(33) * n / 32
        at = np.arange(n)
        return np.clip(np.minimum(at + 1, edges[1:, None]) - np.maximum(at, edges[:-1, None]), 0, None) * 32 / n
    return weights(grey.shape[0]) @ grey @ weights(grey.shape[1]).T


def phash(im):
    rgb = np.asarray(im.convert("RGB"), np.int64)
    grey = (rgb @ np.array([19595, 38470, 7471]) + 32768) >> 16
    small = area(grey.astype(np.float64))
    k, n = np.arange(8)[:, None], np.arange(32)[None]
    basis = np.cos(np.pi * (2 * n + 1) * k / 64)
    low = (basis @ small @ basis.T).reshape(-1)[1:]
    median = np.median(low)
    bits = sure = 0
    for i, v in enumerate(low, 1):
        bits |= int(v > median) << i
        sure |= int(abs(v - median) > 0.5) << i
    return bits, sure


if __name__ == "__main__":
    one = scene(1)
    one.save("t/data/phash/a.png")
    one.save("t/data/phash/a-q80.jpg", quality=80)
    one.save("t/data/phash/a-q60.webp", quality=60)
    one.resize((100, 84), Image.LANCZOS).save("t/data/phash/a-large.png")
    one.resize((48, 40), Image.BICUBIC).save("t/data/phash/a-small.jpg", quality=85)
    scene(2).save("t/data/phash/b.png")
    names = sum((sorted(glob.glob(p)) for p in ("t/data/phash/*.[pjw]*", "contrib/tiny/sks/[0-2]*.[pjw]*")), [])
    names += [f"t/data/image/{n}" for n in ("source.png", "rgba.png", "grey16.png", "444.jpg", "cmyk.jpg")]
    with open("t/data/phash/phash.txt", "w") as f:
        for name in names:
            f.write("%s %016x %016x\n" % (name, *phash(Image.open(name))))
