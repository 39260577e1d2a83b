#!/usr/bin/env python3
"""What sd-scripts' DreamBoothDataset hands to training of contrib/tiny/sks, use by use, as its debug_dataset shows it.

  SD_SCRIPTS=... show.py [DIR]        (DIR: t/data/show; versions and environment: see peers.py; opencv-python 4.10)

records.ndjson has a record a use, in the order of two epochs. seen.ndjson has what was seen of it: caption, size, crop,
flipped, loss_weight, and the sum of all bytes of the picture, all drawn after random.seed(7).
"""
import json
import os
import random
import sys

import numpy as np
import torch

import peers

FOLDER = "contrib/tiny/sks"


def main(argv):
    peers.check()
    out = peers.output(argv, "show")
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
    folder, out = os.path.abspath(FOLDER), os.path.abspath(out)
    peers.sd_scripts()
    from library import train_util as tu

    class Tokenizer:
        def tokenize(self, text):
            return [torch.zeros(1, 77, dtype=torch.long)]

    subset = tu.DreamBoothSubset(folder, False, None, ".caption", False, False, 2, True, ",", 1, "", None, False, True, True,
                                 None, True, 0.1, 0, 0.2, "art of", None, 1, 0)
    d = tu.DreamBoothDataset([subset], True, 3, (64, 64), 1.0, True, 32, 128, 8, False, 0.5, False, 0.0, None, None)
    d.tokenize_strategy = Tokenizer()
    d.text_encoder_output_caching_strategy = None
    d.make_buckets()
    for info in d.image_data.values():  # more to shuffle, and some regularisation pictures
        ground = info.caption.split(" on a ")[1]
        info.caption = f"sks, star, {ground}, toy, {os.path.basename(info.absolute_path)}"
        info.is_reg = "red" in ground
    d.set_seed(3)
    random.seed(7)
    with open(f"{out}/records.ndjson", "w") as records, open(f"{out}/seen.ndjson", "w") as seen:
        for epoch in (1, 2):
            d.current_epoch = epoch
            for b in range(len(d)):
                bucket = d.bucket_manager.buckets[d.buckets_indices[b].bucket_index]
                at = d.buckets_indices[b].batch_index * d.buckets_indices[b].bucket_batch_size
                keys = bucket[at:at + d.buckets_indices[b].bucket_batch_size]
                example = d[b]
                for k, key in enumerate(keys):
                    info = d.image_data[key]
                    size, resize = info.bucket_reso, info.resized_size
                    print(json.dumps({
                        "path": os.path.relpath(info.absolute_path), "caption": info.caption, "reg": info.is_reg, "bucket": size, "resize": resize,
                        "crop": [(resize[0] - size[0]) // 2, (resize[1] - size[1]) // 2]}), file=records)
                    image = np.rint((example["images"][k].numpy() + 1) * 127.5).astype(np.int64)
                    print(json.dumps({"caption": example["captions"][k], "size": [image.shape[2], image.shape[1]],
                                      "flipped": example["flippeds"][k], "loss_weight": example["loss_weights"][k].item(),
                                      "sum": int(image.sum())}), file=seen)


if __name__ == "__main__":
    main(sys.argv)
