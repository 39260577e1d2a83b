"""Every optimizer that sd-scripts names, by its own implementation: 200 steps on gradients that depend on the parameters.

  optim_kinds.py [DIR]      writes DIR/kinds.safetensors; DIR is t/data/optim unless given

  torch 2.13.0 (torch.optim), transformers 4.54.1 (Adafactor), lion-pytorch 0.2.5, dadaptation 3.2, prodigyopt 1.1.2

Three parameters P = b [7], w [5,6], k [3,2,3,3]. The gradient before step t = 0, 1, .. is, in the parameter's precision,

    curve.P * (P - target.P) + noise.P[t]

    in.P                    where a parameter starts
    curve.P, target.P       of its shape
    noise.P [200,n]         n elements a parameter
    KIND.P [5,n]            the parameter after 1, 2, 10, 50 and 200 steps, all in f32 as the peer computes it
    KIND.d [5] f64          its step size d then, of those that have one (a Python float there)
    KIND.f64.P [n] f64      the parameter after 200 steps, all in f64 (gradients too)
    KIND.f64.d [5] f64      d in that run

The metadata "kinds" says of every KIND what it was made with: {"KIND": {"class": "torch.optim.Adam", "args": {..}}}, where also
"warmup": n     has learning rates of min(1, t / n) times lr, so that step 0 has none;
"zero": 1       starts with parameters of 0, not in.P;
"idle": n       has no gradient for w at the steps t of t % n == 0: w and its state are left alone then.

`optim_kinds.py` prints how far the peer's f32 is from its f64 after 200 steps, relative to the largest value of each parameter:
what a test that compares with f32 cannot ask for. Prodigy sums g * (start - p), which is all rounding while d is near 1e-6 and p
near 1: its kinds start at 0, as a LoRA's up matrices do, or with a larger d0, but for prodigy.random, off by 7e-3.
"""
import importlib
import os
import sys

import torch

import peers

PINNED = {"lion-pytorch": "0.2.5", "dadaptation": "3.2", "prodigyopt": "1.1.2"}
STEPS, AFTER = 200, (1, 2, 10, 50, 200)
SHAPES = {"b": (7,), "w": (5, 6), "k": (3, 2, 3, 3)}

T, D, E = "torch.optim.", "dadaptation.", "dadaptation.experimental."
ADAFACTOR = "transformers.optimization.Adafactor"


def kind(cls, warmup=0, idle=0, zero=0, **args):
    more = {"warmup": warmup, "idle": idle, "zero": zero}
    return {"class": cls, "args": args, **{k: v for k, v in more.items() if v}}


