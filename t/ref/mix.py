#!/usr/bin/env python3
"""What sd-scripts' tools/merge_models.py makes of models that sd-init writes.

  SD_SCRIPTS=... mix.py [DIR]            (DIR: t/data/mix; versions and environment: see peers.py; bin/sd-init must be built)

The models a, b and c are sd-init's tiny architecture, seeds 1, 2 and 3, as F32, F16 and BF16. Writes
  part.safetensors   some of the tensors of the same architecture under the same names, with its own values, in F16: parts of the
                     U-Net and the text encoder, nothing of the VAE, one tensor that the others do not have
  old.safetensors    the same with the text encoder's names of early transformers, without "text_model."
  inpaint.safetensors  some small tensors of it, and a first convolution with five input channels more
  cases.ndjson       {"models", "options", "tool", "data"}: sd-mix's options; the reference, "merge_models" (the real program,
                     run with these options in its spelling) or "formula" (below); and the SHA-256 of the tensors' bytes, in the
                     order in which the safetensors library writes them

merge_models.py counts a text encoder with old names twice (as its own weight, and as missing); the case of old.safetensors
expects what it makes of part.safetensors, which is the same model.

The formulas are those of AUTOMATIC1111's checkpoint merger, A + m (B - C), and of merge-block-weighted,
(1 - share) A + share B with a share for each block; in F32, one rounding an operation, by torch. Channels that only A has stay
A's.
"""
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import peers

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
SEEDS = {"a": (1, "f32"), "b": (2, "f16"), "c": (3, "bf16")}
BLOCKS = [0.04 * i for i in range(25)]
CASES = [
    ("merge_models", "a b", ""),
    ("merge_models", "a b", "--ratios 0.3 0.7"),
    ("merge_models", "a b c", ""),
    ("merge_models", "a b c", "--ratios 0.5 0.8 -0.3"),
    ("merge_models", "b c", "--ratios 0.6 0.6 --saving-precision fp16"),
    ("merge_models", "c b a", "--ratios 0.1 0.2 0.7 --precision fp16 --saving-precision fp16"),
    ("merge_models", "a b c", "--ratios 0.1 0.2 0.7 --precision bf16 --saving-precision bf16"),
    ("merge_models", "a c", "--precision bf16"),
    ("merge_models", "a b c", "--ratios 0.2 0.3 0.5 --unet-only --saving-precision fp16"),
    ("merge_models", "a part", "--ratios 0.3 0.7"),
    ("merge_models", "a part b", "--ratios 0.3 0.3 0.4"),
    ("merge_models", "a old b", "--ratios 0.3 0.3 0.4"),
    ("merge_models", "a b part", "--ratios 0.3 0.3 0.4 --precision fp16"),
    ("merge_models", "part a", "--ratios 0.3 0.7"),
    ("formula", "a b c", "--add-difference --multiplier 0.7"),
    ("formula", "a b c", "--add-difference --base 0.5 --block-weights " + ",".join(f"{x:g}" for x in BLOCKS)),
    ("formula", "a b", "--base 0.25 --block-weights " + ",".join(f"{x:g}" for x in BLOCKS)),
    ("formula", "inpaint a b", "--add-difference"),
    ("formula", "inpaint a", "--block-weights " + ",".join(f"{x:g}" for x in BLOCKS)),
]
CONV_IN = "model.diffusion_model.input_blocks.0.0.weight"


def block(key):
    """merge-block-weighted's number of a key's block, None where the base counts."""
    if not key.startswith("model.diffusion_model."):
        return None
    if "time_embed" in key:
        return 0
    if ".out." in key:
        return 24
    m = re.search(r"\.(input_blocks|middle_block|output_blocks)\.(\d+)\.", key)
    return {"input_blocks": 0, "middle_block": 12, "output_blocks": 13}[m[1]] + (int(m[2]) if m[1] != "middle_block" else 0)


