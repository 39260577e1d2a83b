#!/usr/bin/env python3
"""What sd-scripts' merge_captions_to_metadata.py and merge_dd_tags_to_metadata.py write, run as programs.

  SD_SCRIPTS=... merge.py [DIR]        (DIR: t/data/merge; versions and environment: see peers.py, but sd-scripts v0.8.7)

Writes
  tree.ndjson    the files of a folder: file, and text (null: a picture)
  cases.ndjson   a line a run, in the folder: script, args, in (the content of in.json before, or null), out (of out.json, or
                 null where the run failed)
"""
import io
import json
import os
import runpy
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout

import peers

TREE = {
    "p/a.png": None, "p/a.caption": "a cat on a mat\n", "p/a.txt": "1girl, blue_eyes, solo\n",
    "p/b.JPG": None, "p/b.caption": "\n  first line  \r\n\r\n second \u732b\n\n", "p/b.txt": " x,y ,, z ",
    "p/c.d.webp": None, "p/c.d.caption": "", "p/c.d.txt": "",
    "p/e.png": None, "p/e.jpg": None, "p/e.caption": "\u3000both\u3000", "p/e.txt": "a,  b",
    "p/caf\u00e9 \"q\".png": None, "p/caf\u00e9 \"q\".caption": "back\\slash\tand \"quotes\"", "p/caf\u00e9 \"q\".txt": "caf\u00e9,^_^",
    "p/.hidden.png": None, "p/.hidden.caption": "hidden", "p/.hidden.txt": "hidden",
    "p/a.tags": "other, ending", "p/b.tags": "t", "p/c.d.tags": "t", "p/e.tags": "t", "p/caf\u00e9 \"q\".tags": "t",
    "p/.hidden.tags": "t",
    "r/a/z.png": None, "r/a/z.caption": "z", "r/a/z.txt": "z",
    "r/a-b/y.png": None, "r/a-b/y.caption": "y", "r/a-b/y.txt": "y",
    "r/a.png": None, "r/a.caption": "a", "r/a.txt": "a",
    "lacks/a.png": None, "lacks/a.caption": "a", "lacks/b.png": None,
}
OLD = {
    "zz": {"caption": "of no picture", "n": 1.50},
    "b": {"train_resolution": [512, 384], "caption": "old", "tags": "old, tags", "x": {"y": [1, 2]}},
    "p/a.png": {"tags": "k", "caption": "old full"},
    "a": {"tags": "keep,these"},
}
CAPTIONS, TAGS = "merge_captions_to_metadata", "merge_dd_tags_to_metadata"
CASES = [  # script, folder, options, in.json
    (CAPTIONS, "p", "", None),
    (TAGS, "p", "", None),
    (CAPTIONS, "p", "--full_path", None),
    (TAGS, "p", "--full_path", None),
    (CAPTIONS, "p", "--in_json in.json", OLD),
    (TAGS, "p", "--in_json in.json", OLD),
    (CAPTIONS, "p", "--in_json in.json --full_path", OLD),
    (TAGS, "p", "--in_json=in.json --full_path --debug", OLD),
    (CAPTIONS, "p", "--caption_extention .tags", None),
    (CAPTIONS, "p", "--caption_extension=.txt --debug", None),
    (TAGS, "p", "--caption_extension .tags", None),
    (CAPTIONS, "r", "--recursive --full_path", None),
    (TAGS, "./r//", "--recursive --full_path", None),
    (CAPTIONS, "./p/", "--full_path", None),
    (CAPTIONS, "r", "", None),
    (CAPTIONS, "r", "--recursive", None),
    (CAPTIONS, "lacks", "", None),
    (TAGS, "lacks", "", None),
]


def run(script, args):
    sys.argv = [script, *args]
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            runpy.run_path(os.path.join(os.environ["SD_SCRIPTS"], "finetune", script + ".py"), run_name="__main__")
    except (AssertionError, FileNotFoundError):
        return False
    return True


def main(argv):
    peers.check()
    out = os.path.abspath(peers.output(argv, "merge"))
    peers.sd_scripts()
    with open(os.path.join(out, "tree.ndjson"), "w", encoding="utf-8") as f:
        for name, text in TREE.items():
            print(json.dumps(dict(file=name, text=text), ensure_ascii=False), file=f)
    with tempfile.TemporaryDirectory() as folder, open(os.path.join(out, "cases.ndjson"), "w", encoding="utf-8") as f:
        os.chdir(folder)
        for name, text in TREE.items():
            os.makedirs(os.path.dirname(name), exist_ok=True)
            open(name, "w", encoding="utf-8", newline="").write(text or "")
        for script, place, options, old in CASES:
            if old is not None:
                json.dump(old, open("in.json", "w"))
            if os.path.exists("out.json"):
                os.remove("out.json")
            args = [place, "out.json", *options.split()]
            good = run(script, args)
            result = json.load(open("out.json", encoding="utf-8")) if good else None
            print(json.dumps(dict(script=script, args=args, **{"in": old}, out=result)), file=f)
    print(f"{len(CASES)} runs")


if __name__ == "__main__":
    main(sys.argv)
