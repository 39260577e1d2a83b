#!/usr/bin/env python3
"""Bucket lists and the assignment of 10,000 picture sizes, by sd-scripts' own BucketManager.

  SD_SCRIPTS=... buckets.py [DIR]        (DIR: t/data/bucket; versions and environment: see peers.py)

Writes buckets.safetensors
  in.sizes [10000,2] I16      width, height: random ones from 16 to 5000, common cameras' and screens', tiny, slender,
                              and sizes that are buckets themselves or one pixel off
For each setting S = A, B, ..., whose options are in the metadata under its name, as JSON: resolution [W,H], steps, min, max
(already adjusted to multiples of the step), asked (min and max before that), no_upscale
  out.S.list [n,2] I16        the bucket list (not with no_upscale, where buckets come from the pictures)
  out.S.rows [n,4] I32        for the first n sizes (1000 in A and G, else 300): bucket width, height, resized width, height
  out.S.hash [100] I64        for every 100 of the 10,000 sizes, FNV-1a (64 bits) of their rows as little-endian int32
  out.S.used [m,3] I16        the buckets in use, sorted, with the number of pictures in each
  out.S.error [1] F64         mean of |bucket ratio - picture ratio|, as sd-scripts reports it
  out.S.crop [200,4] F64      crop_ltrb of the first 200 sizes as an npz cache holds it (A, E, G)
With no_upscale sd-scripts divides by zero for pictures less high than a step, or too slender: such a row is 0 0 0 0 here,
and is in neither `used` nor `error`. A picture narrower than a step gets a bucket of width 0.
"""
import json
import os
import sys

import numpy as np
import torch

import peers

SETTINGS = {
    "A": dict(resolution=[512, 512], steps=64, asked=[256, 1024], no_upscale=False),
    "B": dict(resolution=[768, 768], steps=64, asked=[256, 1024], no_upscale=False),
    "C": dict(resolution=[512, 768], steps=64, asked=[256, 1024], no_upscale=False),
    "D": dict(resolution=[64, 64], steps=8, asked=[32, 1024], no_upscale=False),
    "E": dict(resolution=[1024, 1024], steps=64, asked=[512, 2048], no_upscale=False),
    "F": dict(resolution=[640, 448], steps=32, asked=[200, 1000], no_upscale=False),
    "G": dict(resolution=[512, 512], steps=64, asked=[256, 1024], no_upscale=True),
    "H": dict(resolution=[768, 512], steps=8, asked=[256, 1024], no_upscale=True),
    "I": dict(resolution=[64, 64], steps=8, asked=[32, 1024], no_upscale=True),
}


def picture_sizes():
    r = np.random.RandomState(20240407)
    n = 10000
    sizes = np.stack([r.randint(64, 5001, n), r.randint(64, 5001, n)], 1)
    sizes[::5] = np.stack([r.randint(16, 700, n // 5), r.randint(16, 700, n // 5)], 1)
    common = np.array([(4000, 3000), (6000, 4000), (1920, 1080), (1280, 720), (640, 480), (800, 600), (1024, 768), (3024, 4032),
                       (1080, 1080), (512, 512), (500, 500), (2048, 1365), (1200, 1600), (5000, 500), (300, 3000)])
    sizes[1::10] = common[r.randint(0, len(common), n // 10)]
    steps = r.choice([8, 32, 64], n // 10)
    sizes[6::10] = np.stack([r.randint(4, 17, n // 10), r.randint(4, 17, n // 10)], 1) * steps[:, None]
    sizes[7::20] = sizes[6::20] + r.randint(-1, 2, (n // 20, 2))
    return np.maximum(sizes, 16)


def fnv(data):
    h = 0xCBF29CE484222325
    for b in data:
        h = (h ^ b) * 0x100000001B3 % (1 << 64)
    return h - (1 << 64) if h >> 63 else h


def main(argv):
    peers.check()
    out = peers.output(argv, "bucket")
    peers.sd_scripts()
    from library.train_util import BaseDataset, BucketManager

    sizes = picture_sizes()
    t, notes = {"in.sizes": torch.from_numpy(sizes.astype(np.int16))}, {}
    for name, s in SETTINGS.items():
        low, high = BaseDataset.adjust_min_max_bucket_reso_by_steps(None, s["resolution"], *s["asked"], s["steps"])
        manager = BucketManager(s["no_upscale"], tuple(s["resolution"]), low, high, s["steps"])
        if not s["no_upscale"]:
            manager.make_buckets()
            t[f"out.{name}.list"] = torch.tensor(manager.predefined_resos, dtype=torch.int16)
        rows, errors, crops, bad = [], [], [], 0
        for i, (w, h) in enumerate(sizes.tolist()):
            known = len(manager.resos)
            try:
                bucket, resized, error = manager.select_bucket(w, h)
            except ZeroDivisionError:
                bad += 1
                for reso in manager.resos[known:]:
                    del manager.reso_to_id[reso]
                del manager.resos[known:], manager.buckets[known:]
                rows.append((0, 0, 0, 0))
                crops.append((0, 0, 0, 0))
                continue
            manager.add_image(bucket, i)
            rows.append((*bucket, *resized))
            errors.append(abs(error))
            crops.append(manager.get_crop_ltrb(bucket, (w, h)) if bucket[0] else (0, 0, 0, 0))
        manager.sort()
        rows = np.array(rows, dtype="<i4")
        t[f"out.{name}.rows"] = torch.from_numpy(rows[: 1000 if name in "AG" else 300])
        t[f"out.{name}.hash"] = torch.tensor([fnv(rows[i : i + 100].tobytes()) for i in range(0, len(rows), 100)])
        t[f"out.{name}.used"] = torch.tensor([(*r, len(b)) for r, b in zip(manager.resos, manager.buckets) if b], dtype=torch.int16)
        t[f"out.{name}.error"] = torch.tensor([np.mean(np.array(errors))], dtype=torch.float64)
        if name in "AEG":
            t[f"out.{name}.crop"] = torch.tensor(crops[:200], dtype=torch.float64)
        notes[name] = json.dumps(dict(s, min=low, max=high))
        print(f"  {name}: {len(t[f'out.{name}.used'])} buckets in use, error {errors and np.mean(errors):.6f}, {bad} not placed")
    peers.save(t, os.path.join(out, "buckets.safetensors"), **notes)


if __name__ == "__main__":
    main(sys.argv)
