#!/usr/bin/env python3
"""What sd-scripts' own LoRA tools make of small files: extract, merge, svd_merge, resize, run as they are.

  SD_SCRIPTS=... lora_tools.py [DIR]     (DIR: t/data/lora-tools; versions and environment: see peers.py)

The models are those of models.py. sd-scripts' loader knows no other widths than those of SD1, so the function that
loads a checkpoint is replaced by one that builds the small model; everything else is the scripts' own code.
A singular vector's sign is free, and the scripts clamp at a quantile of signed values, so torch.linalg.svd is made to
return the signs that lib/adapter/svd.h promises: the largest entry of each row of Vh is positive.

Writes
  tuned.safetensors           sd1-small-ldm.safetensors, fine-tuned: differences of falling singular values; F16
  extract.safetensors         extract_lora_from_models.py --dim 3 --conv_dim 5 --min_diff 0.001
  unet.safetensors            the same with --dim 2 --min_diff 100 --clamp_quantile 0.9 (no text encoder, no convolutions)
  a, b, c.safetensors         LoRAs for some layers of sd1-small, with 1x1 and 3x3 convolutions: rank 4 and alpha 2; rank 4
                              and alpha 1; rank 3, no alpha, some layers that the others lack
  c.pt                        c by torch.save, its matrices lying in columns
  model.safetensors           merge_lora.py --sd_model sd1-small-ldm --models a c --ratios 0.8 -0.5: the layers it changed
  add.safetensors             merge_lora.py --models a b --ratios 0.7 -0.4
  concat.safetensors          merge_lora.py --models a c --ratios 0.7 0.3 --concat
  svd.safetensors             svd_merge_lora.py --models a c --ratios 0.7 0.3 --lbws 17 17 --new_rank 2 --new_conv_rank 3
  fixed, ratio, fro, cumulative.safetensors   resize_lora.py of a: --new_rank 2 --new_conv_rank 3, and --new_rank 4 with
                              sv_ratio 3, sv_fro 0.9, sv_cumulative 0.7
"""
import os
import runpy
import sys

import torch
from safetensors.torch import load_file, save_file

import models
import peers

LBW = "[1,0.5,1,0.25,1,1,1,0.75,1,1,1,1,1,1,1,2,1]"


def signed_svd(real):
    def svd(a, *args, **kw):
        u, s, vh = real(a, *args, **kw)
        n = len(s)
        sign = torch.sign(vh[torch.arange(n), vh[:n].abs().argmax(1)])
        vh[:n] *= sign[:, None]
        u[:, :n] *= sign
        return u, s, vh

    return svd


def small_model(_v2, path, *_args, **_kw):
    """Stands for load_models_from_stable_diffusion_checkpoint."""
    from library import model_util

    parts, _ = models.build(models.SD1, "sd1-small")
    sd = load_file(path)
    floats = {k: v.float() for k, v in sd.items()}
    unet = models.small_original_unet(parts["unet"].config)
    unet.load_state_dict(model_util.convert_ldm_unet_checkpoint(False, dict(floats), dict(layers_per_block=2, use_linear_projection=False)))
    prefix = "cond_stage_model.transformer."
    text = {k[len(prefix):]: v for k, v in floats.items() if k.startswith(prefix) and not k.endswith("position_ids")}
    parts["text_encoder"].load_state_dict(text)
    parts["vae"].load_state_dict(model_util.convert_ldm_vae_checkpoint(dict(floats), {}))
    return parts["text_encoder"], parts["vae"], unet


def script(name, *words):
    argv = sys.argv
    sys.modules.pop("lora", None)  # networks with convolutions lengthen its list of layers for good
    sys.argv = [name, *map(str, words)]
    runpy.run_path(os.path.join(os.environ["SD_SCRIPTS"], "networks", name), run_name="__main__")
    sys.argv = argv


def tuned(base):
    out = {}
    for k, v in base.items():
        layer = v.ndim in (2, 4) and v.is_floating_point() and k.endswith("weight")
        if layer and ("diffusion_model" in k or "encoder.layers" in k):
            m = v.float().reshape(v.shape[0], -1)
            r = min(m.shape)
            u, d = peers.randn("tuned.u." + k, m.shape[0], r), peers.randn("tuned.d." + k, r, m.shape[1])
            m = m + (u * 0.3 * 0.4 ** torch.arange(r)) @ d / m.shape[1] ** 0.5
            v = m.reshape(v.shape).half()
        out[k] = v
    return out


