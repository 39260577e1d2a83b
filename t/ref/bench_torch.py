#!/usr/bin/env python3
"""Times of PyTorch on SD1.x shapes with random weights on a CPU: the peer of our own figures.

  bench_torch.py [--threads N] [--runs N] [--list] [--malloc glibc|tcmalloc|both] [NAME...]

Peer: torch 2.13.0, diffusers 0.32.1 (attention by scaled_dot_product_attention), transformers 4.54.1; weights bf16, channels_last.
The LoRA step is sd-scripts' --mixed_precision bf16: frozen U-Net in bf16 under autocast, LoRA of rank 16 in f32 on the linear
layers and 1x1 convolutions of the transformer blocks, mean squared error, AdamW; batch 1, 64x64 latents, ready-made context.

Each measurement is a process of its own. One JSON object a line: name, value (median), unit, peak_mib (of the whole process,
building the model included), runs (number after a warm-up), min, max, cpu (processor time by thread, median: near value on an idle machine), malloc, load (average of the last minute
when it began).
glibc's malloc hands large blocks back to the kernel each time; --malloc tcmalloc preloads libtcmalloc_minimal.so.4 instead.
"""
import argparse
import glob
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import time

BF16 = "bfloat16"


def unet(torch):
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        m = UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8, sample_size=64)
    return m


def vae(torch):
    from diffusers import AutoencoderKL

    with torch.device("meta"):
        m = AutoencoderKL(block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4, sample_size=512,
                          down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4)
    return m


def clip(torch):
    from transformers import CLIPTextConfig, CLIPTextModel

    m = CLIPTextModel._from_config(CLIPTextConfig(
        vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
        max_position_embeddings=77, hidden_act="quick_gelu"), attn_implementation="sdpa")
    return m.to(getattr(torch, BF16)).eval().requires_grad_(False)


def fill(torch, m, training=False):
    """Weights straight in bf16, so that the peak is not that of a f32 copy."""
    m = m.to(getattr(torch, BF16)).to_empty(device="cpu").to(memory_format=torch.channels_last)
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in m.named_parameters():
            if p.ndim > 1:
                p.normal_(0, p[0].numel() ** -0.5, generator=g)
            else:
                p.fill_(1.0 if name.endswith("weight") else 0.0)
    return m.requires_grad_(False).train(training)


def images(torch, *shape):
    return torch.randn(*shape, dtype=getattr(torch, BF16)).contiguous(memory_format=torch.channels_last)


def unet_forward(torch, batch):
    m = fill(torch, unet(torch))
    x, c = images(torch, batch, 4, 64, 64), torch.randn(batch, 77, 768, dtype=torch.bfloat16)
    t = torch.full((batch,), 500)

    def go():
        with torch.inference_mode():
            m(x, t, c)

    return go


class Lora:
    """W x + up(down(x)), in place of a layer's forward."""

    def __init__(self, torch, layer, rank):
        nn = torch.nn
        self.org = layer.forward
        if isinstance(layer, nn.Linear):
            self.down = nn.Linear(layer.in_features, rank, bias=False)
            self.up = nn.Linear(rank, layer.out_features, bias=False)
        else:
            self.down = nn.Conv2d(layer.in_channels, rank, 1, bias=False)
            self.up = nn.Conv2d(rank, layer.out_channels, 1, bias=False)
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        nn.init.zeros_(self.up.weight)
        layer.forward = lambda x: self.org(x) + self.up(self.down(x))


def lora_step(torch):
    m = fill(torch, unet(torch), training=True)
    nn, loras = torch.nn, []
    for block in m.modules():
        if block.__class__.__name__ == "Transformer2DModel":
            for layer in block.modules():
                if isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1)):
                    loras.append(Lora(torch, layer, 16))
    assert len(loras) == 192
    params = [p for one in loras for p in (one.down.weight, one.up.weight)]
    opt = torch.optim.AdamW(params, lr=1e-4)
    x, target = images(torch, 1, 4, 64, 64), torch.randn(1, 4, 64, 64)
    c, t = torch.randn(1, 77, 768, dtype=torch.bfloat16), torch.tensor([500])

    def go():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = m(x, t, c).sample
        torch.nn.functional.mse_loss(out.float(), target).backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        opt.zero_grad(set_to_none=True)

    return go


