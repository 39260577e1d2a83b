#!/usr/bin/env python3
"""Makes t/data/image: small pictures of every kind, what Pillow makes of them, and what OpenCV and Pillow make of
resizing one. The tests compare lib/image with it.

    python3 t/ref/image.py        (Pillow 12 or 13, opencv-python 4.10, numpy; a C compiler and libjpeg)

expected.txt: NAME MODE WIDTH HEIGHT OFFSET, the pixels lying in expected.bin; MODE is what the picture is converted to, or
WHITE: what sd-scripts' tagger makes of it before it pads it;
resized.txt:  SOURCE FILTER WIDTH HEIGHT OFFSET, in resized.bin."""
import os

import cv2
import numpy as np
from PIL import Image, ImageCms

from image_kinds import bmp, jpeg, png, run_length, runs_with_gaps

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

def put(name, data):
    with open(os.path.join(out, name), "wb") as f:
        f.write(data)
    names.append(name)


profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes())
profile[24:36] = bytes(12)  # the date
turned = Image.Exif()
turned[0x112] = 6
save(R, "turned.jpg", exif=turned, icc_profile=bytes(profile))
save(R, "turned.png", exif=turned, icc_profile=bytes(profile))
save(R, "turned.webp", exif=turned, icc_profile=bytes(profile), lossless=True)

for bits in (1, 2, 4):
    put(f"grey{bits}-raw.png", png((ramp >> (8 - bits))[:, :, None], bits, 0))
    put(f"grey{bits}-trns.png", png((ramp >> (8 - bits))[:, :, None], bits, 0, trns=bytes((0, 1))))
deep = np.random.default_rng(2).integers(0, 65536, (H, W, 4))  # of its own: the source below stays as it was
put("grey-alpha16.png", png(deep[:, :, :2], 16, 4))
put("rgb16-trns.png", png(deep[:, :, :3], 16, 2, trns=b"".join(int(v).to_bytes(2, "big") for v in deep[3, 4, :3])))
put("interlaced.png", png(rgb, 8, 2, True))
put("interlaced-rgba16.png", png(deep, 16, 6, True))
put("interlaced-palette4.png", png((ramp >> 4)[:, :, None], 4, 3, True, palette=bytes(range(0, 240, 5)), trns=bytes(range(0, 160, 10))))
put("interlaced-grey1.png", png((ramp >> 7)[:, :, None], 1, 0, True))
put("short-palette.png", png((ramp >> 5)[:, :, None], 8, 3, palette=bytes(range(100, 124))))
put("gamma.png", png(rgb, 8, 2, extra=((b"gAMA", (20000).to_bytes(4, "big")), (b"sRGB", b"\0"))))

for kind in ("411", "440", "422", "rgb", "restart", "arithmetic", "arithmetic-progressive"):
    put(f"kind-{kind}.jpg", jpeg(kind, rgb))
for kind in ("ycck", "cmyk"):
    put(f"kind-{kind}.jpg", jpeg(kind, noise))

palette = b"".join(bytes((i * 40 % 256, 255 - i, i * 7 % 256)) for i in range(256))
padded_palette = b"".join(palette[3 * i:3 * i + 3] + b"\0" for i in range(256))
bgr, gaps = rgb[:, :, ::-1], runs_with_gaps(W, H, 16)
fifteen = (rgb[:, :, 0] >> 3).astype("<u2") << 10 | (rgb[:, :, 1] >> 3).astype("<u2") << 5 | rgb[:, :, 2] >> 3
sixteen = (rgb[:, :, 0] >> 3).astype("<u2") << 11 | (rgb[:, :, 1] >> 2).astype("<u2") << 5 | rgb[:, :, 2] >> 3


def rows(a):
    return [r.tobytes() for r in a]


