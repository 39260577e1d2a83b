#!/bin/sh
# Programs on a card, the emulated one (gpu/emu): the same numbers as the processor's, and how it ends when the card fails.
. "$(dirname "$0")/lib.sh"
SD_PLUGINS=$emulated
model=$root/contrib/tiny/sd.safetensors
cp -r "$root/contrib/tiny/sks" sks
sd-scan sks | sd-merge | sd-bucket -q --resolution 64 --bucket-reso-steps 8 --min-bucket-reso 32 | head -3 >pictures

# latents
for device in cpu cuda; do
    sd-encode-latents -q --device $device --model "$model" --cache-dir $device <pictures >$device.ndjson
    is "$device: latents of all pictures" "$(jq -c 'has("latents")' $device.ndjson | sort -u)" true
done
most=0
for at in $(jq -r .latents cpu.ndjson); do
    sd-diff "$at" "cuda${at#cpu}" >"$out" 2>"$err"
    most=$(jq -s --argjson m "$most" '[(.[] | select(.tensor == "latents").relative_l2), $m] | max' "$out")
done
ok 'they agree' jq -ne "$most < 1e-5"

# training
train() { try sd-train lora -q --device "$1" --model "$model" --seed 1 --network-dim 2 --learning-rate 1e-3 --max-train-steps 4 -o "$2.safetensors" $3 <cpu.ndjson; }
losses() { jq -c 'select(.event == "step") | [.loss, .grad_norm]' "$out"; }
tensors() { sd-inspect --metadata-only "$1.safetensors" | jq -r .metadata.sshs_model_hash; }
train cpu cpu
losses >cpu.losses
train cuda cuda
is 'training: status, nothing said' "$status $(cat "$err")" '0 '
losses >cuda.losses
ok 'losses and norms of the gradients agree' jq -ne --slurpfile a cpu.losses --slurpfile b cuda.losses \
    '[$a, $b] | transpose | length == 4 and all(.[]; transpose | all(.[]; (.[0] / .[1] - 1 | fabs) < 1e-4))'
train cuda again
is 'the same bits again' "$(tensors again)" "$(tensors cuda)"
train cuda check --gradient-checkpointing
is 'and with checkpointing' "$(tensors check)" "$(tensors cuda)"
train cuda bf16 '--mixed-precision bf16'
losses >bf16.losses
ok 'bf16 is near' jq -ne --slurpfile a cpu.losses --slurpfile b bf16.losses \
    '[$a, $b] | transpose | length == 4 and all(.[]; transpose | .[0] | (.[0] / .[1] - 1 | fabs) < 0.05)'
train cuda norms '--scale-weight-norms 0.001'
limited=$(tensors norms)
train cpu norms-cpu '--scale-weight-norms 0.001'
ok 'limits on weights reach the card' test "$limited" != "$(tensors cuda)"
sd-diff norms.safetensors norms-cpu.safetensors >"$out"
ok 'and agree' jq -se '.[0].relative_l2 < 1e-4' "$out"

# A loss that is not finite: the weights before the update that broke them.
for device in cpu cuda; do
    train $device nan-$device '--lr-scheduler constant_with_warmup --lr-warmup-steps 3 --learning-rate 1e30 --max-grad-norm 0'
    sed 's/nan-[a-z]*/F/' "$err" >said-$device
done
like 'a loss that is not finite' "$(cat said-cuda)" '*the loss became * at step *; the weights after step [123] are in F.safetensors'
is 'as on the processor' "$(cat said-cuda)" "$(cat said-cpu)"
sd-diff nan-cpu.safetensors nan-cuda.safetensors >"$out"
ok 'with the same weights' jq -se '.[0].relative_l2 < 1e-4' "$out"

