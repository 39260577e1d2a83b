#!/usr/bin/env python3
"""What the keys and shapes of original Stable Diffusion files are, and whether sd-scripts loads what sd-init writes.

  SD_SCRIPTS=... init.py [--arch sd1|sd2] [MODEL.safetensors]     (versions and environment: see peers.py)

Prints the SHA-256 of the sorted lines "KEY [SHAPE]" of a whole model, which t/0110-sd-init.t compares. With a file: names
the keys and shapes in which it differs, loads it by sd-scripts' own loader, and prints how large its activations are.
"""
import argparse
import hashlib
import json
import sys

import torch

import peers


def expected(v2):
    """Key to shape, by sd-scripts' conversion of freshly made diffusers and transformers modules."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from library import model_util
    from transformers import CLIPTextConfig, CLIPTextModel

    if v2:
        size = dict(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16)
    else:
        size = dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
    text = CLIPTextModel(CLIPTextConfig(vocab_size=49408, max_position_embeddings=77, **size)).state_dict()
    text = {k: v for k, v in text.items() if not k.endswith("position_ids")}
    unet = UNet2DConditionModel(**model_util.create_unet_diffusers_config(v2, use_linear_projection_in_v2=True)).state_dict()
    vae = AutoencoderKL(**model_util.create_vae_diffusers_config()).state_dict()
    t = {"model.diffusion_model." + k: v for k, v in model_util.convert_unet_state_dict_to_sd(v2, unet).items()}
    t.update({"first_stage_model." + k: v for k, v in model_util.convert_vae_state_dict(vae).items()})
    if v2:
        text = model_util.convert_text_encoder_state_dict_to_sd_v2(text)
        text.update(text_projection=torch.empty(1024, 1024), logit_scale=torch.empty(()))
        t.update({"cond_stage_model.model." + k: v for k, v in text.items()})
    else:
        t.update({"cond_stage_model.transformer." + k: v for k, v in text.items()})
    return {k: json.dumps(list(v.shape), separators=(",", ":")) for k, v in t.items()}


def activations(path, v2):
    from library import model_util

    text, vae, unet = model_util.load_models_from_stable_diffusion_checkpoint(v2, path, "cpu", torch.float32, False)
    with torch.no_grad():
        context = text.float()(torch.randint(0, 49000, (1, 77)))[0]
        noise = unet.float()(torch.randn(1, 4, 32, 32), torch.tensor([500]), context).sample
        moments = vae.float().encode(torch.rand(1, 3, 64, 64) * 2 - 1).latent_dist
        image = vae.decode(torch.randn(1, 4, 16, 16)).sample
    for name, x in (("text", context), ("unet", noise), ("mean", moments.mean), ("logvar", moments.logvar), ("image", image)):
        print(f"  {name}: {x.std():.3f}")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--arch", default="sd1", choices=("sd1", "sd2"))
    p.add_argument("model", nargs="?")
    args = p.parse_args()
    peers.check()
    peers.sd_scripts()
    want = expected(args.arch == "sd2")
    lines = sorted(f"{k} {s}\n" for k, s in want.items())
    print(args.arch, len(want), "tensors", hashlib.sha256("".join(lines).encode()).hexdigest())
    if not args.model:
        return
    from safetensors import safe_open

    with safe_open(args.model, "pt") as f:
        have = {k: json.dumps(f.get_slice(k).get_shape(), separators=(",", ":")) for k in f.keys()}
    for k in sorted(set(want) | set(have)):
        if want.get(k) != have.get(k):
            print(f"  {k}: expected {want.get(k)}, found {have.get(k)}")
    activations(args.model, args.arch == "sd2")
    sys.exit(want != have)


if __name__ == "__main__":
    main()
