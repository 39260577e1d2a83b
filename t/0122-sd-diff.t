#!/bin/sh
# sd-diff: files and layouts that are the same, every way in which tensors differ, the exit status.
. "$(dirname "$0")/lib.sh"
model=$root/t/data/model

# st NAME HEADER DATA: a safetensors file; DATA in octal escapes.
st() {
    _n=$(printf '%s' "$2" | wc -c)
    { printf "\\$(printf %o $((_n % 256)))\\$(printf %o $((_n / 256)))\0\0\0\0\0\0"; printf '%s' "$2"; printf "$3"; } >"$1"
}
# of TENSOR: its record without its name, types and shapes
of() { jq -c --arg t "$1" 'select(.tensor == $t) | del(.tensor, .dtype_a, .dtype_b, .shape_a, .shape_b)' "$out"; }

try sd-diff "$model"/sd1-small-ldm.safetensors "$model"/sd1-small-ldm.safetensors
is 'a file and itself: status and lines' "$status $(wc -l <"$out") $(cat "$err")" '0 1 '
is 'a file and itself: the summary' "$(jq -c '[.different, .shape, .only_a, .only_b, .max_abs, .relative_l2, .cosine]' "$out")" '[0,0,0,0,0,0,1]'
try sd-diff --exact "$model"/sd1-small-ldm.safetensors "$model"/sd1-small-ldm.safetensors
is '--exact: a file and itself' $status 0
try sd-diff --common "$model"/sd1-small-ldm.safetensors "$model"/sd1-small.safetensors
is 'original and diffusers names are paired' "$status $(jq -c '[.different, .shape, .same > 900]' "$out")" '0 [0,0,true]'
try sd-diff "$model"/sd1-small-ldm.safetensors "$model"/sd1-small.safetensors
is 'tensors that are no parameters keep their names' \
    "$status $(jq -rs 'map(.status // empty) | unique | join(" ")' "$out") $(jq -r 'select(.tensor == "in.vae.noise").status' "$out")" '1 only_b only_b'
try sd-diff --file-names --top 0 "$model"/sd1-small-ldm.safetensors "$model"/sd1-small.safetensors
is '--file-names' "$status $(jq -c '[.same, .only_a > 900, .only_b > 900]' "$out")" '1 [0,true,true]'

# a: 1 2 3 4; b: 1 2 3 5 in F32
st a '{"t":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"gone":{"dtype":"U8","shape":[1],"data_offsets":[16,17]},"s":{"dtype":"U8","shape":[2,1],"data_offsets":[17,19]},"near":{"dtype":"F64","shape":[1],"data_offsets":[19,27]}}' \
    '\0\0\200\77\0\0\0\100\0\0\100\100\0\0\200\100\1\1\2\0\0\0\0\0\0\360\77'
st b '{"t":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"new":{"dtype":"U8","shape":[1],"data_offsets":[16,17]},"s":{"dtype":"U8","shape":[1,2],"data_offsets":[17,19]},"near":{"dtype":"F64","shape":[1],"data_offsets":[19,27]}}' \
    '\0\0\200\77\0\0\0\100\0\0\100\100\0\0\240\100\1\1\2\1\0\0\0\0\0\360\77'
try sd-diff a b
is 'everything that can differ' "$status $(jq -r 'select(.tensor) | "\(.tensor):\(.status)"' "$out" | paste -sd ' ')" \
    '1 gone:only_a new:only_b s:shape t:different near:different'
is 'the numbers of a difference' "$(of t)" \
    '{"status":"different","max_abs":1,"mean_abs":0.25,"relative_l2":0.18257418583505536,"cosine":0.9939990885479664,"elements":4,"unequal":1,"nonfinite":0}'
is 'the last bit of a double' "$(of near | jq .max_abs)" 2.220446049250313e-16
try sd-diff --top 2 a b
is '--top' "$(jq -r '.tensor // "summary"' "$out" | paste -sd ' ')" 'summary gone new'
try sd-diff --tolerance 0.1 a b
is '--tolerance keeps the larger' "$(jq -r 'select(.status == "different").tensor' "$out")" t
try sd-diff --tolerance 0.2 a b
is '--tolerance passes both' "$(head -n 1 "$out" | jq -c '[.same, .different]')" '[2,0]'
try sd-diff --common --all --tolerance 0.2 a b
is '--all and --common' "$status $(jq -r 'select(.tensor) | "\(.tensor):\(.status)"' "$out" | paste -sd ' ')" '1 s:shape t:same near:same'

