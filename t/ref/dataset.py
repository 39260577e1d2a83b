#!/usr/bin/env python3
"""The order of training: buckets and epochs as sd-scripts shuffles them, batches as a torch DataLoader permutes them.

  SD_SCRIPTS=... dataset.py [DIR]        (DIR: t/data/dataset; versions and environment: see peers.py)

Writes epochs.txt, in which after a line of a kind follow those that belong to it:
  set SEED BATCH_SIZE LOADER_SEED
  item WIDTH HEIGHT REPEATS DATASET      bucket, repeats and dataset of pictures 0, 1, 2, ...
  epoch N | WxH: P P P | WxH: P ...      batches in the order of training: bucket, pictures
Dataset K has batches of BATCH_SIZE + K.
Each set has its epochs in order, with one DataLoader over all of them, torch.manual_seed(LOADER_SEED) before the first.
sd-scripts itself takes the first batch of an epoch (of each worker) from the order of the epoch before, since it tells the
data set of a new epoch only after fetching one; here every batch is of its own epoch.
"""
import random
import sys
from types import SimpleNamespace

import torch

import peers

SETS = [  # seed, batch size, loader seed, epochs, items
    (7, 2, 1, (1, 2, 3), [(64, 64, 1)] * 5 + [(96, 48, 2)] * 3 + [(64, 32, 3)]),
    (2**31, 4, 42, (1, 2), [(512, 512, 10)] + [(512, 512, 1)] * 7 + [(448, 576, 1)] * 2),
    (0, 1, 3, (1, 5), [(64, 64, 1)] * 20),
    (123456789, 3, 0, (1, 2), [(64 * (1 + i % 4), 64 * (1 + i % 3), 1 + i % 5) for i in range(30)]),
    (1, 8, 1, (1,), [(64, 64, 1)]),
    (99, 2, 5, (1, 2, 4), [(64, 64, 1 + i % 2, i % 3) for i in range(20)] + [(96, 48, 1, 2)] * 5),
]


def main(argv):
    peers.check()
    out = peers.output(argv, "dataset")
    peers.sd_scripts()
    from library.train_util import BaseDataset, BucketBatchIndex, BucketManager

    def make(items, size):
        """A dataset of (picture, width, height, repeats)."""
        manager = BucketManager(False, (512, 512), 64, 1024, 64)
        for i, w, h, repeats in items:
            manager.add_if_new_reso((w, h))
            for _ in range(repeats):
                manager.add_image((w, h), i)
        manager.sort()
        indices = [BucketBatchIndex(b, size, k) for b, bucket in enumerate(manager.buckets) for k in range(-(-len(bucket) // size))]
        dataset = SimpleNamespace(seed=0, current_epoch=0, buckets_indices=indices, bucket_manager=manager, size=size)
        dataset.shuffle_buckets = lambda: BaseDataset.shuffle_buckets(dataset)
        dataset.shuffle_buckets()  # make_buckets does, before the seed is set
        return dataset

    with open(f"{out}/epochs.txt", "w") as f:
        for seed, batch, loader_seed, epochs, items in SETS:
            print("set", seed, batch, loader_seed, file=f)
            items = [item if len(item) > 3 else (*item, 0) for item in items]
            for item in items:
                print("item", *item, file=f)
            datasets = [make([(i, *item[:3]) for i, item in enumerate(items) if item[3] == k], batch + k)
                        for k in range(1 + max(item[3] for item in items))]
            for d in datasets:
                d.seed = seed
            places = [(d, at) for d in datasets for at in range(len(d.buckets_indices))]
            torch.manual_seed(loader_seed)
            loader = torch.utils.data.DataLoader(range(len(places)), batch_size=1, shuffle=True)
            for n in epochs:
                for d in datasets:
                    BaseDataset.set_current_epoch(d, n)
                state = random.getstate()
                line = f"epoch {n}"
                for (place,) in loader:
                    d, at = places[place]
                    b = d.buckets_indices[at]
                    bucket = d.bucket_manager.buckets[b.bucket_index]
                    w, h = d.bucket_manager.resos[b.bucket_index]
                    line += f" | {w}x{h}: " + " ".join(map(str, bucket[b.batch_index * d.size : (b.batch_index + 1) * d.size]))
                assert state == random.getstate()
                print(line, file=f)


if __name__ == "__main__":
    main(sys.argv)
