#!/usr/bin/env python3
"""Makes t/data/resize: pictures, and what sd-scripts' tools/resize_images_to_resolution.py makes of them.

    python3 t/ref/resize_tool.py SD_SCRIPTS_0.8.7 SD_SCRIPTS_HEAD      (opencv-python 4.10, Pillow 12 or 13, numpy)

area, cubic and lanczos4 are made by 0.8.7. Later versions swap width and height on the way to the filter, so only square
pictures come out right; nearest, linear and box, which are theirs alone, are made from one."""
import os
import shutil
import subprocess
import sys
import tempfile

import cv2
import numpy as np
from PIL import Image

out = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data", "resize")
old, new = (os.path.abspath(p) for p in sys.argv[1:3])
shutil.rmtree(out, ignore_errors=True)
os.makedirs(os.path.join(out, "src"))
rng = np.random.default_rng(7)


def picture(width, height):
    a = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    a[:, width // 3:] = cv2.GaussianBlur(a, (0, 0), 2)[:, width // 3:]
    a[height // 4:height // 2, 5:width // 2] = (250, 10, 60)
    return Image.fromarray(a)


picture(97, 61).save(os.path.join(out, "src", "wide.png"))
picture(48, 64).save(os.path.join(out, "src", "high.jpg"), quality=90)
picture(17, 13).save(os.path.join(out, "src", "small.bmp"))
picture(60, 60).save(os.path.join(out, "src", "square.png"))


def tool(home, names, to, *options):
    with tempfile.TemporaryDirectory() as src:
        for name in names:
            shutil.copy(os.path.join(out, "src", name), src)
        subprocess.check_call([sys.executable, "tools/resize_images_to_resolution.py", src, os.path.join(out, to),
                               "--max_resolution", "40x40, 24x24", *options], cwd=home, env={**os.environ, "PYTHONPATH": home})


everything = ["wide.png", "high.jpg", "small.bmp"]
tool(old, everything, "default")
for name in ("area", "cubic", "lanczos4"):
    tool(old, everything, name, "--interpolation", name, "--divisible_by", "4", "--save_as_png")
for name in ("nearest", "linear", "box"):
    tool(new, ["square.png"], name, "--interpolation", name, "--divisible_by", "4", "--save_as_png")