def vae_encode(torch):
    m, x = fill(torch, vae(torch)), images(torch, 1, 3, 512, 512)

    def go():
        with torch.inference_mode():
            m.encode(x)

    return go


def vae_decode(torch):
    m, x = fill(torch, vae(torch)), images(torch, 1, 4, 64, 64)

    def go():
        with torch.inference_mode():
            m.decode(x)

    return go


def text(torch):
    m, ids = clip(torch), torch.randint(0, 49406, (1, 77))

    def go():
        with torch.inference_mode():
            m(ids)

    return go


def tagger(torch):
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "bench"))
    from gpu_torch import Shape, Vit

    with torch.device("meta"):
        m = Vit(**Shape(False).vit)
    m, x = fill(torch, m), images(torch, 1, 3, 448, 448)

    def go():
        with torch.inference_mode():
            m(x)

    return go


WORK = {
    "unet-forward-b1": lambda torch: unet_forward(torch, 1),
    "unet-forward-b2": lambda torch: unet_forward(torch, 2),
    "lora-step-512-r16": lora_step,
    "vae-encode-512": vae_encode,
    "vae-decode-512": vae_decode,
    "text-encoder": text,
    "tagger-448": tagger,
}


def measure(name, threads, runs):
    load = os.getloadavg()[0]
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    go = WORK[name](torch)
    for _ in range(2 if name == "text-encoder" else 1):
        go()
    times, used = [], []
    for _ in range(runs * (5 if name == "text-encoder" else 1)):
        start, cpu = time.perf_counter(), time.process_time()
        go()
        times.append(time.perf_counter() - start)
        used.append((time.process_time() - cpu) / threads)
    preload = os.environ.get("LD_PRELOAD", "")
    print(json.dumps({
        "name": "torch-" + name, "value": round(statistics.median(times), 4), "unit": "s",
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, "runs": len(times), "min": round(min(times), 4),
        "max": round(max(times), 4), "cpu": round(statistics.median(used), 4), "malloc": "tcmalloc" if "tcmalloc" in preload else "glibc", "torch": torch.__version__,
        "threads": threads, "load": round(load, 2)}), flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--runs", type=int, default=5)
    p.add_argument("--list", action="store_true")
    p.add_argument("--malloc", choices=["glibc", "tcmalloc", "both"], default="both")
    p.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    p.add_argument("names", nargs="*", metavar="NAME")
    a = p.parse_args()
    if a.list:
        print("\n".join(WORK))
        return 0
    for name in a.names:
        if name not in WORK:
            p.error(f"no such measurement: {name}")
    if a.here:
        measure(a.names[0], a.threads, a.runs)
        return 0
    found = glob.glob("/usr/lib/*/libtcmalloc_minimal.so.4") + glob.glob("/usr/lib*/libtcmalloc_minimal.so.4")
    bad = 0
    for name in a.names or WORK:
        for malloc in ("glibc", "tcmalloc") if a.malloc == "both" else (a.malloc,):
            env = dict(os.environ, OMP_NUM_THREADS=str(a.threads))
            if malloc == "tcmalloc":
                if not found:
                    print(json.dumps({"name": "torch-" + name, "malloc": malloc, "skipped": "no libtcmalloc_minimal.so.4"}))
                    continue
                env["LD_PRELOAD"] = found[0]
            bad |= subprocess.run([sys.executable, __file__, "--here", f"--threads={a.threads}", f"--runs={a.runs}", name], env=env).returncode
    return bad


if __name__ == "__main__":
    sys.exit(main())
