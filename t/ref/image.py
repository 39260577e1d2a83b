#!/usr/bin/env python3
"""Makes t/data/image: small pictures of every kind, what Pillow makes of them, and what OpenCV and Pillow make of
resizing one. The tests compare lib/image with it.

    python3 t/ref/image.py        (Pillow 11 or 12, opencv-python 4.10, numpy)

expected.txt: NAME MODE WIDTH HEIGHT OFFSET, the pixels lying in expected.bin;
resized.txt:  FILTER WIDTH HEIGHT OFFSET, in resized.bin, all from source.png."""
import os

import cv2
import numpy as np
from PIL import Image

out = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data", "image")
os.makedirs(out, exist_ok=True)
rng = np.random.default_rng(1)
H, W = 15, 21
names = []


def save(im, name, **options):
    im.save(os.path.join(out, name), **options)
    names.append(name)


ramp = (np.add.outer(np.arange(H) * 11, np.arange(W) * 7) % 256).astype(np.uint8)
rgb = np.stack([ramp, ramp[::-1], 255 - ramp[:, ::-1]], -1)
noise = rng.integers(0, 256, (H, W, 4), dtype=np.uint8)
R, N = Image.fromarray(rgb), Image.fromarray(noise, "RGBA")
L = R.convert("L")

save(R, "rgb.png")
save(N, "rgba.png")
save(L, "grey.png")
save(N.convert("LA"), "grey-alpha.png")
for bits, colours in ((8, 200), (4, 13), (2, 4), (1, 2)):
    save(R.quantize(colours), f"palette{bits}.png", bits=bits)
save(R.convert("1"), "grey1.png")
save(R.quantize(20), "palette-trns.png", transparency=bytes(range(0, 200, 10)))
save(R, "rgb-trns.png", transparency=tuple(int(v) for v in rgb[3, 4]))
save(L, "grey-trns.png", transparency=int(np.array(L)[2, 2]))
save(Image.fromarray(ramp.astype(np.uint16) * 4), "grey16.png")
for name, channels in (("rgb16.png", 3), ("rgba16.png", 4)):
    cv2.imwrite(os.path.join(out, name), rng.integers(0, 65536, (H, W, channels), dtype=np.uint16))
    names.append(name)

save(R, "q30.jpg", quality=30)
save(N.convert("RGB"), "444.jpg", subsampling=0, quality=90)
save(N.convert("RGB"), "420.jpg", subsampling=2, quality=90)
save(R, "progressive.jpg", progressive=True, quality=80)
save(L, "grey.jpg")
save(R.convert("CMYK"), "cmyk.jpg")
save(R, "exif.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0" + b"x" * 9000)

save(R, "lossy.webp", quality=80)
save(N, "lossy-alpha.webp", quality=70)
save(R, "lossless.webp", lossless=True)
save(N, "lossless-alpha.webp", lossless=True, exact=True)
save(R, "animation.webp", save_all=True, append_images=[R.rotate(180)], lossless=True)

save(R, "rgb.bmp")
save(L, "grey.bmp")
save(R.quantize(16), "palette.bmp")
save(R.convert("1"), "grey1.bmp")

with open(os.path.join(out, "expected.bin"), "wb") as f, open(os.path.join(out, "expected.txt"), "w") as index:
    for name in names:
        with Image.open(os.path.join(out, name)) as im:
            modes = ("RGB", "RGBA") if im.mode not in ("RGB", "L", "1", "CMYK", "I;16") or im.info.get("transparency") is not None else ("RGB",)
            for mode in modes:
                print(name, mode, im.width, im.height, f.tell(), file=index)
                f.write(np.array(im.convert(mode)).tobytes())

# a picture with edges, noise and smooth parts
src = rng.integers(0, 256, (31, 40, 3), dtype=np.uint8)
src[:, 20:] = cv2.GaussianBlur(src, (0, 0), 2)[:, 20:]
src[10:20, 5:15] = (255, 0, 10)
Image.fromarray(src).save(os.path.join(out, "source.png"))
sizes = [(20, 15), (13, 10), (39, 30), (40, 30), (10, 31), (5, 3), (1, 1), (80, 62), (60, 47), (41, 31), (45, 20)]
with open(os.path.join(out, "resized.bin"), "wb") as f, open(os.path.join(out, "resized.txt"), "w") as index:
    for w, h in sizes:
        for name in ("area", "lanczos"):
            if name == "lanczos" and (w > 40) != (h >= 31):
                continue  # Pillow's order of passes depends on its version there
            print(name, w, h, f.tell(), file=index)
            if name == "area":
                f.write(cv2.resize(src, (w, h), interpolation=cv2.INTER_AREA).tobytes())
            else:
                f.write(np.array(Image.fromarray(src).resize((w, h), Image.LANCZOS)).tobytes())
