#!/usr/bin/env python3
"""Small random Stable Diffusion models with inputs and outputs, made by diffusers and transformers.

  SD_SCRIPTS=... models.py [DIR]         (DIR: t/data/model; versions and environment: see peers.py)

Writes
  sd1-small.safetensors       the shape of SD1 (4 levels, 2 layers a block), narrow: U-Net with convolution projections and
                              2 heads a level, VAE of factor 8, text encoder with quick GELU; diffusers' names
  sd1-small-ldm.safetensors   the same weights under the original (LDM) names as F16, converted by sd-scripts
  sd2-small.safetensors       an SD2-like pair: U-Net with linear projections and 4 channels a head, 3 levels of 1 layer,
                              the middle one without attention, context 64; text encoder with exact GELU; no VAE
  sd2-small-ldm.safetensors   the shape of SD2 (4 levels, 2 layers a block), still narrower, under the original names as
                              F16: text encoder of OpenCLIP's names with the layer that is dropped and its projection; the
                              VAE of sd1-small. Its weights are its own
  grad.safetensors            gradients in the models of sd1-small and sd2-small, by autograd
The -ldm files also hold strays that such files carry: `alphas_cumprod`, `model_ema.num_updates`, `...position_ids`.

All tensors are f32 but ids, timesteps (I32) and weights (F16: every one of them is representable, so both files of
sd1-small hold exactly the same values). Metadata `sd_config` is JSON, {"unet": ...,
"vae": ..., "text_encoder": ...}, each the config.json that diffusers or transformers writes.

Weights: `unet.NAME`, `vae.NAME`, `text_encoder.NAME`, NAME being diffusers' own. Images and latents are NCHW.

Text encoder
  in.text.ids [2,77]          token ids; row 0 is short (begin, words, then ends), row 1 fills all 77 places
  out.text.last [2,77,C]      all layers, then the final norm: what SD uses (SD2: the n layers of the config are
                              those left after the last one is dropped, so this is OpenCLIP's penultimate layer)
  out.text.skip2 [2,77,C]     state before the last layer, then the final norm: clip_skip 2
  out.text.hidden.1           output of the first layer, no final norm (sd1-small only)
U-Net, cases a (8x12, which is no multiple of 8), b (9x7), c (16x8, two chunks of text; sd1-small only)
  in.unet.CASE.sample, .timesteps, .context
  out.unet.CASE               predicted noise (or v)
  out.unet.a.PART             after time_embedding, conv_in, down_blocks.I, mid_block, up_blocks.I, down_blocks.0.resnets.0;
                              sd1-small also after down_blocks.1.attentions.0, its transformer_blocks.0 and that one's
                              .norm1 .attn1 .attn2 .ff ([B,HW,C], residual not yet added)
VAE
  in.vae.image [1,3,32,48], in.vae.noise [1,4,4,6], in.vae.image2 [2,3,16,24]
  out.vae.mean, .logvar       halves of the moments (logvar clamped to -30..20); out.vae.sample = mean + exp(logvar/2) noise;
                              not scaled by 0.18215
  out.vae.mean2, .logvar2
  in.vae.latents [1,4,4,6], in.vae.latents2 [2,4,2,3]   unscaled; out.vae.image, out.vae.image2 decoded, not clamped
  out.vae.a.PART              after PART of the encoder or decoder, for the first image and latents
grad.safetensors, MODEL = sd1, sd2; inputs, and their outputs, are those of case a (also of b for sd1) in MODEL-small
  in.MODEL.unet.CASE          cotangent of out.unet.CASE (the gradients are of the sum of their product)
  out.MODEL.unet.CASE.sample, .context, and (case a) .NAME for a choice of weights, NAME as in MODEL-small
  in.sd1.text                 cotangent of out.text.last; out.sd1.text.NAME for a choice of weights
Against f64, f32 rounding costs outputs up to 1e-6 of a tensor's largest element, gradients 2.3e-5 (sd1) and 2.5e-6 (sd2).
"""
import json
import os

import torch

import peers

TEXT_KEYS = ("attention_dropout bos_token_id dropout eos_token_id hidden_act hidden_size initializer_factor initializer_range "
             "intermediate_size layer_norm_eps max_position_embeddings model_type num_attention_heads num_hidden_layers "
             "pad_token_id projection_dim vocab_size").split()


def text_config(**kw):
    from transformers import CLIPTextConfig

    return CLIPTextConfig(max_position_embeddings=77, layer_norm_eps=1e-5, pad_token_id=1, bos_token_id=0, eos_token_id=2, **kw)


