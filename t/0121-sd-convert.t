#!/bin/sh
# sd-convert: layouts there and back, types, parts, averages, metadata, folders; what is left out; what fails.
. "$(dirname "$0")/lib.sh"
small=$root/t/data/model

# header FILE: its JSON; data FILE: the tensors' bytes
header() { head -c $((8 + $(od -An -td8 -N 8 "$1"))) "$1" | tail -c +9; }
data() { tail -c +$((9 + $(od -An -td8 -N 8 "$1"))) "$1"; }

# build OUT HEADER DATA...: a safetensors file of them
build() {
    _n=$(wc -c <"$2")
    # shellcheck disable=SC2059
    printf "$(printf '\\%03o\\%03o\\%03o\\000\\000\\000\\000\\000' $((_n & 255)) $((_n >> 8 & 255)) $((_n >> 16 & 255)))" >"$1"
    shift_out=$1
    shift
    cat "$@" >>"$shift_out"
}

# edit FILE JQ OUT: another header over the same bytes
edit() {
    header "$1" | jq -c "$2" >edited
    data "$1" >bytes
    build "$3" edited bytes
}

# join A B JQ OUT: the tensors of both, B's keys renamed by the filter JQ
join_files() {
    header "$1" >a.json
    header "$2" | jq -c "del(.__metadata__) | with_entries(.key |= ($3))" >b.json
    data "$1" >a.bytes
    data "$2" >b.bytes
    jq -cs --argjson at "$(wc -c <a.bytes)" '.[0] + (.[1] | map_values(.data_offsets |= map(. + $at)))' a.json b.json >edited
    build "$4" edited a.bytes b.bytes
}

# tensors FILE [JQ]: names, types and shapes
tensors() { sd-inspect --tensors-only "$1" | jq -r "${2:-.} | \"\(.tensor) \(.dtype) \(.shape | tojson)\"" | sort; }

for seed in 1 2; do sd-init -a tiny -s $seed -t f32 -o $seed.safetensors; done

# -- there and back

for m in 1.safetensors "$small/sd1-small-ldm.safetensors" "$small/sd2-small-ldm.safetensors"; do
    name=$(basename "$m" .safetensors)
    rm -rf way back.safetensors whole
    try sd-convert -q "$m" -o way --keep-all
    is "$name: to a folder" "$status $(cat "$out" "$err")" '0 '
    try sd-convert -q way -o back.safetensors --keep-all
    is "$name: and back" "$status $(cat "$out" "$err")" '0 '
    sd-convert -q --keep-all "$m" -o whole.safetensors
    same "$name: has the same bytes" back.safetensors whole.safetensors
    is "$name: and the tensors of the original" "$(tensors back.safetensors)" "$(tensors "$m")"
    sd-convert -q "$m" --layout diffusers -o names.safetensors 2>/dev/null
    sd-convert -q names.safetensors -o back.safetensors
    rm -rf way && sd-convert -q "$m" -o way 2>/dev/null
    sd-convert -q way -o plain.safetensors
    same "$name: through a file with diffusers' names as through a folder" back.safetensors plain.safetensors
    rm -rf again && sd-convert -q back.safetensors -o again
    is "$name: folder, file and folder again" "$(diff -r way again)" ''
done
sd-convert 1.safetensors -o same.safetensors
same 'to the same layout nothing changes' 1.safetensors same.safetensors
sd-convert 1.safetensors -o same.safetensors -t f16
sd-convert same.safetensors -o same.safetensors -t f32 && sd-convert same.safetensors -o same.safetensors -t f16
sd-init -a tiny -s 1 -t f16 -o f16.safetensors
same 'f32 to f16, in place, with a step back between' same.safetensors f16.safetensors
sd-convert 1.safetensors --bf16 -o same.safetensors
sd-init -a tiny -s 1 -t bf16 -o bf16.safetensors
same 'f32 to bf16' same.safetensors bf16.safetensors

# -- what original files have and nobody uses

try sd-convert "$small/sd2-small-ldm.safetensors" -t f32 -o x.safetensors
is 'status' $status 0
like 'unknown tensors are told' "$(cat "$err")" \
    'sd-convert: 23 tensors of no known use left out (in.*, ...): --keep-all keeps them'
