#!/bin/sh
# sd-lora-convert: names there and back, alpha, shapes; what it refuses. (The real diffusers: t/ref/lora_convert.py.)
. "$(dirname "$0")/lib.sh"
a=$root/t/data/lora-tools/a.safetensors
names() { sd-inspect --tensors-only "$1" | jq -r .tensor; }
tensors() { sd-inspect --tensors-only "$1" | jq -c 'del(.file, .offset)'; }
meta() { sd-inspect --metadata-only "$1" | jq -c ".metadata | $2"; }

try sd-lora-convert "$a" -o d.safetensors
like 'to diffusers' "$status $(cat "$err")" '0 *55 modules in the names of diffusers*'
names d.safetensors >names
ok 'names of the U-Net' grep -qx 'unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0.lora_A.weight' names
ok 'of residual blocks' grep -qx 'unet.mid_block.resnets.0.time_emb_proj.lora_B.weight' names
ok 'of the text encoder' grep -qx 'text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_B.weight' names
is 'nothing else' "$(grep -vcE '^(unet|text_encoder)\..*\.lora_[AB]\.weight$' names)" 0
is 'alpha is kept aside' "$(meta d.safetensors '."sd_alpha.lora_unet_mid_block_attentions_0_proj_in"')" '"2.0"'
try sd-lora-convert d.safetensors -o back.safetensors
is 'and back: the same tensors' "$status $(tensors back.safetensors | sha256sum)" "0 $(tensors "$a" | sha256sum)"
is 'of the same values' "$(meta back.safetensors .sshs_model_hash)" \
    "$(sd-lora-merge "$a" -o same.safetensors --no-metadata 2>/dev/null && meta same.safetensors .sshs_model_hash)"
is 'with the metadata there were' "$(meta back.safetensors 'del(.sshs_model_hash, .sshs_legacy_hash)')" "$(meta "$a" .)"
try sd-lora-convert "$a" --to diffusers --save-precision bf16 -o b.safetensors
is 'in BF16' "$status $(sd-inspect --tensors-only b.safetensors | jq -r .dtype | sort -u)" '0 BF16'

# lora FILE SHAPE... : a LoRA of zeros of one layer: name, endings, metadata
lora() {
    jq -cnj --arg d "$2" --arg u "$3" --argjson ds "$4" --argjson us "$5" --argjson m "$6" '
        def size: reduce .[] as $n (4; . * $n);
        {__metadata__: $m, ($d): {dtype: "F32", shape: $ds, data_offsets: [0, ($ds | size)]},
         ($u): {dtype: "F32", shape: $us, data_offsets: [($ds | size), ($ds | size) + ($us | size)]}}' >header
    n=$(wc -c <header)
    { printf "\\$(printf %o $((n % 256)))\\$(printf %o $((n / 256)))\0\0\0\0\0\0" && cat header && head -c 4096 /dev/zero; } |
        head -c $((8 + n + 4 * $(jq -n "[$4, $5] | map(reduce .[] as \$n (1; . * \$n)) | add"))) >"$1"
}
p=lora_unet_mid_block_attentions_0_proj_in
lora sd2.safetensors $p.lora_down.weight $p.lora_up.weight '[2,8,1,1]' '[8,2,1,1]' '{"ss_v2":"True"}'
try sd-lora-convert sd2.safetensors -o x.safetensors
is 'SD 2 projections become linear' "$status $(sd-inspect --tensors-only x.safetensors | jq -c .shape | tr '\n' ' ')" '0 [2,8] [8,2] '
try sd-lora-convert x.safetensors -o y.safetensors
is 'and convolutions again' "$status $(sd-inspect --tensors-only y.safetensors | jq -c .shape | tr '\n' ' ')" '0 [] [2,8,1,1] [8,2,1,1] '
lora old.safetensors unet.mid_block.attentions.0.proj_in.lora.down.weight unet.mid_block.attentions.0.proj_in.lora.up.weight \
    '[2,8,1,1]' '[8,2,1,1]' '{}'
try sd-lora-convert old.safetensors -o z.safetensors
is 'names of older diffusers' "$status $(names z.safetensors | tr '\n' ' ')" "0 $p.alpha $p.lora_down.weight $p.lora_up.weight "

refused() {
    _name=$1 _want=$2
    shift 2
    try sd-lora-convert "$@"
    like "$_name" "$status $(cat "$err")" "$_want"
}
lora odd.safetensors lora_unet_strange_block_0.lora_down.weight lora_unet_strange_block_0.lora_up.weight '[2,8]' '[8,2]' '{}'
refused 'no layer of these models' '1 *lora_unet_strange_block_0*no layer*' odd.safetensors -o no.safetensors
refused 'names that are there already' '1 *in the names of diffusers*' "$a" --to sd-scripts -o no.safetensors
refused 'no output' '2 *no output*' "$a"
try sd-lora-convert "$root/t/data/inspect/peft.safetensors" -o k.safetensors
is "PEFT's wrapper and adapter, and diffusers' processors" "$status $(sd-inspect --tensors-only k.safetensors | jq -r .tensor | grep -c '^lora_unet_.*_attn1_to_out_0\.\|^lora_unet_down_blocks_0_attentions_0_proj_in\.\|^lora_te_text_model_')" '0 9'
refused 'no LoRA' '2 *' -o no.safetensors
refused 'a model' '1 *no LoRA*' "$root/t/data/model/sd1-small-ldm.safetensors" -o no.safetensors
ok 'nothing is left of what failed' test ! -e no.safetensors
finish
