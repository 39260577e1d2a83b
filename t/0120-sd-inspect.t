#!/bin/sh
# sd-inspect: what it says of good tensor files, and of every kind of bad one.
inspect=${SD_BIN:-bin}/sd-inspect
data=t/data/store
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
    "$inspect" "$@" >"$tmp/out" 2>"$tmp/err"
    rc=$?
}

run $data/types.safetensors
test $rc = 0 && test ! -s "$tmp/err" && test "$(wc -l <"$tmp/out")" = 16
ok "a line for the file and one for each tensor"
head -n 1 "$tmp/out" | jq -e '.format == "safetensors" and .tensors == 15 and .metadata == {format: "p\"t\n é"}' >/dev/null
ok "the first line has the metadata"
jq -se '.[1:] | map({(.tensor): [.dtype, .shape, .bytes]}) | add |
    .["a.weight"] == ["F32", [2, 3], 24] and .one == ["F32", [], 4] and .none == ["F32", [0, 3], 0] and
    .["odd \"name\"\\\n\u0001/\u007f é"] == ["F32", [1], 4]' "$tmp/out" >/dev/null
ok "names, types, shapes, sizes"
offset=$(jq 'select(.tensor == "ids").offset' "$tmp/out")
test "$(od -An -td8 -j "$offset" -N 40 $data/types.safetensors | tr -s ' \n' ' ')" = " 0 1 2 3 4 "
ok "the offset is where the data lies"
run --metadata-only $data/types.safetensors $data/plain.safetensors
test $rc = 0 && jq -se 'length == 2 and .[1].metadata == {}' "$tmp/out" >/dev/null
ok "--metadata-only"
run --tensors-only $data/plain.safetensors
test $rc = 0 && test "$(cat "$tmp/out")" = '{"file":"t/data/store/plain.safetensors","tensor":"x","dtype":"F32","shape":[2],"bytes":8,"offset":64}'
ok "--tensors-only"
run --tensors-only --metadata-only $data/plain.safetensors
test $rc = 2 && test ! -s "$tmp/out" && grep -q 'exclude each other' "$tmp/err"
ok "both are wrong usage"
run
test $rc = 2 && test ! -s "$tmp/out"
ok "no argument is wrong usage"

run $data/full.npz
test $rc = 0 && jq -se '.[0].format == "npz" and (.[1:] | map(.tensor) ==
    ["latents", "original_size", "crop_ltrb", "latents_flipped", "alpha_mask"]) and .[1].shape == [4, 3, 2]' "$tmp/out" >/dev/null
ok "a latent cache"
run $data/deflated.npz
test $rc = 0 && jq -se '.[1].deflated and .[1].bytes == 96' "$tmp/out" >/dev/null
ok "a deflated archive"
cp $data/full.npz "$tmp/no-suffix"
run "$tmp/no-suffix"
test $rc = 0 && jq -se '.[0].format == "npz"' "$tmp/out" >/dev/null
ok "content decides, not the name"

