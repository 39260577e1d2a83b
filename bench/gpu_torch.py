#!/usr/bin/env python3
"""What PyTorch takes for the shapes of bench/gpu, on the same card: plain torch modules of Stable Diffusion 1.x with random weights
(Rombach et al., 2022; the layers and their order as in its published configuration) and of a ViT-B tagger, attention by
scaled_dot_product_attention, channels_last. Needs torch and nothing else.

  gpu_torch.py [--device cuda] [--tiny] [--runs N] [--budget SECONDS] NAME...

NAME is what bench/model calls it, with -eager or -compiled behind it. One JSON object a line: name, value (median seconds), first
(seconds of the first run, compilation in it), peak_mib (torch.cuda.max_memory_allocated), or skipped with the reason.
--tiny: channels and sides an eighth, to try the script on a processor.
"""
import argparse
import json
import math
import re
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn


class Shape:
    """Channels of the levels, of the context, sides of the latents."""

    def __init__(self, tiny):
        self.unet, self.context, self.side = ((32, 64, 64, 64), 64, 8) if tiny else ((320, 640, 1280, 1280), 768, 64)
        self.vae = (32, 32, 64, 64) if tiny else (128, 256, 512, 512)
        self.matmul = 256 if tiny else 8192
        self.vit = dict(width=96, layers=2, image=48) if tiny else dict(width=768, layers=12, image=448)


class Resnet(nn.Module):
    def __init__(self, i, o, time=0, eps=1e-5):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(32, i, eps), nn.Conv2d(i, o, 3, padding=1)
        self.time = nn.Linear(time, o) if time else None
        self.norm2, self.conv2 = nn.GroupNorm(32, o, eps), nn.Conv2d(o, o, 3, padding=1)
        self.shortcut = nn.Conv2d(i, o, 1) if i != o else nn.Identity()

    def forward(self, x, t=None):
        h = self.conv1(F.silu(self.norm1(x)))
        if self.time is not None:
            h = h + self.time(F.silu(t))[:, :, None, None]
        return self.shortcut(x) + self.conv2(F.silu(self.norm2(h)))


class Attention(nn.Module):
    def __init__(self, c, context, heads=8, bias=False):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = (nn.Linear(i, c, bias=bias) for i in (c, context, context))
        self.out = nn.Linear(c, c)

    def forward(self, x, context):
        def split(y):
            return y.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        y = F.scaled_dot_product_attention(split(self.q(x)), split(self.k(context)), split(self.v(context)))
        return self.out(y.transpose(1, 2).flatten(2))


class Transformer(nn.Module):
    def __init__(self, c, context):
        super().__init__()
        self.norm, self.proj_in, self.proj_out = nn.GroupNorm(32, c, 1e-6), nn.Conv2d(c, c, 1), nn.Conv2d(c, c, 1)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(c), nn.LayerNorm(c), nn.LayerNorm(c)
        self.attn1, self.attn2 = Attention(c, c), Attention(c, context)
        self.wide, self.back = nn.Linear(c, 8 * c), nn.Linear(4 * c, c)

    def forward(self, x, context):
        n, c, h, w = x.shape
        y = self.proj_in(self.norm(x)).permute(0, 2, 3, 1).reshape(n, h * w, c)
        z = self.norm1(y)
        y = y + self.attn1(z, z)
        y = y + self.attn2(self.norm2(y), context)
        a, gate = self.wide(self.norm3(y)).chunk(2, -1)
        y = y + self.back(a * F.gelu(gate))
        return x + self.proj_out(y.reshape(n, h, w, c).permute(0, 3, 1, 2))


