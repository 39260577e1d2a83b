#!/usr/bin/env python3
"""What sd-convert writes, at the true shapes of SD1 and SD2, read by diffusers, transformers and sd-scripts.

  SD_SCRIPTS=... check_peers_convert.py [FOLDER]      (versions: see peers.py; bin/ must be built)

Works in FOLDER (default: a temporary one), which needs 20 GB, and 12 GB of memory. For SD1, SD2 and SD2-v, with random weights:
  - original -> diffusers folder -> original, and folder -> original -> folder: the same bytes
  - the folder is loaded by StableDiffusionPipeline: no tensor missing or unknown, the configurations sd-scripts gives such
    models, the scheduler's prediction type, the tokenizer's ids
  - every tensor of it is bit for bit what sd-scripts' own conversion of the original file gives, and the output of U-Net,
    text encoder and VAE is that of models so made, in f32
  - the .safetensors written from the folder is bit for bit what sd-scripts' converter writes from it, and sd-scripts loads it
  - old attention names and a baked VAE are loaded, a .ckpt and a folder of .bin files too
Prints a line a check; the exit status is the number of those that failed.
"""
import gc
import os
import shutil
import subprocess
import sys
import tempfile

import torch

import peers

root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
failed = 0


def say(good, text):
    global failed
    failed += not good
    print("ok    " if good else "FAILED", text, flush=True)


def sd(name, *args):
    subprocess.run([os.path.join(os.environ.get("SD_BIN", os.path.join(root, "bin")), name), *args], check=True)


def same_files(a, b):
    return subprocess.run(["cmp", "-s", a, b]).returncode == 0


def same_tensors(ours, theirs):
    """A line about two dicts of tensors; None when they are the same bit for bit."""
    theirs = {k: v for k, v in theirs.items() if not k.endswith("position_ids")}
    if ours.keys() != theirs.keys():
        return f"names differ: {sorted(ours.keys() ^ theirs.keys())[:3]}"
    for k, v in ours.items():
        if v.shape != theirs[k].shape or not torch.equal(v.float(), theirs[k].float()):
            return f"{k} differs"
    return None


def outputs(unet, text, vae):
    """What the three make of the same inputs."""
    t = {}
    with torch.no_grad():
        ids = peers.randint("convert.ids", 1, 49000, (1, 77)).long()
        t["text encoder"] = context = text(ids).last_hidden_state
        x = peers.randn("convert.x", 1, 4, 16, 16)
        t["U-Net"] = unet(x, torch.tensor([500]), context).sample
        t["VAE decoder"] = vae.decode(x).sample
        t["VAE encoder"] = vae.encode(peers.randn("convert.image", 1, 3, 64, 64)).latent_dist.mean
    return t


