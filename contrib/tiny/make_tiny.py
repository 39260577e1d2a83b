#!/usr/bin/env python3
"""Trains the tiny Stable Diffusion that the tests and the demo use, and writes sd.safetensors.

    make_tiny.py tokenizer BPE.txt.gz DIR       CLIP's vocabulary as a tokenizer folder
    make_tiny.py vae WORK                       trains the autoencoder
    make_tiny.py unet WORK TOKENIZER            trains the U-Net and the text encoder together
    make_tiny.py --gain 10 export WORK TOKENIZER OUT.safetensors [DIFFUSERS_DIR]
    make_tiny.py sks DIR                        draws the concept set

Every step is deterministic for its --seed and number of threads. Written for torch 2.13, diffusers 0.32.1,
transformers 4.54.1, safetensors, numpy 1.26 and Pillow; README.md tells the whole story.
"""

import argparse
import copy
import gzip
import json
import math
import os
import time

import numpy as np
import torch
from diffusers import (AutoencoderKL, DDIMScheduler, DDPMScheduler, StableDiffusionPipeline,
                       UNet2DConditionModel)
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

import shapes

SCALING = 0.18215
VAE = dict(in_channels=3, out_channels=3, down_block_types=["DownEncoderBlock2D"] * 4,
           up_block_types=["UpDecoderBlock2D"] * 4, block_out_channels=[16, 16, 24, 32], layers_per_block=1,
           latent_channels=4, norm_num_groups=8, act_fn="silu", sample_size=64, scaling_factor=SCALING)
UNET = dict(sample_size=8, in_channels=4, out_channels=4, down_block_types=["CrossAttnDownBlock2D", "DownBlock2D"],
            up_block_types=["UpBlock2D", "CrossAttnUpBlock2D"], block_out_channels=[48, 64], layers_per_block=1,
            attention_head_dim=2, cross_attention_dim=32, norm_num_groups=8, norm_eps=1e-5, act_fn="silu",
            center_input_sample=False, flip_sin_to_cos=True, freq_shift=0, downsample_padding=1,
            mid_block_scale_factor=1)
TEXT = dict(vocab_size=49408, hidden_size=32, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
            max_position_embeddings=77, hidden_act="quick_gelu", layer_norm_eps=1e-5, attention_dropout=0.0,
            bos_token_id=49406, eos_token_id=49407, pad_token_id=49407, projection_dim=32)
SCHEDULE = dict(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")


# ---- tokenizer -------------------------------------------------------------------------------------------------

def make_tokenizer(source, folder):
    """vocab.json and merges.txt from CLIP's published list of merges (bpe_simple_vocab_16e6.txt.gz)."""
    with gzip.open(source, "rt", encoding="utf-8") as f:
        merges = f.read().split("\n")[1:49152 - 256 - 2 + 1]
    # a printable character for every byte: itself where it is one, else the next one from 256 on
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    other = [b for b in range(256) if b not in plain]
    letters = [chr(b) for b in plain] + [chr(256 + k) for k in range(len(other))]
    words = letters + [c + "</w>" for c in letters] + ["".join(m.split()) for m in merges]
    words += ["<|startoftext|>", "<|endoftext|>"]
    assert len(words) == len(set(words)) == 49408
    os.makedirs(folder, exist_ok=True)

    def write(name, text):
        with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
            f.write(text)

    token = lambda s: dict(content=s, single_word=False, lstrip=False, rstrip=False, normalized=True)
    special = dict(bos_token=token("<|startoftext|>"), eos_token=token("<|endoftext|>"),
                   unk_token=token("<|endoftext|>"), pad_token="<|endoftext|>")
    write("vocab.json", json.dumps({w: i for i, w in enumerate(words)}, ensure_ascii=False))
    write("merges.txt", "#version: 0.2\n" + "\n".join(merges) + "\n")
    write("special_tokens_map.json", json.dumps(special, indent=2))
    write("tokenizer_config.json", json.dumps(dict(special, add_prefix_space=False, do_lower_case=True,
                                                   errors="replace", model_max_length=77,
                                                   tokenizer_class="CLIPTokenizer"), indent=2))


# ---- common ----------------------------------------------------------------------------------------------------

class Average:
    """A running average of a module's parameters."""

    def __init__(self, modules, decay):
        self.modules, self.decay, self.step = modules, decay, 0
        self.copies = [copy.deepcopy(m).requires_grad_(False) for m in modules]

    def update(self):
        self.step += 1
        d = min(self.decay, (1 + self.step) / (10 + self.step))
        for m, c in zip(self.modules, self.copies):
            torch._foreach_lerp_(list(c.parameters()), [p.detach() for p in m.parameters()], 1 - d)


def rate(step, steps, peak, warm=100, floor=0.02):
    """Linear warm-up, then half a cosine down to peak * floor."""
    if step < warm:
        return peak * (step + 1) / warm
    u = (step - warm) / max(1, steps - warm)
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * u)))


