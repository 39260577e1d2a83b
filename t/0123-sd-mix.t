#!/bin/sh
# sd-mix: what sd-scripts' merge_models.py makes of the same models, differences, blocks, other layouts, and bad input.
. "$(dirname "$0")/lib.sh"
data=$root/t/data/mix
small=$root/t/data/model

# The SHA-256 of what lies behind a safetensors header.
data_hash() { tail -c "+$(($(od -An -td8 -N8 "$1") + 9))" "$1" | sha256sum | cut -d' ' -f1; }

for m in 'a 1 f32' 'b 2 f16' 'c 3 bf16'; do
    # shellcheck disable=SC2086
    set -- $m
    sd-init --arch tiny --seed "$2" --dtype "$3" -o "$1.safetensors" || exit
done
cp "$data"/*.safetensors .

n=$(wc -l <"$data/cases.ndjson")
i=1
while [ $i -le "$n" ]; do
    sed -n ${i}p "$data/cases.ndjson" >case
    models=$(jq -r '.models | map(. + ".safetensors") | join(" ")' case) options=$(jq -r .options case)
    rm -f out.safetensors
    # shellcheck disable=SC2086
    try sd-mix $models -o out.safetensors --no-hash $options
    is "$models $options: bytes of $(jq -r .tool case)" "$status $(data_hash out.safetensors)" "0 $(jq -r .data case)"
    i=$((i + 1))
done
same_tensors() { # the header's tensors and all data, but not the metadata
    for f; do
        head -c "$(($(od -An -td8 -N8 "$f") + 8))" "$f" | tail -c +9 | jq -cS 'del(.__metadata__)'
        data_hash "$f"
    done | sort | uniq -u | wc -l
}

# Layouts: the same weights under the original and under diffusers' names.
ldm=$small/sd1-small-ldm.safetensors diffusers=$small/sd1-small.safetensors
try sd-mix "$ldm" "$diffusers" --ratios 0 1 --saving-precision f16 --no-hash -o second.safetensors
is 'diffusers names beside original ones: status' "$status" 0
sd-mix "$ldm" "$ldm" --ratios 0 1 --saving-precision f16 --no-hash -o same.safetensors 2>"$err"
is 'the same values' "$(same_tensors second.safetensors same.safetensors)" 0
is 'nothing to tell' "$(cat "$err")" ''
try sd-mix "$diffusers" "$ldm" --ratios 1 0 --saving-precision f16 --no-hash -o first.safetensors
is 'diffusers names first: status' "$status" 0
is 'original names and shapes come out' "$(sd-inspect --tensors-only first.safetensors | jq -c 'select(.tensor |
    test("^(model|first_stage_model|cond_stage_model)[.]")) | [.tensor, .shape]' | sort | sha256sum)" \
    "$(sd-inspect --tensors-only "$ldm" | jq -c 'select((.tensor | test("^(model|first_stage_model|cond_stage_model)[.]")) and
    .dtype == "F16") | [.tensor, .shape]' | sort | sha256sum)"
try sd-mix "$ldm" first.safetensors --ratios 0 1 --saving-precision f16 --no-hash -o again.safetensors
is 'and the same values' "$(same_tensors again.safetensors same.safetensors)" 0
is 'whole numbers stay as they are' "$(sd-inspect --tensors-only same.safetensors | jq -c 'select(.dtype | test("^I")) | [.tensor,
    .dtype]')" "$(sd-inspect --tensors-only "$ldm" | jq -c 'select(.dtype | test("^I")) | [.tensor, .dtype]')"
is 'a configuration that shapes do not tell is kept' "$(sd-inspect --metadata-only --parameters same.safetensors | jq -r .model)" custom
try sd-mix "$small/sd2-small-ldm.safetensors" "$small/sd2-small-ldm.safetensors" --saving-precision f16 -o two.safetensors
is 'q, k and v of SD2 stay together' "$status $(sd-inspect --tensors-only two.safetensors | grep -c in_proj)" \
    "0 $(sd-inspect --tensors-only "$small/sd2-small-ldm.safetensors" | grep -c in_proj)"

# The VAE of another model.
try sd-mix a.safetensors a.safetensors --vae b.safetensors --saving-precision f16 --no-hash -o vae.safetensors
sd-mix b.safetensors b.safetensors --ratios 1 0 --saving-precision f16 --no-hash -o b16.safetensors
hash_of() { # hash_of FILE PREFIX
    sd-inspect --tensors-only "$1" | jq -r "select(.tensor | startswith(\"$2\")) | [.offset, .bytes] | @tsv" | while read -r o n; do
        tail -c "+$((o + 1))" "$1" | head -c "$n"
    done | sha256sum
}
is '--vae' "$status $(hash_of vae.safetensors first_stage)" "0 $(hash_of b16.safetensors first_stage)"
try sd-mix part.safetensors a.safetensors --vae b.safetensors --saving-precision f16 --no-hash -o vae.safetensors
is '--vae where the first model has none' "$status $(hash_of vae.safetensors first_stage)" "0 $(hash_of b16.safetensors first_stage)"
try sd-mix a.safetensors b.safetensors --vae part.safetensors -o vae2.safetensors
like '--vae without a VAE' "$status $(cat "$err")" '1 sd-mix: part.safetensors: there is no VAE in this model*'
ok 'writes nothing' test ! -e vae2.safetensors

# What is told, and the metadata.
try sd-mix a.safetensors part.safetensors -o out.safetensors --no-hash
like 'tensors the second lacks' "$(cat "$err")" '*part.safetensors: lacking, the first model*s value stands in: * tensors (*, ...)*'
like 'tensors the first lacks' "$(cat "$err")" '*part.safetensors: skipped, not in the first model: 1 tensor (extra.weight)*'
try sd-mix -q a.safetensors part.safetensors -o out.safetensors --no-hash
is 'not under -q' "$status $(cat "$err")" '0 '
try sd-mix a.safetensors part.safetensors -o out.safetensors --no-hash --show-skipped
is '--show-skipped names them all' "$(grep -c 'part.safetensors: ' "$err")" \
    $(($(sd-inspect --tensors-only a.safetensors | wc -l) - $(sd-inspect --tensors-only part.safetensors | wc -l) + 2))
try sd-mix a.safetensors b.safetensors --weights 0.6,0.6 -o out.safetensors --no-hash -v
like 'weights that do not sum to 1, with -v' "$status $(cat "$err")" '0 *the weights sum to 1.2, not to 1*'
try sd-mix a.safetensors b.safetensors --weights 0.6,0.6 -o ab.safetensors
is 'and without' "$status $(cat "$err")" '0 '
a=$(sha256sum <a.safetensors | cut -c1-64) b=$(sha256sum <b.safetensors | cut -c1-64)
meta() { sd-inspect --metadata-only "$1" | jq -c ".metadata | $2"; }
is 'metadata' "$(meta ab.safetensors '[.format, ."modelspec.merged_from", (.sd_merge_recipe | fromjson |
    .primary_model_hash, .secondary_model_hash, .tertiary_model_hash, .interp_method, .weights)]')" \
    '["pt","a, b","'"$a\",\"$b"'",null,"Weighted sum",[0.6,0.6]]'
is 'the sources' "$(meta ab.safetensors '.sd_merge_models | fromjson | map_values(.name, (.legacy_hash | length))')" \
    "$(printf '{"%s":["a.safetensors",8],"%s":["b.safetensors",8]}' "$a" "$b" | jq -c 'map_values(.[0])')"
try sd-mix ab.safetensors b.safetensors -o more.safetensors
is 'a source that is itself a mix' "$(meta more.safetensors '.sd_merge_models | fromjson | [length, (map(.sd_merge_recipe | select(.) |
    fromjson.weights))]')" '[3,[[0.6,0.6]]]'
try sd-mix a.safetensors b.safetensors -o bare.safetensors --no-metadata
is '--no-metadata' "$(meta bare.safetensors keys)" '["sd_config"]'
for j in 1 2 7; do sd-mix a.safetensors b.safetensors -j $j --no-metadata -o j$j.safetensors; done
ok 'the same bytes for any number of threads' cmp j1.safetensors j2.safetensors
ok 'and more' cmp j1.safetensors j7.safetensors
cp a.safetensors over.safetensors
try sd-mix over.safetensors b.safetensors -o over.safetensors --no-hash --no-metadata
sd-mix a.safetensors b.safetensors -o beside.safetensors --no-hash --no-metadata
ok 'over one of the models' cmp over.safetensors beside.safetensors

# Bad input. Nothing is written, and what was there stays.
echo before >out.safetensors
bad() { # bad STATUS PATTERN ARGUMENT...
    want=$1 pattern=$2
    shift 2
    try sd-mix "$@" -o out.safetensors
    like "$*" "$status $(cat "$err")" "$want sd-mix: $pattern"
    is "$*: the file that was there" "$(cat out.safetensors)" before
}
blocks=0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0
bad 2 'no models are given*'
bad 2 'only one model is given: at least two are needed*' a.safetensors
bad 2 '--weights has 3 numbers, expected 2*' a.safetensors b.safetensors --weights 1,2,3
bad 2 '--weights has 1 number, expected 2*' a.safetensors b.safetensors --weights 1
bad 2 '--weights: "x" is no number*' a.safetensors b.safetensors --weights 1,x
bad 2 '--weights: "" is no number*' a.safetensors b.safetensors --weights 1,
bad 2 '--weights: "nan,1" is no number*' a.safetensors b.safetensors --weights nan,1
bad 2 '--ratios has 1 number, expected 2*' a.safetensors b.safetensors --ratios 1
bad 2 '--ratios: "1," is no number*' a.safetensors b.safetensors --ratios 1, 2
bad 2 '--weights and --ratios*' a.safetensors b.safetensors --weights 1,2 --ratios 1 2
bad 2 '--add-difference takes three models*' a.safetensors b.safetensors --add-difference
bad 2 '--add-difference has no weights*' a.safetensors b.safetensors c.safetensors --add-difference --weights 1,2,3
bad 2 '--multiplier goes with --add-difference*' a.safetensors b.safetensors --multiplier 2
bad 2 '--base goes with --block-weights*' a.safetensors b.safetensors --base 2
bad 2 '--base and --multiplier*' a.safetensors b.safetensors c.safetensors --add-difference --base 2 -m 2 --block-weights "$blocks"
bad 2 '--block-weights has 26 numbers, expected 25*' a.safetensors b.safetensors --block-weights "$blocks,0"
bad 2 '--block-weights takes two models*' a.safetensors b.safetensors c.safetensors --block-weights "$blocks"
bad 2 '*precision*' a.safetensors b.safetensors --precision f64
bad 1 'nowhere.safetensors: *No such file*' a.safetensors nowhere.safetensors
bad 1 'cut.safetensors: *' a.safetensors cut.safetensors
bad 1 '*plain.safetensors: not a Stable Diffusion model*' a.safetensors "$root/t/data/store/plain.safetensors"
bad 1 '*sd2-small-ldm.safetensors: tensor "model.diffusion_model.*" is \[*\], but \[*\] in *' "$ldm" "$small/sd2-small-ldm.safetensors"
head -c 100000 a.safetensors >cut.safetensors
bad 1 'cut.safetensors: *' a.safetensors cut.safetensors
# a NaN: the last two bytes of the last tensor of b, which is F16
head -c -2 b.safetensors >nan.safetensors && printf '\377\177' >>nan.safetensors
last=$(sd-inspect --tensors-only b.safetensors | jq -r .tensor | tail -1)
bad 1 "nan.safetensors: tensor \"$last\" holds NaN or infinite values" a.safetensors nan.safetensors
bad 1 "nan.safetensors: tensor \"$last\" holds NaN or infinite values" a.safetensors nan.safetensors -j 3
bad 1 'tensor "*": the result is beyond the range of F16' a.safetensors b.safetensors --ratios 1e6 0 --saving-precision f16
bad 1 'tensor "*": the result is beyond the range of F16' a.safetensors b.safetensors --ratios 1e6 0 --precision f16
try sd-mix a.safetensors nan.safetensors --allow-nan --no-hash -o nan-out.safetensors
is '--allow-nan' "$status $(cat "$err")" '0 sd-mix: nan-out.safetensors: 1 values are NaN or infinite'
try sd-mix a.safetensors b.safetensors
like 'no output' "$status $(cat "$err")" '2 sd-mix: no output file*'
try sd-mix a.safetensors b.safetensors --no-hash -o /dev/full
like 'a full disk' "$status $(cat "$err")" '3 sd-mix: /dev/full: *'
try sd-mix a.safetensors b.safetensors --no-hash -j 1 -o /dev/full
is 'a full disk, one thread' "$status" 3
try sd-mix a.safetensors b.safetensors -o nowhere/out.safetensors
like 'no such folder' "$status $(cat "$err")" '1 sd-mix: nowhere/out.safetensors: *'

# contrib/kohya/merge_models: the original's command line.
PATH=$root/contrib/kohya:$PATH
try merge_models --models a.safetensors b.safetensors --ratios 0.3 0.7 --output kohya --device cpu
is 'merge_models' "$status $(data_hash kohya.safetensors)" "0 $(jq -r 'select(.options == "--ratios 0.3 0.7").data' "$data/cases.ndjson" | head -1)"
try merge_models --output=kohya2.safetensors --saving_precision fp16 --unet_only --ratios 0.2 0.3 0.5 --models a.safetensors b.safetensors c.safetensors
is 'in another order' "$status $(data_hash kohya2.safetensors)" "0 $(jq -r 'select(.options | test("unet-only")).data' "$data/cases.ndjson")"
try merge_models --models a.ckpt b.safetensors --output x
like 'another format' "$status $(cat "$err")" '2 merge_models: a.ckpt: is not a safetensors model'
try merge_models --output x
like 'no models' "$status $(cat "$err")" '2 merge_models: --models is needed'
try merge_models --models a.safetensors b.safetensors
like 'no output' "$status $(cat "$err")" '2 merge_models: --output is needed'
try merge_models --models a.safetensors b.safetensors --output x --batch
like 'unknown option' "$status $(cat "$err")" '2 merge_models: unknown option --batch'
finish