class Unet(nn.Module):
    def __init__(self, channels, context):
        super().__init__()
        c0, t = channels[0], 4 * channels[0]
        self.time1, self.time2 = nn.Linear(c0, t), nn.Linear(t, t)
        self.conv_in = nn.Conv2d(4, c0, 3, padding=1)
        self.down, self.up, c, skips = nn.ModuleList(), nn.ModuleList(), c0, [c0]
        for level, o in enumerate(channels):
            last = level == len(channels) - 1
            for _ in range(2):
                self.down.append(nn.ModuleList([Resnet(c, o, t)] + ([] if last else [Transformer(o, context)])))
                c = o
                skips.append(c)
            if not last:
                self.down.append(nn.ModuleList([nn.Conv2d(c, c, 3, 2, 1)]))
                skips.append(c)
        self.mid1, self.mid2, self.mid3 = Resnet(c, c, t), Transformer(c, context), Resnet(c, c, t)
        for level, o in reversed(list(enumerate(channels))):
            for i in range(3):
                block = [Resnet(c + skips.pop(), o, t)] + ([] if level == len(channels) - 1 else [Transformer(o, context)])
                c = o
                if i == 2 and level:
                    block.append(nn.Conv2d(c, c, 3, padding=1))
                self.up.append(nn.ModuleList(block))
        self.norm, self.conv_out = nn.GroupNorm(32, c), nn.Conv2d(c, 4, 3, padding=1)

    def forward(self, x, steps, context):
        half = self.time1.in_features // 2
        angle = steps[:, None].float() * torch.exp(-math.log(10000) / half * torch.arange(half, device=x.device))
        t = self.time2(F.silu(self.time1(torch.cat([angle.cos(), angle.sin()], -1).to(x.dtype))))

        def go(layer, x):
            if isinstance(layer, Resnet):
                return layer(x, t)
            return layer(x, context) if isinstance(layer, Transformer) else layer(x)

        x = self.conv_in(x)
        skips = [x]
        for block in self.down:
            for layer in block:
                x = go(layer, x)
            skips.append(x)
        x = self.mid3(self.mid2(self.mid1(x, t), context), t)
        for block in self.up:
            x = torch.cat([x, skips.pop()], 1)
            for layer in block:
                x = go(layer, F.interpolate(x, scale_factor=2.0) if isinstance(layer, nn.Conv2d) else x)
        return self.conv_out(F.silu(self.norm(x)))


class VaeAttention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.norm, self.attn = nn.GroupNorm(32, c, 1e-6), Attention(c, c, 1, True)

    def forward(self, x):
        y = self.norm(x).flatten(2).transpose(1, 2)
        return x + self.attn(y, y).transpose(1, 2).reshape(x.shape)


class Halve(nn.Conv2d):
    def forward(self, x):
        return super().forward(F.pad(x, (0, 1, 0, 1)))


def vae_middle(c):
    return [Resnet(c, c, eps=1e-6), VaeAttention(c), Resnet(c, c, eps=1e-6)]


def vae_end(c, out):
    return [nn.GroupNorm(32, c, 1e-6), nn.SiLU(), nn.Conv2d(c, out, 3, padding=1)]


def encoder(channels):
    c = channels[0]
    layers = [nn.Conv2d(3, c, 3, padding=1)]
    for level, o in enumerate(channels):
        layers += [Resnet(c, o, eps=1e-6), Resnet(o, o, eps=1e-6)]
        c = o
        if level < len(channels) - 1:
            layers.append(Halve(c, c, 3, 2))
    return nn.Sequential(*layers, *vae_middle(c), *vae_end(c, 8), nn.Conv2d(8, 8, 1))


def decoder(channels):
    c = channels[-1]
    layers = [nn.Conv2d(4, 4, 1), nn.Conv2d(4, c, 3, padding=1), *vae_middle(c)]
    for level, o in reversed(list(enumerate(channels))):
        for _ in range(3):
            layers.append(Resnet(c, o, eps=1e-6))
            c = o
        if level:
            layers += [nn.Upsample(scale_factor=2.0), nn.Conv2d(c, c, 3, padding=1)]
    return nn.Sequential(*layers, *vae_end(c, 3))


class VitBlock(nn.Module):
    def __init__(self, c, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(c), nn.LayerNorm(c)
        self.qkv, self.proj = nn.Linear(c, 3 * c), nn.Linear(c, c)
        self.fc1, self.fc2 = nn.Linear(c, 4 * c), nn.Linear(4 * c, c)

    def forward(self, x):
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x)), approximate="tanh"))