SD1 = {
    "text_encoder": dict(vocab_size=128, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                         hidden_act="quick_gelu", projection_dim=32),
    "unet": dict(sample_size=8, in_channels=4, out_channels=4, block_out_channels=(8, 8, 8, 12), layers_per_block=2,
                 down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
                 up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
                 cross_attention_dim=32, attention_head_dim=2, norm_num_groups=4),
    "vae": dict(sample_size=64, in_channels=3, out_channels=3, block_out_channels=(4, 4, 8, 8), layers_per_block=2,
                down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
                latent_channels=4, norm_num_groups=4, scaling_factor=0.18215),
}
SD2 = {
    "text_encoder": dict(vocab_size=128, hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                         hidden_act="gelu", projection_dim=64),
    "unet": dict(sample_size=8, in_channels=4, out_channels=4, block_out_channels=(8, 8, 12), layers_per_block=1,
                 down_block_types=("CrossAttnDownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
                 up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "CrossAttnUpBlock2D"),
                 cross_attention_dim=64, attention_head_dim=(2, 2, 3), norm_num_groups=4, use_linear_projection=True),
}
SD2_LDM = {
    "text_encoder": dict(vocab_size=128, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                         hidden_act="gelu", projection_dim=32),
    "unet": dict(SD1["unet"], block_out_channels=(8, 8, 12, 8), attention_head_dim=(2, 2, 3, 2), use_linear_projection=True),
    "vae": SD1["vae"],
}


