#!/bin/sh
# The originals' command lines for LoRAs: contrib/kohya.
. "$(dirname "$0")/lib.sh"
PATH=$root/contrib/kohya:$PATH
base=$root/t/data/model/sd1-small-ldm.safetensors
d=$root/t/data/lora-tools
meta() { sd-inspect --metadata-only "$1" | jq -c ".metadata | [.ss_network_dim, .ss_network_alpha, .ss_network_args]"; }
tensors() { sd-inspect --tensors-only "$1" | jq -c '[.tensor, .dtype, .shape]'; }

# as NAME FIXTURE: the file out.safetensors has the fixture's tensors and metadata.
as() {
    is "$1" "$status $(meta out.safetensors)" "0 $(meta "$d/$2.safetensors")"
    tensors out.safetensors | sort >got
    tensors "$d/$2.safetensors" | sed 's/"I64"/"F32"/' | sort >want # svd_merge_lora.py writes alpha as a whole number
    same "$1: the same tensors" got want
    rm -f out.safetensors
}
try extract_lora_from_models --model_org "$base" --model_tuned "$d/tuned.safetensors" --save_to out.safetensors --dim 3 --conv_dim 5 \
    --min_diff 0.001 --device cpu
as extract_lora_from_models extract
try merge_lora --models "$d/a.safetensors" "$d/b.safetensors" --ratios 0.7 -0.4 --save_to out.safetensors
as merge_lora add
try svd_merge_lora --models "$d/a.safetensors" "$d/c.safetensors" --ratios 0.7 0.3 --new_rank 2 --new_conv_rank 3 --save_to out.safetensors
as svd_merge_lora svd
try resize_lora --model "$d/a.safetensors" --new_rank 2 --new_conv_rank 3 --save_to out.safetensors
as resize_lora fixed
try svd_merge_lora --models "$d/a.safetensors" --ratios 1 --save_to out.safetensors
is 'svd_merge_lora: a rank of 4 without more' "$status $(meta out.safetensors | jq -c '.[0]')" '0 "4"'
finish