KINDS = {
    "adamw": kind(T + "AdamW", lr=2e-2, betas=(0.85, 0.98), eps=1e-6, weight_decay=0.1),
    "adamw.idle": kind(T + "AdamW", lr=2e-2, warmup=10, idle=3),
    "adamw.amsgrad": kind(T + "AdamW", lr=2e-2, betas=(0.9, 0.9), weight_decay=0.1, amsgrad=True),
    "adam": kind(T + "Adam", lr=2e-2, betas=(0.85, 0.98), eps=1e-6, weight_decay=0.1),
    "adam.plain": kind(T + "Adam", lr=2e-2),
    "adam.amsgrad": kind(T + "Adam", lr=2e-2, betas=(0.9, 0.9), weight_decay=0.1, amsgrad=True),
    "adam.amsgrad.plain": kind(T + "Adam", lr=2e-2, betas=(0.9, 0.9), amsgrad=True),
    "nadam": kind(T + "NAdam", lr=2e-2, betas=(0.85, 0.98), eps=1e-6, weight_decay=0.1, momentum_decay=1e-2),
    "nadam.decoupled": kind(T + "NAdam", lr=2e-2, weight_decay=0.1, decoupled_weight_decay=True),
    "nadam.idle": kind(T + "NAdam", lr=2e-2, warmup=10, idle=3),
    "radam": kind(T + "RAdam", lr=2e-2, betas=(0.85, 0.98), eps=1e-6, weight_decay=0.1),
    "radam.decoupled": kind(T + "RAdam", lr=2e-2, weight_decay=0.1, decoupled_weight_decay=True),
    "radam.idle": kind(T + "RAdam", lr=2e-2, warmup=10, idle=3),
    "adamax": kind(T + "Adamax", lr=2e-2, betas=(0.85, 0.98), eps=1e-6, weight_decay=0.1),
    "adamax.plain": kind(T + "Adamax", lr=2e-2),
    "rmsprop": kind(T + "RMSprop", lr=1e-2, alpha=0.95, eps=1e-6),
    "rmsprop.decay": kind(T + "RMSprop", lr=1e-2, weight_decay=0.1),
    "rmsprop.momentum": kind(T + "RMSprop", lr=5e-3, alpha=0.95, momentum=0.8),
    "rmsprop.centered": kind(T + "RMSprop", lr=1e-2, alpha=0.95, centered=True),
    "rmsprop.full": kind(T + "RMSprop", lr=5e-3, alpha=0.95, eps=1e-6, weight_decay=0.1, momentum=0.8, centered=True),
    "adagrad": kind(T + "Adagrad", lr=0.2, lr_decay=0.01, weight_decay=0.1, initial_accumulator_value=0.5, eps=1e-8),
    "adagrad.plain": kind(T + "Adagrad", lr=0.2),
    "adadelta": kind(T + "Adadelta", lr=2.0, rho=0.95, eps=1e-4, weight_decay=0.1),
    "adadelta.plain": kind(T + "Adadelta"),
    "sgd": kind(T + "SGD", lr=0.05),
    "sgd.decay": kind(T + "SGD", lr=0.05, weight_decay=0.1),
    "sgd.momentum": kind(T + "SGD", lr=0.02, momentum=0.8, dampening=0.3, weight_decay=0.1),
    "sgd.nesterov": kind(T + "SGD", lr=0.02, momentum=0.8, nesterov=True, weight_decay=0.1),
    "sgd.idle": kind(T + "SGD", lr=0.02, momentum=0.8, dampening=0.3, warmup=10, idle=3),
    "asgd": kind(T + "ASGD", lr=0.05, lambd=1e-2, alpha=0.6, t0=50, weight_decay=0.1),
    "asgd.plain": kind(T + "ASGD"),
    "rprop": kind(T + "Rprop", lr=0.02, etas=(0.6, 1.3), step_sizes=(1e-4, 0.5)),
    "rprop.plain": kind(T + "Rprop"),
    "lion": kind("lion_pytorch.Lion", lr=5e-3, betas=(0.9, 0.97), weight_decay=0.1),
    "lion.plain": kind("lion_pytorch.Lion", lr=5e-3),
    "dadaptation": kind(E + "DAdaptAdamPreprint"),
    "dadaptation.coupled": kind(E + "DAdaptAdamPreprint", lr=0.8, betas=(0.85, 0.98), eps=1e-6, weight_decay=0.1, d0=1e-4),
    "dadaptation.decoupled": kind(E + "DAdaptAdamPreprint", weight_decay=0.1, decouple=True, growth_rate=1.3, warmup=10, idle=3),
    "dadaptadam": kind(D + "DAdaptAdam"),
    "dadaptadam.coupled": kind(D + "DAdaptAdam", lr=0.8, betas=(0.85, 0.98), eps=1e-6, weight_decay=0.1, d0=1e-4,
                               use_bias_correction=True),
    "dadaptadam.decoupled": kind(D + "DAdaptAdam", weight_decay=0.1, decouple=True, growth_rate=1.3, use_bias_correction=True,
                                 warmup=10, idle=3),
    "dadaptadagrad": kind(D + "DAdaptAdaGrad"),
    "dadaptadagrad.momentum": kind(D + "DAdaptAdaGrad", lr=0.8, momentum=0.7, eps=1e-4, weight_decay=0.1, d0=1e-4),
    "dadaptadagrad.idle": kind(D + "DAdaptAdaGrad", growth_rate=1.3, warmup=10, idle=3),
    "dadaptadan": kind(D + "DAdaptAdan"),
    "dadaptadan.noprox": kind(D + "DAdaptAdan", lr=0.8, betas=(0.95, 0.9, 0.98), eps=1e-6, weight_decay=0.02, no_prox=True,
                               d0=1e-4),
    "dadaptadan.idle": kind(D + "DAdaptAdan", growth_rate=1.3, warmup=10, idle=3),
    "dadaptadanip": kind(E + "DAdaptAdanIP"),
    "dadaptadanip.noprox": kind(E + "DAdaptAdanIP", lr=0.8, betas=(0.95, 0.9, 0.98), eps=1e-6, weight_decay=0.02, no_prox=True,
                                 d0=1e-4),
    "dadaptadanip.idle": kind(E + "DAdaptAdanIP", growth_rate=1.3, warmup=10, idle=3),
    "dadaptlion": kind(D + "DAdaptLion"),
    "dadaptlion.decay": kind(D + "DAdaptLion", lr=0.8, betas=(0.85, 0.97), weight_decay=0.1, d0=1e-4),
    "dadaptlion.idle": kind(D + "DAdaptLion", warmup=10, idle=3),
    "dadaptsgd": kind(D + "DAdaptSGD"),
    "dadaptsgd.momentum": kind(D + "DAdaptSGD", lr=0.8, momentum=0.7, weight_decay=0.1, d0=1e-4),
    "dadaptsgd.idle": kind(D + "DAdaptSGD", momentum=0.7, growth_rate=1.3, idle=3),
    "prodigy": kind("prodigyopt.Prodigy", zero=1),
    "prodigy.random": kind("prodigyopt.Prodigy"),
    "prodigy.coupled": kind("prodigyopt.Prodigy", lr=0.8, betas=(0.85, 0.98), beta3=0.97, eps=1e-6, weight_decay=0.1,
                            decouple=False, use_bias_correction=True, d0=1e-3, d_coef=0.7),
    "prodigy.decoupled": kind("prodigyopt.Prodigy", weight_decay=0.1, use_bias_correction=True, safeguard_warmup=True,
                              growth_rate=1.3, warmup=10, idle=3, zero=1),
    "prodigy.unsafe": kind("prodigyopt.Prodigy", d_coef=2.0, warmup=10, zero=1),
    "prodigy.beta0": kind("prodigyopt.Prodigy", betas=(0.0, 0.99), weight_decay=0.1, d0=1e-2),
    "prodigy.slice": kind("prodigyopt.Prodigy", slice_p=3, d0=1e-2),
    "adafactor": kind(ADAFACTOR),
    "adafactor.warmup": kind(ADAFACTOR, warmup_init=True, weight_decay=0.1),
    "adafactor.lr": kind(ADAFACTOR, lr=2e-2, relative_step=False, scale_parameter=False, weight_decay=0.1, warmup=10, idle=3),
    "adafactor.beta1": kind(ADAFACTOR, lr=5e-2, relative_step=False, beta1=0.9, clip_threshold=0.8, decay_rate=-0.7, eps=(1e-20, 1e-2)),
    "adafactor.unscaled": kind(ADAFACTOR, scale_parameter=False, beta1=0.8),
}


