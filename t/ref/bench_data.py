#!/usr/bin/env python3
"""The peers of the dataset programs: how many files or entries a second they do, printed as one number.

  bench_data.py PEER FOLDER [RUNS]       after a warm-up the median of RUNS (default 5); with RUNS 0 one run, cold

  imagesize            sizes from headers, as sd-scripts takes them at the start of training
  pil                  the same by Pillow, PIL.Image.open
  merge-captions, merge-tags, clean
                       sd-scripts' finetune scripts on the folder, imports not counted; SD_SCRIPTS=... names their checkout
"""
import contextlib
import logging
import os
import sys
import tempfile
import time

ENDINGS = (".jpg", ".png", ".webp")


def pictures(folder):
    return sorted(os.path.join(folder, f) for f in os.listdir(folder) if f.endswith(ENDINGS))


def imagesize_peer(folder):
    import imagesize

    def run():
        files = pictures(folder)
        for f in files:
            imagesize.get(f)
        return len(files)

    return run


def pil_peer(folder):
    from PIL import Image

    def run():
        files = pictures(folder)
        for f in files:
            with Image.open(f) as im:
                im.size
        return len(files)

    return run


def script(name, *options):
    """One of sd-scripts' scripts as a function of its arguments."""
    root = os.environ["SD_SCRIPTS"]
    sys.path[:0] = [root, os.path.join(root, "finetune")]
    module = __import__(name)
    logging.disable(logging.CRITICAL)

    def call(*paths):
        with open(os.devnull, "w") as quiet, contextlib.redirect_stderr(quiet), contextlib.redirect_stdout(quiet):
            module.main(module.setup_parser().parse_args([*paths, *options]))

    return call


def merge_peer(name):
    def make(folder):
        call, out = script(name, "--full_path"), tempfile.mkdtemp()
        count = len(pictures(folder))

        def run():
            path = os.path.join(out, "meta.json")
            if os.path.exists(path):
                os.remove(path)
            call(folder, path)
            return count

        return run

    return make


def clean_peer(folder):
    out = tempfile.mkdtemp()
    captions, tags = script("merge_captions_to_metadata", "--full_path"), script("merge_dd_tags_to_metadata", "--full_path")
    captions(folder, f"{out}/a.json")
    tags(folder, f"{out}/a.json")
    call, count = script("clean_captions_and_tags"), len(pictures(folder))

    def run():
        call(f"{out}/a.json", f"{out}/b.json")
        return count

    return run


PEERS = {"imagesize": imagesize_peer, "pil": pil_peer, "merge-captions": merge_peer("merge_captions_to_metadata"),
         "merge-tags": merge_peer("merge_dd_tags_to_metadata"), "clean": clean_peer}


def main(argv):
    run, runs = PEERS[argv[1]](argv[2]), int(argv[3]) if len(argv) > 3 else 5
    times = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        count = run()
        times.append(time.perf_counter() - start)
    times = sorted(times[1:] or times)
    print(round(count / times[len(times) // 2]))


if __name__ == "__main__":
    main(sys.argv)