class Vit(nn.Module):
    """ViT-B/16 as the WD taggers of the third version: no class token, the mean of the normed tokens, 10,861 tags."""

    def __init__(self, width, layers, image, heads=12, tags=10861):
        super().__init__()
        self.patches = nn.Conv2d(3, width, 16, 16)
        self.position = nn.Parameter(torch.randn(1, (image // 16) ** 2, width))
        self.blocks = nn.Sequential(*[VitBlock(width, heads) for _ in range(layers)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, tags)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2) + self.position
        return self.head(self.norm(self.blocks(x)).mean(1)).sigmoid()


class Lora(nn.Module):
    """y + up(down(x)) in place of a frozen layer, its factors f32."""

    def __init__(self, layer, rank):
        super().__init__()
        self.layer = layer
        if isinstance(layer, nn.Linear):
            self.a, self.b = nn.Linear(layer.in_features, rank, bias=False), nn.Linear(rank, layer.out_features, bias=False)
        else:
            self.a, self.b = nn.Conv2d(layer.in_channels, rank, 1, bias=False), nn.Conv2d(rank, layer.out_channels, 1, bias=False)

    def forward(self, x):
        return self.layer(x) + self.b(self.a(x))


def add_lora(unet, rank=16):
    for block in [m for m in unet.modules() if isinstance(m, Transformer)]:
        for parent in list(block.modules()):
            for name, layer in list(parent.named_children()):
                if isinstance(layer, (nn.Linear, nn.Conv2d)) and not isinstance(parent, Lora):
                    setattr(parent, name, Lora(layer.requires_grad_(False), rank).to(layer.weight.device))
    return [p for m in unet.modules() if isinstance(m, Lora) for p in (m.a.weight, m.b.weight)]


def forward_of(module, args, compiled):
    module = module.eval().requires_grad_(False)
    run = torch.compile(module) if compiled else module

    def go():
        with torch.inference_mode():
            run(*args)

    return go


def training_of(unet, params, args, dtype, target, compiled):
    """One step as sd-scripts takes it: autocast, mean squared error, clipped norm, AdamW; a loss scale with f16."""
    run = torch.compile(unet) if compiled else unet
    device = target.device.type
    optimizer = torch.optim.AdamW(params, lr=1e-4, fused=device == "cuda")
    scaler = torch.amp.GradScaler(device, enabled=dtype == torch.float16 and device == "cuda")

    def go():
        with torch.autocast(device, dtype):
            y = run(*args)
        scaler.scale(F.mse_loss(y.float(), target)).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)

    return go


def work(name, device, shape):
    """What one run of a measurement does."""
    m = re.fullmatch(r"(unet-forward|lora-step|tune-step|vae-encode|vae-decode|tagger|matmul)-[\dr-]*?(?:-?b(\d+))?-(bf16|f16)-(eager|compiled)",
                     name)
    if not m:
        raise ValueError("no such measurement")
    kind, n, dtype, compiled = m[1], int(m[2] or 1), torch.bfloat16 if m[3] == "bf16" else torch.float16, m[4] == "compiled"
    side = shape.side

    def image(channels, side):
        return torch.randn(n, channels, side, side, device=device, dtype=dtype).contiguous(memory_format=torch.channels_last)

    def put(module, dtype):
        return module.to(device, dtype).to(memory_format=torch.channels_last)

    if kind == "matmul":
        a, b = (torch.randn(shape.matmul, shape.matmul, device=device, dtype=dtype) for _ in range(2))
        return lambda: [torch.matmul(a, b) for _ in range(16)]
    if kind == "vae-encode":
        return forward_of(put(encoder(shape.vae), dtype), [image(3, 8 * side)], compiled)
    if kind == "vae-decode":
        return forward_of(put(decoder(shape.vae), dtype), [image(4, side)], compiled)
    if kind == "tagger":
        return forward_of(put(Vit(**shape.vit), dtype), [image(3, shape.vit["image"])], compiled)
    args = [image(4, side), torch.full((n,), 500, device=device), torch.randn(n, 77, shape.context, device=device, dtype=dtype)]
    with torch.device(device):
        unet = Unet(shape.unet, shape.context)
    if kind == "unet-forward":
        return forward_of(put(unet, dtype), args, compiled)
    if kind == "lora-step":
        unet = put(unet, dtype).requires_grad_(False)
        params = add_lora(unet)
    else:
        unet = put(unet, torch.float32)
        params = list(unet.parameters())
    return training_of(unet.train(), params, args, dtype, torch.randn(n, 4, side, side, device=device), compiled)


def measure(name, device, shape, runs):
    cuda = device == "cuda"
    wait = torch.cuda.synchronize if cuda else lambda: None
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    go = work(name, device, shape)
    wait()
    start = time.perf_counter()
    go()
    wait()
    first, times = time.perf_counter() - start, []
    for _ in range(2):
        go()
    for _ in range(runs):
        wait()
        start = time.perf_counter()
        go()
        wait()
        times.append(time.perf_counter() - start)
    line = {"name": name, "value": round(statistics.median(times), 6), "unit": "s", "best": round(min(times), 6), "first": round(first, 3),
            "runs": runs, "torch": torch.__version__}
    if cuda:
        line["peak_mib"] = torch.cuda.max_memory_allocated() >> 20
    return line


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--device", default="cuda")
    p.add_argument("--tiny", action="store_true")
    p.add_argument("--runs", type=int, default=10)
    p.add_argument("--budget", type=float, default=math.inf, help="seconds, after which what is left is skipped")
    p.add_argument("names", nargs="+", metavar="NAME")
    a = p.parse_args()
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    end, bad = time.monotonic() + a.budget, 0
    for name in a.names:
        try:
            if time.monotonic() > end:
                raise TimeoutError("no time was left")
            line = measure(name, a.device, Shape(a.tiny), a.runs)
        except Exception as e:  # one failure must not take the rest
            line = {"name": name, "skipped": f"{type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}"[:200]}
            bad |= not isinstance(e, TimeoutError)
        print(json.dumps(line), flush=True)
        torch.compiler.reset()
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