def as_input(pictures):
    """uint8 [N,H,W,3] -> float [N,3,H,W] in -1..1"""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


# ---- autoencoder -----------------------------------------------------------------------------------------------

def train_vae(work, seed, steps, batch, peak, out="vae.pt", begin=None):
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    vae = AutoencoderKL(**VAE).to(memory_format=torch.channels_last)
    if begin:
        vae.load_state_dict(torch.load(begin))
    average = Average([vae], 0.995)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=peak, betas=(0.9, 0.99), weight_decay=1e-4)
    start = time.time()
    for step in range(steps):
        for g in optimizer.param_groups:
            g["lr"] = rate(step, steps, peak)
        x = as_input([shapes.draw_any(rng) for _ in range(batch)]).contiguous(memory_format=torch.channels_last)
        posterior = vae.encode(x).latent_dist
        y = vae.decode(posterior.sample()).sample
        error = (y - x).abs().mean() + (y - x).square().mean()
        kl = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean()
        loss = error + 2e-4 * kl
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        average.update()
        if step % 100 == 99 or step == steps - 1:
            print(f"vae {step + 1}/{steps} error {error.item():.4f} kl {kl.item():.3f} "
                  f"std {posterior.mean.std().item():.2f} noise {posterior.std.mean().item():.3f} "
                  f"{time.time() - start:.0f}s", flush=True)
            torch.save(average.copies[0].state_dict(), os.path.join(work, out))


def fold(vae, pictures):
    """Rescales the latents inside quant_conv and post_quant_conv, so that latent * 0.18215 has mean 0 and std 1."""
    with torch.no_grad():
        z = torch.cat([vae.encode(as_input(pictures[k:k + 64])).latent_dist.mean for k in range(0, len(pictures), 64)])
        z = z.transpose(0, 1).flatten(1)
        mean, scale = z.mean(1), z.std(1) * SCALING
        q, p, n = vae.quant_conv, vae.post_quant_conv, len(scale)
        q.weight[:n] /= scale[:, None, None, None]
        q.bias[:n] = (q.bias[:n] - mean) / scale
        q.bias[n:] -= 2 * scale.log()  # the logarithm of the variance moves with it
        p.bias += p.weight[:, :, 0, 0] @ mean
        p.weight *= scale[None, :, None, None]


def load_vae(work, seed):
    vae = AutoencoderKL(**VAE).requires_grad_(False).eval()
    vae.load_state_dict(torch.load(os.path.join(work, "vae.pt")))
    rng = np.random.default_rng(seed + 1)
    pairs = shapes.subjects()
    fold(vae, [base_picture(rng, pairs, 64, 64)[0] for _ in range(1024)])
    for p in vae.parameters():  # what the U-Net learns from is what the file holds
        p.copy_(p.half().float())
    return vae


# ---- U-Net and text encoder ------------------------------------------------------------------------------------

# height, width, how many pictures: mostly squares, and the shapes that buckets of a 64-pixel set have
PICTURES = [(64, 64, 8000), (48, 80, 1000), (80, 48, 1000), (56, 72, 500), (72, 56, 500), (64, 48, 500),
            (48, 64, 500)]


