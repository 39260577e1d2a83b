"""Fixtures of sd-inspect and sd-diff: what NumPy and sd-scripts' own functions say of the same files.

  inspect_files.py [OUT]      writes t/data/inspect/ (SD_SCRIPTS names a checkout of sd-scripts)
  inspect_files.py hash FILE  prints the hashes of any safetensors file, to compare with sd-inspect --hash
  inspect_files.py time FILE  what PyTorch needs for what sd-inspect --stats tells

numbers.safetensors has every float type, values that are not finite, and more elements than fit into one block; its
tensors lie in another order than the safetensors library would choose. expected.json is what is to be found in it and in
other files of t/data.
"""

import hashlib
import json
import os
import struct
import sys
import time

import numpy as np
import torch

import peers

TINY = os.path.join(peers.DATA, "..", "..", "contrib", "tiny", "sd.safetensors")
TYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64", torch.int64: "I64",
         torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2", torch.uint8: "U8"}


def save_in_order(path, tensors, meta):
    """A safetensors file whose tensors lie in the order of the dictionary, which the library never writes."""
    header, data = {"__metadata__": meta}, b""
    for name, t in tensors.items():
        raw = t.contiguous().view(torch.uint8).numpy().tobytes() if t.numel() else b""
        header[name] = {"dtype": TYPES[t.dtype], "shape": list(t.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def numbers():
    torch.manual_seed(1)
    wide = torch.randn(5001, dtype=torch.float64)
    holes = torch.randn(41, 61)
    holes[3, 4], holes[7, 8], holes[40, 60], holes[0, 0] = float("nan"), float("inf"), -float("inf"), float("nan")
    return {
        "z.f16": (wide / 8).half(), "bf16": wide.bfloat16(), "a.f64": wide * 1e-3,
        "far": (wide * 1e-3 + 1000).float(), "e4m3": (wide * 3).float().to(torch.float8_e4m3fn),
        "e5m2": (wide * 3).float().to(torch.float8_e5m2), "ids": torch.arange(-7, 300), "holes": holes,
        "nothing": torch.zeros(0, 3), "constant": torch.full((4099,), 0.1), "lost": torch.full((5,), float("nan")),
        "tiny.f16": torch.tensor([2.0**-24, -(2.0**-15), 65504.0]).half(), "bytes": torch.arange(256).to(torch.uint8),
        "e4m3.all": torch.arange(256).to(torch.uint8).view(torch.float8_e4m3fn),
        "e5m2.all": torch.arange(256).to(torch.uint8).view(torch.float8_e5m2),
    }


def stats(t):
    x = t.to(torch.float64).numpy().ravel()
    v = x[np.isfinite(x)]
    s = dict(nan=int(np.isnan(x).sum()), inf=int(np.isinf(x).sum()))
    if not v.size:
        return {**s, **dict.fromkeys(("min", "max", "mean", "std", "l2"))}
    return {**s, "min": float(v.min()), "max": float(v.max()), "mean": float(v.mean()), "std": float(v.std()),
            "l2": float(np.linalg.norm(v))}


def hashes(path):
    """By sd-scripts' functions; those of A1111 are the same ones, cut to 8, 10 and 12 digits."""
    from library import train_util
    from safetensors import safe_open
    from safetensors.torch import load_file

    with safe_open(path, "pt") as f:
        meta = f.metadata() or {}
    model, legacy = train_util.precalculate_safetensors_hashes(load_file(path), meta)
    whole = train_util.calculate_sha256(path)
    with open(path, "rb") as f:
        data = train_util.addnet_hash_safetensors(f)
    return dict(sha256=whole, autov1=train_util.model_hash(path), autov2=whole[:10], autov3=data[:12],
                sshs_model_hash=model, sshs_legacy_hash=legacy)


def time_torch(path):
    from safetensors import safe_open

    begin, count = time.time(), 0
    with safe_open(path, "pt") as f:
        for name in f.keys():
            x = f.get_tensor(name).float()
            count += x.numel()
            tuple(map(float, (x.min(), x.max(), x.mean(), x.std(), x.norm(), x.isnan().sum(), x.isinf().sum())))
    print(f"{count} elements, {time.time() - begin:.2f} s, {torch.get_num_threads()} threads")


def main():
    if sys.argv[1:2] == ["time"]:
        return time_torch(sys.argv[2])
    peers.sd_scripts()
    if sys.argv[1:2] == ["hash"]:
        return print(json.dumps(hashes(sys.argv[2])))
    peers.check()
    out = peers.output(sys.argv, "inspect")
    path = os.path.join(out, "numbers.safetensors")
    save_in_order(path, numbers(), {"ss_network_dim": "4", "ss_tag_frequency": json.dumps({"1_cat": {"a": 1}}, indent=1),
                                    "ss_optimizer": "[not json", "modelspec.title": "x"})
    expected = dict(stats={k: stats(t) for k, t in numbers().items()},
                    hashes={"numbers": hashes(path), "tiny": hashes(TINY),
                            "lora": hashes(os.path.join(peers.DATA, "lora", "run1.safetensors"))})
    with open(os.path.join(out, "expected.json"), "w") as f:
        json.dump(expected, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main()
