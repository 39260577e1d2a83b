#!/bin/sh
# The main job on the bundled data: a folder of pictures in, a trained LoRA and sampled pictures out, and at the end a
# sheet with what the base model draws above what it draws with the LoRA. `make demo` calls it; bin/ must be built.
# Everything it writes is in out/.
set -eu
cd "$(dirname "$0")/.."

PATH=$PWD/bin:$PATH
model=contrib/tiny/sd.safetensors

say() {
    echo
    printf '# %s\n' "$@"
}

# Prints a command line and runs it.
run() {
    printf '$ %s\n' "$1"
    eval "$1"
}

mkdir -p out

say 'Twenty pictures of a thing that the base model cannot draw become records: found, captioned, tidied, given a size,' \
    'and put through the VAE.'
run "sd-scan contrib/tiny/sks | sd-merge | sd-clean \\
    | sd-bucket --resolution 64 --bucket-reso-steps 8 --min-bucket-reso 32 \\
    | sd-encode-latents --model $model --cache-dir out/cache > out/data.ndjson"
run 'head -n 1 out/data.ndjson'

say 'A LoRA is trained on them.'
run "sd-train lora --model $model --network-dim 8 --max-train-steps 300 --learning-rate 1e-3 --seed 1 \\
    -o out/sks.safetensors < out/data.ndjson > out/train.ndjson"
run 'tail -n 1 out/train.ndjson'

say 'The same prompts and seeds with the base model and with the LoRA.'
cat > out/prompts.txt <<'END'
a sks star on a blue ground --w 64 --h 64 --s 30 --d 1
a sks star on a green ground --w 64 --h 64 --s 30 --d 2
a sks star on a white ground --w 64 --h 64 --s 30 --d 3
a sks star on a yellow ground --w 64 --h 64 --s 30 --d 4
a sks star on a red ground --w 64 --h 64 --s 30 --d 5
a red circle on a blue ground --w 64 --h 64 --s 30 --d 6
END
run 'cat out/prompts.txt'
run "sd-sample --model $model -o out/base < out/prompts.txt > out/pictures.ndjson"
run "sd-sample --model $model --lora out/sks.safetensors -o out/lora < out/prompts.txt >> out/pictures.ndjson"
run 'sd-sheet --columns 6 -o out/sheet.png < out/pictures.ndjson > /dev/null'

say 'Done: look at out/sheet.png. Above the base model, below the LoRA, a column for each prompt.'
