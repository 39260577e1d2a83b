#!/bin/sh
# sd-inspect: what it says of good tensor files, and of every kind of bad one.
. "$(dirname "$0")/lib.sh"
data=$root/t/data/store

# passed NAME: the last command's status is the verdict.
passed() {
    result $? "$1" || {
        show <"$out"
        show <"$err"
    }
}

try sd-inspect "$data"/types.safetensors
test $status = 0 && test ! -s "$err" && test "$(wc -l <"$out")" = 16
passed "a line for the file and one for each tensor"
head -n 1 "$out" | jq -e '.format == "safetensors" and .tensors == 15 and .metadata == {format: "p\"t\n é"}' >/dev/null
passed "the first line has the metadata"
jq -se '.[1:] | map({(.tensor): [.dtype, .shape, .bytes]}) | add |
    .["a.weight"] == ["F32", [2, 3], 24] and .one == ["F32", [], 4] and .none == ["F32", [0, 3], 0] and
    .["odd \"name\"\\\n\u0001/\u007f é"] == ["F32", [1], 4]' "$out" >/dev/null
passed "names, types, shapes, sizes"
offset=$(jq 'select(.tensor == "ids").offset' "$out")
test "$(od -An -td8 -j "$offset" -N 40 "$data"/types.safetensors | tr -s ' \n' ' ')" = " 0 1 2 3 4 "
passed "the offset is where the data lies"
try sd-inspect --metadata-only "$data"/types.safetensors "$data"/plain.safetensors
test $status = 0 && jq -se 'length == 2 and .[1].metadata == {}' "$out" >/dev/null
passed "--metadata-only"
try sd-inspect --tensors-only "$data"/plain.safetensors
test $status = 0 && test "$(cat "$out")" = '{"file":"'"$data"'/plain.safetensors","tensor":"x","dtype":"F32","shape":[2],"bytes":8,"offset":64}'
passed "--tensors-only"
try sd-inspect --tensors-only --metadata-only "$data"/plain.safetensors
test $status = 2 && test ! -s "$out" && grep -q 'exclude each other' "$err"
passed "both are wrong usage"
try sd-inspect
test $status = 2 && test ! -s "$out"
passed "no argument is wrong usage"

try sd-inspect "$data"/full.npz
test $status = 0 && jq -se '.[0].format == "npz" and (.[1:] | map(.tensor) ==
    ["latents", "original_size", "crop_ltrb", "latents_flipped", "alpha_mask"]) and .[1].shape == [4, 3, 2]' "$out" >/dev/null
passed "a latent cache"
try sd-inspect "$data"/deflated.npz
test $status = 0 && jq -se '.[1].deflated and .[1].bytes == 96' "$out" >/dev/null
passed "a deflated archive"
cp "$data"/full.npz "no-suffix"
try sd-inspect "no-suffix"
test $status = 0 && jq -se '.[0].format == "npz"' "$out" >/dev/null
passed "content decides, not the name"

