#!/usr/bin/env python3
"""Vision transformers with random weights, their inputs and outputs, by timm 1.0.15.

  vit.py [DIR]           (DIR: t/data/model; versions and environment: see peers.py)
  vit.py --full FILE     the same for ViT-B/16 of 448 pixels with 10,861 tags, a file of 195 MB: build/release/t/vit FILE reads it

Writes vit-small.safetensors, KIND being what KINDS says:
  wd     as the WD taggers of the third version: no class token, GELU by tanh, the mean of the normed tokens
  blip   as BLIP's image encoder: a class token, exact GELU, all normed tokens; 49 patches
  plain  as the paper: a class token, which the head sees
  mean   a class token, but the head sees the mean of the others
  KIND.NAME          weights under timm's names, F16
  in.KIND [2,3,H,W]  pictures; out.KIND: logits [2,outputs], of blip the tokens [2,50,C]
"""
import os
import sys
from functools import partial

import timm
import torch
from timm.models.vision_transformer import VisionTransformer

import peers

KINDS = {
    "wd": dict(img_size=24, patch_size=8, embed_dim=32, depth=2, num_heads=2, mlp_ratio=2, num_classes=13, class_token=False,
               global_pool="avg", fc_norm=False, act_layer="gelu_tanh", eps=1e-5),
    "blip": dict(img_size=28, patch_size=4, embed_dim=24, depth=2, num_heads=3, num_classes=0, global_pool="", eps=1e-6),
    "plain": dict(img_size=10, patch_size=5, embed_dim=16, depth=1, num_heads=1, num_classes=5, eps=1e-6),
    "mean": dict(img_size=6, patch_size=2, embed_dim=16, depth=1, num_heads=2, num_classes=3, global_pool="avg", fc_norm=False, eps=1e-6),
}
FULL = dict(KINDS["wd"], img_size=448, patch_size=16, embed_dim=768, depth=12, num_heads=12, mlp_ratio=4, num_classes=10861)


def model(kind, eps, **settings):
    module = VisionTransformer(norm_layer=partial(torch.nn.LayerNorm, eps=eps), **settings)
    peers.initialise(module, f"vit.{kind}")
    for name in ("pos_embed", "cls_token"):
        p = getattr(module, name)
        if p is not None:  # as large as what they are added to
            p.copy_((peers.randn(f"vit.{kind}.{name}", *p.shape) * 0.5).half().float())
    return module


def add(t, kind, settings, n):
    with torch.no_grad():
        module, x = model(kind, **settings), peers.randn(f"vit.in.{kind}", n, 3, settings["img_size"], settings["img_size"])
        y = module(x)
    t.update({f"{kind}.{k}": v.half() for k, v in module.state_dict().items()})
    t[f"in.{kind}"], t[f"out.{kind}"] = x, y
    print(f"  {kind:6} {sum(v.numel() for v in module.parameters()):9} parameters, out {tuple(y.shape)} {y.std():.3f}")


def main(argv):
    peers.check()
    if timm.__version__ != "1.0.15":
        print(f"warning: timm {timm.__version__}", file=sys.stderr)
    t = {}
    if len(argv) > 2 and argv[1] == "--full":
        torch.set_num_threads(os.cpu_count())
        add(t, "full", FULL, 1)
        return peers.save(t, argv[2])
    for kind, settings in KINDS.items():
        add(t, kind, settings, 2)
    return peers.save(t, os.path.join(peers.output(argv, "model"), "vit-small.safetensors"))


if __name__ == "__main__":
    main(sys.argv)