def theirs(model_util, path, v2):
    """The three modules with their configurations, as sd-scripts makes them of an original file."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from safetensors.torch import load_file

    state = load_file(path)
    config = model_util.create_unet_diffusers_config(v2, True)
    weights = model_util.convert_ldm_unet_checkpoint(v2, state, config)
    unet = UNet2DConditionModel(**config)
    unet.load_state_dict(weights)
    vae_config = model_util.create_vae_diffusers_config()
    vae = AutoencoderKL(**vae_config)
    vae.load_state_dict(model_util.convert_ldm_vae_checkpoint(state, vae_config))
    del state, weights
    text, _, _ = model_util.load_models_from_stable_diffusion_checkpoint(v2, path, unet_use_linear_projection_in_v2=True)
    return unet.eval(), text.eval(), vae.eval()


def check_folder(model_util, arch, original, folder):
    from diffusers import StableDiffusionPipeline

    v2 = arch != "sd1"
    pipe = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    for part, kind in (("unet", type(pipe.unet)), ("vae", type(pipe.vae)), ("text_encoder", type(pipe.text_encoder))):
        _, info = kind.from_pretrained(folder, subfolder=part, output_loading_info=True)
        left = [k for k in info["missing_keys"] + info["unexpected_keys"] if not k.endswith("position_ids")]
        say(not left, f"{arch}: {part} loads with no tensor missing or unknown {left[:3] or ''}")
    want = "v_prediction" if arch == "sd2-v" else "epsilon"
    say(pipe.scheduler.config.prediction_type == want, f"{arch}: the scheduler predicts {want}")
    text = "A photo of a cat, isn't it?  Ébène 123!!"
    ids = pipe.tokenizer(text, padding="max_length", truncation=True, max_length=77).input_ids
    say(ids[0] == 49406 and len(ids) == 77 and ids[-1] == (0 if v2 else 49407), f"{arch}: the tokenizer pads with {ids[-1]}")
    unet, text_encoder, vae = theirs(model_util, original, v2)
    for part, module, peer in (("unet", pipe.unet, unet), ("vae", pipe.vae, vae), ("text_encoder", pipe.text_encoder, text_encoder)):
        wrong = same_tensors(module.state_dict(), peer.state_dict())
        say(not wrong, f"{arch}: {part}'s {len(module.state_dict())} tensors are those of sd-scripts' conversion {wrong or ''}")
    wants = dict(peer_config(unet))
    have = peer_config(pipe.unet)
    differ = {k: (have.get(k), v) for k, v in wants.items() if have.get(k) != v}
    say(not differ, f"{arch}: unet/config.json says what sd-scripts says {differ or ''}")
    a, b = outputs(pipe.unet, pipe.text_encoder, pipe.vae), outputs(unet, text_encoder, vae)
    for name in a:
        worst = ((a[name] - b[name]).abs().max() / b[name].abs().max()).item()
        say(worst <= 1e-6, f"{arch}: {name}'s output differs by {worst:.1e} of its largest value")
    del pipe, unet, text_encoder, vae
    gc.collect()


def peer_config(module):
    """The members that make the network."""
    config = dict(module.config)
    levels = len(config["block_out_channels"])
    heads = config["attention_head_dim"]
    config["attention_head_dim"] = [heads] * levels if isinstance(heads, int) else list(heads)
    return {k: list(v) if isinstance(v, tuple) else v for k, v in config.items() if not k.startswith("_")
            and k not in ("sample_size", "num_class_embeds")}


def check_back(model_util, arch, folder, back, work):
    """Ours from the folder against sd-scripts' from the folder."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from safetensors.torch import load_file
    from transformers import CLIPTextModel

    v2 = arch != "sd1"
    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet", torch_dtype=torch.float16)
    vae = AutoencoderKL.from_pretrained(folder, subfolder="vae", torch_dtype=torch.float16)
    text = CLIPTextModel.from_pretrained(folder, subfolder="text_encoder", torch_dtype=torch.float16)
    made = os.path.join(work, "theirs.safetensors")
    model_util.save_stable_diffusion_checkpoint(v2, made, text, unet, None, 0, 0, None, torch.float16, vae)
    del unet, vae, text
    wrong = same_tensors(load_file(back), load_file(made))
    say(not wrong, f"{arch}: the original file from the folder is the one that sd-scripts writes {wrong or ''}")
    os.remove(made)
    gc.collect()
    text, vae, unet = model_util.load_models_from_stable_diffusion_checkpoint(v2, back, unet_use_linear_projection_in_v2=True)
    say(True, f"{arch}: sd-scripts loads it")
    del text, vae, unet
    gc.collect()


def check_parts(model_util, arch, original, work):
    """A VAE alone in each spelling, and one baked in."""
    from safetensors.torch import load_file

    want = {k: v for k, v in load_file(original).items() if k.startswith("first_stage_model.")}
    plain, old, baked = (os.path.join(work, n + ".safetensors") for n in ("vae", "old", "baked"))
    sd("sd-convert", original, "--part", "vae", "-o", plain)
    model_util.load_vae(plain, torch.float32)
    say(True, f"{arch}: sd-scripts loads the VAE alone, without prefix")
    sd("sd-convert", original, "--part", "vae", "--layout", "diffusers", "--old-vae-names", "-o", old)
    keys = load_file(old)
    say(any(".query." in k for k in keys), f"{arch}: old names are written")
    sd("sd-convert", original, "--vae", old, "-o", baked)
    have = {k: v for k, v in load_file(baked).items() if k.startswith("first_stage_model.")}
    say(not same_tensors(have, want), f"{arch}: baked in again from there")
    for f in (plain, old, baked):
        os.remove(f)


