#!/usr/bin/env python3
"""LoRA training by sd-scripts' own code (networks.lora and train_network's NetworkTrainer), step by step, in f32 on a CPU.

  SD_SCRIPTS=... lora.py [DIR]           (DIR: t/data/lora; versions and environment: see peers.py)

Trains the small models of t/data/model : text encoder by transformers, U-Net sd-scripts' own (run2: diffusers',
for sd-scripts' cannot take its blocks; networks.lora goes by class names and works on both).
Rank 4; AdamW with torch's defaults (betas 0.9 0.999, eps 1e-8, weight decay 0.01); one learning rate for both parts;
max_grad_norm 1 (run2: 0.05, which clips); epsilon target; mean squared error. LoRA up matrices start at zero.

Writes
  run1.safetensors        model sd1-small, alpha 1, batch 1, lr 1e-3 constant, 20 steps of one latent size
  run1-final.safetensors  its result as the real save_weights writes it: names, alphas, metadata, hashes
  run2.safetensors        model sd2-small, alpha 2, batch 2, lr 2e-3 with 4 steps of warm-up, gradient accumulation 2 over
                          4 epochs of 5 batches of two sizes: the fifth batch of an epoch is applied alone, but its loss
                          is divided by 2 all the same, as accelerate does it. 20 batches, 12 updates
  args-NAME.safetensors   model sd1-small, batch 1 (dropout: 2), lr 1e-3 constant, 20 steps, each with --network_args and other
                          options of its own (ARGS below): conv, blocks, rates, dropout; and adafactor, with AdaFactor and no --network_args
  noise.safetensors       model sd1-small, alpha 1, batch 2, lr 1e-3 constant, 8 steps, for each NAME of NOISE below with its
                          options for noise, timesteps, losses and their weights
  optim.safetensors       AdamW on its own, and learning rates

Run files, one tensor a batch, NN = 00..19:
  in.NN.latents [B,4,h,w]     as cached (multiply by 0.18215); in.NN.noise; in.NN.timesteps [B] I32; in.NN.ids [B,77] I32
  out.loss [steps]            of each batch, before the division by the accumulation
  out.base_loss [20]          of the untrained model, for scale: without training the losses would be these
  out.applied [20] I32        1 where the optimizer stepped after the batch
  out.lr [20], out.grad_norm [20]   rate used and norm before clipping there, else 0
  init.NAME                   every initial lora_down.weight, final.NAME (run2) every tensor at the end; NAME as sd-scripts saves it
  grad.NAME (run1)            gradient of some lora_up.weight tensors for batch 00, before clipping
args-NAME.safetensors has no in.NN.noise and in.NN.timesteps (they come out of torch.manual_seed(1000 + NN), after what the
text encoder's modules draw), no init (they come out of manual_seed(1)) and the final tensors of every third module only; and
noise.safetensors is like these, but has the same in.NN for all runs, draws after random.seed(1000 + NN) too, and has NAME.out and,
of every ninth module and without alphas, NAME.final.
  out.rates [20,groups]       rates of the parameter groups; their names in the metadata `groups`. Of AdaFactor, as out.lr is,
                              those that its schedule tells after the step
  out.norms [20,3]            (conv) of apply_max_norm_regularization after the step: keys scaled, average, largest
  final.NAME.alpha            of all modules: which there are, and their alphas
How exactly to compare: AdamW divides a gradient by its own size, so where one is near 0 its last bits count. Weights
changed by 1 unit in the last place change losses by 2e-7 (relative), a final tensor by up to 1.2e-4 in norm (median
1e-6) and by up to 6e-4 of its largest element in one place.

optim.safetensors
  a.*     lr 1e-2, torch's defaults
  b.*     lr 2e-2 with 20 steps of warm-up, betas 0.8 0.99, eps 1e-6, weight decay 0.1, gradients clipped to norm 2 jointly
    in.P, in.grad.P           start, and gradients [200,...] of P = w [3,2], k [2,2,1,1], b [3]
    out.N.P                   after N = 1, 2, 3, 20, 200 steps
    out.norm [200] (b)        joint norm before clipping
  lr.constant, lr.warmup.W [12]   factor on the rate at steps 0..11: get_scheduler_fix, W = 0, 1, 4, 12 warm-up steps
"""
import argparse
import os
import random
import sys
from types import SimpleNamespace

import torch

import models
import peers

STEPS = 20


def listed(*runs):
    """runs of (number, how often) as a list between commas"""
    return ",".join(",".join([str(v)] * n) for v, n in runs)


