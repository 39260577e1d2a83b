#!/usr/bin/env python3
"""Full-size SD1.x or SD2.x models through diffusers and transformers in f32, for comparison with our programs.

  SD_SCRIPTS=... full_shape.py run [--v2] [--width W] [--height H] MODEL.safetensors FILE.safetensors
  full_shape.py compare [--limit 1e-4] REFERENCE.safetensors OURS.safetensors

run: MODEL is in the original (LDM) layout, any float type. Inputs are taken from FILE where it has them; missing ones are made
(the same for the same size) and written to FILE together with the outputs, all f32, ids and timesteps I32, images and latents NCHW:
  in.text.ids [1,77]                              out.text.last [1,77,C]     final norm included
  in.vae.image [1,3,H,W] in.vae.noise             out.vae.mean, out.vae.logvar, out.vae.sample (unscaled)
  in.vae.latents [1,4,H/8,W/8] (unscaled)         out.vae.image              not clamped
  in.unet.sample, in.unet.timesteps [1], in.unet.context [1,77,C]   out.unet
compare: for each out.* of both files the largest difference over the largest value of the reference, and the same for the
2-norm; status 1 if one of the former is above the limit or an output is missing.

This is a bench target and no test: it needs a 2 to 4 GB model and some 6 GB of memory.
"""
import argparse
import os
import sys

import torch

import peers


def load(path, v2):
    """The three parts with diffusers' and transformers' modules, one at a time, f32."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from library import model_util
    from safetensors.torch import load_file
    from transformers import CLIPTextConfig, CLIPTextModel

    state = {k: v for k, v in load_file(path).items()}

    def part(prefix):
        keys = [k for k in state if k.startswith(prefix)]
        return {k: state.pop(k).float() for k in keys}

    def fill(module, weights):
        have = {k for k in module.state_dict() if not k.endswith("position_ids")}
        weights = {k: v for k, v in weights.items() if not k.endswith("position_ids")}
        assert set(weights) == have, sorted(set(weights) ^ have)[:5]
        module.load_state_dict(weights, strict=False, assign=True)
        return module.eval().requires_grad_(False)

    if v2:
        text = model_util.convert_ldm_clip_checkpoint_v2(part("cond_stage_model."), 77)
        config = dict(hidden_size=1024, intermediate_size=4096, num_hidden_layers=23, num_attention_heads=16, hidden_act="gelu")
    else:
        text = model_util.convert_ldm_clip_checkpoint_v1(part("cond_stage_model."))
        config = dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, hidden_act="quick_gelu")
    config = CLIPTextConfig(vocab_size=49408, max_position_embeddings=77, layer_norm_eps=1e-5, **config)
    yield fill(CLIPTextModel._from_config(config), text)
    del text
    yield fill(AutoencoderKL(**model_util.create_vae_diffusers_config()),
               model_util.convert_ldm_vae_checkpoint(part("first_stage_model."), {}))
    # A linear projection in the file is taken as one: that is what diffusers does, and the same numbers.
    config = model_util.create_unet_diffusers_config(v2, use_linear_projection_in_v2=True)
    yield fill(UNet2DConditionModel(**config), model_util.convert_ldm_unet_checkpoint(v2, part("model.diffusion_model."), config))


def run(a):
    from safetensors.torch import load_file

    peers.check()
    torch.set_num_threads(os.cpu_count())
    peers.sd_scripts()
    t = {k: v for k, v in load_file(a.file).items() if k.startswith("in.")} if os.path.exists(a.file) else {}

    def given(name, make):
        return t.setdefault("in." + name, make())

    h, w = a.height // 8, a.width // 8

    def ids():
        r = peers.randint("full.ids", 300, 40000, (1, 77))
        r[:, 0], r[:, 30:] = 49406, 49407
        return r

    models = load(a.model, a.v2)
    with torch.no_grad():
        m = next(models)
        t["out.text.last"] = m(given("text.ids", ids).long()).last_hidden_state
        width = t["out.text.last"].shape[-1]
        m = next(models)
        dist = m.encode(given("vae.image", lambda: peers.randn("full.image", 1, 3, a.height, a.width, scale=0.5).clamp(-1, 1))).latent_dist
        t["out.vae.mean"], t["out.vae.logvar"] = dist.mean, dist.logvar
        t["out.vae.sample"] = dist.mean + dist.std * given("vae.noise", lambda: peers.randn("full.noise", 1, 4, h, w))
        t["out.vae.image"] = m.decode(given("vae.latents", lambda: peers.randn("full.latents", 1, 4, h, w))).sample
        del m
        m = next(models)
        t["out.unet"] = m(given("unet.sample", lambda: peers.randn("full.sample", 1, 4, h, w)),
                          given("unet.timesteps", lambda: torch.tensor([500], dtype=torch.int32)).long(),
                          given("unet.context", lambda: peers.randn("full.context", 1, 77, width))).sample
    for k in sorted(t):
        if k.startswith("out."):
            print(f"  {k} {list(t[k].shape)}: largest {t[k].abs().max():.4g}, rms {t[k].square().mean().sqrt():.4g}")
    peers.save(t, a.file)
    return 0


def compare(a):
    from safetensors import safe_open

    bad = 0
    with safe_open(a.reference, "pt") as ref, safe_open(a.ours, "pt") as ours:
        have = set(ours.keys())
        for k in sorted(k for k in ref.keys() if k.startswith("out.")):
            if k not in have:
                print(f"{k}: missing")
                bad = 1
                continue
            x, y = ref.get_tensor(k).double(), ours.get_tensor(k).double()
            if x.shape != y.shape:
                print(f"{k}: {list(y.shape)}, should be {list(x.shape)}")
                bad = 1
                continue
            worst = ((x - y).abs().max() / x.abs().max()).item()
            norm = ((x - y).norm() / x.norm()).item()
            bad |= not worst <= a.limit
            print(f"{k}: max {worst:.2e}, norm {norm:.2e}{'' if worst <= a.limit else '  above ' + str(a.limit)}")
    return bad


def main():
    top = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    sub = top.add_subparsers(required=True)
    p = sub.add_parser("run")
    p.set_defaults(go=run)
    p.add_argument("--v2", action="store_true")
    p.add_argument("--width", type=int, default=512)
    p.add_argument("--height", type=int, default=512)
    p.add_argument("model")
    p.add_argument("file")
    p = sub.add_parser("compare")
    p.set_defaults(go=compare)
    p.add_argument("--limit", type=float, default=1e-4)
    p.add_argument("reference")
    p.add_argument("ours")
    a = top.parse_args()
    return a.go(a)


if __name__ == "__main__":
    sys.exit(main())