def build(config, name):
    """The modules of a configuration with their random weights, and the config.json of each part."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel

    parts, texts = {}, {}
    if "text_encoder" in config:
        parts["text_encoder"] = CLIPTextModel._from_config(text_config(**config["text_encoder"]), attn_implementation="eager")
        have = parts["text_encoder"].config.to_dict()
        texts["text_encoder"] = {"architectures": ["CLIPTextModel"], **{k: have[k] for k in TEXT_KEYS if k in have}}
    if "vae" in config:
        parts["vae"] = AutoencoderKL(**config["vae"])
        texts["vae"] = json.loads(parts["vae"].to_json_string())
    parts["unet"] = UNet2DConditionModel(**config["unet"])
    texts["unet"] = json.loads(parts["unet"].to_json_string())
    for part, module in parts.items():
        peers.initialise(module, ("sd1" if part == "vae" else name) + "." + part)
    return parts, texts


def weights(parts):
    return {f"{part}.{k}": v.half() for part, m in parts.items() for k, v in m.state_dict().items() if not k.endswith("position_ids")}


class Watch:
    """Records the outputs of named sub-modules during one forward pass."""

    def __init__(self, module, names, prefix):
        self.got, self.hooks = {}, []
        for n in names:
            self.hooks.append(module.get_submodule(n).register_forward_hook(self.keep(prefix + n)))

    def keep(self, name):
        def hook(_module, _args, out):
            while not torch.is_tensor(out):
                out = out[0] if isinstance(out, tuple) else out.sample
            self.got[name] = out.clone()

        return hook

    def done(self):
        for h in self.hooks:
            h.remove()
        return self.got


def run_text(m, t, name):
    vocab = m.config.vocab_size
    ids = peers.randint(name + ".ids", 1, vocab - 2, (2, 77))
    ids[:, 0], ids[:, 76], ids[0, 9:] = vocab - 2, vocab - 1, vocab - 1
    out = m(ids.long(), output_hidden_states=True)
    t["in.text.ids"] = ids
    t["out.text.last"] = out.last_hidden_state
    t["out.text.skip2"] = m.text_model.final_layer_norm(out.hidden_states[-2])
    if name == "sd1-small":
        t["out.text.hidden.1"] = out.hidden_states[1]


def run_unet(m, t, name, deep=False):
    levels, width = len(m.config.block_out_channels), m.config.cross_attention_dim
    for case, shape, steps, tokens in (("a", (2, 4, 8, 12), (37, 981), 77), ("b", (1, 4, 9, 7), (500,), 77),
                                       ("c", (1, 4, 16, 8), (999,), 152)):
        if case == "c" and not deep:
            continue
        x = t[f"in.unet.{case}.sample"] = peers.randn(f"{name}.{case}.sample", *shape)
        ts = t[f"in.unet.{case}.timesteps"] = torch.tensor(steps, dtype=torch.int32)
        c = t[f"in.unet.{case}.context"] = peers.randn(f"{name}.{case}.context", shape[0], tokens, width)
        names = []
        if case == "a":
            names = ["time_embedding", "conv_in", "mid_block", "down_blocks.0.resnets.0"]
            names += [f"{b}_blocks.{i}" for b in ("down", "up") for i in range(levels)]
            if deep:
                a = "down_blocks.1.attentions.0"
                names += [a] + [f"{a}.transformer_blocks.0{p}" for p in ("", ".norm1", ".attn1", ".attn2", ".ff")]
        watch = Watch(m, names, f"out.unet.{case}.")
        t[f"out.unet.{case}"] = m(x, ts.long(), c).sample
        t.update(watch.done())


def run_vae(m, t, name):
    x = t["in.vae.image"] = peers.randn(name + ".image", 1, 3, 32, 48, scale=0.5).clamp(-1, 1)
    noise = t["in.vae.noise"] = peers.randn(name + ".noise", 1, 4, 4, 6)
    x2 = t["in.vae.image2"] = peers.randn(name + ".image2", 2, 3, 16, 24, scale=0.5).clamp(-1, 1)
    watch = Watch(m, ["encoder.down_blocks.0", "encoder.down_blocks.2", "encoder.mid_block", "encoder"], "out.vae.a.")
    dist = m.encode(x).latent_dist
    t.update(watch.done())
    t["out.vae.mean"], t["out.vae.logvar"] = dist.mean, dist.logvar
    t["out.vae.sample"] = dist.mean + dist.std * noise
    dist = m.encode(x2).latent_dist
    t["out.vae.mean2"], t["out.vae.logvar2"] = dist.mean, dist.logvar
    z = t["in.vae.latents"] = peers.randn(name + ".latents", 1, 4, 4, 6)
    z2 = t["in.vae.latents2"] = peers.randn(name + ".latents2", 2, 4, 2, 3)
    watch = Watch(m, ["decoder.conv_in", "decoder.mid_block", "decoder.up_blocks.0"], "out.vae.a.")
    t["out.vae.image"] = m.decode(z).sample
    t.update(watch.done())
    t["out.vae.image2"] = m.decode(z2).sample


def ldm(parts, config, name, v2):
    """The original names, by sd-scripts' own conversion."""
    from diffusers import DDPMScheduler
    from library import model_util

    t = {"model.diffusion_model." + k: v for k, v in model_util.convert_unet_state_dict_to_sd(v2, parts["unet"].state_dict()).items()}
    t.update({"first_stage_model." + k: v for k, v in model_util.convert_vae_state_dict(parts["vae"].state_dict()).items()})
    if v2:
        # The third layer is in the file only; weights are made by name, so the first two are those of the model.
        full, _ = build({"text_encoder": dict(config["text_encoder"], num_hidden_layers=3), "unet": config["unet"]}, name)
        text = model_util.convert_text_encoder_state_dict_to_sd_v2(full["text_encoder"].state_dict())
        text["text_projection"] = peers.randn(name + ".text_projection", 32, 32, scale=0.2)
        text["logit_scale"] = torch.tensor(4.6055)
        t.update({"cond_stage_model.model." + k: v for k, v in text.items()})
    else:
        t.update({"cond_stage_model.transformer." + k: v for k, v in parts["text_encoder"].state_dict().items()})
    t = {k: v.half() for k, v in t.items() if not k.endswith("position_ids")}
    sched = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000)
    t["alphas_cumprod"] = sched.alphas_cumprod
    t["model_ema.num_updates"] = torch.tensor(1, dtype=torch.int32)
    if not v2:
        t["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(77)[None]
    return t


def same(parts, t, v2):
    """sd-scripts, loading the LDM file back, must arrive at the same weights and the same prediction."""
    from library import model_util, original_unet

    u = parts["unet"]
    keys = {k: v.float() for k, v in t.items()}
    back = model_util.convert_ldm_unet_checkpoint(v2, dict(keys), dict(layers_per_block=2, use_linear_projection=v2))
    assert all(torch.equal(back[k], v) for k, v in u.state_dict().items()) and len(back) == len(u.state_dict())
    back = model_util.convert_ldm_vae_checkpoint(dict(keys), {})
    assert all(torch.equal(back[k], v) for k, v in parts["vae"].state_dict().items()) and len(back) == len(parts["vae"].state_dict())
    other = small_original_unet(u.config)
    other.load_state_dict(u.state_dict())
    x, ts, c = torch.randn(1, 4, 9, 7), torch.tensor([7]), torch.randn(1, 77, u.config.cross_attention_dim)
    worst = (other(x, ts, c).sample - u(x, ts, c).sample).abs().max().item()
    assert worst < 1e-4, worst
    print(f"sd-scripts' own U-Net differs from diffusers' by {worst:.1e}")


def small_original_unet(config):
    """sd-scripts' U-Net class with other widths; its configuration is the constants of its module."""
    from library import original_unet as o

    o.BLOCK_OUT_CHANNELS = tuple(config["block_out_channels"])
    o.TIMESTEP_INPUT_DIM = o.BLOCK_OUT_CHANNELS[0]
    o.TIME_EMBED_DIM = 4 * o.BLOCK_OUT_CHANNELS[0]
    o.NORM_GROUPS = o.TRANSFORMER_NORM_NUM_GROUPS = config["norm_num_groups"]
    return o.UNet2DConditionModel(sample_size=8, attention_head_dim=config["attention_head_dim"],
                                  cross_attention_dim=config["cross_attention_dim"],
                                  use_linear_projection=config["use_linear_projection"])


UNET_GRADS = """conv_in.weight conv_in.bias time_embedding.linear_1.weight time_embedding.linear_2.bias
down_blocks.0.resnets.0.norm1.weight down_blocks.0.resnets.0.norm1.bias down_blocks.0.resnets.0.conv1.weight
down_blocks.0.resnets.0.time_emb_proj.weight down_blocks.0.downsamplers.0.conv.weight
down_blocks.0.attentions.0.norm.weight down_blocks.0.attentions.0.proj_in.weight
down_blocks.0.attentions.0.transformer_blocks.0.norm2.weight down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight
down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k.weight down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_v.weight
down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0.weight
down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_q.weight down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight
down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_v.weight
down_blocks.0.attentions.0.transformer_blocks.0.ff.net.0.proj.weight
down_blocks.0.attentions.0.transformer_blocks.0.ff.net.2.weight mid_block.attentions.0.proj_out.weight
mid_block.resnets.1.conv2.bias up_blocks.0.resnets.0.conv_shortcut.weight up_blocks.0.upsamplers.0.conv.weight
conv_norm_out.weight conv_out.weight""".split()
LAYER = "text_model.encoder.layers.0."
TEXT_GRADS = [LAYER + n for n in """self_attn.q_proj.weight self_attn.q_proj.bias self_attn.k_proj.weight self_attn.v_proj.weight
self_attn.out_proj.weight self_attn.out_proj.bias layer_norm1.weight layer_norm2.bias mlp.fc1.weight mlp.fc2.bias""".split()]
TEXT_GRADS += ["text_model.embeddings.position_embedding.weight", "text_model.embeddings.token_embedding.weight",
               "text_model.final_layer_norm.weight"]


def gradients(parts, given, name):
    """Gradients of <output, cotangent> for the cases of a model file."""
    t = {}
    for case in ("a", "b") if name == "sd1" else ("a",):
        m = parts["unet"]
        x = given[f"in.unet.{case}.sample"].clone().requires_grad_()
        c = given[f"in.unet.{case}.context"].clone().requires_grad_()
        out = m(x, given[f"in.unet.{case}.timesteps"].long(), c).sample
        v = t[f"in.{name}.unet.{case}"] = peers.randn(f"{name}.unet.{case}.cotangent", *out.shape)
        named = {"sample": x, "context": c}
        if case == "a":
            named.update({n: m.get_parameter(n) for n in UNET_GRADS})
        t.update({f"out.{name}.unet.{case}.{n}": g for n, g in zip(named, torch.autograd.grad(out, list(named.values()), v))})
    if name == "sd2":
        return t
    m = parts["text_encoder"]
    out = m(given["in.text.ids"].long()).last_hidden_state
    v = t[f"in.{name}.text"] = peers.randn(f"{name}.text.cotangent", *out.shape)
    named = {n: m.get_parameter(n) for n in TEXT_GRADS}
    t.update({f"out.{name}.text.{n}": g for n, g in zip(named, torch.autograd.grad(out, list(named.values()), v))})
    return t


def main(argv):
    peers.check()
    out = peers.output(argv, "model")
    peers.sd_scripts()
    grads = {}
    with torch.no_grad():
        for name, config in (("sd1-small", SD1), ("sd2-small", SD2), ("sd2-small-ldm", SD2_LDM)):
            parts, texts = build(config, name)
            t = {}
            run_text(parts["text_encoder"], t, name)
            run_unet(parts["unet"], t, name, deep=name == "sd1-small")
            if name == "sd1-small":
                run_vae(parts["vae"], t, name)
            for k in ("out.text.last", "out.unet.a", "out.unet.b", "out.vae.mean", "out.vae.logvar", "out.vae.image"):
                if k in t:
                    print(f"  {k} {list(t[k].shape)}: {t[k].std():.3f}")
            if name != "sd2-small-ldm":
                peers.save({**weights(parts), **t}, os.path.join(out, name + ".safetensors"), sd_config=texts)
                with torch.enable_grad():
                    for m in parts.values():
                        m.requires_grad_(True)
                    grads.update(gradients(parts, t, name[:3]))
            if name == "sd2-small":
                continue
            v2 = name == "sd2-small-ldm"
            other = ldm(parts, config, name, v2)
            same(parts, other, v2)
            peers.save({**other, **(t if v2 else {})}, os.path.join(out, name[:9] + "-ldm.safetensors"), sd_config=texts)
    peers.save(grads, os.path.join(out, "grad.safetensors"))


if __name__ == "__main__":
    import sys

    main(sys.argv)
