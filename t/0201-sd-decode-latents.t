#!/bin/sh
# sd-decode-latents: the pictures that caches hold, near their originals; what cannot be decoded fails alone.
. "$(dirname "$0")/lib.sh"
model=$root/contrib/tiny/sd.safetensors
decode() { try sd-decode-latents -j 1 --model "$model" "$@"; }

cp -r "$root/contrib/tiny/sks" sks && rm -f sks/*.npz
sd-scan sks | sd-bucket -q --resolution 64 --bucket-reso-steps 8 --min-bucket-reso 32 |
    sd-encode-latents -j 1 -q --model "$model" --mean --flip-aug | jq -c '. + {id: 1234567890123456789}' >all
head -3 all >three

decode -o seen <all
is 'status, nothing said' "$status $(cat "$err")" '0 '
is 'records keep their order, members and bytes' "$(sed 's/,"decoded":"[^"]*"//' "$out")" "$(cat all)"
is 'names' "$(head -2 "$out" | jq -r .decoded | tr '\n' ' ')" 'seen/00000-01.png seen/00001-02.png '
is 'each is as large as its bucket' "$(jq -r .decoded "$out" | while read -r f; do sd-scan "$f" | jq -c '[.width,.height]'; done)" \
    "$(jq -c .bucket all)"

# They show what the originals show: as much of the concept's colour (t/unit/concept.c), a third more or less.
concept=${SD_UNIT:-$root/build/release/t}/concept
if [ -x "$concept" ]; then
    jq -r .path all | xargs -d '\n' "$concept" | cut -d" " -f1 >before
    jq -r .decoded "$out" | xargs -d '\n' "$concept" | cut -d" " -f1 >after
    is 'they show what the originals show' \
        "$(paste before after | awk '$1 < 0.1 || $2 < $1 * 2 / 3 || $2 > $1 * 4 / 3')" ''
else
    skip 'they show what the originals show' 't/unit/concept is not built'
fi

decode -o flipped --flipped <three
is 'mirrored ones' "$status $(ls flipped | tr '\n' ' ')" '0 00000-01.png 00001-02.png 00002-03.png '
is 'are not the others' "$(cmp -s flipped/00000-01.png seen/00000-01.png; echo $?)" 1
decode -o slash/ <three
is 'a folder may be named with its slash' "$(head -1 "$out" | jq -r .decoded)" slash/00000-01.png
ok 'the same again' cmp slash/00001-02.png seen/00001-02.png
sd-decode-latents -j 2 -q --model "$model" -o two <three >/dev/null
ok 'the same with two threads' cmp two/00002-03.png seen/00002-03.png
decode -o half --mixed-precision bf16 <three
is 'bf16' "$status $(ls half | wc -l)" '0 3'
jq -c '.latents = "'"$root"'/t/data/store/deflated.npz"' three | head -1 >compressed
decode -o deflated <compressed
is 'a compressed cache' "$status $(ls deflated)" '0 00000-deflated.png'

# what goes wrong
head -c 700 sks/03.npz >cut.npz
{
    jq -c 'select(.path == "sks/01.png")' all
    jq -c 'select(.path == "sks/01.png") | del(.latents)' all
    echo '{"path":"x.png","latents":5}'
    echo '{"path":"x.png","latents":"nothing.npz"}'
    echo '{"path":"x.png","latents":"cut.npz"}'
    echo '{"path":"x.png","latents":"'"$root"'/t/data/store/old.npz"}'
    echo '{"path":"x.png","latents":"'"$root"'/t/data/store/versions.npz"}'
    echo 'no record'
    echo '{"path":"x.png",  "error":{"tool":"a","message":"mine"},  "x":1.50}'
    jq -c 'select(.path == "sks/02.png")' all
} >mixed
decode -o bad <mixed
is 'bad ones fail alone' "$status $(ls bad | tr '\n' ' ')" '1 00000-01.png 00005-old.png 00008-02.png '
is 'each says why' "$(jq -r 'select(.error).error.message' "$out" | sed "s|$root/||; s/: No such.*/: No such/; s/cut.npz: .*/cut.npz:/")" \
    'the record has no "latents"
member "latents": a number where a string is expected
nothing.npz: No such
cut.npz:
t/data/store/versions.npz: no array "latents" of shape [C,h,w]
mine'
like 'a record with an error passes as it is' "$(cat "$out")" '*"message":"mine"},  "x":1.50}*'
jq -c 'select(.path == "sks/01.png") | .latents = "'"$root"'/t/data/store/plain.npz"' all >unflipped
decode -o bad --flipped <unflipped
like 'no mirrored latents' "$status $(cat "$out")" '1 *plain.npz: no mirrored latents*'
try sd-decode-latents -o x <three
like 'no model' "$status $(cat "$err")" '2 sd-decode-latents: no model: --model FILE*'
try sd-decode-latents -m "$model" <three
like 'no folder' "$status $(cat "$err")" '2 sd-decode-latents: no folder for the pictures: --output FOLDER*'
head -c 3000000 "$model" >short.safetensors
try sd-decode-latents -m short.safetensors -o x <three
like 'a model cut short' "$status $(cat "$err")" '1 sd-decode-latents: short.safetensors: *'
: >file
try sd-decode-latents -m "$model" -o file <three
is 'a file in the place of the folder' "$status $(cat "$out")" '1 '
finish