ARGS = {
    "conv": ["--network_alpha=1", "--scale_weight_norms=0.02", "--network_args", "conv_dim=3", "conv_alpha=2", "loraplus_lr_ratio=4",
             "loraplus_text_encoder_lr_ratio=2"],
    "blocks": ["--network_alpha=2", "--network_args", "block_dims=" + listed((2, 4), (0, 3), (3, 5), (1, 1), (4, 6), (0, 2), (2, 4)),
               "block_alphas=" + listed((1, 12), (0.5, 1), (2, 12)),
               "conv_block_dims=" + listed((1, 8), (0, 4), (2, 1), (0, 6), (3, 6)), "conv_block_alphas=" + listed((1, 20), (0.25, 5))],
    "rates": ["--network_alpha=1", "--network_args", "down_lr_weight=sine+.25", "mid_lr_weight=0.5",
              "up_lr_weight=1,,0.05,.7,2,1,1,1,0.1", "block_lr_zero_threshold=0.1", "loraplus_unet_lr_ratio=8"],
    "dropout": ["--network_alpha=1", "--network_dropout=0.15", "--network_args", "rank_dropout=0.2", "module_dropout=0.3",
                "conv_dim=2"],
}

NOISE = {
    "offset": ["--noise_offset=0.1", "--noise_offset_random_strength", "--adaptive_noise_scale=0.2", "--ip_noise_gamma=0.1",
               "--ip_noise_gamma_random_strength", "--min_snr_gamma=5", "--min_timestep=100", "--max_timestep=900"],
    "multires": ["--multires_noise_iterations=6", "--multires_noise_discount=0.4", "--v_pred_like_loss=0.5", "--loss_type=l1"],
    "velocity": ["--v_parameterization", "--zero_terminal_snr", "--scale_v_pred_loss_like_noise_pred", "--min_timestep=999",
                 "--max_timestep=999"],
    "huber": ["--v_parameterization", "--zero_terminal_snr", "--debiased_estimation_loss", "--noise_offset=0.05",
              "--loss_type=huber", "--huber_schedule=exponential", "--huber_c=0.2", "--huber_scale=1.5"],
    "smooth": ["--loss_type=smooth_l1", "--ip_noise_gamma=0.1", "--debiased_estimation_loss"],
}


def options(*words):
    import train_network

    args = train_network.setup_parser().parse_args(
        ["--network_module=networks.lora", "--network_dim=4", "--optimizer_type=AdamW", *words])
    args.lr_scheduler_num_cycles = int(args.lr_scheduler_num_cycles)
    return args


def batch_data(name, step, batch, size, vocab):
    h, w = size
    ids = peers.randint(f"{name}.{step}.ids", 1, vocab - 2, (batch, 77))
    lengths = peers.randint(f"{name}.{step}.lengths", 3, 76, (batch,))
    for row, n in zip(ids, lengths.tolist()):
        row[0], row[n:] = vocab - 2, vocab - 1
    return {"latents": peers.randn(f"{name}.{step}.latents", batch, 4, h, w, scale=5.0), "ids": ids}


