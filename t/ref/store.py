"""Fixtures of lib/store: files written by the safetensors library, numpy and sd-scripts.

  store.py [OUT]         writes t/data/store/
  store.py check DIR     reads what t/unit/safetensors and t/unit/npz left in DIR (SD_KEEP=DIR) with the other
                         side's own loaders: safetensors, numpy, sd-scripts (SD_SCRIPTS, and an old one, before its
                         caching strategies, in SD_SCRIPTS_OLD)

The C tests make the same numbers by formula (ramp), so nothing but the files is kept.
"""

import ast
import io
import os
import sys
import zipfile

import numpy as np
import torch

import peers


def ramp(*shape):
    """0, 1, .. 96, 0, .. as multiples of 1/8: exact in every float type."""
    n = int(np.prod(shape))
    return torch.from_numpy((np.arange(n) % 97).astype(np.float32) / 8).reshape(shape)


def tensors():
    f32 = ramp(2, 3)
    return {
        "b.weight": f32.half(),
        "a.weight": f32,
        "a.bias": f32.bfloat16(),
        "none": torch.zeros(0, 3),
        "one": torch.tensor(1.5),
        "ids": torch.arange(5),
        "steps": torch.arange(3, dtype=torch.int32),
        "short": torch.arange(3, dtype=torch.int16),
        "bytes": torch.arange(4, dtype=torch.uint8),
        "signed": torch.arange(4, dtype=torch.int8) - 2,
        "flags": torch.tensor([True, False]),
        "double": ramp(2).double(),
        "e4m3": f32.to(torch.float8_e4m3fn),
        "e5m2": f32.to(torch.float8_e5m2),
        'odd "name"\\\n\x01/\x7f é': ramp(1),
    }


def lora():
    """Large enough that the bytes hashed by the old way, from the second MiB on, exist."""
    return {"lora_unet_x.lora_down.weight": ramp(16, 24576).half(), "lora_unet_x.lora_up.weight": ramp(24576, 16).half(),
            "lora_unet_x.alpha": torch.tensor(8.0)}


def latents():
    return dict(latents=ramp(4, 3, 2), original_size=(512, 384), crop_ltrb=(0.0, 0.5, 16.0, 23.5))


def old_functions(root):
    """sd-scripts' cache functions of before its caching strategies, without importing all that file needs."""
    from typing import List, Optional, Tuple

    path = os.path.join(root, "library", "train_util.py")
    tree = ast.parse(open(path, encoding="utf-8").read())
    names = ("is_disk_cached_latents_is_expected", "load_latents_from_disk", "save_latents_to_disk")
    tree.body = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name in names]
    space = {"np": np, "torch": torch, "os": os, "Tuple": Tuple, "Optional": Optional, "List": List}
    exec(compile(tree, path, "exec"), space)
    return space


def strategy():
    peers.sd_scripts()
    from library import strategy_sd

    return strategy_sd.SdSdxlLatentsCachingStrategy(True, True, 1, False)


def write_npz(out):
    s, v = strategy(), latents()
    full = os.path.join(out, "full.npz")
    if os.path.exists(full):
        os.remove(full)  # saving into a file keeps its other arrays
    s.save_latents_to_disk(full, v["latents"], v["original_size"], v["crop_ltrb"], v["latents"].flip(2), ramp(24, 16))
    a = dict(latents=v["latents"].numpy(), original_size=np.array(v["original_size"]), crop_ltrb=np.array((0, 0, 16, 24)))
    np.savez(os.path.join(out, "plain.npz"), **a)
    np.savez_compressed(os.path.join(out, "deflated.npz"), **a)
    np.savez(os.path.join(out, "half.npz"), **{**a, "latents": a["latents"].astype(np.float16)})
    np.savez(os.path.join(out, "old.npz"), a["latents"])
    # what train_util.save_latents_to_disk wrote in June 2023
    np.savez(os.path.join(out, "npz2.npz"), latents=a["latents"], original_size=a["original_size"],
             crop_left_top=np.array((7, 9)))
    np.savez(os.path.join(out, "fortran.npz"), latents=np.asfortranarray(a["latents"]))
    np.savez(os.path.join(out, "bigendian.npz"), latents=a["latents"].astype(">f4"))
    np.savez(os.path.join(out, "object.npz"), latents=np.array([None]))
    with zipfile.ZipFile(os.path.join(out, "versions.npz"), "w") as z:
        for version in ((1, 0), (2, 0), (3, 0)):
            b = io.BytesIO()
            np.lib.format.write_array(b, a["latents"], version=version)
            z.writestr(zipfile.ZipInfo(f"v{version[0]}.npy"), b.getvalue())
        z.writestr(zipfile.ZipInfo("readme.txt"), "no array")


def write(out):
    from safetensors.torch import save_file
    from library import train_util

    save_file(tensors(), os.path.join(out, "types.safetensors"), {"format": 'p"t\n é'})
    save_file({"x": ramp(2)}, os.path.join(out, "plain.safetensors"))
    both = train_util.precalculate_safetensors_hashes(lora(), {"ss_network_dim": "16", "modelspec.title": "x"})
    none = train_util.precalculate_safetensors_hashes(lora(), {})
    with open(os.path.join(out, "hashes.txt"), "w") as f:
        f.write("".join(" ".join(h) + "\n" for h in (both, none)))


def check(kept):
    from safetensors import safe_open
    from safetensors.torch import load_file

    path = os.path.join(kept, "types.safetensors")
    got, want = load_file(path), tensors()
    assert list(sorted(got)) == list(sorted(want))
    assert all(got[k].dtype == want[k].dtype and torch.equal(got[k].float(), want[k].float()) for k in want)
    assert safe_open(path, "pt").metadata() == {"format": 'p"t\n é'}
    path, v = os.path.join(kept, "full.npz"), latents()
    s = strategy()
    assert s._default_is_disk_cached_latents_expected(8, (16, 24), path, True, True)
    l, size, crop, flipped, mask = s.load_latents_from_disk(path, (16, 24))
    assert np.array_equal(l, v["latents"]) and tuple(size) == v["original_size"] and tuple(crop) == v["crop_ltrb"]
    assert np.array_equal(flipped, v["latents"].flip(2)) and np.array_equal(mask, ramp(24, 16))
    old = old_functions(os.environ["SD_SCRIPTS_OLD"])
    assert old["is_disk_cached_latents_is_expected"]((16, 24), path, True)
    l, size, crop, flipped = old["load_latents_from_disk"](path)
    assert np.array_equal(l, v["latents"]) and tuple(size) == v["original_size"] and tuple(crop) == v["crop_ltrb"]
    assert zipfile.ZipFile(path).testzip() is None
    theirs = os.path.join(kept, "theirs.npz")
    old["save_latents_to_disk"](theirs, v["latents"], v["original_size"], v["crop_ltrb"], v["latents"].flip(2))
    for name in ("npz1", "npz2"):
        got, kept_by_numpy = np.load(os.path.join(kept, name + ".npz")), np.load(os.path.join(peers.DATA, "store", {
            "npz1": "old", "npz2": "npz2"}[name] + ".npz"))
        assert got.files == kept_by_numpy.files
        assert all(np.array_equal(got[k], kept_by_numpy[k]) and got[k].dtype == kept_by_numpy[k].dtype for k in got.files)
    print("safetensors, numpy and sd-scripts read our files")


if __name__ == "__main__":
    if sys.argv[1:2] == ["check"]:
        check(sys.argv[2])
    else:
        peers.check()
        folder = peers.output(sys.argv, "store")
        write_npz(folder)
        write(folder)
