#!/usr/bin/env python3
"""The peers of bench/decode.c, in the same measure: Pillow and OpenCV decode files from memory to 8-bit RGB (OpenCV: BGR) in
one thread; JPEG also to a half, a quarter and an eighth by Image.draft and IMREAD_REDUCED_COLOR. A JSON line each.

    python3 t/ref/bench_decode.py RUNS FILE..."""
import io
import json
import sys
import time

from PIL import Image

runs, paths = int(sys.argv[1]), sys.argv[2:]


def pillow(data, k):
    im = Image.open(io.BytesIO(data))
    if k:
        im.draft("RGB", (im.width >> k, im.height >> k))
    if im.mode == "RGB":
        im.load()
    else:
        im.convert("RGB")


peers = {"Pillow": pillow}
try:
    import cv2
    import numpy as np

    cv2.setNumThreads(1)
    REDUCED = (cv2.IMREAD_COLOR, cv2.IMREAD_REDUCED_COLOR_2, cv2.IMREAD_REDUCED_COLOR_4, cv2.IMREAD_REDUCED_COLOR_8)

    def opencv(data, k):
        assert cv2.imdecode(np.frombuffer(data, np.uint8), REDUCED[k] | cv2.IMREAD_IGNORE_ORIENTATION) is not None

    peers["OpenCV"] = opencv
except ImportError:
    pass

FORMATS = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"RIFF": "webp", b"BM": "bmp"}
sums = {}
for path in paths:
    data = open(path, "rb").read()
    kind = next(f for magic, f in FORMATS.items() if data.startswith(magic))
    with Image.open(io.BytesIO(data)) as im:
        size = 3 * im.width * im.height
    for peer, decode in peers.items():
        for k in range(4 if kind == "jpeg" else 1):
            best = float("inf")
            for _ in range(runs):
                start = time.process_time()
                decode(data, k)
                best = min(best, time.process_time() - start)
            s = sums.setdefault((kind, k, peer), [0, 0])
            s[0] += best
            s[1] += size
for (kind, k, peer), (seconds, total) in sums.items():
    print(json.dumps({"name": f"decode-{kind}" + (f"-{1 << k}" if k else ""), "against": peer, "peer_value": round(total / seconds / 1e6, 1)}))
