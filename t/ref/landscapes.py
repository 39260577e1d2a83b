#!/usr/bin/env python3
"""Draws pictures to show programs with: hills, a sun or a moon, trees, water, birds; and a caption beside each.

    landscapes.py [--count 12] [--seed 1] DIR

The same seed draws the same pictures. Written for numpy 1.26 and Pillow 13.0. doc/sd-show.png was made so:

    landscapes.py --count 40 --seed 3 hills
    sd-scan hills | sd-merge | sd-bucket --resolution 512 | jq -c 'if .path | test("00[3-6]") then .repeats = 5 else . end' \
      | sd-show --order input --seed 4 --shuffle-caption --keep-tokens 1 --caption-tag-dropout-rate 0.2 --flip-aug \
          --random-crop --color-aug --html hills.html > /dev/null
    chromium-headless-shell --headless --no-sandbox --hide-scrollbars --window-size=1280,860 --screenshot=doc/sd-show.png hills.html
"""

import argparse
import math
import os
import random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SKIES = {"dawn": ((64, 62, 110), (250, 190, 150)), "noon": ((76, 140, 214), (206, 228, 244)),
         "dusk": ((44, 34, 84), (236, 120, 88)), "night": ((8, 12, 32), (42, 54, 92)),
         "overcast": ((128, 138, 150), (214, 218, 220))}
LANDS = {"spring": (88, 142, 70), "summer": (62, 110, 58), "autumn": (176, 108, 48), "winter": (196, 206, 218)}


def mix(a, b, t):
    return tuple(int(round(x + (y - x) * t)) for x, y in zip(a, b))


def ridge(rng, width, height, base, rough):
    """Heights of a ridge: a few sines."""
    waves = [(rng.uniform(1, 9) ** 1.2, rng.uniform(0, 7), rng.uniform(.2, 1)) for _ in range(6)]
    x = np.linspace(0, 1, width)
    y = sum(a / f ** .8 * np.sin(2 * math.pi * f * x + p) for f, p, a in waves)
    return height * (base + rough * y / 2)


def draw(rng, width, height):
    """One picture, and its tags."""
    sky, land = rng.choice(list(SKIES)), rng.choice(list(LANDS))
    top, low = SKIES[sky]
    tags = [sky + " sky", land]
    t = np.linspace(0, 1, height)[:, None, None] ** .8
    picture = np.broadcast_to(np.array(top) + (np.array(low) - np.array(top)) * t, (height, width, 3))
    picture = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    side, horizon = min(width, height), rng.uniform(.5, .62)
    pen = ImageDraw.Draw(picture)
    if sky == "night":
        for _ in range(width * height // 2500):
            x, y, v = rng.randrange(width), rng.randrange(int(height * horizon)), rng.randrange(120, 255)
            pen.point((x, y), (v, v, v))
        tags.append("stars")
    if sky != "overcast":
        x, y, r = rng.uniform(.2, .8) * width, rng.uniform(.14, .4) * height, side * rng.uniform(.05, .09)
        body = (240, 238, 222) if sky == "night" else (255, 244, 214)
        glow = Image.new("RGB", picture.size)
        ImageDraw.Draw(glow).ellipse((x - 2.6 * r, y - 2.6 * r, x + 2.6 * r, y + 2.6 * r), mix((0, 0, 0), body, .4))
        glow = np.asarray(glow.filter(ImageFilter.GaussianBlur(r))).astype(int)
        picture = Image.fromarray(np.clip(np.asarray(picture) + glow, 0, 255).astype(np.uint8))
        pen = ImageDraw.Draw(picture)
        pen.ellipse((x - r, y - r, x + r, y + r), body)
        tags.append("moon" if sky == "night" else "sun")
    dark = {"night": .72, "dusk": .42, "dawn": .3}.get(sky, .08)
    far = 4
    for k in range(far):
        share = (k + 1) / far
        y = ridge(rng, width, height, horizon - .12 + .16 * k, .05 + .02 * k)
        colour = mix(mix(low, LANDS[land], .25 + .75 * share), (10, 14, 30), dark * share)
        pen.polygon([(0, height), *zip(range(width), y), (width, height)], colour)
        if k == 2 and rng.random() < .45:
            level = height * (horizon + .26)
            pen.rectangle((0, level, width, height), mix(low, top, .35))
            for _ in range(60):
                wx, wy, wl = rng.uniform(0, width), rng.uniform(level, height), rng.uniform(.02, .1) * width
                pen.line((wx, wy, wx + wl, wy), mix(low, (255, 255, 255), .25))
            tags.append("lake")
            break
        if k >= 1 and rng.random() < .8:
            for _ in range(rng.randrange(6, 26)):
                tx = rng.randrange(width)
                th = side * rng.uniform(.03, .06) * (1 + k)
                ty = y[tx] + th * .1
                needle = mix(mix(colour, (18, 46, 34), .6), (8, 12, 24), dark * .6)
                for part in range(3):
                    w, b = th * (.16 + .09 * part), ty - th * (.72 - .3 * part)
                    pen.polygon([(tx - w, b + th * .3), (tx + w, b + th * .3), (tx, b - th * .28)], needle)
            if "trees" not in tags:
                tags.append("trees")
    if rng.random() < .4:
        for _ in range(rng.randrange(3, 8)):
            bx, by, b = rng.uniform(.1, .9) * width, rng.uniform(.08, .35) * height, side * rng.uniform(.008, .016)
            pen.line((bx - 2 * b, by - b, bx, by, bx + 2 * b, by - b), (30, 30, 40), max(1, int(b / 3)))
        tags.append("birds")
    return picture.filter(ImageFilter.GaussianBlur(.6)), tags


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("dir")
    args = parser.parse_args()
    os.makedirs(args.dir, exist_ok=True)
    rng = random.Random(args.seed)
    for i in range(args.count):
        width, height = rng.choice([(900, 600), (600, 900), (800, 800), (1000, 560), (720, 900)])
        picture, tags = draw(rng, width, height)
        stem = os.path.join(args.dir, f"{i + 1:03d}")
        picture.save(stem + ".jpg", quality=90)
        what = "a lake among hills" if "lake" in tags else "hills and fir trees" if "trees" in tags else "bare hills"
        with open(stem + ".caption", "w", encoding="utf-8") as f:
            f.write(f"{what} in {tags[1]}, {tags[0].replace(' sky', '')}\n")
        with open(stem + ".txt", "w", encoding="utf-8") as f:
            f.write(", ".join(["landscape", *tags]) + "\n")


if __name__ == "__main__":
    main()
