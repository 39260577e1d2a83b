#!/usr/bin/env python3
"""What sd-scripts' clean_captions_and_tags.py makes of a metadata file: t/data/meta/clean-in.json, clean-out.json.

  SD_SCRIPTS=... clean_meta.py           (sd-scripts at 48d368fa; the texts are every 20th of t/data/text/clean.tsv)
"""
import json
import os
import subprocess
import sys

root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data")
scripts = os.environ["SD_SCRIPTS"]
meta = {}
with open(f"{root}/text/clean.tsv", encoding="utf-8") as f:
    lines = [line.split("\t") for line in f]
for i, (kind, text, *_) in enumerate(lines[::20]):
    if "\\" not in text:
        entry = meta.setdefault(f"a/{i % 60}.png", {"train_resolution": [512, 640]} if i % 7 == 0 else {})
        entry["tags" if kind == "t" else "caption"] = text
with open(f"{root}/meta/clean-in.json", "w") as f:
    json.dump(meta, f, indent=2)
    f.write("\n")
subprocess.run([sys.executable, "clean_captions_and_tags.py", os.path.abspath(f"{root}/meta/clean-in.json"),
                os.path.abspath(f"{root}/meta/clean-out.json")], cwd=f"{scripts}/finetune",
               env={**os.environ, "PYTHONPATH": scripts}, check=True)
with open(f"{root}/meta/clean-out.json", "a") as f:
    f.write("\n")
