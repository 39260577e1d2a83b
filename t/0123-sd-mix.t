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
finish
