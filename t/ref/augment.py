#!/usr/bin/env python3
"""Augmented pictures as sd-scripts' DreamBoothDataset hands them to training, one __getitem__ a case.

  SD_SCRIPTS=... augment.py [DIR]        (DIR: t/data/augment; versions and environment: see peers.py; opencv-python 4.10)

source.png is the picture. cases.txt has a line a case, its fields parted by tabs:
  SEED NAME BUCKETED FLIP COLOR RANDOM_CROP LOW HIGH  BUCKET_W BUCKET_H RESIZE_W RESIZE_H CROP_X CROP_Y  CAPTION
LOW and HIGH are face_crop_aug_range, 0 where there is none; Python's generator is seeded with SEED; CAPTION is what
"a, b, c, d, e" became, shuffled with a tag drop-out of 0.2. The pictures follow each other in pictures.bin, RGB.
"""
import os
import random
import shutil
import sys
import tempfile

import numpy as np
import torch
from PIL import Image

import peers

W, H, SIDE = 80, 64, 32
FACE = "p_45_30_20_24.png"


def source():
    rng = np.random.default_rng(5)
    y, x = np.mgrid[0:H, 0:W]
    smooth = np.stack([x * 3, y * 4, (x + y) * 2 % 256], -1)
    return np.clip(smooth + rng.integers(-20, 20, (H, W, 3)), 0, 255).astype(np.uint8)


def main(argv):
    peers.check()
    out = peers.output(argv, "augment")
    peers.sd_scripts()
    from library import train_util as tu

    Image.fromarray(source()).save(f"{out}/source.png")

    class Tokenizer:
        def tokenize(self, text):
            self.text = text
            return [torch.zeros(1, 77, dtype=torch.long)]

    cases = [(FACE, b, f, c, r, lo, hi) for b in (1, 0) for f in (0, 1) for c in (0, 1) for r in (0, 1)
             for lo, hi in ((0, 0), (0.5, 1.5))]
    cases += [("a_b_c.png", 0, 0, 0, 1, 0.5, 1.0), (FACE, 0, 0, 0, 0, 1.0, 1.0), ("p_1_2_60_50.png", 0, 1, 0, 1, 1.0, 3.0),
              ("p_45_30_60_64.png", 0, 0, 0, 0, 0.5, 2.0), ("x.png", 1, 1, 1, 1, 0, 0)]
    seed = 0
    with open(f"{out}/cases.txt", "w") as text, open(f"{out}/pictures.bin", "wb") as pictures:
        for name, bucketed, flip, color, crop, lo, hi in cases:
            if not bucketed and not crop and not lo:
                continue  # sd-scripts refuses pictures that are too large then
            folder = tempfile.mkdtemp()
            shutil.copy(f"{out}/source.png", f"{folder}/{name}")
            with open(f"{folder}/{name[:-4]}.txt", "w") as f:
                f.write("a, b, c, d, e")
            subset = tu.DreamBoothSubset(folder, False, None, ".txt", False, False, 1, True, ",", 1, "", None, False, bool(color),
                                         bool(flip), (lo, hi) if lo else None, bool(crop), 0.0, 0, 0.2, None, None, 1, 0)
            d = tu.DreamBoothDataset([subset], True, 1, (SIDE, SIDE), 1.0, bool(bucketed), 16, 64, 8, False, 1.0, False, 0.0, None, None)
            d.tokenize_strategy = Tokenizer()
            d.text_encoder_output_caching_strategy = None
            d.make_buckets()
            info = next(iter(d.image_data.values()))
            bucket, resize = info.bucket_reso, info.resized_size
            for _ in range(3):
                seed += 1
                random.seed(seed)
                example = d[0]
                image = np.rint((example["images"][0].numpy().transpose(1, 2, 0) + 1) * 127.5).astype(np.uint8)
                assert image.shape == (bucket[1], bucket[0], 3)
                pictures.write(image.tobytes())
                print(seed, name, bucketed, flip, color, crop, lo, hi, *bucket, *resize, (resize[0] - bucket[0]) // 2,
                      (resize[1] - bucket[1]) // 2, example["captions"][0], sep="\t", file=text)
            shutil.rmtree(folder)


if __name__ == "__main__":
    main(sys.argv)
