"""Fixtures of sd-inspect and sd-diff: what NumPy and sd-scripts' own functions say of the same files.

  inspect_files.py [OUT]      writes t/data/inspect/ (SD_SCRIPTS names a checkout of sd-scripts)
  inspect_files.py hash FILE  prints the hashes of any safetensors file, to compare with sd-inspect --hash
  inspect_files.py time FILE  what PyTorch needs for what sd-inspect --stats tells

networks.safetensors has a module of each kind that sd-inspect --lora knows, with norms by PyTorch in double precision from
LyCORIS' formulas; rescaled.safetensors adds the same to the weights in other numbers, but for two modules; peft.safetensors
is some of it in PEFT's and diffusers' spelling. numbers.safetensors has every float type, values that are not finite, and more elements than fit into one block; its
tensors lie in another order than the safetensors library would choose. expected.json is what is to be found in it and in
other files of t/data.
"""

import hashlib
import json
import os
import struct
import sys
import time

import numpy as np
import torch

import peers

TINY = os.path.join(peers.DATA, "..", "..", "contrib", "tiny", "sd.safetensors")
TYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64", torch.int64: "I64",
         torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2", torch.uint8: "U8"}


def save_in_order(path, tensors, meta):
    """A safetensors file whose tensors lie in the order of the dictionary, which the library never writes."""
    header, data = {"__metadata__": meta}, b""
    for name, t in tensors.items():
        raw = t.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if t.numel() else b""
        header[name] = {"dtype": TYPES[t.dtype], "shape": list(t.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def numbers():
    torch.manual_seed(1)
    wide = torch.randn(5001, dtype=torch.float64)
    holes = torch.randn(41, 61)
    holes[3, 4], holes[7, 8], holes[40, 60], holes[0, 0] = float("nan"), float("inf"), -float("inf"), float("nan")
    return {
        "z.f16": (wide / 8).half(), "bf16": wide.bfloat16(), "a.f64": wide * 1e-3,
        "far": (wide * 1e-3 + 1000).float(), "e4m3": (wide * 3).float().to(torch.float8_e4m3fn),
        "e5m2": (wide * 3).float().to(torch.float8_e5m2), "ids": torch.arange(-7, 300), "holes": holes,
        "nothing": torch.zeros(0, 3), "constant": torch.full((4099,), 0.1), "lost": torch.full((5,), float("nan")),
        "tiny.f16": torch.tensor([2.0**-24, -(2.0**-15), 65504.0]).half(), "bytes": torch.arange(256).to(torch.uint8),
        "e4m3.all": torch.arange(256).to(torch.uint8).view(torch.float8_e4m3fn),
        "e5m2.all": torch.arange(256).to(torch.uint8).view(torch.float8_e5m2),
    }


def networks():
    """Tensors, and what each module adds to the weights."""
    torch.manual_seed(2)
    tensors, deltas = {}, {}

    def add(name, kind, factors, delta, alpha=None, rank=None):
        for leaf, t in factors.items():
            tensors[f"{name}.{leaf}"] = t
        if alpha is not None:
            tensors[f"{name}.alpha"] = torch.tensor(float(alpha))
        scale = alpha / rank if alpha is not None and rank else 1
        deltas[name] = (kind, None if delta is None else scale * delta)

    def r(*shape):
        return torch.randn(*shape) / 4

    def cp(t, a, b):  # lycoris' rebuild_tucker
        return torch.einsum("i j k l, i p, j r -> p r k l", t.double(), a.double(), b.double())

    def kron(a, b):
        while a.dim() < b.dim():
            a = a.unsqueeze(-1)
        return torch.kron(a.double().contiguous(), b.double().contiguous())

    def lora(name, down, up, alpha):
        delta = up.double().flatten(1) @ down.double().flatten(1)
        add(name, "lora", {"lora_down.weight": down, "lora_up.weight": up}, delta, alpha, down.shape[0])

    unet = "lora_unet_"
    lora("lora_te_text_model_encoder_layers_11_mlp_fc1", r(4, 8), r(32, 4), None)
    lora(unet + "down_blocks_0_attentions_0_proj_in", r(4, 9, 1, 1), r(10, 4, 1, 1), 2)
    lora(unet + "down_blocks_0_resnets_0_conv1", r(3, 9, 3, 3), r(11, 3, 1, 1), 1.5)
    down, mid, up = r(3, 7, 1, 1), r(3, 3, 3, 3), r(5, 3, 1, 1)
    add(unet + "mid_block_resnets_0_conv1", "lora", {"lora_down.weight": down, "lora_mid.weight": mid, "lora_up.weight": up},
        cp(mid, up[:, :, 0, 0].T, down[:, :, 0, 0]), 3, 3)
    f = {"hada_w1_a": r(6, 2), "hada_w1_b": r(2, 15), "hada_w2_a": r(6, 2), "hada_w2_b": r(2, 15)}
    d = [v.double() for v in f.values()]
    add(unet + "up_blocks_1_attentions_0_proj_in", "loha", f, (d[0] @ d[1]) * (d[2] @ d[3]), 1, 2)
    f = {"hada_t1": r(2, 2, 3, 3), "hada_w1_a": r(2, 6), "hada_w1_b": r(2, 5), "hada_t2": r(2, 2, 3, 3), "hada_w2_a": r(2, 6),
         "hada_w2_b": r(2, 5)}
    v = list(f.values())
    add(unet + "up_blocks_1_resnets_0_conv1", "loha", f, cp(*v[:3]) * cp(*v[3:]), 1, 2)
    f = {"lokr_w1": r(2, 3), "lokr_w2": r(4, 5)}
    add(unet + "up_blocks_2_attentions_0_proj_in", "lokr", f, kron(*f.values()), 7, None)
    f = {"lokr_w1": r(2, 3), "lokr_w2_a": r(4, 2), "lokr_w2_b": r(2, 5)}
    add(unet + "up_blocks_2_attentions_1_proj_in", "lokr", f, kron(f["lokr_w1"], f["lokr_w2_a"].double() @ f["lokr_w2_b"].double()), 1, 2)
    f = {"lokr_w1_a": r(2, 2), "lokr_w1_b": r(2, 3), "lokr_t2": r(2, 2, 3, 3), "lokr_w2_a": r(2, 4), "lokr_w2_b": r(2, 5)}
    add(unet + "up_blocks_2_resnets_0_conv1", "lokr", f,
        kron(f["lokr_w1_a"].double() @ f["lokr_w1_b"].double(), cp(f["lokr_t2"], f["lokr_w2_a"], f["lokr_w2_b"])), 1, 2)
    f = {"diff": r(6, 4, 3, 3)}
    add(unet + "conv_in", "diff", f, f["diff"].double())
    add("oft_unet_down_blocks_1_attentions_0_proj_in", "oft", {"oft_blocks": r(2, 3, 3)}, None, 1, None)
    lora(unet + "up_blocks_3_attentions_0_proj_in", r(2, 9), r(10, 2), 1)
    tensors[unet + "up_blocks_3_attentions_0_proj_in.dora_scale"] = r(1, 9)
    return tensors, deltas


def rescaled(tensors):
    """The same products from other factors; the CP form's is off by a tenth, a module of the end is missing."""
    out = {k: v.clone() for k, v in tensors.items() if not k.startswith("oft")}
    for k in out:
        if k.endswith("lora_up.weight"):
            name = k[: -len("lora_up.weight")]
            out[k] *= 4 * (1.1 if "mid_block" in k else 1)
            if name + "alpha" in out:
                out[name + "alpha"] /= 2
                out[name + "lora_down.weight"] /= 2
            else:
                out[name + "lora_down.weight"] /= 4
        if k.endswith(("hada_w1_a", "lokr_w1", "lokr_w1_a")):
            out[k] *= -2
        if k.endswith(("hada_w2_a", "lokr_w2", "lokr_w2_a")):
            out[k] /= -2
    return out


def peft(tensors):
    new = {"text_encoder.text_model.encoder.layers.11.mlp.fc1.lora_A.weight": "lora_te_text_model_encoder_layers_11_mlp_fc1.lora_down.weight",
           "text_encoder.text_model.encoder.layers.11.mlp.fc1.lora_B.weight": "lora_te_text_model_encoder_layers_11_mlp_fc1.lora_up.weight",
           "base_model.model.unet.down_blocks.0.attentions.0.proj_in.lora_A.default.weight": "lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight",
           "base_model.model.unet.down_blocks.0.attentions.0.proj_in.lora_B.default.weight": "lora_unet_down_blocks_0_attentions_0_proj_in.lora_up.weight",
           "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_out_lora.down.weight": "lora_unet_up_blocks_3_attentions_0_proj_in.lora_down.weight",
           "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_out_lora.up.weight": "lora_unet_up_blocks_3_attentions_0_proj_in.lora_up.weight"}
    return {k: tensors[v] for k, v in new.items()}


def stats(t):
    x = t.to(torch.float64).numpy().ravel()
    v = x[np.isfinite(x)]
    s = dict(nan=int(np.isnan(x).sum()), inf=int(np.isinf(x).sum()))
    if not v.size:
        return {**s, **dict.fromkeys(("min", "max", "mean", "std", "l2"))}
    return {**s, "min": float(v.min()), "max": float(v.max()), "mean": float(v.mean()), "std": float(v.std()),
            "l2": float(np.linalg.norm(v))}


def hashes(path):
    """By sd-scripts' functions; those of A1111 are the same ones, cut to 8, 10 and 12 digits."""
    from library import train_util
    from safetensors import safe_open
    from safetensors.torch import load_file

    with safe_open(path, "pt") as f:
        meta = f.metadata() or {}
    model, legacy = train_util.precalculate_safetensors_hashes(load_file(path), meta)
    whole = train_util.calculate_sha256(path)
    with open(path, "rb") as f:
        data = train_util.addnet_hash_safetensors(f)
    return dict(sha256=whole, autov1=train_util.model_hash(path), autov2=whole[:10], autov3=data[:12],
                sshs_model_hash=model, sshs_legacy_hash=legacy)


def time_torch(path):
    from safetensors import safe_open

    begin, count = time.time(), 0
    with safe_open(path, "pt") as f:
        for name in f.keys():
            x = f.get_tensor(name).float()
            count += x.numel()
            tuple(map(float, (x.min(), x.max(), x.mean(), x.std(), x.norm(), x.isnan().sum(), x.isinf().sum())))
    print(f"{count} elements, {time.time() - begin:.2f} s, {torch.get_num_threads()} threads")


def main():
    if sys.argv[1:2] == ["time"]:
        return time_torch(sys.argv[2])
    peers.sd_scripts()
    if sys.argv[1:2] == ["hash"]:
        return print(json.dumps(hashes(sys.argv[2])))
    peers.check()
    out = peers.output(sys.argv, "inspect")
    path = os.path.join(out, "numbers.safetensors")
    save_in_order(path, numbers(), {"ss_network_dim": "4", "ss_tag_frequency": json.dumps({"1_cat": {"a": 1}}, indent=1),
                                    "ss_optimizer": "[not json", "modelspec.title": "x"})
    tensors, deltas = networks()
    changed = rescaled(tensors)
    save_in_order(os.path.join(out, "networks.safetensors"), tensors, {})
    save_in_order(os.path.join(out, "rescaled.safetensors"), changed, {})
    save_in_order(os.path.join(out, "peft.safetensors"), peft(tensors), {})
    found = {k: dict(type=kind, norm=None if d is None else float(d.norm())) for k, (kind, d) in deltas.items()}
    magnitudes = {k: [float(v.abs().double().mean()), float(v.abs().min())] for k, v in tensors.items() if "lora_" in k.split(".", 1)[1]}
    expected = dict(networks=found, magnitudes=magnitudes, stats={k: stats(t) for k, t in numbers().items()},
                    hashes={"numbers": hashes(path), "tiny": hashes(TINY),
                            "lora": hashes(os.path.join(peers.DATA, "lora", "run1.safetensors"))})
    with open(os.path.join(out, "expected.json"), "w") as f:
        json.dump(expected, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main()