is 'the last text layer stays' "$(tensors x.safetensors | grep -c 'resblocks.2\|text_projection\|logit_scale')" 14
is 'averages and the schedule go' "$(tensors x.safetensors | grep -c 'ema\|alphas')" 0
sd-convert -q "$small/sd2-small-ldm.safetensors" -o way2 2>/dev/null
sd-convert way2 -o made.safetensors
is 'a folder has none: made up' "$(tensors made.safetensors | sed 's/F16/F32/')" "$(tensors x.safetensors)"
layer() { sd-inspect --tensors-only "$1" | jq -c "select(.tensor | test(\"resblocks.$2.mlp.c_fc.weight\")) | [.offset, .bytes]"; }
take() { tail -c +$(($(echo "$2" | jq '.[0]') + 1)) "$1" | head -c "$(echo "$2" | jq '.[1]')"; }
take made.safetensors "$(layer made.safetensors 1)" >one
take made.safetensors "$(layer made.safetensors 2)" >two
same 'like the layer before it' one two
sd-convert -q "$small/sd1-small-ldm.safetensors" -t f32 -o x.safetensors
is 'position_ids stay integers' "$(tensors x.safetensors | grep position_ids)" \
    "$(tensors "$small/sd1-small-ldm.safetensors" | grep position_ids)"
is 'all others are f32' "$(tensors x.safetensors | grep -v position_ids | cut -d ' ' -f 2 | sort -u)" F32

# -- parts

sd-convert 1.safetensors --part vae -o vae.safetensors
is 'a VAE alone has no prefix' "$(tensors vae.safetensors | cut -d . -f 1 | sort -u | xargs)" 'decoder encoder post_quant_conv quant_conv'
sd-convert 1.safetensors --part vae --prefix -o vae2.safetensors
is 'but on demand' "$(tensors vae2.safetensors | cut -d . -f 1 | sort -u)" first_stage_model
sd-convert vae2.safetensors --no-prefix -o vae3.safetensors
same 'both are read' vae.safetensors vae3.safetensors
sd-convert vae.safetensors --layout diffusers --old-vae-names -o old.safetensors
is 'old names' "$(tensors old.safetensors | grep -c 'query\|key\|value\|proj_attn')" 16
sd-convert old.safetensors -o vae3.safetensors
same 'and back' vae.safetensors vae3.safetensors
sd-convert 1.safetensors --unet-only -o unet.safetensors
is 'a U-Net alone keeps it' "$(tensors unet.safetensors | cut -d . -f 1,2 | sort -u)" model.diffusion_model
sd-convert 1.safetensors -p unet -o unetfolder
is 'as a folder' "$(cd unetfolder && echo * && jq -r ._class_name config.json)" 'config.json diffusion_pytorch_model.safetensors
UNet2DConditionModel'
sd-convert unetfolder -o unet2.safetensors
same 'and back' unet.safetensors unet2.safetensors
for n in 1.safetensors "$small/sd2-small-ldm.safetensors"; do
    sd-convert -q "$n" -p text_encoder --prefix -o text.safetensors 2>/dev/null
    sd-convert -q text.safetensors --no-prefix -o text2.safetensors
    sd-convert -q text2.safetensors --prefix -o text3.safetensors
    same "a text encoder without prefix: $(tensors text2.safetensors | head -1)" text.safetensors text3.safetensors
done
sd-convert 1.safetensors -p unet -p text_encoder -o two.safetensors
is 'two parts' "$(tensors two.safetensors | cut -d . -f 1 | sort -u | xargs)" 'cond_stage_model model'
try sd-convert two.safetensors -o twofolder
is 'in a folder they are no pipeline' "$status $(cat "$err") $(ls twofolder | xargs)" \
    '0 sd-convert: twofolder: no model_index.json, as there is no VAE scheduler text_encoder tokenizer unet'
