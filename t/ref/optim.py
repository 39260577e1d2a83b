#!/usr/bin/env python3
"""What stands around a gradient: the dynamic loss scale, by torch, and moving averages, by diffusers;
and optimizers with one moment, by lion-pytorch and torch.

  optim.py [DIR]           (DIR: t/data/optim; versions and environment: see peers.py)

Writes
  scaler.safetensors   30 updates of torch.optim.AdamW under torch.amp.GradScaler("cpu"), as accelerate goes about it: unscale_,
                       clip_grad_norm_ to 2, step, update; a schedule's step only where the optimizer stepped
    in.P, in.grad.P    start, and gradients [30,...] before they are scaled, of P = w [3,2], b [5]
    in.spoiled [30]    what the first element of w's scaled gradient becomes: 0 (it stays), inf, -inf, NaN
    out.N.P            after N = 1, 2, 5, 10, 20, 30 updates
    out.scale [30]     after each update; out.skipped [30] 1 where the optimizer did not step; out.lr [30] the rate then used
    metadata settings  SCALER, below
  ema.safetensors      12 steps of diffusers.training_utils.EMAModel (decay 0.9, less at first) over two tensors
    in.P [13,...]      the values of P = w [3,2], b [5] at the start and before each step
    out.decay [12], out.P [12,...]   of each step
  momentum.safetensors 30 steps of each of lion_pytorch.Lion 0.2.5 and torch.optim.SGD(nesterov=True) with what MOMENTUM says
    in.P, in.grad.P [30,...]    P as above
    lion.P, sgd.P [30,...]      after each step
"""
import os
import sys

import torch

import peers

SCALER = dict(lr=1e-2, betas=(0.8, 0.99), eps=1e-6, decay=0.1, init=1024.0, growth=2.0, backoff=0.5, interval=4, warmup=8, norm=2.0)


def scaler():
    c, t = SCALER, {}
    params = {k: torch.nn.Parameter(peers.randn(f"scaler.{k}", *s)) for k, s in (("w", (3, 2)), ("b", (5,)))}
    grads = {k: peers.randn(f"scaler.grad.{k}", 30, *p.shape) for k, p in params.items()}
    spoiled = torch.zeros(30)
    spoiled[[0, 1, 7]] = float("inf")
    spoiled[12] = float("-inf")
    spoiled[21] = float("nan")
    for k, p in params.items():
        t[f"in.{k}"], t[f"in.grad.{k}"] = p.detach().clone(), grads[k]
    t["in.spoiled"] = spoiled
    opt = torch.optim.AdamW(list(params.values()), lr=c["lr"], betas=c["betas"], eps=c["eps"], weight_decay=c["decay"])
    rates = torch.optim.lr_scheduler.LambdaLR(opt, lambda i: min(1.0, i / c["warmup"]))
    amp = torch.amp.GradScaler("cpu", init_scale=c["init"], growth_factor=c["growth"], backoff_factor=c["backoff"],
                               growth_interval=c["interval"])
    stepped = []
    opt.register_step_post_hook(lambda *_: stepped.append(True))
    scale, skipped, lr = [], [], []
    for i in range(30):
        # The gradients of a linear loss are what they are given to be, so backward is the real one, scaled by the real scale.
        loss = sum((p * grads[k][i]).sum() for k, p in params.items())
        amp.scale(loss).backward()
        if spoiled[i] != 0:
            params["w"].grad[0, 0] = spoiled[i]
        amp.unscale_(opt)
        torch.nn.utils.clip_grad_norm_(list(params.values()), c["norm"])
        lr.append(opt.param_groups[0]["lr"])
        stepped.clear()
        amp.step(opt)
        amp.update()
        skipped.append(0 if stepped else 1)
        if stepped:
            rates.step()
        opt.zero_grad(set_to_none=True)
        scale.append(amp.get_scale())
        if i + 1 in (1, 2, 5, 10, 20, 30):
            t.update({f"out.{i + 1}.{k}": p.detach().clone() for k, p in params.items()})
    t["out.scale"], t["out.lr"] = torch.tensor(scale), torch.tensor(lr)
    t["out.skipped"] = torch.tensor(skipped, dtype=torch.int32)
    print("  scale  ", " ".join(f"{v:g}" for v in scale))
    print("  skipped", sum(skipped))
    return t


MOMENTUM = {"lion": dict(lr=3e-3, betas=(0.9, 0.98), weight_decay=0.1), "sgd": dict(lr=1e-2, momentum=0.9, weight_decay=0.01)}


def momentum():
    from lion_pytorch import Lion

    shapes = {"w": (3, 2), "b": (5,)}
    t = {f"in.{k}": peers.randn(f"momentum.{k}", *s) for k, s in shapes.items()}
    t.update({f"in.grad.{k}": peers.randn(f"momentum.grad.{k}", 30, *s) for k, s in shapes.items()})
    for name, kind, more in (("lion", Lion, {}), ("sgd", torch.optim.SGD, {"nesterov": True})):
        params = {k: torch.nn.Parameter(t[f"in.{k}"].clone()) for k in shapes}
        opt = kind(list(params.values()), **MOMENTUM[name], **more)
        after = {k: [] for k in shapes}
        for i in range(30):
            for k, p in params.items():
                p.grad = t[f"in.grad.{k}"][i].clone()
            opt.step()
            for k, p in params.items():
                after[k].append(p.detach().clone())
        t.update({f"{name}.{k}": torch.stack(v) for k, v in after.items()})
    return t


def ema():
    from diffusers.training_utils import EMAModel

    shapes = {"w": (3, 2), "b": (5,)}
    t = {f"in.{k}": peers.randn(f"ema.{k}", 13, *s) for k, s in shapes.items()}
    params = {k: torch.nn.Parameter(t[f"in.{k}"][0].clone()) for k in shapes}
    model = EMAModel(list(params.values()), decay=0.9, use_ema_warmup=False)
    decay, shadow = [], {k: [] for k in shapes}
    for i in range(12):
        for k, p in params.items():
            p.data.copy_(t[f"in.{k}"][i + 1])
        model.step(list(params.values()))
        decay.append(model.cur_decay_value)
        for k, s in zip(shapes, model.shadow_params):
            shadow[k].append(s.clone())
    t["out.decay"] = torch.tensor(decay)
    t.update({f"out.{k}": torch.stack(v) for k, v in shadow.items()})
    print("  decay ", " ".join(f"{v:.4f}" for v in decay))
    return t


def main(argv):
    peers.check()
    out = peers.output(argv, "optim")
    peers.save(scaler(), os.path.join(out, "scaler.safetensors"), settings=SCALER)
    peers.save(momentum(), os.path.join(out, "momentum.safetensors"), settings=MOMENTUM)
    peers.save(ema(), os.path.join(out, "ema.safetensors"))


if __name__ == "__main__":
    main(sys.argv)
