"""Fixtures of lib/store/torch_file.c: files that torch.save wrote, each beside a safetensors file with the same tensors.

  torch_files.py [OUT]        writes t/data/torch/
  torch_files.py check DIR    loads what t/unit/torch left in DIR (SD_KEEP=DIR) with torch.load

NAME.pt, NAME.ckpt, NAME.bin go with NAME.safetensors, which has what the reader should find. folder/ is the model of
t/data/model/sd1-small.safetensors as diffusers and transformers save it in several files: U-Net in safetensors, VAE in
one .bin, text encoder in several; channels-last.ckpt is its VAE with strides and its configuration beside it. The legacy files differ each time: their storages are named by addresses.
"""

import json
import os
import sys
import types
from collections import OrderedDict

import numpy as np
import torch
from safetensors.torch import save_file

import peers
from store import ramp

LEGACY = {"_use_new_zipfile_serialization": False}


def all_types():
    f32 = ramp(2, 3)
    kinds = [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.bfloat16,
             torch.float32, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2, torch.uint16, torch.uint32, torch.uint64]
    t = {str(k).removeprefix("torch."): (f32 * 8).to(k) for k in kinds}
    return {**t, "none": torch.zeros(0, 3), "one": torch.tensor(1.5), "é \"x\"": ramp(1)}


def views():
    """Several tensors in one storage, some with gaps or in another order."""
    base = ramp(4, 6)
    image = ramp(1, 3, 4, 5)
    return {"all": base, "rows": base[1:3], "column": base[:, 2], "turned": base.t(), "steps": base[::2, 1::3],
            "element": base[3, 5], "channels_last": image.to(memory_format=torch.channels_last),
            "one": base[2:3, 1:2].t(), "parameter": torch.nn.Parameter(base[0]), "nothing": base[4:]}


def fake_class(module, name, base=object):
    """A class that pickles under another module's name, as if that was installed."""
    parts = module.split(".")
    for i in range(1, len(parts) + 1):
        sys.modules.setdefault(".".join(parts[:i]), types.ModuleType(".".join(parts[:i])))
    c = type(name, (base,), {"__module__": module})
    setattr(sys.modules[module], name, c)
    return c


def lightning():
    """What PyTorch Lightning leaves in a checkpoint beside its weights (v1-5-pruned.ckpt has most of it)."""
    callback = fake_class("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint")
    attributes = fake_class("pytorch_lightning.utilities.parsing", "AttributeDict", dict)
    weights = OrderedDict(("model.diffusion_model." + k, v) for k, v in views().items())
    weights["model_ema.decay"] = torch.tensor(0.9999)
    weights._metadata = OrderedDict({"": {"version": 1}})
    return {
        "epoch": 12, "global_step": 470000, "pytorch-lightning_version": "1.4.2", "state_dict": weights,
        "callbacks": {callback: {"monitor": "val/loss", "best_model_score": torch.tensor(0.25), "best_k": np.float64(0.25),
                                 "counts": np.arange(3)}},
        "optimizer_states": [{"state": {0: {"step": 3, "exp_avg": ramp(2)}}, "param_groups": [{"lr": 1e-4, "betas": (0.9, 0.999)}]}],
        "lr_schedulers": [], "hyper_parameters": attributes(x=1), "huge": 1 << 70, "nothing": None, "half": 0.5, "set": {1, 2},
    }


def embedding():
    """Textual inversion as its authors' code and web UIs save it."""
    p = torch.nn.ParameterDict({"*": torch.nn.Parameter(ramp(2, 8))})
    return {"string_to_token": {"*": torch.tensor(265)}, "string_to_param": p, "name": "cat", "step": 1999,
            "sd_checkpoint": "81761151", "sd_checkpoint_name": None}


def flat(tree, prefix=""):
    if isinstance(tree, torch.Tensor):
        return {prefix: tree.detach().contiguous().clone()}
    if isinstance(tree, torch.nn.ParameterDict):
        tree = dict(tree.items())
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, (list, tuple)) else ()
    return {k: v for name, value in items for k, v in flat(value, f"{prefix}.{name}" if prefix else str(name)).items()}


def save(out, name, saved, tensors, **how):
    path = os.path.join(out, name)
    torch.save(saved, path, **how)
    save_file(tensors, os.path.splitext(path)[0] + ".safetensors")


