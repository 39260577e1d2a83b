#!/bin/sh
# sd-train: noise, timesteps, kinds of losses and their weights, as a user asks for them. (That they are sd-scripts' is in
# t/unit/noise.c and t/unit/train.c.)
. "$(dirname "$0")/lib.sh"
model=$root/contrib/tiny/sd.safetensors
cp -r "$root/contrib/tiny/sks" sks
sd-scan sks | sd-merge | sd-bucket -q --resolution 64 --bucket-reso-steps 8 --min-bucket-reso 32 | head -6 |
    sd-encode-latents -j 1 --model "$model" --cache-dir cache >data
train() {
    try sd-train lora -j 1 -q --model "$model" --seed 1 --network-dim 2 --learning-rate 1e-3 --train-batch-size 2 \
        --max-train-steps 3 -o x.safetensors "$@" <data
}
metadata() { sd-inspect --metadata-only x.safetensors | jq -c "[.metadata | $1]"; }
losses() { jq -c 'select(.event == "step").loss' "$out" | tr '\n' ' '; }

train
plain=$(losses)
is 'status, nothing said' "$status $(cat "$err")" '0 '
noise='.ss_noise_offset, .ss_noise_offset_random_strength, .ss_adaptive_noise_scale, .ss_multires_noise_iterations,
    .ss_multires_noise_discount, .ss_ip_noise_gamma, .ss_ip_noise_gamma_random_strength'
loss='.ss_zero_terminal_snr, .ss_min_snr_gamma, .ss_debiased_estimation, .ss_loss_type, .ss_huber_schedule, .ss_huber_c,
    .ss_huber_scale, .["modelspec.timestep_range"]'
is 'metadata of the noise' "$(metadata "$noise")" '["None","False","None","None","0.3","None","False"]'
is 'metadata of the loss' "$(metadata "$loss")" '["False","None","False","l2","snr","0.1","1.0",null]'

# what is as it is anyway
for how in '--noise-offset 0' '--multires_noise_iterations=0' '--ip-noise-gamma 0' '--min-snr-gamma 0' '--v-pred-like-loss 0' \
    '--loss-type l2 --huber-c 0.3 --huber-scale 2 --huber-schedule constant' '--min-timestep 0 --max-timestep 1000'; do
    train $how
    is "$how: the same losses" "$status $(cat "$err")$(losses)" "0 $plain"
done
is 'timesteps that are given are told' "$(metadata '.["modelspec.timestep_range"]')" '["0,1000"]'

# every option changes them, each in its own way
seen=$plain
for how in '--noise-offset 0.1' '--noise_offset=0.1 --noise_offset_random_strength' '--noise-offset -0.1' \
    '--noise-offset 0.1 --adaptive-noise-scale 0.3' '--noise-offset 0.1 --adaptive-noise-scale -0.3' \
    '--multires-noise-iterations 6' '--multires-noise-iterations 6 --multires-noise-discount 0.8' \
    '--multires-noise-iterations 1' '--multires-noise-iterations 6 --noise-offset 0.1' '--ip-noise-gamma 0.1' \
    '--ip_noise_gamma 0.1 --ip_noise_gamma_random_strength' '--min-timestep 500' '--max-timestep 500' \
    '--min-timestep 500 --max-timestep 500' '--min-snr-gamma 1' '--min-snr-gamma 0.5' '--v-pred-like-loss 0.5' \
    '--debiased-estimation-loss' '--loss-type l1' '--loss-type huber' '--loss-type smooth_l1' '--loss-type huber --huber-c 0.3' \
    '--loss-type huber --huber-schedule exponential' '--loss-type huber --huber-schedule constant' \
    '--loss-type huber --huber-schedule constant --huber-scale 2' --v-parameterization \
    '--v-parameterization --zero-terminal-snr' '--v-parameterization --scale-v-pred-loss-like-noise-pred' \
    '--v-parameterization --min-snr-gamma 0.5' '--v-parameterization --debiased-estimation-loss'; do
    train $how
    case $seen in *"$(losses)"*) new=0 ;; *) new=1 ;; esac
    is "$how: losses of its own" "$status $(cat "$err")$(losses | wc -w) $new" '0 3 1'
    seen="$seen/ $(losses)"
done
train --v-parameterization --debiased-estimation-loss --zero-terminal-snr --min-timestep 999 --max-timestep 999
is 'at the timestep without signal' "$status $(losses | wc -w) $(metadata "$loss")" \
    '0 3 ["True","None","True","l2","snr","0.1","1.0","999,999"]'
train --loss-type huber --huber-schedule snr --huber-scale 2
want=$(losses)
train --loss-type huber
is 'the scale is not for snr' "$(losses)" "$want"

# all of it at once, and again
all='--noise-offset 0.1 --noise-offset-random-strength --adaptive-noise-scale 0.05 --multires-noise-iterations 4
    --multires-noise-discount 0.5 --ip-noise-gamma 0.1 --ip-noise-gamma-random-strength --min-snr-gamma 5 --v-pred-like-loss 0.25
    --debiased-estimation-loss --loss-type smooth_l1 --huber-schedule exponential --huber-c 0.2 --huber-scale 1.5
    --min-timestep 10 --max-timestep 990'
