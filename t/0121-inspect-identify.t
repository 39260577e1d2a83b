#!/bin/sh
# sd-inspect --identify: a file or folder of each kind, whole or with something missing. Files of published models' shapes are
# made here: headers with no data behind them but holes.
. "$(dirname "$0")/lib.sh"
data=$root/t/data

# st FILE METADATA ROW...: a safetensors file of zeros; a row is [name, type, shape...] without the brackets
st() {
    _file=$1 _meta=$2
    shift 2
    printf '[%s]\n' "$@" | jq -sj --argjson meta "$_meta" '{F32: 4, F16: 2, BF16: 2, I64: 8, F8_E4M3: 1} as $width |
        reduce .[] as [$name, $type, $a, $b, $c, $d] ({at: 0, header: {__metadata__: $meta}};
            [$a, $b, $c, $d | select(. != null)] as $shape | (reduce $shape[] as $n ($width[$type]; . * $n)) as $bytes |
            .header[$name] = {dtype: $type, shape: $shape, data_offsets: [.at, .at + $bytes]} | .at += $bytes) |
        .at, "\n", (.header | tojson)' >head
    _n=$(($(tail -n 1 head | wc -c)))
    { printf "\\$(printf %o $((_n % 256)))\\$(printf %o $((_n / 256)))\0\0\0\0\0\0"; tail -n 1 head; } >"$_file"
    truncate -s $((8 + _n + $(head -n 1 head))) "$_file"
}

# told FILE FIELDS WANT: the fields of its record, with a slash between
told() {
    try sd-inspect --identify "$1"
    is "$1" "$status $(jq -r "[$2 | if . == null then \"-\" else tostring end] | join(\"/\")" "$out")" "0 $3"
}
what='.kind, .family, .variant, .layout, .prediction, .precision'
unet='"model.diffusion_model.input_blocks.0.0.weight","F16",320'
attn='"model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight","F16",320'

# models that are there in full
told "$data"/model/sd1-small-ldm.safetensors "$what, .supported, (.parts | join(\"+\"))" 'checkpoint/custom/-/original/epsilon/F16/true/unet+vae+text_encoder'
is 'nothing is missing' "$(jq -c '[.missing_count, .misshapen_count, .extra_count, .missing, .ema]' "$out")" '[0,0,0,[],false]'
told "$root"/contrib/tiny/sd.safetensors "$what, .parameters" 'checkpoint/tiny/-/original/epsilon/F16/2903947'
told "$data"/model/sd2-small.safetensors "$what, .missing[0], .extra_count" 'checkpoint/custom/-/diffusers/epsilon/F16/vae/21'

# published models of other families: told, and why they cannot be used
st sdxl '{"modelspec.prediction_type": "v"}' "$unet,4,3,3" "$attn,2048" '"conditioner.embedders.1.model.ln_final.bias","F16",1280' '"first_stage_model.quant_conv.bias","F16",8'
told sdxl "$what, .supported" 'checkpoint/sdxl/-/original/v_prediction/F16/false'
ok 'why it cannot be used' jq -e '.why_not | test("not those of Stable Diffusion")' "$out"
st inpaint '{}' "$unet,9,3,3" "$attn,768"
told inpaint "$what, .supported, .missing_count > 600" 'unet/sd1/inpainting/original/-/F16/false/true'
st sd2-inpaint '{}' "$unet,9,3,3" "$attn,1024"
told sd2-inpaint "$what" 'unet/sd2/inpainting/original/-/F16'
st depth '{}' "$unet,5,3,3" "$attn,1024"
told depth "$what" 'unet/sd2/depth/original/-/F16'
st ip2p '{}' "$unet,8,3,3" "$attn,768"
told ip2p "$what" 'unet/sd1/instruct-pix2pix/original/-/F16'
st ema '{}' "$unet,4,3,3" "$attn,768" '"model_ema.diffusion_modelinput_blocks00weight","F32",320,4,3,3' '"alphas_cumprod","F32",1000'
told ema "$what, .ema, .parameters, .extra_count" 'unet/sd1/-/original/-/F16/true/257280/0'
st v '{"ss_base_model_version": "sd_v2_v"}' "$unet,4,3,3" "$attn,1024"
told v "$what" 'unet/sd2/-/original/v_prediction/F16'
st flux '{}' '"double_blocks.0.img_mod.lin.bias","F8_E4M3",18432' '"single_blocks.0.norm.query_norm.scale","F8_E4M3",128'
told flux "$what" 'unet/flux/-/-/-/F8_E4M3'
st text '{}' '"text_model.embeddings.token_embedding.weight","F32",10,768' '"text_model.embeddings.position_ids","I64",1,77'
told text "$what, .missing_count > 100, .parameters" 'text_encoder/sd1/-/transformers/-/F32/true/7680'
st vae '{}' '"encoder.conv_in.weight","F32",128,3,3,3' '"decoder.conv_in.weight","F32",512,4,3,3' '"encoder.mid_block.attentions.0.query.weight","F32",512,512' '"decoder.up_blocks.0.resnets.0.norm1.bias","F32",7'
told vae "$what, .misshapen[0]" 'vae/-/-/diffusers-old/-/F32/vae.decoder.up_blocks.0.resnets.0.norm1.bias'