def base_picture(rng, pairs, height, width):
    if rng.uniform() < 0.25:
        return shapes.draw_free(rng, list(shapes.COLOURS)[rng.integers(8)], height, width)
    shape = shapes.SHAPES[rng.integers(len(shapes.SHAPES))]
    colour, ground = pairs[rng.integers(len(pairs))]
    size = list(shapes.SIZES)[rng.integers(len(shapes.SIZES))]
    picture = shapes.draw(rng, shape, colour, ground, size, height, width)
    return picture, shapes.caption(rng, shape, colour, ground, size)


def make_set(vae, tokenizer, seed):
    """[(latents, token ids)] for every size of picture."""
    rng = np.random.default_rng(seed + 2)
    pairs, groups = shapes.subjects(), []
    for height, width, count in PICTURES:
        latents, captions = [], []
        for k in range(0, count, 100):
            some = [base_picture(rng, pairs, height, width) for _ in range(100)]
            with torch.no_grad():
                latents.append(vae.encode(as_input([p for p, _ in some])).latent_dist.mean * SCALING)
            captions += [c for _, c in some]
        ids = tokenizer(captions, padding="max_length", max_length=77, return_tensors="pt").input_ids
        groups.append((torch.cat(latents), ids))
    return groups


def train_unet(work, tokenizer, seed, steps, batch, peak, out="unet.pt", begin=None):
    tokenizer = CLIPTokenizer.from_pretrained(tokenizer)
    kept = os.path.join(work, "latents.pt")  # remove it when the autoencoder has changed
    if not os.path.exists(kept):
        torch.save(make_set(load_vae(work, seed), tokenizer, seed), kept)
    groups = torch.load(kept)
    empty = tokenizer("", padding="max_length", max_length=77, return_tensors="pt").input_ids[0]
    odds = np.array([len(z) for z, _ in groups]) / sum(len(z) for z, _ in groups)

    torch.manual_seed(seed)
    rng = np.random.default_rng(seed + 3)
    unet = UNet2DConditionModel(**UNET).to(memory_format=torch.channels_last)
    text = CLIPTextModel(CLIPTextConfig(**TEXT))
    if begin:
        for module, state in zip([unet, text], torch.load(begin)):
            module.load_state_dict(state)
    average = Average([unet, text], 0.999)
    weights = [*unet.parameters(), *text.parameters()]
    # no weight decay: the embeddings of words never seen must stay what they are
    optimizer = torch.optim.AdamW(weights, lr=peak, betas=(0.9, 0.99), weight_decay=0.0)
    schedule = DDPMScheduler(**SCHEDULE)
    start, seen = time.time(), []
    for step in range(steps):
        for g in optimizer.param_groups:
            g["lr"] = rate(step, steps, peak)
        latents, ids = groups[rng.choice(len(groups), p=odds)]
        pick = torch.randint(0, len(latents), (batch,))
        x, words = latents[pick], ids[pick].clone()
        words[torch.rand(batch) < 0.1] = empty  # classifier-free guidance needs the empty caption
        t = torch.randint(0, SCHEDULE["num_train_timesteps"], (batch,))
        noise = torch.randn_like(x)
        guess = unet(schedule.add_noise(x, noise, t), t, text(words).last_hidden_state).sample
        loss = (guess - noise).square().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        average.update()
        seen.append(loss.item())
        if step % 100 == 99 or step == steps - 1:
            print(f"unet {step + 1}/{steps} loss {np.mean(seen[-100:]):.4f} {time.time() - start:.0f}s", flush=True)
        if step % 500 == 499 or step == steps - 1:
            torch.save([c.state_dict() for c in average.copies], os.path.join(work, out))


# ---- export ----------------------------------------------------------------------------------------------------

def rename(key, table):
    for old, new in table:
        key = key.replace(old, new)
    return key