def inputs():
    t = {}
    for k, shape in SHAPES.items():
        t[f"in.{k}"] = peers.randn(f"kinds.{k}", *shape)
        t[f"curve.{k}"] = 0.3 + peers.randn(f"kinds.curve.{k}", *shape).abs()
        t[f"target.{k}"] = peers.randn(f"kinds.target.{k}", *shape)
        t[f"noise.{k}"] = peers.randn(f"kinds.noise.{k}", STEPS, *shape, scale=0.5)
    return t


def run(given, setting, dtype):
    """Parameters and d after each step of AFTER."""
    module, cls = setting["class"].rsplit(".", 1)
    torch.set_default_dtype(dtype)
    t = {k: v.to(dtype) for k, v in given.items()}
    params = {k: torch.nn.Parameter(t[f"in.{k}"] * (0 if setting.get("zero") else 1)) for k in SHAPES}
    opt = getattr(importlib.import_module(module), cls)(list(params.values()), **setting["args"])
    after, d = {k: [] for k in SHAPES}, []
    warmup, idle, group = setting.get("warmup"), setting.get("idle"), opt.param_groups[0]
    for i in range(STEPS):
        for k, p in params.items():
            p.grad = t[f"curve.{k}"] * (p.detach() - t[f"target.{k}"]) + t[f"noise.{k}"][i]
        if idle and i % idle == 0:
            params["w"].grad = None
        if warmup:
            group["lr"] = setting["args"].get("lr", 1.0) * min(1.0, i / warmup)
        opt.step()
        if i + 1 in AFTER:
            for k, p in params.items():
                after[k].append(p.detach().clone().flatten())
            if "d" in group:
                d.append(float(group["d"]))
    torch.set_default_dtype(torch.float32)
    return {k: torch.stack(v) for k, v in after.items()}, torch.tensor(d, dtype=torch.float64)


def main(argv):
    peers.check(PINNED)
    out = peers.output(argv, "optim")
    given = inputs()
    t = dict(given)
    for name, setting in KINDS.items():
        (single, d), (double, d64) = (run(given, setting, x) for x in (torch.float32, torch.float64))
        far = max(((single[k][-1] - double[k][-1]).abs().max() / double[k][-1].abs().max()).item() for k in SHAPES)
        moved = max((double[k][-1] - given[f"in.{k}"].flatten()).abs().max().item() for k in SHAPES)
        missed = max((double[k][-1] - given[f"target.{k}"].flatten()).abs().max().item() for k in SHAPES)
        t.update({f"{name}.{k}": v for k, v in single.items()})
        t.update({f"{name}.f64.{k}": v[-1] for k, v in double.items()})
        print(f"  {name:22} f32 off by {far:.1e}, moved {moved:.3f}, from the target {missed:.3f}", end="")
        if len(d):
            t[f"{name}.d"], t[f"{name}.f64.d"] = d, d64
            print(f", d {' '.join(f'{v:.4g}' for v in d64)}, off by {((d - d64) / d64).abs().max():.1e}", end="")
        print()
    peers.save(t, os.path.join(out, "kinds.safetensors"), kinds=KINDS)


if __name__ == "__main__":
    main(sys.argv)
