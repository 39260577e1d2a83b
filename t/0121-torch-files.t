#!/bin/sh
# Models and LoRAs in the files of torch.save, in shards and in diffusers folders, as the programs see them.
. "$(dirname "$0")/lib.sh"
data=$root/t/data/torch
tiny=$root/contrib/tiny/sd.safetensors
writer=$root/build/release/t/torch
[ -z "${SD_SAN:-}" ] || writer=$root/build/san/t/torch

# ---- sd-inspect ----

try sd-inspect --metadata-only "$data/lightning.ckpt" "$data/lightning-legacy.ckpt" "$data/embedding.pt" "$data/views-legacy.bin"
is 'the formats' "$status $(jq -r .format "$out" | tr '\n' ' ')" '0 torch torch-legacy torch torch-legacy '
is 'what lies beside the weights' "$(head -n 1 "$out" | jq -c .metadata)" \
    '{"epoch":"12","global_step":"470000","pytorch-lightning_version":"1.4.2","half":"0.5"}'
try sd-inspect --tensors-only "$data/embedding.pt"
is 'an embedding of textual inversion' "$(jq -c '[.tensor,.dtype,.shape]' "$out")" '["string_to_token.*","I64",[]]
["string_to_param.*","F32",[2,8]]'
try sd-inspect --tensors-only "$data/embedding-diffusers.bin"
is "and diffusers' form of one" "$(jq -c '[.tensor,.dtype,.shape]' "$out")" '["<cat>","F16",[8]]'
try sd-inspect --tensors-only "$data/views.pt"
is 'tensors with strides say so' "$(jq -r 'select(.strided).tensor' "$out" | sort | tr '\n' ' ')" \
    'channels_last column steps turned '
cp "$data/types.pt" no-suffix
try sd-inspect --metadata-only no-suffix
is 'content decides, not the name' "$(jq -r .format "$out")" torch

# Nothing in a bad file is run, and each is told from the rest.
bad=0 first=
cp -r "$data/bad" bad
while IFS="$(printf '\t')" read -r name message; do
    sd-inspect "bad/$name" >"$out" 2>"$err" && first=${first:-$name}
    [ $? -le 1 ] || first=${first:-$name}
    grep -qF -e "$message" "$err" || grep -qF -e "$(printf %s "$message" | tr '\033\007' '??')" "$err" || first=${first:-$name}
    [ "$(wc -l <"$err")" = 1 ] || first=${first:-$name}
    bad=$((bad + 1))
done <bad/expected.txt
is 'a corpus of attacks: each refused for its reason' "$first $((bad > 100))" ' 1'
ok 'no control character of theirs is shown' sh -c '! sd-inspect bad/name-odd.pt 2>&1 >/dev/null | grep -q "[[:cntrl:]]"'
try sd-inspect bad/system-2.pt "$data/alone.pt"
is 'and costs nothing else' "$status $(jq -r '.error.message // .tensor // .format' "$out")" \
    '1 data.pkl: pickle, byte 2: refers to posix.system, which is none of the names that weights need: refused, and nothing of it was run
torch
tensor'

# Memory is bounded by the file's size, whatever a file claims.
if [ -z "${SD_SAN:-}" ]; then
    ok 'in 200 MB of address space' sh -c 'ulimit -v 200000; for f in bad/*.*[tz]; do sd-inspect --stats "$f" 2>&1; done | grep -c "out of memory" | grep -qx 0'
    # Behind what begins a file of before 2018, 6 MiB that make an object of every 4 bytes; 16 times that is 96 MiB.
    {
        printf '\200\002\212\012\154\374\234\106\371\040\152\250\120\031.\200\002M\351\003.\200\002}U\015little_endian\210s.'
        printf 'ctorch\nTensor\nq\000('
        yes 'h_)R' | tr -d '\n' | tr _ '\000' | head -c 6291456
        printf 't.'
    } >bomb.pt
    (ulimit -v 118000 && sd-inspect bomb.pt >"$out" 2>"$err")
    like 'a bomb takes at most 16 times its bytes' "$(cat "$err")" '*bomb.pt: *more than 16 bytes of memory for each of its own*'
