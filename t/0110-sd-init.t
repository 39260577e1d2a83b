#!/bin/sh
# sd-init: the files it writes, that they are the same every time, and that there is never half of one.
init=${SD_BIN:-bin}/sd-init
inspect=${SD_BIN:-bin}/sd-inspect
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
n=0 bad=0

# ok NAME: the last command's status is the verdict.
ok() {
    status=$?
    n=$((n + 1))
    if [ $status -eq 0 ]; then
        echo "ok $n - $1"
    else
        echo "not ok $n - $1"
        bad=1
        sed 's/^/# /' "$tmp/out" "$tmp/err" 2>/dev/null | head -20
    fi
}

# run ARG...: output and status into $tmp/out, $tmp/err, $rc.
run() {
    "$init" "$@" >"$tmp/out" 2>"$tmp/err"
    rc=$?
}

# keys ARCH: SHA-256 of "KEY [SHAPE]" of all tensors, from a pipe that is closed after the header: 2 GB are not written.
keys() {
    rm -f "$tmp/pipe" && mkfifo "$tmp/pipe"
    "$init" --arch "$1" -o "$tmp/pipe" 2>"$tmp/err" &
    head -c 400000 "$tmp/pipe" >"$tmp/head"
    wait $!
    head -c $((8 + $(od -An -td8 -N 8 "$tmp/head"))) "$tmp/head" | tail -c +9 |
        jq -r 'to_entries[] | select(.key != "__metadata__") | "\(.key) \(.value.shape | tojson)"' |
        LC_ALL=C sort | sha256sum | cut -d ' ' -f 1 >"$tmp/out"
    test "$(cat "$tmp/out")" = "$2"
}

# The sums are those of t/ref/init.py.
keys sd1 fbe9e797945e250db3109440b2c414d2fb3e64cad4d5de8c67a24d62556624be
ok "sd1 has the original keys and shapes"
keys sd2 5917ead635b68153830d4cae331f784ce6abacdf96a75bcba86a05767a7154d7
ok "sd2 has the original keys and shapes, with what nobody uses"
keys sd2-v 5917ead635b68153830d4cae331f784ce6abacdf96a75bcba86a05767a7154d7
ok "sd2-v is shaped as sd2"

for type in f32 f16 bf16; do
    run --arch tiny --seed 7 --dtype $type -o "$tmp/$type.safetensors"
    test $rc = 0 && test ! -s "$tmp/out" && test ! -s "$tmp/err" &&
        "$inspect" --parameters "$tmp/$type.safetensors" |
        jq -se --arg t $type '.[0].model == "tiny" and .[0].parts == ["unet", "vae", "text_encoder"] and
            (.[1:] | all(.dtype == ($t | ascii_upcase)) and all(.parameter != null))' >"$tmp/out"
    ok "tiny in $type: every tensor is a parameter of it"
done

# floats FILE OFFSET: eight of them.
floats() {
    od -An -tx4 -j "$2" -N 32 "$1"
}
at=$("$inspect" --tensors-only "$tmp/f32.safetensors" | jq 'select(.tensor == "first_stage_model.quant_conv.weight").offset')
run --arch tiny --seed 7 --dtype f32 -o "$tmp/again.safetensors"
cmp "$tmp/f32.safetensors" "$tmp/again.safetensors"
ok "the same seed gives the same bytes"
run --arch tiny --seed 8 --dtype f32 -o "$tmp/again.safetensors"
test $rc = 0 && test "$(floats "$tmp/f32.safetensors" "$at")" != "$(floats "$tmp/again.safetensors" "$at")"
ok "another seed gives others"
test "$(od -An -tf4 -v -j "$at" -N 256 "$tmp/f32.safetensors" | tr -s ' ' '\n' |
    awk 'NF { s += $1 * $1; n++; if ($1 > m) m = $1 } END { print n, (s / n > 0.08 && s / n < 0.2), (m < 0.613) }')" = "64 1 1"
ok "weights have variance 1/fan_in"

echo before >"$tmp/there.safetensors"
run --arch nothing -o "$tmp/there.safetensors"
test $rc = 2 && grep -q 'sd1' "$tmp/err" && test "$(cat "$tmp/there.safetensors")" = before
ok "an unknown architecture is wrong usage"
run --arch tiny
test $rc = 2 && grep -q 'no output file' "$tmp/err"
ok "so is no output file"
run --arch tiny -o "$tmp/none/x.safetensors"
test $rc = 1 && grep -q "$tmp/none/x.safetensors: No such file" "$tmp/err"
ok "a folder that is not there"
run --arch tiny -o /dev/full
test $rc = 3 && grep -q 'No space left' "$tmp/err"
ok "a full disk"
"$init" --arch sd1 -o "$tmp/there.safetensors" >"$tmp/out" 2>"$tmp/err" &
pid=$!
sleep 0.3
kill -TERM $pid
wait $pid
test $? -gt 128 && test "$(cat "$tmp/there.safetensors")" = before && test "$(ls -A "$tmp" | grep -c there)" = 1
ok "killed on the way: the file that was there is still there, and no other"

echo "1..$n"
exit $bad
