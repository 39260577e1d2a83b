#!/usr/bin/env python3
"""Metadata JSON: files that sd-scripts' own tools write, and what its data set makes of a file that sd-meta wrote.

  SD_SCRIPTS=... meta.py [DIR]        (DIR: t/data/meta; versions and environment: see peers.py; needs bin/sd-meta)

Writes, for five pictures of a folder photos with captions and tags beside them,
  stems.json      merge_captions_to_metadata and merge_dd_tags_to_metadata without --full_path, and train_resolution as
                  prepare_buckets_latents adds it, and for two of them image_size as tag_images_by_wd14_tagger does
  full.json       the same with --full_path
  ours.json       sd-meta from --image-dir photos stems.json | sd-meta to --image-dir photos
  dataset.ndjson  what FineTuningDataset makes of ours.json with image_dir photos: a line an image, sorted by key:
                  key, file (abs_path), caption (with the tags, separator ","), size
and ends with an error unless merge_captions_to_metadata --in_json takes what sd-meta to --relative writes, and then gives
the very same metadata.
"""
import json
import os
import subprocess
import sys
import tempfile
from types import SimpleNamespace

import peers

PICTURES = {  # name: caption, tags, size, bucket
    "a": ("a cat on a mat", "1girl, blue_eyes, ^_^", (64, 48), (512, 384)),
    "b": ("first line\nsecond \"line\"", "solo", (32, 64), (320, 768)),
    "caf\u00e9 \u732b": ("\u732b in a caf\u00e9 \U0001f408", "a, caf\u00e9", (16, 16), (512, 512)),
    "d.x": ("", "x,y ,, z", (40, 40), (512, 512)),
    "e": ("back\\slash / and\ttab", "", (24, 16), (576, 384)),
}


def run(main, **args):
    defaults = dict(train_data_dir="photos", in_json=None, full_path=False, recursive=False, debug=False)
    main(SimpleNamespace(**{**defaults, **args}))


def sd_meta(root, *args, text=None):
    return subprocess.run([os.path.join(root, "bin", "sd-meta"), *args], input=text, check=True, stdout=subprocess.PIPE).stdout


def dataset(name):
    from library import strategy_base, strategy_sd
    from library.train_util import FineTuningDataset, FineTuningSubset
    import inspect

    strategy = strategy_sd.SdSdxlLatentsCachingStrategy(True, False, 1, False)
    strategy_base.LatentsCachingStrategy.set_strategy(strategy)
    known = inspect.signature(FineTuningSubset.__init__).parameters
    values = dict(image_dir="photos", metadata_file=name, num_repeats=1, caption_separator=",", keep_tokens=0,
                  caption_dropout_rate=0.0, enable_wildcard=False)
    subset = FineTuningSubset(**{k: values.get(k) for k in known if k != "self"})
    data = FineTuningDataset([subset], 1, (64, 64), 1.0, False, None, None, None, False, False, 0, 0.0, None)
    return [dict(key=i.image_key, file=i.absolute_path, caption=i.caption, size=list(i.image_size) if i.image_size else None)
            for _, i in sorted(data.image_data.items())]


def main(argv):
    peers.check()
    out = os.path.abspath(peers.output(argv, "meta"))
    root = os.path.abspath(os.path.join(peers.DATA, "..", ".."))
    peers.sd_scripts()
    sys.path.insert(0, os.path.join(os.environ["SD_SCRIPTS"], "finetune"))
    import merge_captions_to_metadata as captions
    import merge_dd_tags_to_metadata as tags
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.mkdir("photos")
        for name, (caption, text, size, _) in PICTURES.items():
            Image.new("RGB", size).save(f"photos/{name}.png")
            open(f"photos/{name}.caption", "w", encoding="utf-8").write(caption + "\n")
            open(f"photos/{name}.txt", "w", encoding="utf-8").write(text)
        for target, full in (("stems.json", False), ("full.json", True)):
            run(captions.main, out_json=target, caption_extension=".caption", full_path=full)
            run(tags.main, out_json=target, caption_extension=".txt", full_path=full)
            metadata = json.load(open(target, encoding="utf-8"))
            for key, entry in metadata.items():
                name = os.path.basename(key).removesuffix(".png")
                w, h = PICTURES[name][3]
                entry["train_resolution"] = (w - w % 8, h - h % 8)
                if name < "c":
                    entry["image_size"] = PICTURES[name][2]
            with open(os.path.join(out, target), "w", encoding="utf-8") as f:
                json.dump(metadata, f, indent=2)

        stems = json.load(open(os.path.join(out, "stems.json"), encoding="utf-8"))
        records = sd_meta(root, "from", "--image-dir", "photos", os.path.join(out, "stems.json"))
        open("relative.json", "wb").write(sd_meta(root, "to", "--relative", text=records))
        run(captions.main, in_json="relative.json", out_json="merged.json", caption_extension=".caption")
        if json.load(open("merged.json", encoding="utf-8")) != stems:
            sys.exit("merge_captions_to_metadata --in_json reads something else in what sd-meta wrote")

        ours = sd_meta(root, "to", "--image-dir", "photos", text=records)
        for place in ("ours.json", os.path.join(out, "ours.json")):
            open(place, "wb").write(ours)
        with open(os.path.join(out, "dataset.ndjson"), "w", encoding="utf-8") as f:
            for image in dataset("ours.json"):
                print(json.dumps(image), file=f)
    print(f"{len(PICTURES)} pictures")


if __name__ == "__main__":
    main(sys.argv)