try sd-inspect --parameters "$root"/t/data/model/sd2-small-ldm.safetensors
test $status = 0 && jq -se '.[0].parts == ["unet", "vae", "text_encoder"] and .[0].model == "custom" and
    (map({(.tensor // ""): .parameter}) | add |
    .["model.diffusion_model.time_embed.0.bias"] == "unet.time_embedding.linear_1.bias" and
    (.["cond_stage_model.model.transformer.resblocks.0.attn.in_proj_bias"] | length) == 3 and
    .["cond_stage_model.model.logit_scale"] == null)' "$out" >/dev/null
passed "--parameters names what the tensors are"
try sd-inspect --parameters --metadata-only "$root/contrib/tiny/sd.safetensors"
test $status = 0 && jq -e '.model == "tiny"' "$out" >/dev/null
passed "--parameters tells a built-in model"
try sd-inspect --parameters "$data"/plain.safetensors
test $status = 1 && test "$(wc -l <"$out")" = 2 && grep -q 'not a Stable Diffusion model' "$err"
passed "--parameters of something else says so, and still lists it"

mkdir -p "model/unet" "model/.cache"
cp "$data"/plain.safetensors "model/unet/b.safetensors"
cp "$data"/plain.npz "model/a.npz"
cp "$data"/plain.npz "model/.cache/c.npz"
echo hello >"model/readme.txt"
try sd-inspect --metadata-only "model"
test $status = 0 && jq -se "map(.file) == [\"model/a.npz\", \"model/unet/b.safetensors\"]" "$out" >/dev/null
passed "a folder: its tensor files by name, nothing hidden"
mkdir "empty"
try sd-inspect "empty"
test $status = 1 && grep -q 'no tensor file in this folder' "$err"
passed "a folder without any"

odd=$(printf 'a b "\n\351.safetensors')
cp "$data"/plain.safetensors "$odd"
try sd-inspect "$odd"
test $status = 0 && jq -se '.[1].tensor == "x"' "$out" >/dev/null && grep -q 'udce9' "$out"
passed "names are bytes"

# st NAME LENGTH HEADER: a safetensors file of that header length (in octal escapes), then 8 bytes of data.
st() {
    { printf "$2"; printf '%s' "$3"; printf '12345678'; } >"$1"
}

# refused NAME PATTERN TITLE: a bad file between good ones is reported and costs nothing else.
refused() {
    try sd-inspect "$data"/plain.safetensors "$1" "$data"/plain.npz
    test $status = 1 && test "$(wc -l <"$err")" = 1 && grep -q "sd-inspect: $1: .*$2" "$err" &&
        jq -se --arg f "$1" --arg m "$2" 'length == 7 and .[2].file == $f and
            .[2].error.tool == "sd-inspect" and (.[2].error.message | test($m)) and
            .[6].tensor == "crop_ltrb"' "$out" >/dev/null
    passed "$3"
}

: >"zero"
refused zero '0 bytes, too short' 'a file of no bytes'
head -c 500 "$data"/types.safetensors >"short"
refused short 'goes beyond the end of the file' 'cut short in the header'
head -c 1140 "$data"/types.safetensors >"short"
refused short 'reach outside the' 'cut short in the data'
head -c 900 "$data"/full.npz >"short.npz"
refused short.npz 'cut short' 'an archive cut short'
st long '\0\0\0\0\0\0\0\200' '{}'
refused long 'length 9223372036854775808 goes beyond' 'a header length of 2^63'
st limit '\1\341\365\5\0\0\0\0' '{}' && truncate -s 120000000 limit
refused limit 'header.s length 100000001 is more than the format.s limit 100000000' 'a header of more than 100 MB'
{
    printf '\10\0\0\1\0\0\0\0[[' # 16 MiB and 8 bytes
    yes 0, | tr -d '\n' | head -c 16777216
    printf '0]]   '
} >digits
refused digits 'more values than one in 4 bytes' 'a header of digits'
st beyond '\77\0\0\0\0\0\0\0' '{"a":{"dtype":"U8","shape":[16],"data_offsets":[0,16]}}        '
refused beyond 'reach outside the 8 bytes' 'an offset out of range'
st overlap '\166\0\0\0\0\0\0\0' '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}           '
refused overlap 'it overlaps the one before' 'overlapping offsets'
st shape '\77\0\0\0\0\0\0\0' '{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,8]}}         '
refused shape 'F32 of shape .4. takes 16' 'a shape that does not fit'
st esc '\77\0\0\0\0\0\0\0' '{"\u001b[2J":{"dtype":"F32","shape":[4],"data_offsets":[0,8]}} '
try sd-inspect "esc"
test $status = 1 && grep -q 'tensor "?\[2J"' "$err"
passed "control characters of a name do not reach the terminal"
printf 'P5 a picture' >"picture"
refused picture 'not a safetensors file' 'another kind of file'
refused nothing 'No such file or directory' 'no file'
mkfifo "fifo"
refused fifo 'not a regular file' 'a pipe'
cp "$data"/fortran.npz "fortran.npz"
refused fortran.npz 'Fortran order' 'an array of another kind'

{ printf '\107\0\0\0\0\0\0\0'; printf '{"a":{"dtype":"U8","shape":[4294967296],"data_offsets":[0,4294967296]}}'; } >"large"
truncate -s 4294967375 "large"
try sd-inspect "large"
test $status = 0 && jq -se '.[1].bytes == 4294967296' "$out" >/dev/null
passed "4 GiB are not read"

sd-inspect "$data"/types.safetensors >/dev/full 2>"$err"
test $? = 3 && grep -q 'No space left' "$err"
passed "a full disk"
{ sd-inspect "$root"/t/data/model/sd1-small-ldm.safetensors 2>"$err"; } | head -n 1 >/dev/null
test ! -s "$err"
passed "a reader that goes away"

finish