sd-convert 2.safetensors --part vae -o vae.safetensors
sd-convert 1.safetensors --vae vae.safetensors -o baked.safetensors
sd-convert baked.safetensors --part vae -o vae2.safetensors && sd-convert baked.safetensors --unet-only -o unet2.safetensors
same 'a VAE baked in' vae.safetensors vae2.safetensors
same 'beside the U-Net there was' unet.safetensors unet2.safetensors
join_files two.safetensors unetfolder/diffusion_pytorch_model.safetensors '"more." + .' x.safetensors
join_files vae.safetensors two.safetensors '.' mixed.safetensors
header mixed.safetensors | jq -c --argjson m "$(header 1.safetensors | jq .__metadata__)" '.__metadata__ = $m' >edited
data mixed.safetensors >bytes && build mixed.safetensors edited bytes
sd-convert mixed.safetensors -o x.safetensors
same 'a VAE without prefix beside parts with theirs' x.safetensors baked.safetensors

# -- averages

join_files 1.safetensors 2.safetensors \
    'if startswith("model.") then "model_ema." + (.[6:] | gsub("[.]"; "")) else "zzz." + . end' ema.safetensors
try sd-convert ema.safetensors --unet-only -o x.safetensors
like 'they are left out' "$status $(cat "$err")" '0 sd-convert: * tensors of no known use left out (zzz.*'
same 'and the plain weights taken' x.safetensors unet.safetensors
sd-convert 2.safetensors --unet-only -o unet2.safetensors
sd-convert -q ema.safetensors --unet-only --ema -o x.safetensors 2>/dev/null
same '--ema takes them' x.safetensors unet2.safetensors
try sd-convert 1.safetensors --ema -o no.safetensors
like 'a file without' "$status $(cat "$err")" '1 *there is no moving average of *; a file that was pruned to its averages has them as its plain weights'
join_files vae.safetensors unet.safetensors '"model_ema." + (.[6:] | gsub("[.]"; ""))' alone.safetensors
try sd-convert alone.safetensors --ema -o no.safetensors
like 'a file with nothing but averages' "$status $(cat "$err")" '1 *alone.safetensors: there is no U-Net in this model but its moving averages (model_ema.*'
try sd-convert alone.safetensors -o x.safetensors
like 'which are not lost without a word' "$status $(cat "$err")" '0 sd-convert: * tensors of no known use left out (model_ema.*'
try sd-convert way --ema -o no.safetensors
like 'a folder' "$status $(cat "$err")" '1 *holds no moving averages*'
sd-convert ema.safetensors --keep-all -o x.safetensors
is '--keep-all keeps them' "$(tensors x.safetensors)" "$(tensors ema.safetensors)"

# -- metadata

meta() { sd-inspect --metadata-only "$1" | jq -c .metadata; }
edit 1.safetensors '.__metadata__ += {"modelspec.title": "a", "modelspec.hash_sha256": "0x0", "note": "n"}' meta.safetensors
sd-convert meta.safetensors -m modelspec.title='b=c' -m new= --drop-meta note -o x.safetensors
is 'kept, set, dropped; stale hashes go' "$(meta x.safetensors | jq -c 'del(.sd_config)')" '{"modelspec.title":"b=c","new":""}'
sd-convert meta.safetensors --no-metadata -m k=v -o x.safetensors
is 'none of it' "$(meta x.safetensors)" '{"k":"v"}'
sd-convert 1.safetensors --no-metadata --modelspec --v-parameterization -m modelspec.author=me -o 'my model.safetensors'
is 'modelspec' "$(meta 'my model.safetensors' | jq -c 'del(."modelspec.date") | to_entries | map("\(.key)=\(.value)") | join(" ")')" \
    '"modelspec.sai_model_spec=1.0.1 modelspec.architecture=stable-diffusion-v1 modelspec.implementation=https://github.com/Stability-AI/generative-models modelspec.title=my model modelspec.resolution=512x512 modelspec.prediction_type=v modelspec.author=me"'
like 'and a date' "$(meta 'my model.safetensors' | jq -r '."modelspec.date"')" '20??-??-??T??:??:??'
try sd-convert 1.safetensors -m novalue -o no.safetensors
like 'not a pair' "$status $(cat "$err")" '2 *--meta novalue: expected KEY=VALUE*'

# -- folders

