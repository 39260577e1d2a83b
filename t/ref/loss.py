#!/usr/bin/env python3
"""Losses of sd-scripts' conditional_loss, weighted by sample as its loop does it, and their gradients by torch.

  SD_SCRIPTS=... loss.py [DIR]           (DIR: t/data/optim; versions and environment: see peers.py)

Writes loss.safetensors: pred, target [5,4,6,7] (two differences are 0), weight [5], delta [5] (huber_c, as a schedule makes it);
for each kind (l2, l1, smooth_l1, huber) KIND.loss [1] and KIND.grad, the gradient of pred.
"""
import os
import sys

import torch

import peers


def main(argv):
    peers.check()
    out = peers.output(argv, "optim")
    peers.sd_scripts()
    from library import train_util

    pred, target = peers.randn("loss.pred", 5, 4, 6, 7), peers.randn("loss.target", 5, 4, 6, 7)
    target[0, 0, 0, 0], target[4, 3, 5, 6] = pred[0, 0, 0, 0], pred[4, 3, 5, 6]
    weight = torch.tensor([1.0, 0.5, 2.0, 0.0, 1.25])
    delta = torch.exp(-torch.tensor([0.0, 0.1, 0.7, 2.0, 4.0]))
    t = {"pred": pred, "target": target, "weight": weight, "delta": delta}
    for kind in ("l2", "l1", "smooth_l1", "huber"):
        x = pred.clone().requires_grad_()
        loss = train_util.conditional_loss(x, target, kind, "none", delta)
        loss = (loss.mean([1, 2, 3]) * weight).mean()
        loss.backward()
        t[f"{kind}.loss"], t[f"{kind}.grad"] = loss.detach()[None], x.grad
        print(f"  {kind} {loss.item():.6f}")
    peers.save(t, os.path.join(out, "loss.safetensors"))


if __name__ == "__main__":
    main(sys.argv)