def random_lora(name, rank, alpha, keep, path):
    """A LoRA for the layers that keep() picks."""
    from library import model_util  # noqa: F401
    from networks import lora

    text, _, unet = small_model(False, os.path.join(peers.DATA, "model", "sd1-small-ldm.safetensors"))
    net = lora.create_network(1.0, rank, alpha, None, [text], unet, conv_dim=rank, conv_alpha=alpha)
    net.apply_to([text], unet, True, True)
    sd = {}
    for k, v in net.state_dict().items():
        if not keep(k) or (alpha is None and k.endswith("alpha")):
            continue
        sd[k] = v if v.ndim == 0 else peers.randn(name + "." + k, *v.shape, scale=0.3)
        if v.ndim and k.endswith("up.weight"):
            shape = (1, -1) + (1,) * (v.ndim - 2)
            sd[k] = sd[k] * (0.5 ** torch.arange(v.shape[1])).reshape(shape)
    meta = {"ss_v2": "False", "ss_base_model_version": "sd_v1", "ss_network_dim": str(rank), "ss_network_alpha": str(float(alpha or rank)),
            "ss_training_comment": "made up", "modelspec.title": "LoRA " + name}
    save_file({k: v.contiguous() for k, v in sd.items()}, path, meta)


def main(argv):
    peers.check()
    out = peers.output(argv, "lora-tools")
    peers.sd_scripts()
    sys.path.insert(0, os.path.join(os.environ["SD_SCRIPTS"], "networks"))
    from library import model_util

    model_util.load_models_from_stable_diffusion_checkpoint = small_model
    torch.linalg.svd = signed_svd(torch.linalg.svd)
    base = os.path.join(peers.DATA, "model", "sd1-small-ldm.safetensors")

    def at(name):
        return os.path.join(out, name + ".safetensors")

    from safetensors import safe_open

    with safe_open(base, "pt") as f:
        meta = f.metadata()
    save_file(tuned(load_file(base)), at("tuned"), {"sd_config": meta["sd_config"]})
    script("extract_lora_from_models.py", "--model_org", base, "--model_tuned", at("tuned"), "--save_to", at("extract"),
           "--dim", 3, "--conv_dim", 5, "--min_diff", 0.001)
    script("extract_lora_from_models.py", "--model_org", base, "--model_tuned", at("tuned"), "--save_to", at("unet"),
           "--dim", 2, "--min_diff", 100, "--clamp_quantile", 0.9, "--no_metadata")

    def some(*parts):
        return lambda k: any(p in k for p in parts)

    torch.manual_seed(0)
    random_lora("a", 4, 2.0, some("layers_0", "down_blocks_1", "mid_block"), at("a"))
    random_lora("b", 4, 1.0, some("layers_0", "down_blocks_1", "mid_block"), at("b"))
    random_lora("c", 3, None, some("layers_0", "down_blocks_1_attentions_0", "down_blocks_1_resnets", "up_blocks_2_attentions_1"), at("c"))
    torch.save({k: v.t().contiguous().t() if v.ndim == 2 else v for k, v in load_file(at("c")).items()}, os.path.join(out, "c.pt"))
    script("merge_lora.py", "--sd_model", base, "--models", at("a"), at("c"), "--ratios", "0.8", "-0.5", "--save_to", at("model"))
    before, after = load_file(base), load_file(at("model"))
    changed = {k: v for k, v in after.items() if k in before and before[k].is_floating_point() and not torch.equal(before[k].float(), v.float())}
    save_file(changed, at("model"))
    script("merge_lora.py", "--models", at("a"), at("b"), "--ratios", "0.7", "-0.4", "--save_to", at("add"))
    script("merge_lora.py", "--models", at("a"), at("c"), "--ratios", "0.7", "0.3", "--concat", "--save_to", at("concat"), "--no_metadata")
    script("svd_merge_lora.py", "--models", at("a"), at("c"), "--ratios", "0.7", "0.3", "--lbws", LBW, LBW,
           "--new_rank", 2, "--new_conv_rank", 3, "--save_to", at("svd"))
    script("resize_lora.py", "--model", at("a"), "--save_to", at("fixed"), "--new_rank", 2, "--new_conv_rank", 3)
    for name, param in (("ratio", 3), ("fro", 0.9), ("cumulative", 0.7)):
        script("resize_lora.py", "--model", at("a"), "--save_to", at(name), "--new_rank", 4, "--dynamic_method", "sv_" + name,
               "--dynamic_param", param)


if __name__ == "__main__":
    main(sys.argv)
