#!/bin/sh
# sd-inspect --lora: networks of every kind, their norms beside PyTorch's (t/data/inspect, made by t/ref/inspect_files.py),
# and broken ones.
. "$(dirname "$0")/lib.sh"
data=$root/t/data/inspect

for jobs in 1 3; do
    try sd-inspect --lora -j $jobs "$data"/networks.safetensors
    is "-j $jobs: a line for the file and one for each module" "$status $(wc -l <"$out")" '0 13'
done
is 'types and norms of the products' "$(jq -sr --slurpfile want "$data"/expected.json '
    INDEX(.module) as $got | $want[0].networks | to_entries[] | $got[.key] as $g | (.value.norm // 0) as $n |
    select($g.type != .value.type or ($g.norm == null) != (.value.norm == null) or
        ((($g.norm // 0) - $n) | fabs) > 1e-7 * $n) | "\(.key): \($g.type) \($g.norm), expected \(.value)"' "$out")" ''
is 'magnitudes as check_lora_weights.py prints them' "$(jq -sr --slurpfile want "$data"/expected.json '
    INDEX(.module) as $got | $want[0].magnitudes | to_entries[] | (.key | split(".lora_")) as [$m, $t] |
    $got[$m].tensors[$t[:-7]] as $g | select((($g.mean_abs - .value[0]) | fabs) > 1e-7 or $g.min_abs != .value[1]) |
    "\(.key): \($g), expected \(.value)"' "$out")" ''
is 'the network as a whole' "$(jq -c 'select(.network).network | [.type, .modules, .dora, .ranks, .alphas]' "$out")" \
    '["mixed",12,true,{"2":5,"3":2,"4":2},{"1":5,"1.5":1,"2":1,"3":1,"4":1}]'
is 'blocks in the order of the data' "$(jq -r 'select(.network).network.blocks | map(.block) | join(" ")' "$out")" \
    'layers_11 down_blocks_0 down_blocks_1 mid_block up_blocks_1 up_blocks_2 up_blocks_3 other'
is "a block's norm is that of its modules together" "$(jq -s '(.[0].network.blocks[] | select(.block == "down_blocks_0").norm) as $b |
    ([.[] | select(.block == "down_blocks_0").norm | . * .] | add | sqrt) - $b | fabs < 1e-12' "$out")" true
is 'a convolution' "$(jq -c 'select(.module == "lora_unet_down_blocks_0_resnets_0_conv1") | [.rank, .alpha, .in, .out, .window]' "$out")" '[3,1.5,9,11,9]'
try sd-inspect --lora "$root"/t/data/lora/run1-final.safetensors
is 'text encoder and U-Net apart' "$(jq -c 'select(.network).network | [.type, (.parts | map_values(.modules))]' "$out")" \
    '["lora",{"text_encoder":12,"unet":192}]'
try sd-inspect --lora "$data"/peft.safetensors
is "PEFT's and diffusers' spelling" "$status $(jq -c 'select(.module) | [.part, .block, .rank]' "$out" | paste -sd ' ')" \
    '0 ["text_encoder","layers_11",4] ["unet","down_blocks_0",4] ["unet","down_blocks_0",2]'
tools=$root/t/data/lora-tools
for f in c.safetensors c.pt; do
    try sd-inspect --lora "$tools"/$f
    jq -S '.network // del(.file)' "$out" >${f#c.}
done
same 'matrices that lie in columns' pt safetensors
try sd-inspect --lora --metadata-only "$data"/networks.safetensors
is '--metadata-only' "$(wc -l <"$out") $(jq .network.modules "$out")" '1 12'
try sd-inspect --lora --tensors-only "$data"/networks.safetensors
is '--tensors-only: only the modules' "$(jq -s 'length, all(.module)' "$out" | paste -sd ' ')" '12 true'

try sd-inspect --lora "$root"/t/data/store/plain.safetensors "$data"/peft.safetensors "$root"/t/data/store/plain.npz
is 'no network: its line tells, the others are there' \
    "$status $(jq -r 'if .error then .error.message else .module // "file" end' "$out" | cut -c1-20 | paste -sd ,)" \
    "1 no tensor in it is o,file,text_encoder.text_mo,base_model.model.une,unet.down_blocks.0.a,an npz archive is ne"
# st NAME HEADER BYTES: a safetensors file with that many zeros for data
st() {
    _n=$(printf '%s' "$2" | wc -c)
    { printf "\\$(printf %o $((_n % 256)))\\$(printf %o $((_n / 256)))\0\0\0\0\0\0"; printf '%s' "$2"; head -c "$3" /dev/zero; } >"$1"
}
st half '{"a.lora_down.weight":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}' 24
st misfit '{"a.lora_down.weight":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"a.lora_up.weight":{"dtype":"F32","shape":[4,3],"data_offsets":[24,72]},"b.diff":{"dtype":"F32","shape":[1],"data_offsets":[72,76]}}' 76
st empty '{"a.lora_down.weight":{"dtype":"F32","shape":[0,3],"data_offsets":[0,0]},"a.lora_up.weight":{"dtype":"F32","shape":[4,0],"data_offsets":[0,0]}}' 0
st kron '{"a.lokr_w1":{"dtype":"U8","shape":[1,65536],"data_offsets":[0,65536]},"a.lokr_w2":{"dtype":"U8","shape":[1,512],"data_offsets":[65536,66048]}}' 66048
st cross '{"a.hada_w1_a":{"dtype":"U8","shape":[2,1],"data_offsets":[0,2]},"a.hada_w1_b":{"dtype":"U8","shape":[1,2],"data_offsets":[2,4]},"a.hada_w2_a":{"dtype":"U8","shape":[2,1],"data_offsets":[4,6]},"a.hada_w2_b":{"dtype":"U8","shape":[1,2],"data_offsets":[6,8]},"a.lokr_w1":{"dtype":"U8","shape":[1],"data_offsets":[8,9]}}' 9
st twice '{"a.lora_down.weight":{"dtype":"U8","shape":[1,1],"data_offsets":[0,1]},"a.lora_up.weight":{"dtype":"U8","shape":[1,1],"data_offsets":[1,2]},"a.lora_A.weight":{"dtype":"U8","shape":[1,1],"data_offsets":[2,3]},"a.lora_B.weight":{"dtype":"U8","shape":[1,1],"data_offsets":[3,4]}}' 4
st places '{"a.b.lora_down.weight":{"dtype":"U8","shape":[1,1],"data_offsets":[0,1]},"a.b.lora_up.weight":{"dtype":"U8","shape":[1,1],"data_offsets":[1,2]},"a_b.lora_A.weight":{"dtype":"U8","shape":[1,1],"data_offsets":[2,3]},"a_b.lora_B.weight":{"dtype":"U8","shape":[1,1],"data_offsets":[3,4]}}' 4
st alpha '{"a.lora_down.weight":{"dtype":"U8","shape":[1,1],"data_offsets":[0,1]},"a.lora_up.weight":{"dtype":"U8","shape":[1,1],"data_offsets":[1,2]},"a.alpha":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}}' 4
st spellings '{"a.lora_linear_layer.down.weight":{"dtype":"U8","shape":[1,3],"data_offsets":[0,3]},"a.lora_linear_layer.up.weight":{"dtype":"U8","shape":[2,1],"data_offsets":[3,5]},"b.down.weight":{"dtype":"U8","shape":[1,4],"data_offsets":[5,9]},"b.up.weight":{"dtype":"U8","shape":[2,1],"data_offsets":[9,11]}}' 11
for bad in 'half: a.lora_up.weight is missing' \
    'misfit: a.lora_up.weight is [4,3], expected a shape that fits the others of its module' \
    'empty: a.lora_down.weight is [0,3], expected a shape that fits the others of its module' \
    'kron: a.lokr_w2 is [1,512], expected a shape that fits the others of its module' \
    'cross: a is of both a LoHa and a LoKr' 'twice: a is there in two spellings' \
    'alpha: a.alpha is no single number'; do
    name=${bad%%:*}
    try sd-inspect --lora --tensors-only "$name"
    is "$name: an error of the module" "$status $(jq -r 'select(.module == "a") | .error.message' "$out")" \
        "1 $name: module a: ${bad#*: }"
done
try sd-inspect --lora --tensors-only places
is 'two modules in one place' "$(jq -r .error.message "$out" | sed 's/.*: //' | paste -sd ,)" \
    'a_b is there in two spellings,a_b is there in two spellings'
try sd-inspect --lora --tensors-only spellings
is "diffusers' text encoders and ControlLoRA" "$status $(jq -c '[.module, .in, .out]' "$out" | paste -sd ' ')" \
    '0 ["a",3,2] ["b",4,2]'
try sd-inspect --lora --stats "$data"/peft.safetensors
is 'with --stats: wrong usage' "$status$(cat "$out")" 2
finish