def write(out):
    t, v, pl, e = all_types(), views(), lightning(), embedding()
    save(out, "types.pt", t, flat(t))
    save(out, "types-legacy.pt", t, flat(t), **LEGACY)
    save(out, "views.pt", v, flat(v))
    save(out, "views-legacy.bin", v, flat(v), **LEGACY)
    save(out, "lightning.ckpt", pl, flat(pl["state_dict"]))
    save(out, "lightning-legacy.ckpt", pl, flat(pl["state_dict"]), **LEGACY)
    save(out, "protocol4.ckpt", pl, flat(pl["state_dict"]), pickle_protocol=4)
    save(out, "protocol5.ckpt", {"params": v}, flat(v), pickle_protocol=5)
    save(out, "embedding.pt", e, flat(e))
    save(out, "embedding-diffusers.bin", {"<cat>": ramp(8).half()}, {"<cat>": ramp(8).half()})
    hyper = {"layer": "linear", 320: [{"a.weight": ramp(2, 2)}, {"a.weight": ramp(2)}], 640: (ramp(1), ramp(3))}
    save(out, "nested.pt", hyper, flat(hyper))
    save(out, "alone.pt", ramp(3), {"tensor": ramp(3)})
    torch.serialization.set_crc32_options(False)
    save(out, "no-crc.pt", {"x": ramp(3)}, {"x": ramp(3)})
    torch.serialization.set_crc32_options(True)
    save(out, "list.pt", [ramp(3), ramp(2)], {"0": ramp(3), "1": ramp(2)})


def folder(out):
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from safetensors import safe_open
    from transformers import CLIPTextConfig, CLIPTextModel

    with safe_open(os.path.join(peers.DATA, "model", "sd1-small.safetensors"), "pt") as f:
        config = json.loads(f.metadata()["sd_config"])
        keys = {p: [k for k in f.keys() if k.startswith(p + ".")] for p in ("unet", "vae", "text_encoder")}
        weights = {p: {k[len(p) + 1:]: f.get_tensor(k) for k in names} for p, names in keys.items()}
    parts = {"unet": (UNet2DConditionModel.from_config(config["unet"]), {"max_shard_size": "80KB"}),
             "vae": (AutoencoderKL.from_config(config["vae"]), {"safe_serialization": False}),
             "text_encoder": (CLIPTextModel(CLIPTextConfig(**config["text_encoder"])),
                              {"safe_serialization": False, "max_shard_size": "30KB"})}
    for name, (model, how) in parts.items():
        model.load_state_dict(weights[name])
        model.half().save_pretrained(os.path.join(out, "folder", name), **how)
    vae = parts["vae"][0].to(memory_format=torch.channels_last).state_dict()
    saved = {"vae." + k: v for k, v in vae.items()}
    torch.save({"state_dict": saved, "sd_config": json.dumps({"vae": config["vae"]})}, os.path.join(out, "channels-last.ckpt"))


def check(kept):
    want = all_types()
    for name, key in (("plain.pt", None), ("whole.ckpt", "state_dict")):
        path = os.path.join(kept, name)
        for how in ({"weights_only": True}, {"weights_only": False}, {"weights_only": True, "mmap": True}):
            got = torch.load(path, **how)
            if key:
                assert got["epoch"] == 3 and got["global_step"] == 1 << 40 and got["less"] == -5, got
                got = got[key]
            assert sorted(got) == sorted(want), (list(got), list(want))
            for k, v in want.items():
                assert got[k].dtype == v.dtype and got[k].shape == v.shape and got[k].is_contiguous(), k
                assert torch.equal(got[k].flatten().view(torch.uint8), v.flatten().view(torch.uint8)), k
    theirs = torch.load(os.path.join(peers.DATA, "torch", "types.pt"), weights_only=True)
    assert all(theirs[k].stride() == torch.load(os.path.join(kept, "plain.pt"))[k].stride() for k in theirs)
    print("torch reads our files")


if __name__ == "__main__":
    if sys.argv[1:2] == ["check"]:
        check(sys.argv[2])
    else:
        peers.check()
        write(peers.output(sys.argv, "torch"))
        folder(peers.output(sys.argv, "torch"))