# NaN, infinity, another type: 1 NaN inf as F32, as F16, and with the NaN moved
head3() { printf '{"t":{"dtype":"%s","shape":[3],"data_offsets":[0,%s]}}' "$1" "$2"; }
st n32 "$(head3 F32 12)" '\0\0\200\77\0\0\300\177\0\0\200\177'
st n16 "$(head3 F16 6)" '\0\74\0\176\0\174'
st moved "$(head3 F16 6)" '\0\176\0\74\0\174'
try sd-diff n32 n16
is 'the same numbers in another type, NaN and infinity too' $status 0
try sd-diff --exact n32 n16
is '--exact sees the type' "$status $(jq -r 'select(.tensor) | .status, .dtype_a, .dtype_b' "$out" | paste -sd ' ')" '1 different F32 F16'
try sd-diff --tolerance 1e9 n16 moved
is 'NaN against a number is different at any tolerance' "$status $(of t | jq -c '[.unequal, .nonfinite]')" '1 [2,2]'
try sd-diff n16 n16
is 'NaN is NaN' $status 0
st zero "$(head3 F16 6)" '\0\0\0\0\0\0'
st one "$(head3 F16 6)" '\0\74\0\0\0\0'
try sd-diff zero one
is 'a is all zeros' "$status $(of t | jq -c '[.relative_l2, .cosine, .max_abs]')" '1 [null,null,1]'

for j in 1 3; do
    sd-diff -j $j --all --file-names "$model"/sd1-small.safetensors "$model"/sd2-small.safetensors >j$j
done
ok 'two models of different shapes are compared' jq -se '.[0] | .different > 100 and .shape > 50 and .only_a > 0' j1
same 'the same for any number of threads' j1 j3

# Tensors that their file does not hold as they are.
try sd-diff --exact "$root"/t/data/torch/views.pt "$root"/t/data/torch/views.safetensors
is 'tensors with strides' "$status $(jq .same "$out")" '0 10'
try sd-diff --exact "$root"/t/data/store/deflated.npz "$root"/t/data/store/plain.npz
is 'compressed arrays' "$status $(jq -s '.[0].same' "$out") $(cat "$err")" '0 3 '

net=$root/t/data/inspect
try sd-diff --tolerance 1e-6 "$net"/networks.safetensors "$net"/rescaled.safetensors
is 'the factors of these networks differ' "$(head -n 1 "$out" | jq '.different > 10')" true
try sd-diff --lora --tolerance 1e-6 "$net"/networks.safetensors "$net"/rescaled.safetensors
is '--lora: what they add to the weights does not, but for two' \
    "$status $(jq -r 'select(.module) | [.status, .module] | join(":")' "$out" | paste -sd ' ')" \
    '1 only_a:oft_unet_down_blocks_1_attentions_0_proj_in different:lora_unet_mid_block_resnets_0_conv1'
is '--lora: by a tenth' "$(jq 'select(.status == "different").relative_l2 - 0.1 | fabs < 1e-6' "$out")" true
is '--lora: ranks and alphas' "$(jq -c 'select(.status == "different") | [.rank_a, .alpha_a, .rank_b, .alpha_b, .elements]' "$out")" '[3,3,3,1.5,315]'
try sd-diff --lora --common "$net"/networks.safetensors "$net"/networks.safetensors
is '--lora: a network and itself, OFT too' "$status $(jq .same "$out")" '0 12'
try sd-diff --lora --common --all "$net"/networks.safetensors "$net"/peft.safetensors
is "--lora: PEFT's spelling, whose alpha is the rank" "$(jq -c 'select(.module) | [.status, .relative_l2 * 1000 | tostring]' "$out" | paste -sd ' ')" \
    '["different","1000"] ["same","0"]'
try sd-diff --lora "$root"/t/data/lora-tools/c.safetensors "$root"/t/data/lora-tools/c.pt
is '--lora: matrices that lie in columns' "$status" 0
try sd-diff --lora "$net"/networks.safetensors "$model"/sd1-small.safetensors
is '--lora: no network is trouble' "$status$(cat "$out")" 2
for args in --exact --file-names; do
    try sd-diff --lora $args "$net"/peft.safetensors "$net"/peft.safetensors
    is "--lora $args: wrong usage" "$status$(cat "$out")" 2
done

for bad in nothing "$root/README.md" "$tmp"; do
    try sd-diff a "$bad"
    is "trouble with the second: status 2" "$status$(cat "$out")" 2
    try sd-diff "$bad" a
    like "trouble with the first" "$status $(cat "$err")" "2 sd-diff: $bad*"
done
for args in '' a 'a b a' '--top -2 a b' '--tolerance -1 a b' '--exact --tolerance 1 a b'; do
    # shellcheck disable=SC2086
    try sd-diff $args
    is "wrong usage: sd-diff $args" "$status$(cat "$out")" 2
done
sd-diff a b >/dev/full 2>"$err"
is 'a full disk' $? 3
finish
