#!/bin/sh
# sd-train's optimizers, by their names and arguments.
. "$(dirname "$0")/lib.sh"
model=$root/contrib/tiny/sd.safetensors
sd-scan "$root/contrib/tiny/sks" | sd-merge | sd-bucket -q --resolution 64 --bucket-reso-steps 8 --min-bucket-reso 32 |
    sd-encode-latents -q --model "$model" --cache-dir latents >data

train() { try sd-train lora -q --device cpu --model "$model" --seed 1 --network-dim 2 --max-train-steps 6 --train-batch-size 2 -o "$@" <data; }
tensors() { sd-inspect --metadata-only "$1" | jq -r .metadata.sshs_model_hash; }
named() { sd-inspect --metadata-only "$1" | jq -r .metadata.ss_optimizer; }
losses() { jq -c 'select(.event == "step").loss' "$out" | tr '\n' ' '; }

# Every one that there is: all lower the loss of the first batch's noise, none does what another does.
names=$(sd-train lora --model "$model" -o x --optimizer-type no 2>&1 </dev/null | head -1 | sed 's/.*there are //; s/,//g')
ok 'there are many' test "$(echo "$names" | wc -w)" -gt 15
for name in $names; do
    case $name in DAdapt* | Prodigy) rate=1 ;; *) rate=1e-3 ;; esac
    train "$name.safetensors" --learning-rate $rate --optimizer-type "$name"
    is "$name" "$status $(jq -se '[.[] | select(.event == "step") | .loss, .grad_norm] | length == 12 and all(.[]; isnormal)' "$out")" '0 true'
    tensors "$name.safetensors" >>hashes
done
# Those of bitsandbytes are one where no parameter has 4096 elements, and its AdamW decays later than torch's. DAdaptation is
# DAdaptAdamPreprint.
is 'no two of them are alike but for those that are one' "$(sort -u hashes | wc -l)" \
    "$(echo "$names" | tr ' ' '\n' | grep -vc 'Paged\|Lion8bit\|AdamPreprint')"
is 'as sd-scripts names them' "$(named AdamW.safetensors) $(named Lion.safetensors) $(named SGDNesterov.safetensors)" \
    'torch.optim.adamw.AdamW lion_pytorch.lion_pytorch.Lion torch.optim.sgd.SGD(momentum=0.9)'

# names and arguments
train a.safetensors --learning-rate 1e-3 --optimizer_type lion --optimizer_args "betas=.8,.9" "weight_decay=1e-1"
is 'arguments, in any case' "$status $(named a.safetensors)" '0 lion_pytorch.lion_pytorch.Lion(betas=(0.8, 0.9),weight_decay=0.1)'
ok 'which count' test "$(tensors a.safetensors)" != "$(tensors Lion.safetensors)"
train b.safetensors --learning-rate 1e-3 --use_lion_optimizer --optimizer-args 'betas=(0.8, 0.9)' weight_decay=0.10
is '--use_lion_optimizer' "$status $(tensors b.safetensors)" "0 $(tensors a.safetensors)"
train c.safetensors --learning-rate 1e-3 --optimizer-type '' --optimizer-args fused=True weight_decay=0.01
is 'none is AdamW' "$status $(tensors c.safetensors) $(named c.safetensors)" \
    "0 $(tensors AdamW.safetensors) torch.optim.adamw.AdamW(fused=True,weight_decay=0.01)"

# those that find their step size
train d.safetensors --learning-rate 1 --max-train-steps 12 --optimizer-type Prodigy --optimizer-args decouple=True weight_decay=.01 d_coef=2
is 'Prodigy' "$status $(cat "$err") $(named d.safetensors)" \
    '0  prodigyopt.prodigy.Prodigy(decouple=True,weight_decay=0.01,d_coef=2)'
ok 'its step size grows' jq -se 'map(select(.event == "step")) | .[0].d_lr_unet == .[0].d_lr_textencoder and
    .[0].d_lr_unet < 2e-6 and .[11].d_lr_unet > 3e-6 and all(.[]; .lr_unet == 1)' "$out"
train d.safetensors --learning-rate 1 --lr-scheduler constant_with_warmup --lr-warmup-steps 3 --optimizer-type DAdaptSGD
is 'a first update at a rate of 0' "$status $(jq -sc 'map(select(.event == "step").d_lr_unet)[0]' "$out")" '0 0'
train d.safetensors --learning-rate 1e-4 --optimizer-type dadaptadam
is 'a rate that is too low' "$status $(cat "$err")" \
    '0 sd-train: learning rate 0.0001 is too low: D-Adaptation and Prodigy should have one around 1.0'
train d.safetensors --text-encoder-lr 0.5 --unet-lr 1 --optimizer-type DAdaptation
is 'two rates' "$status $(cat "$err")" \
    '2 sd-train: DAdaptation learns at one rate: that of textencoder is 0.5, that of unet is 1 (only 0 may differ)'
train d.safetensors --text-encoder-lr 0 --unet-lr 1 --optimizer-type DAdaptation
is 'one of them 0' "$status $(cat "$err")" '0 '
train d.safetensors --text-encoder-lr 0.5 --unet-lr 1 --optimizer-type DAdaptAdan
is 'where the first is all' "$status $(cat "$err")" \
    '0 sd-train: of several learning rates only the first takes effect with DAdaptAdan: 0.5'

# 8 bits, where parameters are large enough for them
train f32.safetensors --learning-rate 1e-3 --network-dim 128 --optimizer-type PagedAdamW
plain=$(losses)
train codes.safetensors --learning-rate 1e-3 --network-dim 128 --use_8bit_adam
is 'AdamW8bit' "$status $(named codes.safetensors)" '0 bitsandbytes.optim.adamw.AdamW8bit'
ok 'is another' test "$(tensors codes.safetensors)" != "$(tensors f32.safetensors)"
sd-diff f32.safetensors codes.safetensors >"$out"
ok 'and near' jq -se '.[0].relative_l2 < 0.02 and .[0].relative_l2 > 0' "$out"
ok 'its first loss is the same' test "${plain%% *}" = "$(train x.safetensors --learning-rate 1e-3 --network-dim 128 --optimizer-type PagedAdamW8bit; l=$(losses); echo "${l%% *}")"

# on a card
if [ -e "$emulated/libsdcuda.so" ]; then
    for name in AdamW8bit SGDNesterov8bit RMSprop Rprop Prodigy; do
        train p.safetensors --learning-rate 1e-3 --network-dim 64 --optimizer-type $name
        SD_PLUGINS=$emulated try sd-train lora -q --device cuda --model "$model" --seed 1 --network-dim 64 --max-train-steps 6 \
            --train-batch-size 2 --learning-rate 1e-3 --optimizer-type $name -o d.safetensors <data
        sd-diff p.safetensors d.safetensors >"$out"
        ok "$name on a card" jq -se --argjson s "$status" '$s == 0 and .[0].relative_l2 < 0.002' "$out"
    done
fi
finish
