#!/usr/bin/env python3
"""What stands around a gradient: the dynamic loss scale, by torch, and moving averages, by diffusers;
and optimizers with one moment, by lion-pytorch and torch; and with moments of 8 bits, by bitsandbytes.

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
  quant.safetensors    5 steps with moments of 8 bits by blocks of 256: torch's arithmetic in the order of bitsandbytes' kernels
                       (moments from codes, updated, used, to codes), codes by bitsandbytes 0.44.0's quantize_blockwise
    in.P, in.grad.P [5,n]       P = w [1000], b [256]
    map.signed, map.unsigned [256]
    OP.P [5,n]                  the parameter after each step, OP = adamw, lion, sgd with what QUANT says
    OP.M.P [5,n], OP.M.max.P    codes and magnitudes of moment M = m, v (adamw) after each step
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


QUANT = {"adamw": dict(lr=1e-2, betas=(0.9, 0.99), eps=1e-6, weight_decay=0.1),
         "lion": dict(lr=3e-3, betas=(0.9, 0.98), weight_decay=0.1),
         "sgd": dict(lr=1e-2, momentum=0.9, weight_decay=0.01)}


def to_codes(x, table):
    """bitsandbytes' codes as its optimizers' kernels take them."""
    import bitsandbytes.functional as bnb

    # On a CPU quantize_blockwise writes -1 into table[0], to search from there: the two lowest are compared again.
    codes, state = bnb.quantize_blockwise(x, code=table.clone(), blocksize=256)
    unit = x / state.absmax.repeat_interleave(256)[: len(x)]
    low = codes <= 1
    codes[low] = ((unit - table[1]).abs() < (unit - table[0]).abs())[low].to(torch.uint8)
    # kOptimizerStatic8bit{1,2}StateBlockwise: a moment keeps its sign.
    turned = (x < 0) & (table[codes.int()] == 0)
    codes[turned] -= 1
    return codes, state.absmax


def from_codes(codes, absmax, table):
    import bitsandbytes.functional as bnb

    return bnb.dequantize_blockwise(codes, absmax=absmax, code=table.clone(), blocksize=256)


def stepped(name, step, p, g, m, v):
    """The parameter and its moments after one step."""
    c = QUANT[name]
    if name == "sgd":
        d = g + c["weight_decay"] * p
        m = c["momentum"] * m + d
        return p - c["lr"] * (d + c["momentum"] * m), m, v
    beta1, beta2 = c["betas"]
    p = p * (1 - c["lr"] * c["weight_decay"])
    if name == "lion":
        return p - c["lr"] * torch.sign(beta1 * m + (1 - beta1) * g), beta2 * m + (1 - beta2) * g, v
    m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
    root = (v / (1 - beta2**step)).sqrt()
    return p - c["lr"] / (1 - beta1**step) * m / (root + c["eps"]), m, v


def quant():
    import bitsandbytes.functional as bnb

    maps = {"m": bnb.create_dynamic_map(True), "v": bnb.create_dynamic_map(False)}
    sizes = {"w": 1000, "b": 256}
    t = {"map.signed": maps["m"], "map.unsigned": maps["v"]}
    t.update({f"in.{k}": peers.randn(f"quant.{k}", n) for k, n in sizes.items()})
    for k, n in sizes.items():
        # Magnitudes over many decades, as gradients have them: all of the map is used.
        t[f"in.grad.{k}"] = peers.randn(f"quant.grad.{k}", 5, n) * 10 ** peers.randn(f"quant.decade.{k}", 5, n, scale=1.5)
    for name in QUANT:
        moments = ("m", "v") if name == "adamw" else ("m",)
        for k, n in sizes.items():
            p, state = t[f"in.{k}"], {m: (torch.zeros(n, dtype=torch.uint8), torch.zeros((n + 255) // 256)) for m in moments}
            after = {}
            for i in range(5):
                m, v = (from_codes(*state[s], maps[s]) if s in state else None for s in ("m", "v"))
                p, m, v = stepped(name, i + 1, p, t[f"in.grad.{k}"][i], m, v)
                state = {s: to_codes(x, maps[s]) for s, x in (("m", m), ("v", v)) if s in moments}
                after.setdefault(f"{name}.{k}", []).append(p)
                for s in moments:
                    after.setdefault(f"{name}.{s}.{k}", []).append(state[s][0])
                    after.setdefault(f"{name}.{s}.max.{k}", []).append(state[s][1])
            t.update({key: torch.stack(x) for key, x in after.items()})
        print("  quant ", name, "codes", len(t[f"{name}.m.w"].unique()))
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
    peers.save(quant(), os.path.join(out, "quant.safetensors"), settings=QUANT)
    peers.save(ema(), os.path.join(out, "ema.safetensors"))


if __name__ == "__main__":
    main(sys.argv)
