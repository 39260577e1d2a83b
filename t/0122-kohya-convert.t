#!/bin/sh
# contrib/kohya/convert_diffusers20_original_sd: what sd-scripts' command line becomes.
. "$(dirname "$0")/lib.sh"
PATH=$root/contrib/kohya:$PATH
convert=convert_diffusers20_original_sd
info() { sd-inspect --metadata-only "$1" | jq -c "$2"; }
types() { sd-inspect --tensors-only "$1" | jq -r .dtype | sort -u | xargs; }

sd-init -a tiny -t f16 -o base.safetensors
try $convert --v1 --use_safetensors base.safetensors folder
is 'a folder' "$status $(cat "$err") $(types folder)" '0  F32'
ok 'of .safetensors' test -f folder/unet/diffusion_pytorch_model.safetensors
try $convert base.safetensors --v1 bins
ok 'or .bin' test -f bins/unet/diffusion_pytorch_model.bin
try $convert folder out.safetensors --metadata "{'name': 'a=b c', 'n': '1'}"
is 'a file, f32 with no word of the type' "$status $(types out.safetensors) $(info out.safetensors .metadata)" \
    '0 F32 {"name":"a=b c","n":"1"}'
try $convert --save_precision_as=bf16 folder out.safetensors
is 'bf16' "$(types out.safetensors) $(info out.safetensors .metadata)" 'BF16 {}'
try $convert --fp16 folder out.ckpt --epoch 2 --global_step=9
is 'a checkpoint' "$status $(types out.ckpt) $(info out.ckpt .metadata)" '0 F16 {"epoch":"2","global_step":"9"}'
jq '._class_name = "PNDMScheduler"' <folder/scheduler/scheduler_config.json >s && mv s folder/scheduler/scheduler_config.json
$convert --v1 --reference_model folder --unet_use_linear_projection base.safetensors other
is 'with a reference' "$(jq -r ._class_name other/scheduler/*)" PNDMScheduler
try $convert --v2 base.safetensors no.safetensors
like 'not this version' "$status $(cat "$err")" '2 *Stable Diffusion 1, which --v2 denies*'
try $convert base.safetensors
like 'one model' "$status $(cat "$err")" "2 $convert: two models are needed*"
try $convert base.safetensors no.safetensors --metadata '[1]'
like 'metadata that is none' "$status $(cat "$err")" "2 *--metadata: expected a dictionary*"
try $convert --v1 --reference_model org/model base.safetensors no
like 'a reference elsewhere' "$status $(cat "$err")" '2 *org/model is no folder*'
ok 'nothing was left' test ! -e no -a ! -e no.safetensors
finish
