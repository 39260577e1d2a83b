#!/usr/bin/env python3
"""DDIM and Euler as sd-scripts sets them up, run by diffusers on the small random U-Net.

  SD_SCRIPTS=... samplers.py [DIR]       (DIR: t/data/sampler; versions and environment: see peers.py)

Writes samplers.safetensors. Model: the U-Net of t/data/model/sd1-small.safetensors, context = rows of its out.text.last:
row 0 is the prompt, row 1 the negative prompt. Guidance u + s (c - u), s = 7.5 (ddim-train: 1.5). Noise [1,4,6,8] is
in.noise, times the scheduler's init sigma at the start. f32.

CASE = SCHEDULER.PREDICTION.STEPS, PREDICTION eps or v (the same network, its output taken as v), STEPS 5, 20, 30:
  ddim-train   train_util.get_my_scheduler("ddim"): samples drawn during training. timestep_spacing leading,
               steps_offset 0, set_alpha_to_one true, clip_sample true (x0 clamped to -1..1, eps not recomputed)
  ddim-gen     gen_img.py of sd-scripts: as above, but steps_offset 1, clip_sample false
  ddim-sd      what diffusers' pipelines use with the configuration published with SD1: steps_offset 1, clip_sample false,
               set_alpha_to_one false (the last step ends at alpha_bar 0.99915 of t = 0); eps only
  euler        get_my_scheduler("euler"): timestep_spacing linspace, steps_offset 0 (without effect here), sigmas
               interpolated linearly, last one 0; t is not an integer. gen_img.py's is the same
All have 1000 steps of scaled_linear 0.00085 to 0.012, eta 0.

  out.CASE.timesteps [N]      as given to the U-Net; out.CASE.sigmas [N+1] (euler)
  out.CASE.latents [M,4,6,8]  after each step (N = 5), after each 5th step (N = 20, 30); the last one is the result.
                              Missing for ddim-train.eps.20 and .30: clamping leaves little but the network's output in x, and
                              a random network fed with itself is chaotic (1 unit in the last place of the weights grows to 1e-2)
  out.CASE.fake [4,6,8]       result with f(x, t) = 0.7 sin(x) + t/2000 in place of the network, without guidance, x being
                              the scaled input: the sampler alone
`config` in the metadata is each scheduler's configuration as JSON.
Weights changed by one unit in the last place change a result by at most 1.3e-5 of its largest element.
"""
import json
import os
import sys

import torch

import models
import peers

SCALE = {"ddim-train": 1.5, "ddim-gen": 7.5, "ddim-sd": 7.5, "euler": 7.5}


def scheduler_of(kind, prediction):
    from diffusers import DDIMScheduler
    from library import train_util

    v = prediction == "v"
    if kind in ("ddim-train", "euler"):
        return train_util.get_my_scheduler(sample_sampler=kind.split("-")[0], v_parameterization=v)
    return DDIMScheduler(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                         prediction_type="v_prediction" if v else "epsilon", clip_sample=False, steps_offset=1,
                         set_alpha_to_one=kind == "ddim-gen")


def sample(scheduler, steps, noise, predict):
    scheduler.set_timesteps(steps)
    x, seen = noise * scheduler.init_noise_sigma, []
    for t in scheduler.timesteps:
        x = scheduler.step(predict(scheduler.scale_model_input(x, t), t), t, x).prev_sample
        seen.append(x)
    return seen


def guided(unet, cond, uncond, scale):
    context = torch.stack([uncond, cond])

    def predict(x, t):
        u, c = unet(torch.cat([x, x]), t, context).sample.chunk(2)
        return u + scale * (c - u)

    return predict


def pipeline_result(parts, scheduler, steps, noise, cond, uncond):
    """The same through diffusers' own pipeline, as a check of the loop above."""
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline(vae=parts["vae"], text_encoder=parts["text_encoder"], tokenizer=None, unet=parts["unet"],
                                   scheduler=scheduler, safety_checker=None, feature_extractor=None)
    pipe.set_progress_bar_config(disable=True)
    return pipe(prompt_embeds=cond[None], negative_prompt_embeds=uncond[None], num_inference_steps=steps, guidance_scale=SCALE["euler"],
                latents=noise, height=48, width=64, output_type="latent").images


def main(argv):
    from safetensors.torch import load_file

    peers.check()
    out = peers.output(argv, "sampler")
    peers.sd_scripts()
    parts, _ = models.build(models.SD1, "sd1-small")
    given = load_file(os.path.join(peers.DATA, "model", "sd1-small.safetensors"))
    assert all(torch.equal(given["unet." + k], v) for k, v in parts["unet"].state_dict().items())
    cond, uncond = given["out.text.last"]
    noise = peers.randn("sampler.noise", 1, 4, 6, 8)
    t, configs = {"in.noise": noise}, {}
    with torch.no_grad():
        for kind in ("ddim-train", "ddim-gen", "ddim-sd", "euler"):
            for prediction in ("eps", "v") if kind != "ddim-sd" else ("eps",):
                for steps in (5, 20, 30):
                    case = f"out.{kind}.{prediction}.{steps}"
                    s = scheduler_of(kind, prediction)
                    configs[f"{kind}.{prediction}"] = {k: v for k, v in s.config.items() if not k.startswith("_")}
                    seen = sample(s, steps, noise, guided(parts["unet"], cond, uncond, SCALE[kind]))
                    t[case + ".timesteps"] = s.timesteps.float()
                    if hasattr(s, "sigmas"):
                        t[case + ".sigmas"] = s.sigmas
                    if (kind, prediction) != ("ddim-train", "eps") or steps == 5:
                        t[case + ".latents"] = torch.cat(seen[4::5] if steps > 5 else seen)
                    t[case + ".fake"] = sample(scheduler_of(kind, prediction), steps, noise,
                                               lambda x, at: 0.7 * torch.sin(x) + at / 2000)[-1][0]
                    print(f"  {case}: largest {seen[-1].abs().max():.3f}")
                    if kind in ("ddim-sd", "euler") and steps == 20:
                        other = pipeline_result(parts, scheduler_of(kind, prediction), steps, noise, cond, uncond)
                        worst = ((other - seen[-1]).abs().max() / seen[-1].abs().max()).item()
                        assert worst < 1e-5, worst
                        print(f"    diffusers' pipeline: {worst:.1e}")
    peers.save(t, os.path.join(out, "samplers.safetensors"), config=configs)


if __name__ == "__main__":
    main(sys.argv)
