#!/usr/bin/env python3
"""Repeats of regularisation pictures, by sd-scripts' own DreamBoothDataset.

  SD_SCRIPTS=... balance.py [DIR]        (DIR: t/data/bucket; versions and environment: see peers.py)

Writes balance.ndjson, a line for each picture of many data sets, in the order of their subsets: d (the data set's number),
reg, repeats (what the subset says), want (what training uses; 0: the picture is not used).
"""
import json
import os
import random
import sys
import tempfile

import peers

CASES = [  # subsets: (reg, repeats, pictures)
    [(0, 10, 3), (1, 1, 5)],  # fewer: 30 for 5
    [(0, 1, 10), (1, 1, 10)],  # as many
    [(0, 1, 4), (1, 1, 9)],  # more: 5 are not used
    [(0, 1, 7), (1, 3, 5)],  # the last one overshoots
    [(0, 1, 7), (1, 3, 2)],  # one short
    [(0, 5, 5), (1, 2, 3), (1, 4, 2)],
    [(1, 2, 3), (0, 4, 4), (1, 1, 4), (0, 1, 1)],  # regularisation first
    [(0, 100, 1), (1, 1, 7)],
    [(0, 3, 2)],  # none
    [(1, 2, 3)],  # nothing else: none is used
    [(0, 1, 1), (1, 50, 2)],
]


def random_case(r):
    sets = [(0, r.randint(1, 9), r.randint(1, 5))]
    sets += [(r.randint(0, 1), r.randint(1, 6), r.randint(1, 5)) for _ in range(r.randint(0, 2))]
    sets.append((1, r.randint(1, 5), r.randint(1, 8)))
    r.shuffle(sets)
    return sets


def subset(cls, folder, reg, repeats):
    import inspect

    values = dict(image_dir=folder, is_reg=bool(reg), class_tokens="x", caption_extension=".caption", num_repeats=repeats)
    return cls(**{k: values.get(k) for k in inspect.signature(cls.__init__).parameters if k != "self"})


def dataset(cls, subsets):
    import inspect

    values = dict(subsets=subsets, is_training_dataset=True, batch_size=1, resolution=(64, 64), network_multiplier=1.0,
                  enable_bucket=False, prior_loss_weight=1.0, debug_dataset=False, validation_split=0.0)
    return cls(**{k: values.get(k) for k in inspect.signature(cls.__init__).parameters if k != "self"})


def main(argv):
    peers.check()
    out = os.path.join(os.path.abspath(peers.output(argv, "bucket")), "balance.ndjson")
    peers.sd_scripts()
    from library.train_util import DreamBoothDataset, DreamBoothSubset

    r = random.Random(20240601)
    cases = CASES + [random_case(r) for _ in range(150)]
    with open(out, "w", encoding="utf-8") as f:
        for d, case in enumerate(cases):
            with tempfile.TemporaryDirectory() as folder:
                rows, subsets = [], []
                for s, (reg, repeats, n) in enumerate(case):
                    os.mkdir(f"{folder}/{s}")
                    for i in range(n):
                        path = f"{folder}/{s}/{i:02}.png"
                        open(path, "w").close()  # its size is not asked for
                        rows.append((path, reg, repeats))
                    subsets.append(subset(DreamBoothSubset, f"{folder}/{s}", reg, repeats))
                used = dataset(DreamBoothDataset, subsets).image_data
                for path, reg, repeats in rows:
                    want = used[path].num_repeats if path in used else 0
                    print(json.dumps(dict(d=d, reg=bool(reg), repeats=repeats, want=want), separators=(",", ":")), file=f)
    print(f"{len(cases)} data sets")


if __name__ == "__main__":
    main(sys.argv)