def train(name, model, config, args, sizes, batch, per_epoch=STEPS, steps=STEPS, drawn_here=False, every=3):
    """One run; returns its tensors and the network."""
    import train_network
    from accelerate import Accelerator
    from library import strategy_sd, train_util
    from networks import lora

    parts, _ = models.build(config, model)
    text = parts["text_encoder"]
    unet = parts["unet"]
    if model == "sd1-small":
        unet = models.small_original_unet(parts["unet"].config)
        unet.load_state_dict(parts["unet"].state_dict())
    text.requires_grad_(False)
    unet.requires_grad_(False)
    trainer = train_network.NetworkTrainer()
    accelerator = Accelerator(gradient_accumulation_steps=args.gradient_accumulation_steps, cpu=True)
    scheduler = trainer.get_noise_scheduler(args, accelerator.device)

    torch.manual_seed(1)
    lora.LoRANetwork.UNET_TARGET_REPLACE_MODULE = ["Transformer2DModel"]  # networks of several ranks add to it for good
    words = dict(word.split("=", 1) for word in args.network_args or [])
    drawn_here = drawn_here or words  # noise and timesteps are not written down, nor are the first weights
    network = lora.create_network(1.0, args.network_dim, args.network_alpha, None, [text], unet,
                                  neuron_dropout=args.network_dropout, **words)
    network.apply_to([text], unet, True, True)
    t = {"init." + k: v for k, v in network.state_dict().items() if k.endswith("lora_down.weight")}
    t = peers.contiguous(t) if not drawn_here else {}
    params, groups = network.prepare_optimizer_params(None, None, args.learning_rate)
    _, _, optimizer = train_util.get_optimizer(args, params)
    lr_scheduler = train_util.get_scheduler_fix(args, optimizer, 1)

    # The noise and the timesteps that sd-scripts draws are written down as they are drawn.
    drawn = {}
    real = train_util.get_noise_noisy_latents_and_timesteps

    def recorded(*a):
        noise, noisy, timesteps = real(*a)
        drawn.update(noise=noise.clone(), timesteps=timesteps.to(torch.int32))
        return noise, noisy, timesteps

    train_util.get_noise_noisy_latents_and_timesteps = recorded
    data = []
    for step in range(steps):
        data.append(batch_data(name, step, batch, sizes[step % len(sizes)], config["text_encoder"]["vocab_size"]))
    tokenizer = SimpleNamespace(tokenizer=SimpleNamespace(model_max_length=77, pad_token_id=2, eos_token_id=2))
    strategy = strategy_sd.SdTextEncodingStrategy(None)

    def loss_of(item):
        # accelerator.prepare would move the batch; everything is on the CPU already.
        b = {"latents": item["latents"], "input_ids_list": [item["ids"].long()[:, None]], "loss_weights": torch.ones(batch)}
        return trainer.process_batch(b, [text], unet, network, None, scheduler, torch.float32, torch.float32, accelerator,
                                     args, strategy, tokenizer)

    loss, base, applied, lr, norm, rates, norms = ([] for _ in range(7))
    network, optimizer, lr_scheduler = accelerator.prepare(network, optimizer, lr_scheduler)
    network.prepare_grad_etc(text, unet)
    step = 0
    for first in range(0, steps, per_epoch):
        loader = accelerator.prepare(torch.utils.data.DataLoader(data[first : first + per_epoch], batch_size=None))
        network.on_epoch_start(text, unet)
        for item in loader:
            seed = 1000 + step
            torch.manual_seed(seed)
            random.seed(seed)
            network.set_multiplier(0.0)
            with torch.no_grad():
                base.append(loss_of(item).item())
            network.set_multiplier(1.0)
            torch.manual_seed(seed)
            random.seed(seed)
            with accelerator.accumulate(network):
                value = loss_of(item)
                for k, v in {**item, **(drawn if not drawn_here else {})}.items():
                    t[f"in.{step:02d}.{k}"] = v
                loss.append(value.item())
                accelerator.backward(value)
                applied.append(int(accelerator.sync_gradients))
                lr.append(optimizer.param_groups[0]["lr"] if accelerator.sync_gradients else 0.0)
                if step == 0 and not drawn_here and args.gradient_accumulation_steps == 1:
                    for i, (k, p) in enumerate(x for x in network.named_parameters() if "lora_up" in x[0]):
                        if i % 17 == 0 or "proj_in" in k:
                            t["grad." + k] = p.grad.clone()
                norm.append(0.0)
                if accelerator.sync_gradients:
                    norm[-1] = float(accelerator.clip_grad_norm_(network.get_trainable_params(), args.max_grad_norm))
                rates.append([group["lr"] for group in optimizer.param_groups])
                optimizer.step()
                lr_scheduler.step()
                if args.lr_scheduler.startswith("adafactor"):  # its rates are known afterwards
                    rates[-1] = [float(group["lr"]) for group in optimizer.param_groups]
                    lr[-1] = rates[-1][0]
                optimizer.zero_grad(set_to_none=True)
            if args.scale_weight_norms:
                norms.append(network.apply_max_norm_regularization(args.scale_weight_norms, accelerator.device))
            step += 1
    train_util.get_noise_noisy_latents_and_timesteps = real
    t["out.loss"], t["out.base_loss"] = torch.tensor(loss), torch.tensor(base)
    t["out.lr"], t["out.grad_norm"] = torch.tensor(lr), torch.tensor(norm)
    t["out.applied"] = torch.tensor(applied, dtype=torch.int32)
    if drawn_here:
        t["out.rates"] = torch.tensor(rates)
        modules = network.text_encoder_loras + network.unet_loras
        for i, module in enumerate(modules):
            t.update({f"final.{module.lora_name}.{k}": v for k, v in module.state_dict().items() if i % every == 0 or k == "alpha"})
    if norms:
        t["out.norms"] = torch.tensor(norms, dtype=torch.float32)
    print(f"  {name}: {sum(applied)} updates, norms {min(n for n in norm if n):.3f} to {max(norm):.3f}")
    print("  loss  ", " ".join(f"{v:.5f}" for v in loss))
    print("  base  ", " ".join(f"{v:.5f}" for v in base))
    return t, network, groups