rm -rf d && sd-convert 1.safetensors -o d/
is 'the files' "$(cd d && find . -type f | sort | xargs)" './model_index.json ./scheduler/scheduler_config.json ./text_encoder/config.json ./text_encoder/model.safetensors ./tokenizer/merges.txt ./tokenizer/special_tokens_map.json ./tokenizer/tokenizer_config.json ./tokenizer/vocab.json ./unet/config.json ./unet/diffusion_pytorch_model.safetensors ./vae/config.json ./vae/diffusion_pytorch_model.safetensors'
is 'the vocabulary' "$(jq -c '[length, ."!", ."<|endoftext|>", ."cat</w>"]' d/tokenizer/vocab.json) $(wc -l <d/tokenizer/merges.txt)" '[49408,0,49407,2368] 48895'
is 'merges' "$(sed -n '2p;$p' d/tokenizer/merges.txt | xargs)" 'i n jeky ll</w>'
is 'padding' "$(jq -r .pad_token d/tokenizer/*map.json way2/tokenizer/*map.json | xargs -d '\n')" '<|endoftext|> !'
is 'epsilon' "$(jq -r .prediction_type d/scheduler/*)" epsilon
cp d/scheduler/scheduler_config.json s
jq '._class_name = "PNDMScheduler" | .prediction_type = "v_prediction"' <s >d/scheduler/scheduler_config.json
sd-convert 2.safetensors --reference d -o d2
is '--reference: the scheduler' "$(jq -r '._class_name' d2/scheduler/*) $(jq -c .scheduler d2/model_index.json)" 'PNDMScheduler ["diffusers","PNDMScheduler"]'
is 'but the prediction type that the file tells' "$(jq -r .prediction_type d2/scheduler/*)" epsilon
edit 2.safetensors 'del(.__metadata__)' told.safetensors
sd-convert told.safetensors --reference d -o d2
is 'or the reference, where the file does not' "$(jq -r .prediction_type d2/scheduler/*)" v_prediction
sd-convert d -t f16 -o d2
is 'a folder converted keeps its scheduler' "$(jq -r '._class_name + .prediction_type' d2/scheduler/*)" PNDMSchedulerv_prediction
sd-convert d2 -o x.safetensors
is 'v goes into sd_config' "$(meta x.safetensors | jq -r '.sd_config | fromjson | .scheduler.prediction_type')" v_prediction
sd-convert x.safetensors --no-v-parameterization -o d2
is 'and can be denied' "$(jq -r .prediction_type d2/scheduler/*)" epsilon
sd-convert 1.safetensors --v-parameterization -o d2
is 'or stated' "$(jq -r .prediction_type d2/scheduler/*)" v_prediction
mv d2/unet/diffusion_pytorch_model.safetensors d2/unet/diffusion_pytorch_model.half.safetensors
mv d2/vae/diffusion_pytorch_model.safetensors d2/vae/diffusion_pytorch_model.half.safetensors
try sd-convert d2 --variant half -p unet -p vae -o x.safetensors
is '--variant' "$status $(tensors x.safetensors | wc -l)" "0 $(tensors 1.safetensors | grep -vc cond_)"
sd-convert -q 1.safetensors -o d2
is 'a model is replaced' "$(ls d2/unet; ls -A | grep -c '[.]sd-')" 'config.json
diffusion_pytorch_model.safetensors
0'
mkdir empty && sd-convert 1.safetensors -o empty
ok 'an empty folder is filled' test -f empty/model_index.json
echo mine >d2/notes.txt
try sd-convert 2.safetensors -o d2
like 'a folder with more in it is not' "$status $(cat "$err")" '1 sd-convert: d2/notes.txt: is no part of a diffusers model*'
is 'and stays' "$(cat d2/notes.txt; ls -A | grep -c '[.]sd-')" 'mine
0'
mkdir -p half/unet && cp d/unet/*.safetensors half/unet
try sd-convert 2.safetensors -o half
like 'a folder with no configuration' "$status $(cat "$err")" '1 sd-convert: half: holds other files than a model*'
mkdir half/vae && cp d/vae/config.json half/vae && cp d/unet/config.json half/unet
try sd-convert half -o no.safetensors
like 'a folder without weights' "$status $(cat "$err")" '1 sd-convert: half: there is no VAE in this model (no weights in vae)*'
mkdir shelf && cp d/vae/config.json vae.safetensors shelf
try sd-convert 2.safetensors -o shelf
like 'nor one with models of other names' "$status $(cat "$err")" '1 sd-convert: shelf/vae.safetensors: is no part of a diffusers model*'
mkdir other && echo '{}' >other/x.json
try sd-convert 2.safetensors -o other
like 'a folder that is no model' "$status $(cat "$err")" '1 sd-convert: other/x.json: is no part of a diffusers model*'
try sd-convert 2.safetensors --save-model-as diffusers_safetensors -o 1.safetensors
like 'a file in the way' "$status $(cat "$err")" '1 sd-convert: 1.safetensors: is a file, expected a folder*'
try sd-convert 2.safetensors -o none/d
like 'a folder in none' "$status $(cat "$err")" '1 *none/d: No such file*'

# -- files of torch.save

sd-convert 1.safetensors --no-metadata -o bare.safetensors
try sd-convert bare.safetensors -o x.ckpt --epoch 2 --global-step 30
is 'a .ckpt' "$status $(cat "$err")" '0 '
is 'with its counters' "$(sd-inspect --metadata-only x.ckpt | jq -c '[.tensors, .metadata]')" '[428,{"epoch":"2","global_step":"30"}]'
sd-convert x.ckpt -o y.ckpt --epoch 1
is 'which count on' "$(meta y.ckpt)" '{"epoch":"3","global_step":"30"}'
sd-convert x.ckpt --no-metadata -o x.safetensors
same 'and back' x.safetensors bare.safetensors
sd-convert x.ckpt -t f16 --save-model-as diffusers -o bins
is 'a folder of .bin' "$(cd bins && find . -name '*.bin' | sort | xargs)" \
    './text_encoder/pytorch_model.bin ./unet/diffusion_pytorch_model.bin ./vae/diffusion_pytorch_model.bin'
sd-convert bins -o x.safetensors && sd-convert f16.safetensors -o y.safetensors
is 'and back' "$(tensors x.safetensors)" "$(tensors y.safetensors)"
data x.safetensors >one && data y.safetensors >two
same 'with the same bytes' one two
sd-convert 1.safetensors --part vae -o vae.pt
is 'a part in .pt' "$(sd-inspect --metadata-only vae.pt | jq .tensors)" "$(tensors vae3.safetensors | wc -l)"
try sd-convert 1.safetensors -o no.ckpt -m a=b
like 'metadata has no place in it' "$status $(cat "$err")" '2 *metadata goes into .safetensors files only*'
try sd-convert 1.safetensors -o no.safetensors --epoch 3
like 'counters have none elsewhere' "$status $(cat "$err")" '2 *--epoch and --global-step are for a .ckpt*'
printf 'PK\003\004 no archive' >bad.ckpt
try sd-convert bad.ckpt -o no.safetensors
like 'a broken .ckpt' "$status $(cat "$err")" '1 sd-convert: bad.ckpt: *'
try sd-convert "$root/t/data/torch/bad/system-2.pt" -o no.safetensors
like 'a malicious one' "$status $(cat "$err")" '1 *system*'

# -- what is wrong

edit 1.safetensors 'with_entries(if .key == "model.diffusion_model.out.2.bias" then .key = "model.diffusion_model.oops" else . end)' bad.safetensors
try sd-convert bad.safetensors -o no.safetensors
like 'a missing tensor' "$status $(cat "$err")" '1 *bad.safetensors: the unet*: 1 missing (unet.conv_out.bias)*'
edit 1.safetensors '."model.diffusion_model.time_embed.0.weight".shape |= reverse' bad.safetensors
try sd-convert bad.safetensors -o no.safetensors
like 'a misshapen one' "$status $(cat "$err")" '1 *1 of another shape (unet.time_embedding.linear_1.weight *'
edit 1.safetensors '."cond_stage_model.transformer.text_model.final_layer_norm.bias".dtype = "F16" |
    ."cond_stage_model.transformer.text_model.final_layer_norm.bias".shape = [64]' bad.safetensors
try sd-convert bad.safetensors -o no.safetensors
like 'in the text encoder' "$status $(cat "$err")" '1 *text_encoder.text_model.final_layer_norm.bias*'
at=$(sd-inspect --tensors-only 1.safetensors | jq 'select(.tensor == "first_stage_model.quant_conv.bias").offset')
cp 1.safetensors bad.safetensors
printf '\000\000\000\177' | dd of=bad.safetensors bs=1 seek="$at" conv=notrunc 2>/dev/null
try sd-convert bad.safetensors -t f16 -o x.safetensors
like 'a number too large' "$status $(cat "$err")" '0 sd-convert: 1 numbers are too large for f16*'
try sd-convert bad.safetensors -t bf16 -o x.safetensors
is 'but not for bf16' "$status $(cat "$err")" '0 '
echo text >bad.safetensors
try sd-convert bad.safetensors -o no.safetensors
like 'no model' "$status $(cat "$err")" '1 sd-convert: bad.safetensors: *'
try sd-convert nothing -o no.safetensors
like 'nothing' "$status $(cat "$err")" '1 sd-convert: nothing: No such file*'
try sd-convert unet.safetensors --part vae -o no.safetensors
like 'a part that is not there' "$status $(cat "$err")" '1 *there is no VAE in this model*'
try sd-convert 1.safetensors --vae unet.safetensors -o no.safetensors
like 'a VAE that is none' "$status $(cat "$err")" '1 *unet.safetensors: there is no VAE*'
try sd-convert 1.safetensors
like 'no output' "$status $(cat "$err")" '2 *no output*'
try sd-convert 1.safetensors -o x.foo
like 'an ending unknown' "$status $(cat "$err")" '2 *x.foo: neither*'
try sd-convert 1.safetensors -o no.safetensors --part clip
like 'a part unknown' "$status $(cat "$err")" '2 *--part clip: expected*'
try sd-convert 1.safetensors -o no.safetensors --v2
like '--v2' "$status $(cat "$err")" '2 *is a model of Stable Diffusion 1, which --v2 denies*'
try sd-convert "$small/sd2-small-ldm.safetensors" -o no.safetensors --v1
like '--v1' "$status $(cat "$err")" '2 *is a model of Stable Diffusion 2, which --v1 denies*'
try sd-convert 1.safetensors -o no.safetensors --fp16 --dtype f32
like 'two types' "$status $(cat "$err")" '2 *more than one of*'
try sd-convert 1.safetensors -o no.safetensors --no-prefix
like 'no prefix for three parts' "$status $(cat "$err")" '2 *--no-prefix is for one part*'
try sd-convert 1.safetensors -o no --reference nowhere
like 'a reference that is none' "$status $(cat "$err")" '2 *--reference nowhere: there is no scheduler*'
try sd-convert 1.safetensors -o no.safetensors --reference d
like 'a reference for a file' "$status $(cat "$err")" '2 *--reference is for a folder*'
try sd-convert 1.safetensors -o no.safetensors --variant fp16
like 'a variant of a file' "$status $(cat "$err")" '2 *--variant is for a folder*'
try sd-convert d -o no.safetensors --variant none
like 'a variant that is not there' "$status $(cat "$err")" '1 *there is no U-Net in this model (no weights in unet)*'
try sd-convert 1.safetensors -o no.safetensors --old-vae-names
like 'old names in the original layout' "$status $(cat "$err")" "2 *--old-vae-names is for diffusers' layout*"
try sd-convert 1.safetensors -o no.safetensors --unet-only --vae vae.safetensors
like 'a VAE that would go nowhere' "$status $(cat "$err")" '2 *--vae, but no VAE is written*'
try sd-convert 1.safetensors -o no --prefix
like 'prefixes in a folder' "$status $(cat "$err")" '2 *are for a file*'
try sd-convert 1.safetensors -o no --layout ldm
like 'a folder in the original layout' "$status $(cat "$err")" "2 *a folder has diffusers' layout*"
ok 'none of them left a file' test ! -e no -a ! -e no.safetensors -a ! -e no.ckpt

echo before >there.safetensors
try sd-convert 1.safetensors -o /dev/full --save-model-as safetensors
like 'a full disk' "$status $(cat "$err")" '3 *No space left*'
(trap '' XFSZ && ulimit -f 2000 && sd-convert 1.safetensors -o there.safetensors 2>"$err")
is 'a file too large for the system' "$? $(cat there.safetensors)" '3 before'
(trap '' XFSZ && ulimit -f 2000 && sd-convert 1.safetensors -o d 2>"$err")
is 'in a folder' "$? $(jq -r ._class_name d/scheduler/*) $(ls -A | grep -c '[.]sd-')" '3 PNDMScheduler 0'
finish
