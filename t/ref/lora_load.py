#!/usr/bin/env python3
"""A LoRA that sd-train wrote, loaded by the real diffusers: the same picture as sd-sample draws with it?

  lora_load.py TOKENIZER LORA.safetensors [BASE.safetensors]

diffusers 0.32.1, peft 0.14.0. Draws one picture with each and prints the largest difference in 1/255 (bin/ must be built).
Then the file's names are checked against those that AUTOMATIC1111's and ComfyUI's loaders know: every key is NAME.alpha,
NAME.lora_down.weight or NAME.lora_up.weight, all three there, ranks agreeing.
"""
import os
import subprocess
import sys
import tempfile

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open

here = os.path.dirname(os.path.abspath(__file__))
root = os.path.join(here, "../..")
sys.path.insert(0, os.path.join(root, "contrib/tiny"))
import check_tiny  # noqa: E402

PROMPT, SEED = "a sks star on a blue ground", 1


def check_names(path):
    with safe_open(path, "pt") as f:
        modules = {}
        for key in f.keys():
            name, part = key.split(".", 1)
            modules.setdefault(name, {})[part] = f.get_tensor(key)
    for name, m in modules.items():
        assert set(m) == {"alpha", "lora_down.weight", "lora_up.weight"}, (name, set(m))
        assert m["alpha"].ndim == 0 and m["lora_down.weight"].shape[0] == m["lora_up.weight"].shape[1], name
        assert name.startswith(("lora_te_text_model_encoder_layers_", "lora_unet_")), name
    print(f"names: {len(modules)} modules, all as loaders expect them")


def main():
    tokenizer, lora = sys.argv[1:3]
    base = sys.argv[3] if len(sys.argv) > 3 else os.path.join(root, "contrib/tiny/sd.safetensors")
    check_names(lora)
    with tempfile.TemporaryDirectory() as out:
        line = f"{PROMPT} --w 64 --h 64 --d {SEED} --s 30"
        subprocess.run([os.path.join(root, "bin/sd-sample"), "-j1", "--model", base, "--lora", lora, "-o", out], check=True,
                       input=line.encode(), stdout=subprocess.DEVNULL)
        ours = np.asarray(Image.open(os.path.join(out, f"00000-{SEED}.png")), int)
    torch.set_num_threads(1)
    pipe = check_tiny.load(base, tokenizer)
    plain = pipe(PROMPT, width=64, height=64, num_inference_steps=30, generator=torch.Generator("cpu").manual_seed(SEED))
    pipe.load_lora_weights(os.path.dirname(os.path.abspath(lora)), weight_name=os.path.basename(lora))
    theirs = pipe(PROMPT, width=64, height=64, num_inference_steps=30, generator=torch.Generator("cpu").manual_seed(SEED))
    plain, theirs = (np.asarray(p.images[0], int) for p in (plain, theirs))
    print("diffusers with the LoRA against sd-sample with it:", abs(ours - theirs).max(), "of 255")
    print("diffusers with and without it:", abs(plain - theirs).max(), "of 255")


main()