def ldm_unet(state, layers):
    """Diffusers' names of the U-Net as the original names, for any number of levels and of layers a level."""
    out = {}
    for key, value in state.items():
        part = key.split(".")
        if part[0] == "time_embedding":
            new = ["time_embed", {"linear_1": "0", "linear_2": "2"}[part[1]], *part[2:]]
        elif part[0] == "conv_in":
            new = ["input_blocks.0.0", *part[1:]]
        elif part[0] == "conv_norm_out":
            new = ["out.0", *part[1:]]
        elif part[0] == "conv_out":
            new = ["out.2", *part[1:]]
        elif part[0] == "mid_block":
            new = ["middle_block", "1" if part[1] == "attentions" else str(2 * int(part[2])), *part[3:]]
        else:
            down, i, kind, j = part[0] == "down_blocks", int(part[1]), part[2], int(part[3])
            attention = any(k.startswith(f"{part[0]}.{i}.attentions.") for k in state)
            if kind == "downsamplers":
                new = [f"input_blocks.{(layers + 1) * (i + 1)}.0.op", *part[5:]]
            elif kind == "upsamplers":
                new = [f"output_blocks.{(layers + 1) * i + layers}.{2 if attention else 1}.conv", *part[5:]]
            else:
                at = f"input_blocks.{(layers + 1) * i + j + 1}" if down else f"output_blocks.{(layers + 1) * i + j}"
                new = [at, "0" if kind == "resnets" else "1", *part[4:]]
        key = ".".join(new)
        if ".transformer_blocks." not in key:
            key = rename(key, [(".norm1.", ".in_layers.0."), (".conv1.", ".in_layers.2."),
                               (".time_emb_proj.", ".emb_layers.1."), (".norm2.", ".out_layers.0."),
                               (".conv2.", ".out_layers.3."), (".conv_shortcut.", ".skip_connection.")])
        out["model.diffusion_model." + key] = value
    return out


def ldm_vae(state, levels):
    """Diffusers' names of the autoencoder as the original names; attention weights become 1x1 convolutions."""
    out = {}
    for key, value in state.items():
        part = key.split(".")
        if part[1] == "down_blocks":
            part[1] = "down"
        elif part[1] == "up_blocks":
            part[1:3] = ["up", str(levels - 1 - int(part[2]))]
        key = rename(".".join(part), [
            (".resnets.", ".block."), (".downsamplers.0.", ".downsample."), (".upsamplers.0.", ".upsample."),
            (".conv_norm_out.", ".norm_out."), (".conv_shortcut.", ".nin_shortcut."),
            (".mid_block.block.0.", ".mid.block_1."), (".mid_block.block.1.", ".mid.block_2."),
            (".mid_block.attentions.0.", ".mid.attn_1.")])
        if ".attn_1." in key:
            key = rename(key, [(".group_norm.", ".norm."), (".to_q.", ".q."), (".to_k.", ".k."), (".to_v.", ".v."),
                               (".to_out.0.", ".proj_out.")])
            if value.dim() == 2:
                value = value[:, :, None, None]
        out["first_stage_model." + key] = value
    return out


def amplify(unet, text, gain):
    """Makes what the linear layers read `gain` times larger and their weights as much smaller.

    The function of the model stays the same. But a low-rank addition (LoRA) starts at a size that knows nothing of
    the weights, so it moves the outputs `gain` times faster: with it the tiny model learns a concept with the learning
    rates and step counts that are usual for the big ones.
    """
    def pair(sources, targets):
        for module in sources:
            module.weight *= gain
            if module.bias is not None:
                module.bias *= gain
        for module in targets:
            module.weight /= gain

    cross = []
    for layer in text.text_model.encoder.layers:
        a = layer.self_attn
        pair([layer.layer_norm1], [a.q_proj, a.k_proj, a.v_proj])
        pair([a.v_proj], [a.out_proj])
        pair([layer.layer_norm2], [layer.mlp.fc1])
    for block in unet.modules():
        if type(block).__name__ != "Transformer2DModel":
            continue
        pair([block.norm], [block.proj_in])
        for b in block.transformer_blocks:
            pair([b.norm1], [b.attn1.to_q, b.attn1.to_k, b.attn1.to_v])
            pair([b.norm2], [b.attn2.to_q])
            pair([b.norm3], [b.ff.net[0].proj])
            for a in (b.attn1, b.attn2):
                pair([a.to_v], [a.to_out[0]])
            cross += [b.attn2.to_k, b.attn2.to_v]
            # of the gated unit's two halves the first one is the linear one
            wide, narrow = b.ff.net[0].proj, b.ff.net[2]
            half = wide.weight.shape[0] // 2
            wide.weight[:half] *= gain
            wide.bias[:half] *= gain
            narrow.weight /= gain
    pair([text.text_model.final_layer_norm], cross)


