#!/usr/bin/env python3
"""Noise, timesteps, weights of losses and huber's thresholds by sd-scripts' own functions.

  SD_SCRIPTS=... noise.py [DIR]           (DIR: t/data/noise; versions and environment: see peers.py)

Writes noise.safetensors:
  latents.S                   [B,4,h,w] for each shape S, as cached (multiply by 0.18215)
  draw.CASE.noise             the target's noise, of get_noise_noisy_latents_and_timesteps after torch.manual_seed(7) and
                              random.seed(7), with the options and the shape of CASE (DRAWS below)
  draw.CASE.mixed             (ip) the noise that add_noise was given
  draw.CASE.timesteps [B] I32
  draw.CASE.next [2]          torch.rand(1) and random.random() after it: what was drawn, and no more
  cuda.CASE.*                 the same as on a card: where the latents' device is named, numbers come from a Philox generator of
                              seed 7 (class Card below); next [3] also has that generator's offset
  weight.CASE [1000]          what post_process_loss makes of a loss of 1 at each timestep, with the options of WEIGHTS
  delta.CASE [1000]           get_huber_threshold_if_needed at each timestep, with the options of DELTAS
  schedule.zero [1000]        alphas_cumprod with --zero_terminal_snr

How exactly to compare: draws are equal to the bit; sums of a batch (means, the standard deviation) and the
interpolation (bilinear, corners not aligned, weights in f32, as torch's Upsample has them) to the rounding of f32.

Version 0.8.7 gives the same, but for these: with huber and smooth_l1 one timestep serves the whole batch; with
--v_parameterization --debiased_estimation_loss weighs as without it; there is neither l1 nor --huber_scale.
"""
import os
import random
import sys

import numpy
import torch

import lora
import peers

SHAPES = {"a": (2, 4, 12, 10), "b": (5, 4, 6, 9)}
DRAWS = {
    "plain": ("a", []),
    "offset": ("a", ["--noise_offset=0.1"]),
    "offset-zero": ("b", ["--noise_offset=0", "--adaptive_noise_scale=0.5"]),
    "offset-random": ("b", ["--noise_offset=0.1", "--noise_offset_random_strength"]),
    "adaptive": ("a", ["--noise_offset=0.05", "--adaptive_noise_scale=0.3"]),
    "adaptive-negative": ("b", ["--noise_offset=0.1", "--adaptive_noise_scale=-1.5"]),
    "multires": ("a", ["--multires_noise_iterations=8"]),
    "multires-two": ("b", ["--multires_noise_iterations=2", "--multires_noise_discount=0.8"]),
    "ip": ("a", ["--ip_noise_gamma=0.1"]),
    "ip-random": ("b", ["--ip_noise_gamma=0.2", "--ip_noise_gamma_random_strength"]),
    "range": ("b", ["--min_timestep=300", "--max_timestep=310"]),
    "one-timestep": ("a", ["--min_timestep=600", "--max_timestep=600"]),
    "all": ("b", ["--noise_offset=0.07", "--noise_offset_random_strength", "--adaptive_noise_scale=0.2",
                  "--multires_noise_iterations=6", "--multires_noise_discount=0.4", "--ip_noise_gamma=0.05",
                  "--ip_noise_gamma_random_strength", "--min_timestep=100", "--max_timestep=900"]),
}
CUDA = ("plain", "offset-random", "adaptive", "multires", "ip", "all")
WEIGHTS = {
    "none": [],
    "min-snr": ["--min_snr_gamma=5"],
    "min-snr-v": ["--min_snr_gamma=5", "--v_parameterization"],
    "scale-v": ["--scale_v_pred_loss_like_noise_pred", "--v_parameterization"],
    "v-like": ["--v_pred_like_loss=0.3"],
    "debiased": ["--debiased_estimation_loss"],
    "debiased-v": ["--debiased_estimation_loss", "--v_parameterization"],
    "all": ["--min_snr_gamma=0.5", "--v_pred_like_loss=2", "--debiased_estimation_loss"],
    "all-v": ["--min_snr_gamma=20", "--scale_v_pred_loss_like_noise_pred", "--debiased_estimation_loss", "--v_parameterization",
              "--zero_terminal_snr"],
}
DELTAS = {
    "snr": ["--loss_type=huber"],
    "snr-zero": ["--loss_type=smooth_l1", "--huber_c=0.25", "--huber_scale=3", "--zero_terminal_snr"],
    "exponential": ["--loss_type=huber", "--huber_schedule=exponential"],
    "exponential-scaled": ["--loss_type=smooth_l1", "--huber_schedule=exponential", "--huber_c=0.03", "--huber_scale=1.7"],
    "constant": ["--loss_type=huber", "--huber_schedule=constant", "--huber_c=0.2", "--huber_scale=1.5"],
}