# pictures
for how in 'cpu no' 'cuda no' 'cuda fp16' 'cuda bf16'; do
    # shellcheck disable=SC2086
    set -- $how
    echo 'a red circle --w 64 --h 64 --s 2 --d 1' |
        sd-sample -q --device "$1" --mixed-precision "$2" --model "$model" --lora cuda.safetensors -o "p-$1-$2" >"$out"
    is "a picture: $how" "$(jq -c '[.path, .error]' "$out")" "[\"p-$1-$2/00000-1.png\",null]"
    sd-scan "p-$1-$2" | sd-bucket -q --resolution 64 --bucket-reso-steps 8 --min-bucket-reso 32 | sd-encode-latents -q --mean --device cpu --model "$model" --cache-dir "l-$1-$2" >l.ndjson
    jq -r .latents l.ndjson >"at-$1-$2"
done
far() { sd-diff "$(cat at-cpu-no)" "$(cat "at-cuda-$1")" | jq -s '[.[] | select(.tensor == "latents").relative_l2] | max // 0'; }
# Latents of a picture whose pixels differ by one step here and there are some hundredths apart.
ok 'the same picture' jq -ne "$(far no) < 0.05"
ok 'and nearly so in fp16' jq -ne "$(far fp16) < 0.1"

printf '%s\n' 'a blue square --w 64 --h 64 --s 4 --d 2' 'a red circle --w 64 --h 64 --s 2 --d 1' |
    sd-sample -q --device cuda --model "$model" --lora cuda.safetensors -o replayed >"$out"
same 'from a recording too' replayed/00001-1.png p-cuda-no/00000-1.png
printf '%s\n' 'a blue square --w 64 --h 64 --s 4 --d 2' |
    SD_CUDA_WITHOUT=graphs sd-sample -q --device cuda --model "$model" --lora cuda.safetensors -o plain >"$out"
same 'and without recordings' plain/00000-2.png replayed/00000-2.png
echo 'a --w 64 --h 64 --s 4 --d 1 --l 100000000000000000000000000000000000000' >over
try sd-sample -q --device cuda --model "$model" -o x <over
like 'latents that overflow' "$status $(cat "$err")" '1 sd-sample: line 1: the latents became NaN at step [23] of 4'

# what goes wrong
try sd-sample --device cuda:3 --model "$model" -o x </dev/null
is 'a card that is not there' "$status $(cat "$err")" '3 sd-sample: cuda:3 is not there: this machine has 1 device'
CUDA_VISIBLE_DEVICES=0 sd-sample --device cuda:1 --model "$model" -o x </dev/null 2>"$err"
is 'because it is hidden' "$(cat "$err")" 'sd-sample: cuda:1 is not there: programs see 1 device, for CUDA_VISIBLE_DEVICES is 0'
export SD_EMU_MEMORY=3000000
train cuda oom
unset SD_EMU_MEMORY
like 'memory is out: what was wanted, what there is' "$status $(cat "$err")" \
    '3 sd-train: *cuda:0 has no * MiB more: * of its 2 MiB are free*'
ok 'and no file' test ! -e oom.safetensors
export SD_EMU_FAIL=100
train cuda lost
is 'the card is lost at once' "$status $(cat "$err")" \
    '3 sd-train: cuda:0: unspecified launch failure; nothing is trained yet, so nothing is saved'
# The later launches: one of these counts lies behind an update and before the end.
for at in 9000 7000 5000 4000 3500 3000 2500 2000; do
    SD_EMU_FAIL=$at
    train cuda lost
    case $(cat "$err") in *'after step'*) break ;; esac
done
unset SD_EMU_FAIL
like 'the card is lost in mid-run: status, what is saved' "$status $(cat "$err")" \
    '3 sd-train: cuda:0: unspecified launch failure; the weights after step [123] are in lost.safetensors'
step=$(sed 's/.*after step \([0-9]*\) .*/\1/' "$err")
try sd-train lora -q --device cuda --model "$model" --seed 1 --network-dim 2 --learning-rate 1e-3 \
    --max-train-steps "$step" -o upto.safetensors <cpu.ndjson
is 'which are those of a run that ended there' "$(tensors lost)" "$(tensors upto)"
finish