train $all
want=$(losses)
is 'all' "$status $(cat "$err")$(losses | wc -w)" '0 3'
is 'its noise is told' "$(metadata "$noise")" '["0.1","True","0.05","4","0.5","0.1","True"]'
is 'its loss too' "$(metadata "$loss")" '["False","5.0","True","smooth_l1","exponential","0.2","1.5","10,990"]'
for how in '-j 2' --gradient-checkpointing; do
    train $all $how
    is "the same with $how" "$(losses)" "$want"
done
train $all --mixed-precision bf16
ok 'bfloat16 is near' jq -se --argjson want "[$(echo $want | tr ' ' ,)]" \
    'map(select(.event == "step").loss) | [range(3) as $i | .[$i] / $want[$i] - 1 | fabs] | max < 0.05' "$out"

# as a card draws it, on any machine
for how in '' "$all"; do
    train $how --rng cpu
    cpu=$(losses)
    train $how --rng cuda
    card=$(losses)
    is "${how:+all }as on a card: losses of its own" "$status $(cat "$err")$(losses | wc -w) $(test "$card" != "$cpu"; echo $?)" '0 3 0'
    train $how --rng cuda -j 2 --gradient-checkpointing
    is 'the same with 2 threads and checkpointing' "$(losses)" "$card"
    if [ -e "$emulated/libsdcuda.so" ]; then
        SD_PLUGINS=$emulated try sd-train lora -q --device cuda --model "$model" --seed 1 --network-dim 2 --learning-rate 1e-3 \
            --train-batch-size 2 --max-train-steps 3 -o x.safetensors $how --rng cuda <data
        ok 'near them on the emulated card' jq -se --argjson want "[$(echo $card | tr ' ' ,)]" \
            'map(select(.event == "step").loss) | [range(3) as $i | .[$i] / $want[$i] - 1 | fabs] | max < 1e-4' "$out"
    else
        skip 'the emulated card' 'make emulated was not run'
    fi
done

# pictures without latents: the offset by their latents needs what is encoded at the step
sd-scan sks | sd-merge | sd-bucket -q --resolution 64 --bucket-reso-steps 8 --min-bucket-reso 32 | head -6 >pictures
of_pictures() {
    try sd-train lora -j 1 -q --model "$model" --seed 1 --network-dim 2 --max-train-steps 2 -o x.safetensors "$@" <pictures
}
of_pictures --noise-offset 0.1
want=$(losses)
of_pictures --noise-offset 0.1 --adaptive-noise-scale 0.5
is 'pictures without latents' "$status $(losses | wc -w) $(test "$(losses)" != "$want"; echo $?)" '0 2 0'

# what does nothing, or more than it seems to, is told
warned() {
    want=$1
    shift
    train "$@"
    like "$* is told" "$status $(cat "$err")" "0 sd-train: $want"
}
warned '--zero-terminal-snr is for models that predict velocity*' --zero-terminal-snr
warned '--noise-offset-random-strength does nothing*' --noise-offset-random-strength
warned '--ip-noise-gamma-random-strength does nothing*' --ip-noise-gamma-random-strength
warned '--adaptive-noise-scale does nothing*' --noise-offset 0 --adaptive-noise-scale 1
warned '--min-timestep 600 is above --max-timestep: only timestep 500 is trained' --min-timestep 600 --max-timestep 500

wrong() {
    want=$1
    shift
    try sd-train lora --model "$model" -o none.safetensors "$@" <data
    like "wrong usage: $*" "$status $(cat "$out")$(head -1 "$err")" "2 sd-train: $want*"
}
wrong '--adaptive-noise-scale goes with --noise-offset' --adaptive-noise-scale 0.1
wrong '--scale-v-pred-loss-like-noise-pred is for models that predict velocity' --scale-v-pred-loss-like-noise-pred
wrong '--v-pred-like-loss is for models that predict noise' --v-pred-like-loss 0.1 --v-parameterization
wrong '--min-timestep' --min-timestep -1
wrong '--min-timestep' --min-timestep 1000
wrong '--max-timestep' --max-timestep 1001
wrong '--min-timestep' --min-timestep half
wrong '--loss-type' --loss-type l3
wrong '--huber-schedule' --huber-schedule linear
wrong '--huber-c' --loss-type huber --huber-c 0
wrong '--huber-scale' --loss-type huber --huber-scale -1
wrong '--min-snr-gamma' --min-snr-gamma -5
wrong '--noise-offset' --noise-offset nan
wrong '--noise-offset' --noise-offset inf
wrong '--multires-noise-iterations' --multires-noise-iterations -1
wrong '--multires-noise-discount' --multires-noise-discount -0.5
wrong '--ip-noise-gamma' --ip-noise-gamma -0.1
ok 'nothing is written then' test ! -e none.safetensors
finish
