#!/usr/bin/env python3
"""Says how good the tiny model is.

    check_tiny.py sheet SD.safetensors TOKENIZER OUT.png           a contact sheet to look at
    check_tiny.py measure SD.safetensors TOKENIZER                 how many samples are what their captions say
    check_tiny.py lora SD.safetensors TOKENIZER SKS_DIR OUT.png    trains a LoRA on the concept, compares it with the base
    check_tiny.py same SD.safetensors DIFFUSERS_DIR                the file and the folder draw the same pictures

SD.safetensors is read through the original names, back into diffusers' modules, so the file itself is what is checked.
"""

import argparse
import glob
import json
import math
import os

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from safetensors import safe_open
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

import make_tiny
import shapes


# ---- loading and sampling --------------------------------------------------------------------------------------

def load(path, tokenizer):
    """The pipeline from the one file: its names are the original ones, its configuration is in its metadata."""
    with safe_open(path, "pt") as f:
        config = json.loads(f.metadata()["sd_config"])
        tensors = {k: f.get_tensor(k).float() for k in f.keys()}
    unet = UNet2DConditionModel.from_config(config["unet"])
    vae = AutoencoderKL.from_config(config["vae"])
    text = CLIPTextModel(CLIPTextConfig(**config["text_encoder"]))

    def fill(module, names):
        """names: the module's own keys as the file has them, in the module's order"""
        state = {}
        for (key, own), name in zip(module.state_dict().items(), names):
            state[key] = tensors.pop(name).reshape(own.shape)
        module.load_state_dict(state)
        module.eval().requires_grad_(False)

    fill(unet, make_tiny.ldm_unet(unet.state_dict(), config["unet"]["layers_per_block"]))
    fill(vae, make_tiny.ldm_vae(vae.state_dict(), len(config["vae"]["block_out_channels"])))
    fill(text, ["cond_stage_model.transformer." + k for k in text.state_dict()])
    assert not tensors, list(tensors)[:5]
    pipe = StableDiffusionPipeline(
        vae=vae, unet=unet, text_encoder=text, tokenizer=CLIPTokenizer.from_pretrained(tokenizer),
        scheduler=DDIMScheduler(**make_tiny.SCHEDULE, clip_sample=False, set_alpha_to_one=False, steps_offset=1),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def sample(pipe, prompts, seed=1, scale=7.5, steps=30, height=64, width=64):
    """One picture a prompt, uint8 [N,H,W,3]; picture k starts from noise of seed + k."""
    out = []
    for k in range(0, len(prompts), 32):
        some = prompts[k:k + 32]
        noise = [torch.Generator().manual_seed(seed + k + i) for i in range(len(some))]
        out.append(pipe(some, height=height, width=width, num_inference_steps=steps, guidance_scale=scale,
                        generator=noise, output_type="np").images)
    return np.rint(np.concatenate(out) * 255).astype(np.uint8)


def sheet(pictures, columns, path, zoom=2):
    h, w = pictures[0].shape[:2]
    rows = -(-len(pictures) // columns)
    page = np.zeros((rows * (h + 2), columns * (w + 2), 3), np.uint8)
    for k, p in enumerate(pictures):
        y, x = k // columns * (h + 2), k % columns * (w + 2)
        page[y:y + h, x:x + w] = p
    Image.fromarray(page).resize((page.shape[1] * zoom, page.shape[0] * zoom), Image.NEAREST).save(path)


# ---- judging a picture -----------------------------------------------------------------------------------------

def nearest(colour):
    return min(shapes.COLOURS, key=lambda n: np.sum((np.asarray(shapes.COLOURS[n]) - colour) ** 2))


def boxed(mask, n=24):
    """A mask cut to its bounding box, as n x n, with the box's width by height."""
    ys, xs = np.where(mask)
    y0, y1, x0, x1 = ys.min(), ys.max() + 1, xs.min(), xs.max() + 1
    image = Image.fromarray((mask[y0:y1, x0:x1] * 255).astype(np.uint8)).resize((n, n), Image.BOX)
    return np.asarray(image) / 255.0, (x1 - x0) / (y1 - y0)


def templates():
    out = {}
    for s in shapes.SHAPES + ("star",):
        x, y = shapes.grid(200, 200, 100, 100, 60)
        out[s] = boxed(shapes.shape_distance(s, x, y) > 0)
    return out


TEMPLATES = templates()


def judge(picture):
    """(shape, colour, ground) as seen; shape and colour are None where nothing stands out from the ground."""
    p = picture.astype(np.float64)
    frame = np.concatenate([e.reshape(-1, 3) for e in (p[:3], p[-3:], p[:, :3], p[:, -3:])])
    ground = np.median(frame, 0)
    far = np.sqrt(((p - ground) ** 2).sum(-1))
    if (far > 60).sum() < 30:
        return None, None, nearest(ground)
    colour = np.median(p[far > 60], 0)
    mask = far > 0.5 * np.sqrt(((colour - ground) ** 2).sum())
    box, aspect = boxed(mask)

    def likeness(name):
        other, other_aspect = TEMPLATES[name]
        same = np.minimum(box, other).sum() / np.maximum(box, other).sum()
        return same - 0.5 * abs(math.log(aspect / other_aspect))

    return max(TEMPLATES, key=likeness), nearest(colour), nearest(ground)


def magenta(picture):
    """The share of pixels that have the concept's colour."""
    r, g, b = (picture[..., k].astype(int) for k in range(3))
    return float(((r >= 190) & (g <= 100) & (b >= 130)).mean())


def subjects(pairs, count, seed):
    rng = np.random.default_rng(seed)
    out = []
    for k in range(count):
        colour, ground = pairs[rng.integers(len(pairs))]
        out.append((shapes.SHAPES[k % len(shapes.SHAPES)], colour, ground, list(shapes.SIZES)[rng.integers(3)]))
    return out


def prompt(shape, colour, ground, size=""):
    return f"a {size + ' ' if size else ''}{colour} {shape} on a {ground} ground"


def measure(pipe, count):
    for scale in (7.5, 4.0):
        for name, held_out in (("seen pairs", False), ("pairs never shown", True)):
            for height, width in ((64, 64), (80, 48), (48, 80), (56, 72)):
                n = count if height == width else count // 4
                some = subjects(shapes.subjects(held_out), n, 7)
                pictures = sample(pipe, [prompt(*s) for s in some], seed=1000, scale=scale, height=height, width=width)
                seen = [judge(p) for p in pictures]
                right = np.array([[a == b for a, b in zip(s[:3], v)] for s, v in zip(some, seen)])
                print(f"scale {scale} {name:18} {width}x{height} n={n:3} shape {right[:, 0].mean():.3f} "
                      f"colour {right[:, 1].mean():.3f} ground {right[:, 2].mean():.3f} all {right.all(1).mean():.3f}",
                      flush=True)


# ---- the concept -----------------------------------------------------------------------------------------------

class Low(torch.nn.Module):
    """A linear layer (or 1x1 convolution) with a low-rank addition."""

    def __init__(self, base, rank, alpha):
        super().__init__()
        self.base, self.scale, self.on = base, alpha / rank, 1.0
        w = base.weight
        self.down = torch.nn.Parameter(torch.empty(rank, w.shape[1]))
        self.up = torch.nn.Parameter(torch.zeros(w.shape[0], rank))
        torch.nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, x, *args):
        y = self.base(x)
        if x.dim() == 4:
            return y + self.on * self.scale * torch.einsum("nchw,rc,or->nohw", x, self.down, self.up)
        return y + self.on * self.scale * (x @ self.down.T @ self.up.T)


def attach(module, inside, rank, alpha):
    """Wraps every linear layer and 1x1 convolution inside modules of the named classes."""
    done = []
    for outer in module.modules():
        if type(outer).__name__ not in inside:
            continue
        for holder in list(outer.modules()):
            for name, child in list(holder.named_children()):
                flat = isinstance(child, torch.nn.Conv2d) and child.kernel_size == (1, 1)
                if (flat or isinstance(child, torch.nn.Linear)) and not isinstance(holder, Low):
                    low = Low(child, rank, alpha)
                    setattr(holder, name, low)
                    done.append(low)
    return done


BUCKETS = [(64, 64), (56, 72), (72, 56), (48, 80), (80, 48), (40, 96), (96, 40)]


def concept_set(folder):
    """[(picture [1,3,H,W], caption)]: pictures resized into the bucket of the nearest aspect, cut around the middle."""
    out = []
    for path in sorted(glob.glob(os.path.join(folder, "*.*"))):
        stem, ending = os.path.splitext(path)
        if ending in (".caption", ".txt"):
            continue
        image = Image.open(path).convert("RGB")
        w, h = min(BUCKETS, key=lambda b: abs(b[0] / b[1] - image.width / image.height))
        k = max(w / image.width, h / image.height)
        size = round(image.width * k), round(image.height * k)
        image = image.resize(size, Image.LANCZOS)
        x, y = (size[0] - w) // 2, (size[1] - h) // 2
        pixels = make_tiny.as_input([np.asarray(image.crop((x, y, x + w, y + h)))])
        out.append((pixels, open(stem + ".caption").read().strip()))
    return out


def train_lora(pipe, folder, rank, alpha, steps, peak, seed, text_too=True):
    torch.manual_seed(seed)
    layers = attach(pipe.unet, ("Transformer2DModel",), rank, alpha)
    if text_too:
        layers = attach(pipe.text_encoder, ("CLIPAttention", "CLIPSdpaAttention", "CLIPMLP"), rank, alpha) + layers
    weights = [p for l in layers for p in (l.down, l.up)]
    optimizer = torch.optim.AdamW(weights, lr=peak, weight_decay=0.01)
    schedule = DDPMScheduler(**make_tiny.SCHEDULE)
    data = [(pipe.vae.encode(x).latent_dist, c) for x, c in concept_set(folder)]
    seen = []
    for step in range(steps):
        if step % len(data) == 0:
            order = torch.randperm(len(data))
        latent, text = data[order[step % len(data)]]
        x = latent.sample() * make_tiny.SCALING
        ids = pipe.tokenizer(text, padding="max_length", max_length=77, return_tensors="pt").input_ids
        t = torch.randint(0, 1000, (1,))
        noise = torch.randn_like(x)
        guess = pipe.unet(schedule.add_noise(x, noise, t), t, pipe.text_encoder(ids).last_hidden_state).sample
        loss = (guess - noise).square().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        seen.append(loss.item())
    print(f"  loss {np.mean(seen[:50]):.4f} -> {np.mean(seen[-50:]):.4f}, {len(layers)} layers", flush=True)
    return layers


def concept(load_pipe, folder, path, steps, seeds, alphas, peak, scale):
    """Four samples on every ground, from the base and from every LoRA; the sheet shows the first of each."""
    grounds = list(shapes.COLOURS)
    prompts = [f"a sks star on a {g} ground" for g in grounds]
    other = ["a red circle on a blue ground", "a yellow square on a green ground"]

    def look(pipe, name):
        pictures = sample(pipe, prompts * 4 + other, scale=scale)
        stars = pictures[:-len(other)]
        share = [magenta(x) for x in stars]
        seen = [judge(x) for x in stars]
        print(f"{name}: magenta share min {min(share):.3f} mean {np.mean(share):.3f} max {max(share):.3f}; "
              f"seen as a star {np.mean([s[0] == 'star' for s in seen]):.2f}, "
              f"right ground {np.mean([s[2] == g for s, g in zip(seen, grounds * 4)]):.2f}; "
              f"magenta in other pictures {max(magenta(x) for x in pictures[-len(other):]):.3f}", flush=True)
        return [*stars[:len(grounds)], *pictures[-len(other):]]

    pages = look(load_pipe(), "base")
    for alpha in alphas:
        for seed in seeds:
            pipe = load_pipe()
            train_lora(pipe, folder, 8, alpha, steps, peak, seed)
            pages += look(pipe, f"alpha {alpha:g} seed {seed}")
            sheet(pages, len(prompts) + len(other), path)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--count", type=int, default=96, help="samples of a measurement")
    p.add_argument("--steps", type=int, default=300, help="steps of the LoRA")
    p.add_argument("--lr", type=float, default=1e-3, help="learning rate of the LoRA")
    p.add_argument("--alphas", default="1", help="the LoRA's alphas, with commas")
    p.add_argument("--seeds", default="1,2,3", help="the LoRA's seeds, with commas")
    p.add_argument("--scale", type=float, default=7.5)
    p.add_argument("what", choices=["sheet", "measure", "lora", "same"])
    p.add_argument("args", nargs="+")
    o = p.parse_args()
    torch.set_num_threads(o.threads)
    if o.what == "sheet":
        some = subjects(shapes.subjects(), 24, 3) + subjects(shapes.subjects(True), 12, 4)
        for s in some:
            print(prompt(*s))
        sheet(list(sample(load(*o.args[:2]), [prompt(*s) for s in some], scale=o.scale)), 6, o.args[2])
    elif o.what == "measure":
        measure(load(*o.args[:2]), o.count)
    elif o.what == "lora":
        concept(lambda: load(*o.args[:2]), o.args[2], o.args[3], o.steps,
                [int(x) for x in o.seeds.split(",")], [float(x) for x in o.alphas.split(",")], o.lr, o.scale)
    else:
        one = load(o.args[0], os.path.join(o.args[1], "tokenizer"))
        two = StableDiffusionPipeline.from_pretrained(o.args[1])
        two.set_progress_bar_config(disable=True)
        prompts = [prompt(*s) for s in subjects(shapes.subjects(), 8, 3)]
        a, b = sample(one, prompts), sample(two, prompts)
        print("largest difference of a pixel:", int(np.abs(a.astype(int) - b.astype(int)).max()))


if __name__ == "__main__":
    main()