def formula(models, options, out):
    words = options.split()
    value = {w: words[i + 1] for i, w in enumerate(words[:-1])}
    blocks = [float(x) for x in value.get("--block-weights", "").split(",") if x]
    difference = "--add-difference" in words
    base = float(value.get("--base", value.get("--multiplier", 1 if difference else 0.5)))
    theta = [load_file(m) for m in models]
    result = {}
    for key in theta[0]:
        v = [t[key].float() for t in theta]
        whole, n = v[0].clone(), min(x.shape[1] for x in v) if v[0].dim() == 4 else None
        if n:
            v = [x[:, :n] for x in v]
        i = block(key) if blocks else None
        m = base if i is None else blocks[i]
        mixed = v[0] + m * (v[1] - v[2]) if difference else (1 - m) * v[0] + m * v[1]
        if n:
            whole[:, :n] = mixed
        result[key] = whole if n else mixed
    save_file(result, out)


def merge_models(models, options, out):
    script = os.path.join(os.environ["SD_SCRIPTS"], "tools", "merge_models.py")
    options = re.sub(r"--[a-z]+-[a-z]+", lambda m: m[0].replace("-", "_").replace("__", "--", 1), options)
    subprocess.run([sys.executable, script, "--models", *models, "--output", out, *options.split()], check=True,
                   cwd=os.environ["SD_SCRIPTS"], env=dict(os.environ, PYTHONPATH=os.environ["SD_SCRIPTS"]))


def data_hash(path):
    with open(path, "rb") as f:
        f.seek(int.from_bytes(f.read(8), "little"), 1)
        return hashlib.sha256(f.read()).hexdigest()


def write_part(model, out):
    g = torch.Generator().manual_seed(7)
    with safe_open(model, "pt") as f:
        meta = {"sd_config": f.metadata()["sd_config"]}
        keep = [k for k in f.keys() if not k.startswith("first_stage_model.") and f.get_slice(k).get_shape() != []
                and torch.Size(f.get_slice(k).get_shape()).numel() < 5000]
        tensors = {k: torch.randn(f.get_slice(k).get_shape(), generator=g).half() for k in keep}
    tensors["extra.weight"] = torch.randn(3, generator=g).half()
    save_file(tensors, os.path.join(out, "part.safetensors"), meta)
    old = {re.sub(r"^(cond_stage_model\.transformer\.)text_model\.", r"\1", k): v for k, v in tensors.items()}
    small = {k: v for k, v in tensors.items() if v.numel() < 200 and k != "extra.weight"}
    with safe_open(model, "pt") as f:
        n, _, h, w = f.get_slice(CONV_IN).get_shape()
    small[CONV_IN] = torch.randn(n, 9, h, w, generator=g).half()
    config = json.loads(meta["sd_config"])
    config["unet"]["in_channels"] = 9
    save_file(small, os.path.join(out, "inpaint.safetensors"), {"sd_config": json.dumps(config)})
    assert old.keys() != tensors.keys()
    save_file(old, os.path.join(out, "old.safetensors"), meta)


def main():
    peers.check()
    out = os.path.abspath(peers.output(sys.argv, "mix"))
    with tempfile.TemporaryDirectory() as tmp:
        path = {m: os.path.join(tmp, m + ".safetensors") for m in SEEDS}
        for m, (seed, dtype) in SEEDS.items():
            subprocess.run([os.path.join(ROOT, "bin", "sd-init"), "--arch", "tiny", "--seed", str(seed), "--dtype", dtype, "-o",
                            path[m]], check=True)
        write_part(path["a"], out)
        path["inpaint"] = os.path.join(out, "inpaint.safetensors")
        path["part"] = path["old"] = os.path.join(out, "part.safetensors")
        result = os.path.join(tmp, "result.safetensors")
        with open(os.path.join(out, "cases.ndjson"), "w") as f:
            for tool, models, options in CASES:
                globals()[tool]([path[m] for m in models.split()], options, result)
                case = {"models": models.split(), "options": options, "tool": tool, "data": data_hash(result)}
                f.write(json.dumps(case) + "\n")


main()