class Card:
    """A CUDA device's generator, of which each draw is smaller than what the card runs at once (lib/base/philox.h)."""

    def __init__(self, seed):
        self.seed, self.offset = seed, 0

    def words(self, n):
        a, b = numpy.full(n, self.offset // 4, numpy.uint64), numpy.zeros(n, numpy.uint64)
        c, d = numpy.arange(n, dtype=numpy.uint64), numpy.zeros(n, numpy.uint64)
        k0, k1 = self.seed & 0xFFFFFFFF, self.seed >> 32
        for _ in range(10):
            low, high = a * numpy.uint64(0xD2511F53), c * numpy.uint64(0xCD9E8D57)
            mask, shift = numpy.uint64(0xFFFFFFFF), numpy.uint64(32)
            a, b, c, d = (high >> shift) ^ b ^ numpy.uint64(k0), high & mask, (low >> shift) ^ d ^ numpy.uint64(k1), low & mask
            k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
        self.offset += 4
        return a.astype(numpy.float64), b.astype(numpy.float64)

    def randn(self, *shape):
        x, y = self.words(numpy.prod(shape))
        radius = numpy.sqrt(-2 * numpy.log(x * 2.0**-32 + 2.0**-33))
        return torch.tensor(radius * numpy.sin(y * 2.0**-32 * 2 * numpy.pi + 2.0**-32 * numpy.pi), dtype=torch.float32).reshape(shape)

    def rand(self, n):
        return torch.tensor(self.words(n)[0] * 2.0**-32 + 2.0**-33, dtype=torch.float32)


class OnCard:
    """torch's functions that sd-scripts calls with the latents' device draw from a Card meanwhile."""

    def __init__(self, card):
        self.card = card

    def __enter__(self):
        self.own = torch.randn, torch.rand, torch.randn_like
        torch.randn = lambda *s, **k: self.card.randn(*s[0]) if "device" in k else self.own[0](*s, **k)
        torch.rand = lambda *s, **k: self.card.rand(*s) if "device" in k else self.own[1](*s, **k)
        torch.randn_like = lambda x, **k: self.card.randn(*x.shape)

    def __exit__(self, *_):
        torch.randn, torch.rand, torch.randn_like = self.own


def draw(t, key, words, latents, trainer, train_util, card=None):
    args = lora.options(*words)
    scheduler = trainer.get_noise_scheduler(args, "cpu")
    add, mixed = scheduler.add_noise, []
    scheduler.add_noise = lambda x, noise, steps: (mixed.append(noise.clone()), add(x, noise, steps))[1]
    random.seed(7)
    torch.manual_seed(7)
    make = train_util.get_noise_noisy_latents_and_timesteps
    if card:
        with OnCard(card):
            noise, _, timesteps = make(args, scheduler, latents)[:3]
    else:
        noise, _, timesteps = make(args, scheduler, latents)[:3]
    t[f"{key}.noise"], t[f"{key}.timesteps"] = noise, timesteps.to(torch.int32)
    if args.ip_noise_gamma:
        t[f"{key}.mixed"] = mixed[0]
    t[f"{key}.next"] = torch.tensor([torch.rand(1).item(), random.random()] + ([card.offset] if card else []))


def main(argv):
    peers.check()
    out = peers.output(argv, "noise")
    peers.sd_scripts()
    import train_network
    from library import train_util

    trainer = train_network.NetworkTrainer()
    t = {f"latents.{k}": peers.randn(f"noise.latents.{k}", *s, scale=5.0) for k, s in SHAPES.items()}
    every = torch.arange(1000)
    for case, (shape, words) in DRAWS.items():
        draw(t, f"draw.{case}", words, t[f"latents.{shape}"] * 0.18215, trainer, train_util)
        if case in CUDA:
            draw(t, f"cuda.{case}", words, t[f"latents.{shape}"] * 0.18215, trainer, train_util, Card(7))
    for case, words in WEIGHTS.items():
        args = lora.options(*words)
        t[f"weight.{case}"] = trainer.post_process_loss(torch.ones(1000), args, every, trainer.get_noise_scheduler(args, "cpu"))
    for case, words in DELTAS.items():
        args = lora.options(*words)
        t[f"delta.{case}"] = train_util.get_huber_threshold_if_needed(args, every, trainer.get_noise_scheduler(args, "cpu"))
    t["schedule.zero"] = trainer.get_noise_scheduler(lora.options("--zero_terminal_snr"), "cpu").alphas_cumprod
    peers.save(t, os.path.join(out, "noise.safetensors"))


if __name__ == "__main__":
    main(sys.argv)