# networks and the rest
k=lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k
st lora '{"ss_base_model_version": "sd_v1"}' "\"$k.lora_down.weight\",\"F16\",4,768" "\"$k.lora_up.weight\",\"F16\",320,4" "\"$k.alpha\",\"F16\""
told lora "$what" 'lora/sd1/-/sd-scripts/epsilon/F16'
st locon '{}' "\"$k.lora_down.weight\",\"BF16\",4,1024" "\"$k.lora_up.weight\",\"BF16\",320,4" '"lora_unet_conv_in.lora_down.weight","BF16",4,4,3,3' '"lora_unet_conv_in.lora_up.weight","BF16",320,4,1,1'
told locon "$what" 'locon/sd2/-/sd-scripts/-/BF16'
st dylora '{"ss_network_module": "networks.dylora"}' "\"$k.lora_down.weight\",\"F16\",4,768" "\"$k.lora_up.weight\",\"F16\",320,4"
told dylora '.kind, .family' 'dylora/sd1'
st loha '{}' "\"$k.hada_w1_b\",\"F16\",4,768"
told loha '.kind, .family' 'loha/sd1'
st lokr '{}' '"lora_unet_x.lokr_w1","F16",4,4'
told lokr '.kind' 'lokr'
st oft '{}' '"oft_unet_x.oft_blocks","F16",4,8,8'
told oft '.kind' 'oft'
st xl '{}' '"lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_down.weight","F16",4,1280'
told xl '.kind, .family' 'lora/sdxl'
told "$data"/inspect/peft.safetensors '.kind, .layout' 'lora/peft'
st ti '{}' '"emb_params","F32",4,768'
told ti "$what" 'textual_inversion/sd1/-/-/-/F32'
st token '{}' '"<cat>","F32",1024'
told token '.kind, .family' 'textual_inversion/sd2'
st tixl '{}' '"clip_l","F32",4,768' '"clip_g","F32",4,1280'
told tixl '.kind, .family' 'textual_inversion/sdxl'
st hyper '{}' '"768.0.linear.0.weight","F32",2,768'
told hyper '.kind' 'hypernetwork'
st control '{}' '"control_model.input_hint_block.0.weight","F16",16,3,3,3' '"control_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight","F16",320,768'
told control '.kind, .family' 'controlnet/sd1'
told "$data"/store/plain.safetensors '.kind' 'unknown'

# a diffusers folder is one thing; another folder has each of its files told
mkdir -p folder/unet folder/scheduler others
st folder/unet/diffusion_pytorch_model.safetensors '{}' '"conv_in.weight","F16",320,4,3,3' '"down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight","F16",320,1024'
cp folder/unet/diffusion_pytorch_model.safetensors folder/unet/diffusion_pytorch_model.fp16.safetensors
echo '{"prediction_type": "v_prediction"}' >folder/scheduler/scheduler_config.json
told folder "$what, .tensors" 'unet/sd2/-/diffusers/v_prediction/F16/2'
cp lora ti others
mv others/lora others/a.safetensors
mv others/ti others/b.safetensors
try sd-inspect --identify others
is 'a folder of files' "$status $(jq -r .kind "$out" | paste -sd ' ')" '0 lora textual_inversion'

mkdir bare bare/unet
try sd-inspect --identify bare "$root"/README.md "$data"/store/plain.npz nothing lora
is 'what cannot be told has its error, the rest is there' "$status $(jq -r '.kind // .error.tool' "$out" | paste -sd ' ')" \
    '1 sd-inspect sd-inspect sd-inspect sd-inspect lora'
for option in --stats --lora --hash --parameters --parse-metadata --tensors-only; do
    try sd-inspect --identify $option lora
    is "with $option: wrong usage" "$status$(cat "$out")" 2
done
finish