put("os2.bmp", bmp(rows(bgr), 24, header=12))
put("os2-palette8.bmp", bmp(rows(ramp), 8, header=12, palette=palette))
put("palette8.bmp", bmp(rows(ramp), 8, palette=padded_palette))
put("palette4.bmp", bmp([(r[:20:2] << 4 | r[1:20:2]).astype(np.uint8).tobytes() for r in gaps], 4, palette=padded_palette[:64], colours=16))
put("palette1.bmp", bmp(rows(np.packbits(ramp[:, :16] > 99, axis=1)), 1, palette=padded_palette[:8], colours=2))
put("top-down.bmp", bmp(rows(bgr), 24, top_down=True))
put("555.bmp", bmp(rows(fifteen), 16))
put("555-masks.bmp", bmp(rows(fifteen), 16, compression=3, masks=(0x7C00, 0x3E0, 0x1F)))
put("565.bmp", bmp(rows(sixteen), 16, compression=3, masks=(0xF800, 0x7E0, 0x1F)))
put("565-v4.bmp", bmp(rows(sixteen), 16, header=108, compression=3, masks=(0xF800, 0x7E0, 0x1F, 0)))
put("bgrx.bmp", bmp(rows(noise[:, :, [2, 1, 0, 3]]), 32))
put("bgra-v5.bmp", bmp(rows(noise[:, :, [2, 1, 0, 3]]), 32, header=124, compression=3, masks=(0xFF0000, 0xFF00, 0xFF, 0xFF000000)))
put("rgba-v4.bmp", bmp(rows(noise), 32, header=108, compression=3, masks=(0xFF, 0xFF00, 0xFF0000, 0xFF000000)))
put("abgr-v4.bmp", bmp(rows(noise[:, :, ::-1]), 32, header=108, compression=3, masks=(0xFF000000, 0xFF0000, 0xFF00, 0xFF)))
put("runs8.bmp", bmp((run_length(gaps, 8), (W, H)), 8, compression=1, palette=padded_palette))
put("runs4.bmp", bmp((run_length(gaps, 4), (W, H)), 4, compression=2, palette=padded_palette[:64], colours=16))

save(R, "rgb.bmp")
save(L, "grey.bmp")
save(R.quantize(16), "palette.bmp")
save(R.convert("1"), "grey1.bmp")



def on_white(im):
    """What the tagger hands on: alpha blended over white, where there is any."""
    if im.mode in ("RGBA", "LA") or "transparency" in im.info:
        im = im.convert("RGBA")
        ground = Image.new("RGB", im.size, (255, 255, 255))
        ground.paste(im, mask=im.split()[3])
        return ground
    return im.convert("RGB")


with open(os.path.join(out, "expected.bin"), "wb") as f, open(os.path.join(out, "expected.txt"), "w") as index:
    for name in names:
        with Image.open(os.path.join(out, name)) as im:
            clear = im.mode not in ("RGB", "L", "1", "CMYK", "I;16") or im.info.get("transparency") is not None
            pictures = [("RGB", im.convert("RGB"))] + ([("RGBA", im.convert("RGBA"))] if clear else []) + [("WHITE", on_white(im))]
            for mode, picture in pictures:
                print(name, mode, im.width, im.height, f.tell(), file=index)
                f.write(np.array(picture).tobytes())

# a picture with edges, noise and smooth parts; and one with alpha, whose half is of whole pixels
src = rng.integers(0, 256, (31, 40, 3), dtype=np.uint8)
src[:, 20:] = cv2.GaussianBlur(src, (0, 0), 2)[:, 20:]
src[10:20, 5:15] = (255, 0, 10)
clear = np.dstack([src[:30], rng.integers(0, 256, (30, 40), dtype=np.uint8)])
clear[:5, :5, 3], clear[5:9, :9, 3] = 0, 255
sources = {"source.png": src, "source-alpha.png": clear}
for name, a in sources.items():
    Image.fromarray(a).save(os.path.join(out, name))
opencv = {"area": cv2.INTER_AREA, "nearest": cv2.INTER_NEAREST_EXACT, "linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC,
          "lanczos4": cv2.INTER_LANCZOS4}
pillow = {"lanczos": Image.LANCZOS, "box": Image.BOX, "pil-bicubic": Image.BICUBIC}
sizes = [("source.png", s) for s in ((20, 15), (13, 10), (39, 30), (40, 30), (10, 31), (5, 3), (1, 1), (80, 62), (60, 47), (41, 31), (45, 20))]
sizes += [("source-alpha.png", s) for s in ((20, 15), (13, 10), (39, 29), (41, 33), (30, 35))]
with open(os.path.join(out, "resized.bin"), "wb") as f, open(os.path.join(out, "resized.txt"), "w") as index:
    for source, (w, h) in sizes:
        a = sources[source]
        for name in [*opencv, *pillow]:
            if name in pillow and (w > 40) != (h >= a.shape[0]):
                continue  # Pillow's order of passes depends on its version there
            if (w, h) == (80, 62) and name not in ("area", "lanczos"):
                continue
            print(source, name, w, h, f.tell(), file=index)
            if name in opencv:
                f.write(cv2.resize(a, (w, h), interpolation=opencv[name]).tobytes())
            else:
                f.write(np.array(Image.fromarray(a).resize((w, h), pillow[name])).tobytes())