def export(work, tokenizer, path, folder, seed, gain=1.0, unet_file="unet.pt"):
    vae = load_vae(work, seed)
    unet, text = UNet2DConditionModel(**UNET), CLIPTextModel(CLIPTextConfig(**TEXT))
    for module, state in zip([unet, text], torch.load(os.path.join(work, unet_file))):
        module.load_state_dict(state)
        module.requires_grad_(False)
    amplify(unet, text, gain)
    for module in (unet, text):
        for p in module.parameters():
            p.copy_(p.half().float())
    pipe = StableDiffusionPipeline(
        vae=vae, unet=unet, text_encoder=text, tokenizer=CLIPTokenizer.from_pretrained(tokenizer),
        scheduler=DDIMScheduler(**SCHEDULE, clip_sample=False, set_alpha_to_one=False, steps_offset=1),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    if folder:
        pipe.save_pretrained(folder)
    config = dict(unet=json.loads(unet.to_json_string()), vae=json.loads(vae.to_json_string()),
                  text_encoder=json.loads(text.config.to_json_string()))
    tensors = ldm_unet(unet.state_dict(), UNET["layers_per_block"])
    tensors.update(ldm_vae(vae.state_dict(), len(VAE["block_out_channels"])))
    tensors.update({"cond_stage_model.transformer." + k: v for k, v in text.state_dict().items()
                    if not k.endswith("position_ids")})
    tensors = {k: v.half().contiguous() for k, v in sorted(tensors.items())}
    assert len(tensors) == sum(len(m.state_dict()) for m in (unet, vae, text))
    save_file(tensors, path, metadata={"format": "pt", "sd_config": json.dumps(config, sort_keys=True)})
    print(f"{path}: {len(tensors)} tensors, {sum(v.numel() for v in tensors.values())} numbers, "
          f"{os.path.getsize(path)} bytes")


# ---- main ------------------------------------------------------------------------------------------------------

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--steps", type=int, help="training steps")
    p.add_argument("--batch", type=int)
    p.add_argument("--lr", type=float)
    p.add_argument("--gain", type=float, default=1.0, help="see amplify()")
    p.add_argument("--begin", help="weights to go on from")
    p.add_argument("--out", help="name of the weights in WORK")
    p.add_argument("what", choices=["tokenizer", "vae", "unet", "export", "sks"])
    p.add_argument("args", nargs="*")
    o = p.parse_args()
    if o.what == "tokenizer":
        return make_tokenizer(*o.args)
    if o.what == "sks":
        return shapes.write_sks(*o.args)

    torch.set_num_threads(o.threads)
    os.makedirs(o.args[0], exist_ok=True)
    if o.what == "vae":
        train_vae(o.args[0], o.seed, o.steps or 6000, o.batch or 16, o.lr or 3e-3, o.out or "vae.pt", o.begin)
    elif o.what == "unet":
        train_unet(*o.args, o.seed, o.steps or 6000, o.batch or 64, o.lr or 2e-3, o.out or "unet.pt", o.begin)
    else:
        export(*o.args[:3], o.args[3] if len(o.args) > 3 else None, o.seed, o.gain)


if __name__ == "__main__":
    main()