run --parameters t/data/model/sd2-small-ldm.safetensors
test $rc = 0 && jq -se '.[0].parts == ["unet", "vae", "text_encoder"] and .[0].model == "custom" and
    (map({(.tensor // ""): .parameter}) | add |
    .["model.diffusion_model.time_embed.0.bias"] == "unet.time_embedding.linear_1.bias" and
    (.["cond_stage_model.model.transformer.resblocks.0.attn.in_proj_bias"] | length) == 3 and
    .["cond_stage_model.model.logit_scale"] == null)' "$tmp/out" >/dev/null
ok "--parameters names what the tensors are"
run --parameters --metadata-only contrib/tiny/sd.safetensors
test $rc = 0 && jq -e '.model == "tiny"' "$tmp/out" >/dev/null
ok "--parameters tells a built-in model"
run --parameters $data/plain.safetensors
test $rc = 1 && test "$(wc -l <"$tmp/out")" = 2 && grep -q 'not a Stable Diffusion model' "$tmp/err"
ok "--parameters of something else says so, and still lists it"

mkdir -p "$tmp/model/unet" "$tmp/model/.cache"
cp $data/plain.safetensors "$tmp/model/unet/b.safetensors"
cp $data/plain.npz "$tmp/model/a.npz"
cp $data/plain.npz "$tmp/model/.cache/c.npz"
echo hello >"$tmp/model/readme.txt"
run --metadata-only "$tmp/model"
test $rc = 0 && jq -se "map(.file) == [\"$tmp/model/a.npz\", \"$tmp/model/unet/b.safetensors\"]" "$tmp/out" >/dev/null
ok "a folder: its tensor files by name, nothing hidden"
mkdir "$tmp/empty"
run "$tmp/empty"
test $rc = 1 && grep -q 'no .safetensors or .npz file' "$tmp/err"
ok "a folder without any"

odd=$(printf '%s/a b "\n\351.safetensors' "$tmp")
cp $data/plain.safetensors "$odd"
run "$odd"
test $rc = 0 && jq -se '.[1].tensor == "x"' "$tmp/out" >/dev/null && grep -q 'udce9' "$tmp/out"
ok "names are bytes"

# st NAME LENGTH HEADER: a safetensors file of that header length (in octal escapes), then 8 bytes of data.
st() {
    { printf "$2"; printf '%s' "$3"; printf '12345678'; } >"$tmp/$1"
}

# refused NAME PATTERN TITLE: a bad file between good ones is reported and costs nothing else.
refused() {
    run $data/plain.safetensors "$tmp/$1" $data/plain.npz
    test $rc = 1 && test "$(wc -l <"$tmp/err")" = 1 && grep -q "sd-inspect: $tmp/$1: .*$2" "$tmp/err" &&
        jq -se --arg f "$tmp/$1" --arg m "$2" 'length == 7 and .[2].file == $f and
            .[2].error.tool == "sd-inspect" and (.[2].error.message | test($m)) and
            .[6].tensor == "crop_ltrb"' "$tmp/out" >/dev/null
    ok "$3"
}

: >"$tmp/zero"
refused zero '0 bytes, too short' 'a file of no bytes'
head -c 500 $data/types.safetensors >"$tmp/short"
refused short 'goes beyond the end of the file' 'cut short in the header'
head -c 1140 $data/types.safetensors >"$tmp/short"
refused short 'reach outside the' 'cut short in the data'
head -c 900 $data/full.npz >"$tmp/short.npz"
refused short.npz 'cut short' 'an archive cut short'
st long '\0\0\0\0\0\0\0\200' '{}'
refused long 'length 9223372036854775808 goes beyond' 'a header length of 2^63'
st beyond '\77\0\0\0\0\0\0\0' '{"a":{"dtype":"U8","shape":[16],"data_offsets":[0,16]}}        '
refused beyond 'reach outside the 8 bytes' 'an offset out of range'
st overlap '\166\0\0\0\0\0\0\0' '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}           '
refused overlap 'it overlaps the one before' 'overlapping offsets'
st shape '\77\0\0\0\0\0\0\0' '{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,8]}}         '
refused shape 'F32 of shape .4. takes 16' 'a shape that does not fit'
st esc '\77\0\0\0\0\0\0\0' '{"\u001b[2J":{"dtype":"F32","shape":[4],"data_offsets":[0,8]}} '
run "$tmp/esc"
test $rc = 1 && grep -q 'tensor "?\[2J"' "$tmp/err"
ok "control characters of a name do not reach the terminal"
printf 'P5 a picture' >"$tmp/picture"
refused picture 'not a safetensors file' 'another kind of file'
refused nothing 'No such file or directory' 'no file'
mkfifo "$tmp/fifo"
refused fifo 'not a regular file' 'a pipe'
cp $data/fortran.npz "$tmp/fortran.npz"
refused fortran.npz 'Fortran order' 'an array of another kind'

{ printf '\107\0\0\0\0\0\0\0'; printf '{"a":{"dtype":"U8","shape":[4294967296],"data_offsets":[0,4294967296]}}'; } >"$tmp/large"
truncate -s 4294967375 "$tmp/large"
run "$tmp/large"
test $rc = 0 && jq -se '.[1].bytes == 4294967296' "$tmp/out" >/dev/null
ok "4 GiB are not read"

"$inspect" $data/types.safetensors >/dev/full 2>"$tmp/err"
test $? = 3 && grep -q 'No space left' "$tmp/err"
ok "a full disk"
{ "$inspect" t/data/model/sd1-small-ldm.safetensors 2>"$tmp/err"; } | head -n 1 >/dev/null
test ! -s "$tmp/err"
ok "a reader that goes away"

echo "1..$n"
exit $bad