def check_torch(model_util, arch, original, work):
    """The same as files of torch.save."""
    from diffusers import StableDiffusionPipeline
    from safetensors.torch import load_file

    v2 = arch != "sd1"
    ckpt, back, folder = (os.path.join(work, n) for n in ("model.ckpt", "ckpt.safetensors", "bin"))
    sd("sd-convert", original, "-o", ckpt, "--epoch", "3", "--global-step", "1200")
    saved = torch.load(ckpt, weights_only=True, mmap=True)
    wrong = same_tensors(saved["state_dict"], load_file(original))
    say(not wrong and (saved["epoch"], saved["global_step"]) == (3, 1200),
        f"{arch}: torch.load(weights_only=True) takes the .ckpt {wrong or ''}")
    del saved
    model_util.load_models_from_stable_diffusion_checkpoint(v2, ckpt, unet_use_linear_projection_in_v2=True)
    say(True, f"{arch}: so does sd-scripts")
    gc.collect()
    sd("sd-convert", ckpt, "-o", back, "--no-metadata")
    say(same_files(back, original), f"{arch}: original, .ckpt, original: the same file")
    os.remove(back)
    sd("sd-convert", ckpt, "-o", folder, "--save-model-as", "diffusers")
    pipe = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, use_safetensors=False)
    say(pipe.unet is not None, f"{arch}: a folder of .bin files is loaded")
    os.remove(ckpt)
    shutil.rmtree(folder)


def check(model_util, arch, work):
    original, back, again = (os.path.join(work, n + ".safetensors") for n in ("original", "back", "again"))
    folder, folder2 = os.path.join(work, "folder"), os.path.join(work, "folder2")
    for f in (folder, folder2):
        shutil.rmtree(f, ignore_errors=True)
    v = ["--v-parameterization"] if arch == "sd2-v" else []
    sd("sd-init", "--arch", arch, "--dtype", "f16", "-o", again)
    sd("sd-convert", again, "-o", original, "--no-metadata")  # like files from elsewhere, which tell nothing of themselves
    sd("sd-convert", original, "-o", folder, "--keep-all", *v)
    sd("sd-convert", folder, "-o", back, "--no-metadata")
    sd("sd-convert", original, "-o", again)
    say(same_files(again, original), f"{arch}: original to original: the same file")
    say(same_files(back, original), f"{arch}: original, folder, original: the same file")
    shutil.rmtree(folder)
    os.remove(again)
    sd("sd-convert", original, "-o", folder, *v)
    sd("sd-convert", folder, "-o", back)
    sd("sd-convert", back, "-o", folder2)
    say(subprocess.run(["diff", "-rq", folder, folder2]).returncode == 0, f"{arch}: folder, original, folder: the same files")
    shutil.rmtree(folder2)
    check_folder(model_util, arch, original, folder)
    check_back(model_util, arch, folder, back, work)
    if arch == "sd1":
        check_parts(model_util, arch, original, work)
        check_torch(model_util, arch, original, work)
    for f in (original, back):
        os.remove(f)
    shutil.rmtree(folder)


def main():
    peers.check()
    peers.sd_scripts()
    from library import model_util

    with tempfile.TemporaryDirectory() as temp:
        work = sys.argv[1] if len(sys.argv) > 1 else temp
        os.makedirs(work, exist_ok=True)
        for arch in ("sd1", "sd2", "sd2-v"):
            check(model_util, arch, work)
    sys.exit(failed)


if __name__ == "__main__":
    main()
