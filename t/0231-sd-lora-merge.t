#!/bin/sh
# sd-lora-merge: into a model, by addition, concatenation and SVD; metadata; what it refuses. (Values: t/unit/lora_tools.c.)
. "$(dirname "$0")/lib.sh"
base=$root/t/data/model/sd1-small-ldm.safetensors
d=$root/t/data/lora-tools

meta() { sd-inspect --metadata-only "$1" | jq -c ".metadata | $2"; }
ranks() { sd-inspect --tensors-only "$1" | jq -c 'select(.tensor | endswith("lora_down.weight")) | .shape[0]' | sort -n | uniq | tr '\n' ' '; }

try sd-lora-merge --sd-model "$base" --models "$d/a.safetensors" "$d/c.safetensors" --ratios 0.8 -0.5 -o m.safetensors
like 'into a model' "$status $(cat "$err")" '0 *67 layers changed*'
is 'metadata of the model' "$(meta m.safetensors '[."modelspec.title", ."modelspec.merged_from", ."modelspec.architecture", has("sd_config")]')" \
    '["m","sd1-small-ldm, LoRA a, LoRA c","stable-diffusion-v1",true]'
sd-inspect --tensors-only m.safetensors | jq -r .tensor | sort >names
sd-inspect --tensors-only "$base" | jq -r .tensor | sort | cmp -s - names
result $? 'the same tensors'
try sd-lora-merge --sd-model "$base" "$d/a.safetensors" --save-precision fp16 --precision bf16 -o h.safetensors
is 'precision' "$status $(sd-inspect --tensors-only h.safetensors | jq -r .dtype | sort | uniq -c | sort -rn | awk 'NR == 1 { print $2 }')" '0 F16'
zeros=[$(seq 26 | sed 's/.*/0/' | paste -sd,)]
try sd-lora-merge --sd-model "$base" "$d/a.safetensors" --lbws "$zeros" --save-precision fp16 --no-metadata -o zero.safetensors
sd-lora-merge --sd-model "$base" "$d/a.safetensors" --ratios 0 --save-precision fp16 --no-metadata -o none.safetensors 2>/dev/null
same 'block weights of 0 leave the model as it was' zero.safetensors none.safetensors
sd-inspect --tensors-only "$d/b.safetensors" >/dev/null
try sd-lora-merge --sd-model "$root/t/data/model/sd1-small.safetensors" "$d/a.safetensors" -o x.safetensors
is 'a model in another layout' "$status" 0
try sd-lora-merge --sd-model "$root/t/data/model/sd2-small-ldm.safetensors" "$d/a.safetensors" -o x2.safetensors
like 'a LoRA for another model' "$status $(cat "$err")" '1 *lora_up.weight is \[12,4,1,1\], which does not fit the LoRA of a layer from 8 to 8*'

sd-inspect --tensors-only "$d/svd.safetensors" | jq -r .tensor | sort >names.c
sd-lora-convert "$d/a.safetensors" -o peft.safetensors 2>/dev/null
try sd-lora-merge --sd-model "$base" peft.safetensors --no-metadata -o p.safetensors
sd-lora-merge --sd-model "$base" "$d/a.safetensors" --no-metadata -o k.safetensors 2>/dev/null
is "a LoRA in PEFT's names into a model" "$status $(sd-diff --tolerance 1e-6 p.safetensors k.safetensors | jq -c '[.different, .unequal < .elements]')" '0 [0,true]'
try sd-lora-merge peft.safetensors "$d/c.safetensors" --new-rank 2 -o both.safetensors
is "and with one in sd-scripts' names" "$status $(sd-inspect --tensors-only both.safetensors | jq -r .tensor | sort | cmp - names.c && echo alike)" '0 alike'
try sd-lora-merge --sd-model "$base" "$root/t/data/network/loha.safetensors" "$d/a.safetensors" --ratios 0.5 1 -o loha.safetensors
is 'a LoHa into a model, and a LoRA' "$status" 0
try sd-lora-merge "$root/t/data/network/loha.safetensors" --new-rank 2 -o x3.safetensors
like 'a LoHa is no LoRA' "$status $(cat "$err")" '1 *no LoRA*'