else
    skip 'in 200 MB of address space' 'the sanitizers reserve more'
    skip 'a bomb takes at most 16 times its bytes' 'the sanitizers reserve more'
fi

# ---- models ----

try sd-inspect --parameters "$data/folder"
is 'a folder of shards and .bin: every tensor is a parameter' "$status $(jq -r 'select(.tensor and (.parameter | not)).tensor' "$out")" '0 '
try sd-inspect --metadata-only "$data/folder/unet/diffusion_pytorch_model.safetensors.index.json"
is 'an index opens all its shards' "$(jq -c '[.format,.tensors]' "$out")" '["shards",684]'

# The variants that hubs offer, where there is nothing else.
cp -r "$data/folder" variant
(
    cd variant/unet || exit
    for f in *.safetensors; do mv "$f" "diffusion_pytorch_model.fp16${f#diffusion_pytorch_model}"; done
    sed 's/diffusion_pytorch_model-/diffusion_pytorch_model.fp16-/' ./*.index.json >diffusion_pytorch_model.safetensors.index.fp16.json
    rm diffusion_pytorch_model.safetensors.index.json
    mv ../vae/diffusion_pytorch_model.bin ../vae/diffusion_pytorch_model.fp16.bin
)
try sd-inspect --parameters variant
is 'fp16 variants, in shards and as .bin' "$status $(cat "$err") $(jq -r 'select(.tensor) | has("parameter")' "$out" | sort | uniq -c | tr -s ' ')" '0   964 true'
cp "$data/channels-last.ckpt" variant/vae/diffusion_pytorch_model.safetensors
try sd-inspect --parameters variant/vae/diffusion_pytorch_model.safetensors
is 'a configuration that a checkpoint has beside its weights' "$status $(head -n 1 "$out" | jq -c .parts)" '0 ["vae"]'

cp -r "$data/folder" folder
rm folder/unet/diffusion_pytorch_model-00002-of-00003.safetensors
try sd-encode-latents --vae folder/vae -j 1 </dev/null
is 'a VAE alone, as .bin' "$status $(cat "$err")" '0 '
: >nothing
try sd-sample --model folder -o out <nothing
like 'a missing shard is named' "$(cat "$err")" \
    '*its shard diffusion_pytorch_model-00002-of-00003.safetensors: *No such file or directory*'
rm folder/unet/*.index.json
try sd-sample --model folder -o out <nothing
like 'a missing index too' "$(cat "$err")" '*folder/unet: diffusion_pytorch_model-0000?-of-00003.safetensors is a part of a model, but the index*'

# A configuration that is broken, absurd, or another model's.
# config PART JQ MESSAGE: with PART's config.json changed
config() {
    cp "$data/folder/$1/config.json" was.json
    jq "$2" was.json >"folder/$1/config.json" || return 1
    try sd-convert -q folder -o never.safetensors
    like "$1 with $2" "$status $(cat "$err")" "1 sd-convert: folder*$3*"
    cp was.json "folder/$1/config.json"
}
rm -r folder && cp -r "$data/folder" folder && chmod -R u+w folder
config unet '[]' 'unet/config.json: not a JSON object'
config unet '.layers_per_block = 2000000000' 'unet/config.json: layers_per_block: expected a whole number from 0 to 64'
config unet '.layers_per_block = "2"' 'unet/config.json: layers_per_block: expected a whole number from 0 to 64'
config unet '.in_channels = 2000000000' 'in_channels is 2000000000, expected 1 to 65536'
config unet '.block_out_channels |= map(1e15)' 'unet/config.json: block_out_channels: expected whole numbers'
config unet '.down_block_types[0] = "Strange2D"' 'Strange2D is not supported'
config unet '.block_out_channels |= map(2 * .)' "the unet's tensors do not fit its configuration: * of another shape"
config unet '.layers_per_block = 3' "the unet's tensors do not fit its configuration: 244 missing"
config vae '.latent_channels = 8' "the vae's tensors do not fit its configuration*"
config text_encoder '.num_hidden_layers = 100000000' 'num_hidden_layers is 100000000, expected 1 to 256'
head -c 100 "$data/folder/unet/config.json" >folder/unet/config.json
try sd-convert -q folder -o never.safetensors
like 'half a configuration' "$status $(cat "$err")" '1 sd-convert: folder/unet/config.json: not valid JSON*'
cp "$data/folder/unet/config.json" folder/unet && mkdir folder/scheduler && echo '{' >folder/scheduler/scheduler_config.json
try sd-convert -q folder -o never.safetensors
like "a scheduler's" "$status $(cat "$err")" '1 sd-convert: folder/scheduler/scheduler_config.json: not valid JSON*'
ok 'nothing was written' test ! -e never.safetensors

# shard TEXT...: an index with these contents
shard() {
    printf '%s' "$1" >index.json
    try sd-inspect index.json
}
cp "$data/alone.pt" alone.pt
shard '{"weight_map":{"tensor":"alone.pt"}}'
is 'an index of one file' "$status" 0
shard '{"weight_map":{"tensor":"alone.pt","other":"alone.pt"}}'
like 'a tensor that is not where the index says' "$(cat "$err")" '*weight_map places tensor "other" in alone.pt, where it is not*'
shard '{"weight_map":{"tensor":"../work/alone.pt"}}'
like 'a shard in another folder' "$(cat "$err")" '*names "../work/alone.pt", expected a tensor file in this folder*'
shard '{"weight_map":{"tensor":"index.json"}}'
like 'an index of itself' "$(cat "$err")" '*names "index.json", expected a tensor file in this folder*'
ln -s index.json self.pt
shard '{"weight_map":{"tensor":"self.pt"}}'
like 'also under another name' "$(cat "$err")" '*self.pt: a shard that is itself an index*'
shard '{"weight_map":{"tensor":7}}'
like 'a shard that is no name' "$(cat "$err")" '*"tensor" is not given a file*'
shard '{"config":{}}'
like 'other JSON' "$(cat "$err")" '*JSON without a weight_map*'
shard '{"weight_map":'
like 'broken JSON' "$(cat "$err")" '*not a tensor file: read as an index of shards*'

# ---- sd-sample ----

if [ -x "$writer" ]; then
    echo 'a red circle --d 1' >p
    draw() { try sd-sample -q -j 1 --width 64 --height 64 --steps 1 "$@" <p; }
    ok 'a checkpoint is written' "$writer" "$tiny" sd.ckpt
    draw --model "$tiny" -o want
    draw --model sd.ckpt -o got
    same 'and draws the same picture' got/00000-1.png want/00000-1.png
    mkdir sks && cp "$root"/contrib/tiny/sks/0[12].* sks && rm -f sks/*.npz
    sd-scan sks | sd-merge | sd-bucket -q --resolution 64 --bucket-reso-steps 8 --min-bucket-reso 32 |
        sd-encode-latents -j 1 --model sd.ckpt >data
    try sd-train lora -j 1 -q --model sd.ckpt --seed 1 --learning-rate 1e-2 --max-train-steps 2 -o lora.safetensors <data
    is 'it can be trained on' "$status $(cat "$err")" '0 '
    ok 'a LoRA as .pt' "$writer" lora.safetensors lora.pt
    draw --model sd.ckpt --lora lora.safetensors -o lora
    draw --model sd.ckpt --lora lora.pt -o pt
    same 'does what the other does' pt/00000-1.png lora/00000-1.png
    ok 'which is something' sh -c '! cmp -s lora/00000-1.png want/00000-1.png'
    head -c 3000000 sd.ckpt >cut.ckpt
    draw --model cut.ckpt -o cut
    like 'one cut short is refused' "$status $(cat "$err")" '[12] *cut.ckpt: *cut short*'
    draw --model bad/eval-2.pt -o evil
    like 'an attack as a model' "$status $(cat "$err")" '[12] *bad/eval-2.pt: data.pkl: *refers to builtins.eval*'
else
    skip 'checkpoints in sd-sample and sd-train' "no $writer (make unit)"
fi
finish
