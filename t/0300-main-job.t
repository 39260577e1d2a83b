#!/bin/sh
# no-sanitizer
# The main job from pictures to pictures, and that the LoRA learned the concept: the colour of contrib/tiny/sks, which no
# picture of the base model has, counted in what base and LoRA draw from the same prompts and seeds (t/unit/concept.c).
. "$(dirname "$0")/lib.sh"
model=$root/contrib/tiny/sd.safetensors
concept=${SD_UNIT:-$root/build/release/t}/concept
[ -x "$concept" ] || { echo "1..0 # SKIP t/unit/concept is not built" && exit 0; }

cp -r "$root/contrib/tiny/sks" sks && rm -f sks/*.npz
sd-scan sks 2>"$err" | sd-merge | sd-clean |
    sd-bucket -q --resolution 64 --bucket-reso-steps 8 --min-bucket-reso 32 |
    sd-encode-latents --model "$model" >data.ndjson
is 'every picture becomes a record without error' "$(jq -c .error data.ndjson | sort | uniq -c | xargs)" '20 null'
is 'with all that training needs' "$(jq -c 'has("caption") and has("bucket") and has("latents")' data.ndjson | sort -u)" true
try sd-train lora --model "$model" --network-dim 8 --max-train-steps 300 --learning-rate 1e-3 --seed 1 \
    -o sks.safetensors <data.ndjson
is 'training: status, nothing said' "$status $(cat "$err")" '0 '
ok 'the loss falls by a fifth' jq -se 'map(select(.event == "step").loss) |
    (.[200:] | add / length) < 0.8 * (.[:100] | add / length)' "$out"

grounds='blue green white yellow red'
seed=0
for round in 1 2 3 4; do
    for ground in $grounds; do
        seed=$((seed + 1))
        echo "a sks star on a $ground ground --w 64 --h 64 --s 30 --d $seed"
    done
done >prompts
echo 'a red circle on a blue ground --w 64 --h 64 --s 30 --d 1' >other
try sd-sample --model "$model" -o base <prompts
is 'the base model draws them' "$status $(wc -l <"$out")" '0 20'
try sd-sample --model "$model" --lora sks.safetensors -o lora <prompts
is 'and with the LoRA' "$status $(wc -l <"$out")" '0 20'
sd-sample --model "$model" --lora sks.safetensors -o circle <other >/dev/null

# mean of the shares; how many pictures reach a share of 0.03
"$concept" base/*.png >base.txt
"$concept" lora/*.png >lora.txt
numbers() { awk '{ s += $1; n += $1 >= 0.03 } END { printf "mean %.4f, %d of %d pictures", s / NR, n, NR }' "$1"; }
printf '# base: %s\n# LoRA: %s\n' "$(numbers base.txt)" "$(numbers lora.txt)"
ok 'the base model does not draw the concept' awk '{ s += $1 } END { exit s > 0.01 * NR }' base.txt
ok 'the LoRA does in nine of ten pictures' awk '$1 >= 0.03 { n++ } END { exit n < 0.9 * NR }' lora.txt
ok 'on average on a twentieth of the picture' awk '{ s += $1 } END { exit s < 0.05 * NR }' lora.txt
ok 'and not where it was not asked for' sh -c '"$1" circle/*.png | awk "{ exit \$1 > 0.02 }"' sh "$concept"
finish
