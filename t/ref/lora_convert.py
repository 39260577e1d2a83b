#!/usr/bin/env python3
"""A LoRA under the names that sd-lora-convert gives it, loaded by the real diffusers: the same weights as from sd-scripts' names?

  SD_SCRIPTS=... lora_convert.py         (versions and environment: see peers.py; bin/ must be built)

Loads t/data/lora-tools/{a,c}.safetensors into small models of diffusers and transformers as they are, then converted, and
compares what both add to every layer; then converts back and compares every tensor with the original.
"""
import os
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file

import models
import peers

CONVERT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../bin/sd-lora-convert")


def loaded(path):
    """What diffusers adds to each layer."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    parts, _ = models.build(models.SD1, "sd1-small")
    pipe = StableDiffusionPipeline(vae=parts["vae"], text_encoder=parts["text_encoder"], tokenizer=None, unet=parts["unet"],
                                   scheduler=DDIMScheduler(), safety_checker=None, feature_extractor=None,
                                   requires_safety_checker=False)
    pipe.load_lora_weights(path)
    deltas = {}
    for part in ("unet", "text_encoder"):
        for name, m in getattr(pipe, part).named_modules():
            if hasattr(m, "get_delta_weight") and m.lora_A:
                deltas[part + "." + name] = m.get_delta_weight(m.active_adapters[0]).detach()
    return deltas


def main():
    peers.check()
    peers.sd_scripts()
    for name in ("a", "c"):
        path = os.path.join(peers.DATA, "lora-tools", name + ".safetensors")
        with tempfile.TemporaryDirectory() as tmp:
            there, back = os.path.join(tmp, "diffusers.safetensors"), os.path.join(tmp, "back.safetensors")
            subprocess.run([CONVERT, path, "-o", there], check=True)
            subprocess.run([CONVERT, there, "-o", back], check=True)
            want, got = loaded(path), loaded(there)
            assert want.keys() == got.keys() and len(want) > 10, (len(want), len(got), set(want) ^ set(got))
            worst = max(((got[k] - want[k]).norm() / want[k].norm()).item() for k in want)
            assert worst < 1e-5, worst
            print(f"{name}: {len(want)} layers, {worst:.1e}")
            a, b = load_file(path), load_file(back)
            alphas = {k for k in b if k.endswith(".alpha")}
            assert a.keys() | alphas == b.keys()
            assert all(torch.equal(a[k], b[k]) for k in a), "not as it was"


if __name__ == "__main__":
    main()
