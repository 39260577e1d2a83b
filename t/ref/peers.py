"""What the fixture scripts of this folder share: versions, sd-scripts' import, random weights, saving.

Versions the committed fixtures were made with (`check()` says so when others are found):
  Python 3.11, torch 2.13.0 (CPU build suffices), diffusers 0.32.1, transformers 4.54.1, accelerate 1.6.0,
  safetensors 0.8.0, numpy 1.26.4, and kohya-ss/sd-scripts at commit 48d368fa (just after v0.10.1).
sd-scripts is a checkout of its own, found through the environment variable SD_SCRIPTS. torchvision, which it
imports for three image transforms that no fixture uses, is replaced by an empty module when it is missing.

Everything runs on one CPU thread in f32, so that a second run gives the same tensors on the same kind of CPU
(another CPU may differ in the last bits).
"""
import hashlib
import importlib
import importlib.metadata
import json
import logging
import os
import sys
import types

import torch

PINNED = {"torch": "2.13.0", "diffusers": "0.32.1", "transformers": "4.54.1", "accelerate": "1.6.0", "numpy": "1.26.4"}
DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data")


def check(more={}):
    """Settles the numerical environment and warns of versions other than the pinned ones, and of those in `more`."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    for name, want in {**PINNED, **more}.items():
        have = importlib.metadata.version(name).split("+")[0]
        if have != want:
            print(f"warning: {name} {have}, the fixtures were made with {want}", file=sys.stderr)


def output(argv, *default):
    """The folder to write to: the first argument, else t/data/DEFAULT."""
    path = argv[1] if len(argv) > 1 else os.path.join(DATA, *default)
    os.makedirs(path, exist_ok=True)
    return path


class Nothing:
    """Stands for any class of a package that is not installed."""

    def __init__(self, *args, **kwargs):
        pass


def sd_scripts():
    """Puts sd-scripts on the import path; returns its folder."""
    import diffusers  # noqa: F401  (both look for torchvision while they are imported, so they come first)
    import transformers  # noqa: F401

    root = os.environ.get("SD_SCRIPTS")
    if not root or not os.path.isdir(os.path.join(root, "library")):
        sys.exit("SD_SCRIPTS must name a checkout of kohya-ss/sd-scripts")
    if importlib.util.find_spec("torchvision") is None:
        top, sub = types.ModuleType("torchvision"), types.ModuleType("torchvision.transforms")

        def stand_in(name):
            if name.startswith("__"):
                raise AttributeError(name)
            return Nothing

        sub.__getattr__ = stand_in
        top.transforms = sub
        top.__spec__ = importlib.machinery.ModuleSpec("torchvision", None)
        sys.modules.update({"torchvision": top, "torchvision.transforms": sub})
    if root not in sys.path:
        sys.path.insert(0, root)
    logging.disable(logging.INFO)
    return root


def generator(name):
    """A torch generator seeded by a name, so that adding a tensor changes no other."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little") >> 1
    return torch.Generator().manual_seed(seed)


def randn(name, *shape, scale=1.0):
    return torch.randn(*shape, generator=generator(name)) * scale


def randint(name, low, high, shape, dtype=torch.int32):
    return torch.randint(low, high, shape, generator=generator(name)).to(dtype)


def initialise(module, name):
    """Random weights that keep activations near 1, every one of them representable in f16."""
    with torch.no_grad():
        for key, p in sorted(module.named_parameters()):
            g = generator(name + "." + key)
            r = torch.randn(p.shape, generator=g)
            leaf = ("." + key).rsplit(".", 2)[-2]
            if "embedding" in leaf:
                p.copy_(r * 0.5)
            elif p.ndim > 1:
                p.copy_(r * p[0].numel() ** -0.5)
            elif key.endswith("weight"):
                p.copy_(1 + 0.1 * r)
            else:
                p.copy_(0.1 * r)
            p.copy_(p.half().float())
    return module.eval().requires_grad_(False)


def contiguous(tensors):
    return {k: v.detach().contiguous().clone() for k, v in tensors.items()}


def save(tensors, path, **metadata):
    """Writes a safetensors file; metadata that is no string goes in as JSON."""
    from safetensors.torch import save_file

    text = {k: v if isinstance(v, str) else json.dumps(v, sort_keys=True) for k, v in metadata.items()}
    save_file(contiguous(tensors), path, text)
    print(f"{os.path.basename(path)}: {len(tensors)} tensors, {os.path.getsize(path)} bytes")
