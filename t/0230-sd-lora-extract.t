#!/bin/sh
# sd-lora-extract: a LoRA from two models, its metadata, and what it refuses. (Values: t/unit/lora_tools.c.)
. "$(dirname "$0")/lib.sh"
org=$root/t/data/model/sd1-small-ldm.safetensors
tuned=$root/t/data/lora-tools/tuned.safetensors

try sd-lora-extract --model-org "$org" --model-tuned "$tuned" -o lora/x.safetensors --dim 3 --conv-dim 2 --min-diff 0.001
is 'extracts, making the folder' "$status $(cat "$out")" '0 '
like 'says how much' "$(cat "$err")" '*lora/x.safetensors: * modules*'
sd-inspect lora/x.safetensors >x.ndjson
is 'metadata' "$(head -1 x.ndjson | jq -c '.metadata | [.ss_v2, .ss_base_model_version, .ss_network_module, .ss_network_dim,
    .ss_network_alpha, .ss_network_args, ."modelspec.architecture", ."modelspec.title", (.sshs_model_hash | length)]')" \
    '["False","sd_v1","networks.lora","3","3.0","{\"conv_dim\": \"2\", \"conv_alpha\": \"2.0\"}","stable-diffusion-v1/lora","x",64]'
is 'ranks of convolutions and others' "$(tail -n +2 x.ndjson | jq -c 'select(.tensor | endswith("lora_down.weight")) | [.shape[0], .shape[2]]' | sort | uniq -c | awk '{ print $2 }' | tr '\n' ' ')" \
    '[2,3] [3,1] [3,null] '
ok 'the text encoder is in' grep -q lora_te_ x.ndjson

try sd-lora-extract --model_org "$org" --model_tuned "$tuned" --save_to y.safetensors --dim 2 --min_diff 100 --save_precision bf16 --no_metadata
like 'a text encoder that is the same is left out' "$status $(cat "$err")" '0 *text encoder is the same*'
sd-inspect y.safetensors >y.ndjson
is 'only the U-Net, in BF16, without modelspec' "$(grep -c 'lora_te_\|modelspec' y.ndjson) $(tail -n +2 y.ndjson | jq -r .dtype | sort -u)" '0 BF16'
sd-lora-extract -j 1 --model-org "$org" --model-tuned "$tuned" -o one.safetensors --no-metadata --dim 2 2>/dev/null
sd-lora-extract -j 4 --model-org "$org" --model-tuned "$tuned" -o four.safetensors --no-metadata --dim 2 2>/dev/null
same 'the same bytes for any number of threads' one.safetensors four.safetensors
try sd-lora-extract --model-org "$org" --model-tuned "$org" -o none.safetensors
like 'two models alike' "$status $(cat "$err")" '0 *do not differ*'

try sd-lora-extract --model-org "$org" --model-tuned "$root/t/data/model/sd2-small-ldm.safetensors" -o z.safetensors
like 'models of different kinds' "$status $(cat "$err")" '1 *not the same kind*'
try sd-lora-extract --model-org "$org" --model-tuned nothing -o z.safetensors
like 'no such model' "$status $(cat "$err")" '1 *nothing*No such file*'
try sd-lora-extract --model-org "$org" -o z.safetensors
like 'one model' "$status $(cat "$err")" '2 *two models are needed*'
try sd-lora-extract --model-org "$org" --model-tuned "$tuned" -o z.ckpt
like 'another format' "$status $(cat "$err")" '2 *only .safetensors*'
try sd-lora-extract --model-org "$org" --model-tuned "$tuned" -o z.safetensors --device cuda
like 'a device' "$status $(cat "$err")" '2 *processor*'
try sd-lora-extract --model-org "$org" --model-tuned "$tuned" -o z.safetensors --sdxl
like 'SDXL' "$status $(cat "$err")" '2 *SDXL*'
try sd-lora-extract --model-org "$org" --model-tuned "$tuned" -o z.safetensors --v2
like 'not SD 2' "$status $(cat "$err")" '2 *no SD 2.x model*'
try sd-lora-extract --model-org "$org" --model-tuned "$tuned" -o z.safetensors --clamp-quantile 1.5
is 'a quantile beyond 1' "$status" 2
cp "$tuned" nan.safetensors
offset=$(sd-inspect --tensors-only nan.safetensors | jq -r 'select(.tensor | endswith("middle_block.1.proj_in.weight")).offset')
printf '\377\177' | dd of=nan.safetensors bs=1 seek="$offset" conv=notrunc 2>/dev/null
try sd-lora-extract --model-org "$org" --model-tuned nan.safetensors -o z.safetensors
like 'a weight that is not a number' "$status $(cat "$err")" '1 *lora_unet_mid_block_attentions_0_proj_in*finite*'
ok 'nothing is left of what failed' test ! -e z.safetensors -a ! -e z.ckpt
finish