try sd-lora-merge --models "$d/a.safetensors" "$d/b.safetensors" --ratios 0.7 -0.4 -o add.safetensors
is 'by addition' "$status $(meta add.safetensors '[.ss_network_dim, .ss_network_alpha, .ss_v2, .ss_base_model_version, ."modelspec.merged_from"]')" \
    '0 ["4","2.0","False","sd_v1","LoRA a, LoRA b"]'
is 'byte for byte sd-scripts hash' "$(meta add.safetensors .sshs_model_hash)" "$(meta "$d/add.safetensors" .sshs_model_hash)"
try sd-lora-merge "$d/a.safetensors" "$d/c.safetensors" -o x.safetensors
like 'different ranks cannot be added' "$status $(cat "$err")" '1 *ranks 4 and 3 cannot be added*'
try sd-lora-merge "$d/a.safetensors" "$d/c.safetensors" --concat --no-metadata -o cat.safetensors
is 'by concatenation' "$status $(ranks cat.safetensors)" '0 3 4 7 '
is 'its metadata' "$(meta cat.safetensors '[.ss_network_dim, .ss_network_alpha, has("modelspec.title")]')" '["Dynamic","Dynamic",false]'
try sd-lora-merge "$d/a.safetensors" "$d/c.safetensors" --concat --shuffle --seed 3 --no-metadata -o s1.safetensors
sd-lora-merge -j 1 "$d/a.safetensors" "$d/c.safetensors" --concat --shuffle --seed 3 --no-metadata -o s2.safetensors 2>/dev/null
same 'the same shuffle for the same seed, for any number of threads' s1.safetensors s2.safetensors
cmp -s s1.safetensors cat.safetensors
is 'which is another order' $? 1
try sd-lora-merge "$d/a.safetensors" "$d/c.safetensors" --new-rank 2 --new-conv-rank 3 -o svd.safetensors
is 'by SVD' "$status $(ranks svd.safetensors) $(meta svd.safetensors '[.ss_network_dim, .ss_network_args]')" \
    '0 2 3  ["2","{\"conv_dim\": 3, \"conv_alpha\": 3}"]'
try sd-lora-merge "$d/a.safetensors" --new-rank 64 -o big.safetensors
is 'a rank beyond what the LoRAs have' "$status" 0

refused() {
    _name=$1 _want=$2
    shift 2
    try sd-lora-merge "$@"
    like "$_name" "$status $(cat "$err")" "$_want"
}
refused 'no LoRA' '2 *no LoRA to merge*' -o x.safetensors
refused 'no output' '2 *no output file*' "$d/a.safetensors"
refused 'ratios of another number' '2 *1 --ratios for 2 LoRAs*' "$d/a.safetensors" "$d/b.safetensors" --ratios 1 -o x.safetensors
refused 'a ratio that is no number' '2 *is no number*' "$d/a.safetensors" --ratios one -o x.safetensors
refused 'block weights with addition' '2 *take no block weights*' "$d/a.safetensors" --lbws "$zeros" -o x.safetensors
refused 'block weights of SDXL' '2 *17 or 26*' "$d/a.safetensors" --lbws '[1,1,1,1,1,1,1,1,1,1,1,1]' --new-rank 2 -o x.safetensors
refused 'block weights that are no JSON' '2 *block weights*' "$d/a.safetensors" --lbws '[1,' --new-rank 2 -o x.safetensors
refused 'SVD in half precision' '2 *in float*' "$d/a.safetensors" --new-rank 2 --precision fp16 -o x.safetensors
refused 'concat into a model' '2 *are for LoRAs*' --sd-model "$base" "$d/a.safetensors" --concat -o x.safetensors
refused 'a model for a LoRA' '1 *no LoRA*' "$base" -o x.safetensors
refused 'a LoRA for a model' '1 *' --sd-model "$d/a.safetensors" "$d/a.safetensors" -o x.safetensors
refused 'a missing file' '1 *No such file*' nothing -o x.safetensors
finish
