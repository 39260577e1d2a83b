#!/usr/bin/env python3
"""AdaFactor, by transformers.

  adafactor.py [DIR]           (DIR: t/data/optim; versions and environment: see peers.py)

Writes adafactor.safetensors: 200 steps of transformers.optimization.Adafactor with what each of KINDS says, over
  in.P          start of P: a matrix, one of four dimensions (matrices in the last two), one whose matrices are single numbers,
                a vector, one for which the first gradient is zero as for a LoRA's first matrix
  in.grad.P     [8,...] gradients, taken in turn
  KIND.N.P      P after N = 1, 2, 10, 50, 200 steps
  KIND.rms.P    [200] the root mean square of P before each step
  KIND.rate     [200] what a learning rate is in each step, but for that scale
  metadata settings  KINDS
"""
import os
import sys

import torch
from transformers.optimization import Adafactor

import peers

SHAPES = {"matrix": (20, 44), "conv": (3, 5, 3, 3), "ones": (4, 3, 1, 1), "vector": (37,), "late": (4, 70)}
KINDS = {
    "plain": {},
    "warm": dict(warmup_init=True, beta1=0.9, weight_decay=0.1),
    "fixed": dict(lr=2e-3, relative_step=False, scale_parameter=False, clip_threshold=0.5, decay_rate=-0.7, eps=[1e-12, 1e-2],
                  weight_decay=0.01),
    "scaled": dict(lr=5e-2, relative_step=False, beta1=0.5, eps=[1e-30, 0.5]),
}
STEPS = 200


def main(argv):
    peers.check()
    t = {}
    for k, shape in SHAPES.items():
        t[f"in.{k}"] = peers.randn(f"adafactor.{k}", *shape, scale=0.3)
        # Magnitudes over some decades, so that rows and columns differ.
        t[f"in.grad.{k}"] = peers.randn(f"adafactor.grad.{k}", 8, *shape) * 10 ** peers.randn(f"adafactor.decade.{k}", 8, *shape)
    t["in.grad.late"][0] = 0
    for name, settings in KINDS.items():
        params = {k: torch.nn.Parameter(t[f"in.{k}"].clone()) for k in SHAPES}
        opt = Adafactor(list(params.values()), **settings)
        rms, rate = {k: [] for k in SHAPES}, []
        for i in range(STEPS):
            for k, p in params.items():
                p.grad = t[f"in.grad.{k}"][i % 8].clone()
            opt.step()
            group = opt.param_groups[0]
            rate.append(float(opt._get_lr(dict(group, scale_parameter=False), opt.state[params["matrix"]])))
            for k, p in params.items():
                rms[k].append(float(opt.state[p]["RMS"]))
            if i + 1 in (1, 2, 10, 50, STEPS):
                t.update({f"{name}.{i + 1}.{k}": p.detach().clone() for k, p in params.items()})
        t.update({f"{name}.rms.{k}": torch.tensor(v) for k, v in rms.items()})
        t[f"{name}.rate"] = torch.tensor(rate)
        print(f"  {name:7}", " ".join(f"{v[-1]:.4f}" for v in rms.values()))
    peers.save(t, os.path.join(peers.output(argv, "optim"), "adafactor.safetensors"), settings=KINDS)


if __name__ == "__main__":
    main(sys.argv)
