#!/usr/bin/env python3
"""Files of other adapter networks, and what they add to weights: LyCORIS' own modules, sd-scripts' DyLoRA and OFT.

  SD_SCRIPTS=... LYCORIS=... adapters.py [DIR]      (DIR: t/data/network; versions and environment: see peers.py)

LYCORIS is a folder with the package lycoris-lora 3.4.0 (pip download --no-deps lycoris-lora==3.4.0; unzip).

Each module is made for a few layers of t/data/model/sd1-small.safetensors: linear ones, a 1x1 and 3x3 convolutions, one with
stride 2. All its parameters are normal random numbers, times 0.3. Alpha is 1.5 (OFT: 0.01).

  KIND.safetensors   as the module's own state_dict writes it. KIND: locon, locon-cp, loha, loha-cp, lokr, lokr-small (both
                     factors are products), lokr-cp, lokr-full (no products: no scale), dylora, oft, oft-tight (alpha 1e-6)
  want.safetensors   KIND/PATH [out,in,...] what the module's forward adds to the weight of layer PATH at multiplier 1.
                     For oft: its merge_to less the weight, in f64
"""
import os
import sys

import torch

import models
import peers

LAYERS = {
    "text_encoder.text_model.encoder.layers.0.mlp.fc1": "lora_te_text_model_encoder_layers_0_mlp_fc1",
    "unet.conv_in": "lora_unet_conv_in",
    "unet.down_blocks.0.attentions.0.proj_in": "lora_unet_down_blocks_0_attentions_0_proj_in",
    "unet.down_blocks.0.attentions.0.transformer_blocks.0.ff.net.0.proj": "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_ff_net_0_proj",
    "unet.down_blocks.0.downsamplers.0.conv": "lora_unet_down_blocks_0_downsamplers_0_conv",
    "unet.up_blocks.3.resnets.0.conv1": "lora_unet_up_blocks_3_resnets_0_conv1",
}


def layer_of(path, unet, text):
    part, _, rest = path.partition(".")
    return {"unet": unet, "text_encoder": text}[part].get_submodule(rest)


def randomise(module, name):
    with torch.no_grad():
        for k, p in sorted(module.named_parameters()):
            if not k.startswith("org_module"):
                p.copy_(peers.randn(f"network.{name}.{k}", *p.shape, scale=0.3))


def lycoris_kinds():
    sys.path.insert(0, os.environ["LYCORIS"])
    from lycoris.modules.locon import LoConModule
    from lycoris.modules.loha import LohaModule
    from lycoris.modules.lokr import LokrModule

    return {
        "locon": (LoConModule, {}), "locon-cp": (LoConModule, {"use_tucker": True}),
        "loha": (LohaModule, {}), "loha-cp": (LohaModule, {"use_tucker": True}),
        "lokr": (LokrModule, {"lora_dim": 1}), "lokr-small": (LokrModule, {"lora_dim": 1, "decompose_both": True, "factor": 4}),
        "lokr-cp": (LokrModule, {"lora_dim": 1, "use_tucker": True}), "lokr-full": (LokrModule, {"full_matrix": True}),
    }


def lycoris(kind, cls, options, unet, text, want):
    t = {}
    for path, name in LAYERS.items():
        layer = layer_of(path, unet, text)
        module = cls(name, layer, 1.0, **{"lora_dim": 3, "alpha": 1.5, **options})
        randomise(module, f"{kind}.{name}")
        module.eval()
        t.update({f"{name}.{k}": v for k, v in module.custom_state_dict().items()})
        delta = module.make_weight() * module.scale if kind.startswith("locon") else module.get_weight(module.shape) * module.scalar
        want[f"{kind}/{path}"] = delta.reshape(layer.weight.shape)
    return t


def dylora(unet, text, want):
    from networks.dylora import DyLoRAModule

    t = {}
    for path, name in LAYERS.items():
        layer = layer_of(path, unet, text)
        module = DyLoRAModule(name, layer, 1.0, 4, 1.5, unit=2)
        network = torch.nn.Module()
        network.add_module(name, module)
        randomise(module, f"dylora.{name}")
        t.update({k: v for k, v in network.state_dict().items() if "org_module" not in k})
        a, b = torch.cat(tuple(module.lora_A), dim=0), torch.cat(tuple(module.lora_B), dim=1)
        want[f"dylora/{path}"] = (module.scale * b.reshape(b.shape[0], -1) @ a.reshape(a.shape[0], -1)).reshape(layer.weight.shape)
    return t


def oft(kind, alpha, unet, text, want):
    from networks.oft import OFTInfModule

    t = {}
    for path, name in LAYERS.items():
        layer = layer_of(path, unet, text)
        if path.startswith("text"):
            continue
        name = name.replace("lora_", "oft_")
        module = OFTInfModule(name, layer, 1.0, 2, alpha)
        randomise(module, f"{kind}.{name}")
        t.update({f"{name}.{k}": v.clone() for k, v in module.state_dict().items()})
        # In f64: R - 1 is a small difference of large numbers.
        before = layer.weight.detach().double()
        module.oft_blocks.data, module.I = module.oft_blocks.data.double(), module.I.double()
        keep, torch.Tensor.float = torch.Tensor.float, torch.Tensor.double
        rotation = module.get_weight(1.0)
        torch.Tensor.float = keep
        after = torch.einsum("k n m, k n ... -> k m ...", rotation, before.reshape(2, before.shape[0] // 2, -1))
        want[f"{kind}/{path}"] = (after.reshape(before.shape) - before).float()
    return t


def main(argv):
    peers.check()
    out = peers.output(argv, "network")
    peers.sd_scripts()
    parts, _ = models.build(models.SD1, "sd1-small")
    unet, text = parts["unet"], parts["text_encoder"]
    want = {}
    with torch.no_grad():
        files = {k: lycoris(k, cls, options, unet, text, want) for k, (cls, options) in lycoris_kinds().items()}
        files["dylora"] = dylora(unet, text, want)
        files["oft"] = oft("oft", 0.01, unet, text, want)
        files["oft-tight"] = oft("oft-tight", 1e-6, unet, text, want)
    for kind, t in files.items():
        peers.save({k: v.float() for k, v in t.items()}, os.path.join(out, f"{kind}.safetensors"))
    peers.save(want, os.path.join(out, "want.safetensors"))


if __name__ == "__main__":
    main(sys.argv)