def optim():
    from library import train_util

    t = {}
    shapes = {"w": (3, 2), "k": (2, 2, 1, 1), "b": (3,)}
    for case, kw, warm, clip in (("a", dict(lr=1e-2), 0, None),
                                 ("b", dict(lr=2e-2, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.1), 20, 2.0)):
        params = {}
        for k, s in shapes.items():
            params[k] = torch.nn.Parameter(peers.randn(f"optim.{case}.{k}", *s))
            t[f"{case}.in.{k}"] = params[k].detach().clone()
            # Gradients of very different sizes, among them zeros.
            g = peers.randn(f"optim.{case}.{k}.grad", 200, *s) * 10.0 ** peers.randint(f"optim.{case}.{k}.size", -4, 1, (1, *s))
            g[::7] = 0
            t[f"{case}.in.grad.{k}"] = g
        opt = torch.optim.AdamW(list(params.values()), **kw)
        rates = torch.optim.lr_scheduler.LambdaLR(opt, lambda i, w=warm: min(1.0, i / w) if w else 1.0)
        norms = []
        for i in range(200):
            for k, p in params.items():
                p.grad = t[f"{case}.in.grad.{k}"][i].clone()
            if clip:
                norms.append(float(torch.nn.utils.clip_grad_norm_(list(params.values()), clip)))
            opt.step()
            rates.step()
            if i + 1 in (1, 2, 3, 20, 200):
                t.update({f"{case}.out.{i + 1}.{k}": p.detach().clone() for k, p in params.items()})
        if clip:
            t[f"{case}.out.norm"] = torch.tensor(norms)

    def table(name, warm):
        opt = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        s = train_util.get_scheduler_fix(options(f"--lr_scheduler={name}", f"--lr_warmup_steps={warm}", "--max_train_steps=12"), opt, 1)
        got = []
        for _ in range(12):
            got.append(opt.param_groups[0]["lr"])
            opt.step()
            s.step()
        return torch.tensor(got)

    t["lr.constant"] = table("constant", 0)
    for warm in (0, 1, 4, 12):
        t[f"lr.warmup.{warm}"] = table("constant_with_warmup", warm)
    return t


def main(argv):
    peers.check()
    out = peers.output(argv, "lora")
    peers.sd_scripts()
    args = options("--network_alpha=1", "--learning_rate=1e-3", f"--max_train_steps={STEPS}")
    t, network, _ = train("run1", "sd1-small", models.SD1, args, [(8, 16)], 1)
    peers.save(t, os.path.join(out, "run1.safetensors"))
    path = os.path.join(out, "run1-final.safetensors")
    network.save_weights(path, torch.float32, {
        "ss_network_module": "networks.lora", "ss_network_dim": "4", "ss_network_alpha": "1.0", "ss_learning_rate": "0.001",
        "ss_steps": str(STEPS), "ss_v2": "False", "ss_base_model_version": "sd_v1", "ss_training_comment": "fixture \u732b"})
    print(f"run1-final.safetensors: {os.path.getsize(path)} bytes")

    args = options("--network_alpha=2", "--learning_rate=2e-3", "--gradient_accumulation_steps=2", "--max_train_steps=12",
                   "--max_grad_norm=0.05", "--lr_scheduler=constant_with_warmup", "--lr_warmup_steps=4")
    t, network, _ = train("run2", "sd2-small", models.SD2, args, [(8, 4), (4, 12)], 2, per_epoch=5)
    t.update({"final." + k: v for k, v in network.state_dict().items()})
    peers.save(t, os.path.join(out, "run2.safetensors"))
    for name, words in ARGS.items():
        args = options("--learning_rate=1e-3", f"--max_train_steps={STEPS}", *words)
        t, _, groups = train(name, "sd1-small", models.SD1, args, [(8, 16)], 2 if name == "dropout" else 1)
        peers.save(t, os.path.join(out, f"args-{name}.safetensors"), groups=",".join(groups))
    args = options("--network_alpha=1", "--learning_rate=1e-3", f"--max_train_steps={STEPS}", "--optimizer_type=AdaFactor")
    t, _, groups = train("adafactor", "sd1-small", models.SD1, args, [(8, 16)], 1, drawn_here=True)
    peers.save(t, os.path.join(out, "args-adafactor.safetensors"), groups=",".join(groups))
    all_runs = {}
    for name, words in NOISE.items():
        args = options("--network_alpha=1", "--learning_rate=1e-3", "--max_train_steps=8", *words)
        t, _, _ = train("noise", "sd1-small", models.SD1, args, [(8, 16)], 2, steps=8, drawn_here=True, every=9)
        all_runs.update({k if k.startswith("in.") else f"{name}.{k}": v for k, v in t.items() if not k.endswith((".alpha", ".rates"))})
    peers.save(all_runs, os.path.join(out, "noise.safetensors"))
    peers.save(optim(), os.path.join(out, "optim.safetensors"))


if __name__ == "__main__":
    main(sys.argv)
