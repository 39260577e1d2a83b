#!/usr/bin/env python3
"""Latent caches against sd-scripts' own code: nothing is kept, the script ends with an error where something differs.

  SD_SCRIPTS=... SD_SCRIPTS_OLD=... caches.py        (SD_SCRIPTS_OLD: v0.8.7; versions: see peers.py; needs bin/ built)

With pictures of all kinds and a small VAE made here:
  - caches of sd-encode-latents in npz3 and npz4: the names that sd-scripts looks for, its checks, its loaders, with the
    sizes, cuts and alpha masks that its own load_images_and_masks_for_caching makes, and latents within the posterior's
    spread of its mean
  - contrib/kohya/prepare_buckets_latents against 0.8.7's prepare_buckets_latents.py, run with several options: the names of
    the caches, their arrays, sizes, cuts and the metadata are the same, latents again within the spread
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
from types import SimpleNamespace

import numpy as np
import peers

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
BIN = os.environ.get("SD_BIN", os.path.join(ROOT, "bin"))


def make_vae(path):
    import torch
    from diffusers import AutoencoderKL

    torch.manual_seed(1)
    vae = AutoencoderKL(in_channels=3, out_channels=3, down_block_types=["DownEncoderBlock2D"] * 4,
                        up_block_types=["UpDecoderBlock2D"] * 4, block_out_channels=[32, 32, 32, 32],
                        layers_per_block=1, latent_channels=4, norm_num_groups=32)
    with torch.no_grad():
        vae.quant_conv.bias[4:] = -6  # a narrow posterior, as real VAEs have
    vae.save_pretrained(path)
    return vae.eval()


def make_pictures(folder):
    from PIL import Image

    os.makedirs(os.path.join(folder, "inner"))
    rng = np.random.default_rng(1)

    def smooth(h, w, c):
        small = rng.integers(0, 256, (8, 8, c), dtype=np.uint8)
        planes = [np.array(Image.fromarray(small[:, :, k]).resize((w, h), Image.BICUBIC)) for k in range(c)]
        return np.stack(planes, 2)

    for name, (w, h) in {"wide": (400, 200), "tall": (150, 420), "inner/small": (90, 70), "even": (256, 256)}.items():
        Image.fromarray(smooth(h, w, 4), "RGBA").save(f"{folder}/{name}.png")
    Image.fromarray(smooth(300, 310, 3)).save(f"{folder}/photo.jpg", quality=95)
    Image.fromarray(smooth(128, 200, 3)).save(f"{folder}/inner/p.q.webp", lossless=True)
    Image.fromarray(smooth(99, 77, 4), "RGBA").quantize(32).save(f"{folder}/palette.png")
    Image.fromarray(smooth(222, 111, 2), "LA").save(f"{folder}/inner/grey.png")


def program(*command, text=None, env=None):
    return subprocess.run(command, input=text, check=True, stdout=subprocess.PIPE, env=env).stdout


def encoded(folder, vae, *options):
    pictures = program(f"{BIN}/sd-scan", "-r", folder)
    buckets = program(f"{BIN}/sd-bucket", "-q", "--resolution", "256", "--min-bucket-reso", "64", text=pictures)
    lines = program(f"{BIN}/sd-encode-latents", "-q", "--vae", vae, *options, text=buckets)
    return [json.loads(line) for line in lines.splitlines()]


def near(latents, moments, what):
    """Within 6 standard deviations of the mean: a wrong picture is far outside."""
    mean, std = moments
    worst = float(np.max(np.abs(latents - mean) / std))
    assert latents.shape == mean.shape and worst < 6.5, (what, worst)
    spread = float(np.std((latents - mean) / std))
    assert 0.8 < spread < 1.2, (what, spread)


def posterior(vae, image):
    import torch

    with torch.no_grad():
        dist = vae.encode(image[None]).latent_dist
    return dist.mean[0].numpy(), dist.std[0].numpy()


def check_head(work, vae_path, vae):
    from library import strategy_sd, train_util

    strategy = strategy_sd.SdSdxlLatentsCachingStrategy(True, True, 1, False)
    n = 0
    for fmt in ("npz3", "npz4"):
        for alpha in (False, True):
            folder = os.path.join(work, f"{fmt}-{alpha}")
            make_pictures(folder)
            for r in encoded(folder, vae_path, "--flip-aug", "--format", fmt, *(["--alpha-mask"] if alpha else [])):
                size = (r["width"], r["height"])
                path, bucket = strategy.get_latents_npz_path(r["path"], size), tuple(r["bucket"])
                assert path == r["latents"], (path, r["latents"])
                assert strategy.is_disk_cached_latents_expected(bucket, path, True, alpha)
                latents, original, crop, flipped, mask = strategy.load_latents_from_disk(path, bucket)
                info = SimpleNamespace(absolute_path=r["path"], image=None, bucket_reso=bucket,
                                       resized_size=tuple(r["resize"]), resize_interpolation=None)
                images, masks, sizes, crops = train_util.load_images_and_masks_for_caching([info], alpha, False)
                assert tuple(original) == sizes[0] and tuple(crop) == crops[0], (r, original, crop)
                assert (mask is None) == (masks[0] is None)
                if alpha:
                    assert np.array_equal(mask, masks[0].numpy()), r["path"]
                near(latents, posterior(vae, images[0]), r["path"])
                near(flipped, posterior(vae, images[0].flip(2)), r["path"])
                n += 1
    return n


WRAPPER = r"""
import sys
sys.path.insert(0, sys.argv[1])
sys.argv[1:] = sys.argv[2:]
import torch
torch.manual_seed(1)
import finetune.prepare_buckets_latents as p
p.main(p.setup_parser().parse_args())
"""


def caches(folder):
    found = {}
    for base, _, names in os.walk(folder):
        for name in names:
            if name.endswith(".npz"):
                path = os.path.join(base, name)
                found[os.path.relpath(path, folder)] = dict(np.load(path))
    return found


def check_wrapper(work, vae_path):
    old = os.environ["SD_SCRIPTS_OLD"]
    path = f"{BIN}:{os.environ['PATH']}"
    n = 0
    for options in ([], ["--flip_aug", "--batch_size", "2"], ["--recursive"], ["--recursive", "--full_path"],
                    ["--full_path", "--bucket_no_upscale", "--bucket_reso_steps", "32"],
                    ["--max_resolution", "320,192", "--min_bucket_reso", "64", "--max_bucket_reso", "512", "--skip_existing",
                     "--v2"]):
        for side in ("theirs", "ours"):
            folder = os.path.join(work, side, "photos")
            shutil.rmtree(os.path.dirname(folder), ignore_errors=True)
            make_pictures(folder)
            with open(os.path.join(work, side, "in.json"), "w") as f:
                json.dump({"photo": {"caption": "p \u00e9", "x": 1.5}, "gone": {"tags": "a, b"}, "photos/wide.png": {}}, f)
            args = ["photos", "in.json", "out.json", vae_path, "--max_resolution", "256,256", "--min_bucket_reso", "64", *options]
            command = [sys.executable, "-c", WRAPPER, old] if side == "theirs" else [
                os.path.join(ROOT, "contrib", "kohya", "prepare_buckets_latents")]
            subprocess.run([*command, *args], check=True, cwd=os.path.join(work, side), env={**os.environ, "PATH": path},
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        theirs, ours = (json.load(open(os.path.join(work, side, "out.json"))) for side in ("theirs", "ours"))
        assert list(theirs.items()) == list(ours.items()), (options, theirs, ours)
        theirs, ours = (caches(os.path.join(work, side, "photos")) for side in ("theirs", "ours"))
        assert sorted(theirs) == sorted(ours), (options, sorted(theirs), sorted(ours))
        for name, a in theirs.items():
            b = ours[name]
            b.pop("sd_source")
            assert list(a) == list(b) and all(a[k].dtype == b[k].dtype and a[k].shape == b[k].shape for k in a), (name, a, b)
            assert np.array_equal(a["original_size"], b["original_size"]) and np.array_equal(a["crop_ltrb"], b["crop_ltrb"])
            for key in ("latents", "latents_flipped"):
                if key in a:  # two draws from one posterior, whose spread is about exp(-3)
                    apart = np.abs(a[key] - b[key])
                    assert apart.max() < 0.6 and apart.mean() < 0.1, (options, name, key, apart.max(), apart.mean())
            n += 1
    return n


def main():
    peers.check()
    peers.sd_scripts()
    with tempfile.TemporaryDirectory() as work:
        vae_path = os.path.join(work, "vae")
        vae = make_vae(vae_path)
        print(f"sd-scripts takes {check_head(work, vae_path, vae)} caches of sd-encode-latents")
        print(f"prepare_buckets_latents makes the same of {check_wrapper(work, vae_path)} pictures")


if __name__ == "__main__":
    main()
