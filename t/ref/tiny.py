#!/usr/bin/env python3
"""Pictures that diffusers' own pipeline draws with contrib/tiny/sd.safetensors, for t/unit/picture.c.

  tiny.py TOKENIZER [DIR]      TOKENIZER: folder with CLIP's vocab.json and merges.txt; DIR: t/data/tiny

diffusers 0.32.1, transformers 4.54.1, torch 2.13.0 on a CPU, f32. The prompts, seeds and settings are those of the table
below, which t/unit/picture.c repeats. DDIM has the configuration published with Stable Diffusion 1: timesteps offset by 1,
no clamp, ending at alpha_bar[0]; Euler has sd-scripts' (linspace).
"""
import os
import sys

import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "../../contrib/tiny"))
import check_tiny  # noqa: E402

BETAS = dict(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
DDIM = DDIMScheduler(**BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
EULER = EulerDiscreteScheduler(**BETAS)

PICTURES = [  # name, scheduler, prompt, negative prompt, seed, width, height, steps, scale
    ("ddim", DDIM, "a red circle on a blue ground", "", 1, 64, 64, 30, 7.5),
    ("euler", EULER, "a green square on a yellow ground", "blue", 2, 64, 64, 20, 5.0),
    ("wide", DDIM, "a white triangle on a red ground", "", 3, 80, 48, 10, 1.0),
]


def main():
    torch.set_num_threads(1)
    pipe = check_tiny.load(os.path.join(here, "../../contrib/tiny/sd.safetensors"), sys.argv[1])
    folder = sys.argv[2] if len(sys.argv) > 2 else os.path.join(here, "../data/tiny")
    os.makedirs(folder, exist_ok=True)
    for name, scheduler, prompt, negative, seed, width, height, steps, scale in PICTURES:
        pipe.scheduler = scheduler
        picture = pipe(prompt, negative_prompt=negative, width=width, height=height, num_inference_steps=steps,
                       guidance_scale=scale, generator=torch.Generator("cpu").manual_seed(seed)).images[0]
        picture.save(os.path.join(folder, name + ".png"))


main()
