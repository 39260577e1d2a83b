#!/bin/sh
# sd-encode-latents: caches that fit their buckets, the same however they are made; what is fresh stays; what cannot be
# encoded fails alone.
. "$(dirname "$0")/lib.sh"
model=$root/contrib/tiny/sd.safetensors
encode() { try sd-encode-latents -j 1 --model "$model" "$@"; }
# arrays FILE...: name and shape of every array
arrays() { sd-inspect --tensors-only "$@" | jq -r '"\(.tensor)\(.shape)"' | sed 's/^sd_source.*/sd_source/' | tr '\n' ' '; }
newest() { ls -t "$@" | head -1; }

cp -r "$root/contrib/tiny/sks" sks && rm -f sks/*.npz
sd-scan sks | sd-bucket -q --resolution 64 --bucket-reso-steps 8 --min-bucket-reso 32 |
    jq -c '. + {id: 1234567890123456789}' >all
head -4 all >four

encode <all
is 'status, nothing said' "$status $(cat "$err")" '0 '
is 'records keep their order, members and bytes' "$(sed 's/,"latents":"[^"]*"//' "$out")" "$(cat all)"
is 'latents lie beside the pictures' "$(jq -r .latents "$out")" "$(jq -r .path all | sed 's/\.[a-z]*$/.npz/')"
is 'each is an eighth of its bucket' \
    "$(jq -r .latents "$out" | while read -r f; do sd-inspect --tensors-only "$f" | jq -c 'select(.tensor == "latents").shape'; done)" \
    "$(jq -c '[4, .bucket[1] / 8, .bucket[0] / 8]' all)"
is 'arrays of sd-scripts and their source' "$(arrays sks/01.npz)" 'latents[4,8,8] original_size[2] crop_ltrb[4] sd_source '
is 'nothing else appears' "$(ls -A sks | grep -cv '\.\(npz\|png\|jpe*g\|webp\|txt\|caption\)$')" 0
cp "$out" done

# the same bytes whatever the batch, the order and the threads
for how in '-b 4' '-b 256' '-j 2 -b 3'; do
    rm -rf cache
    encode --cache-dir cache $how <all
    is "$how: status and order" "$status $(jq -c 'del(.latents)' "$out" | cmp - all 2>&1)" "0 $(cmp all all)"
    is "$how: the same latents" \
        "$(jq -r .latents "$out" | paste -d' ' - /dev/null | sed 's/ $//' | while read -r f; do sha256sum <"$f"; done)" \
        "$(jq -r .latents done | while read -r f; do sha256sum <"$f"; done)"
done
sort -r all | encode --cache-dir reverse -b 4
ok 'another order gives the same files' diff -r cache reverse
encode --cache-dir seed --seed 1 <four
is 'another seed, other latents' "$(cmp -s "$(newest seed/01-*)" sks/01.npz; echo $?)" 1
encode --cache-dir mean1 --mean <four
encode --cache-dir mean2 --mean --seed 5 <four
ok '--mean does not draw' diff -r mean1 mean2

# fresh ones stay
touch -d '2020-01-01' sks/* old.safetensors
cp "$model" model.safetensors && touch -d '2019-01-01' model.safetensors
again() { try sd-encode-latents -j 1 -m model.safetensors "$@" <four; }
made() { find sks -name '*.npz' -newermt '2021-01-01' | sort | tr '\n' ' '; }
again
is 'fresh caches are kept' "$status $(made)" '0 '
is 'and named in the records' "$(jq -r .latents "$out")" "$(head -4 done | jq -r .latents)"
touch -d '2020-02-01' sks/02.png
again
is 'a picture that changed is encoded again' "$(made)" 'sks/02.npz '
touch -d '2020-01-01' sks/02.png && touch -d '2020-03-01' sks/02.npz
head -c 700 sks/03.npz >cut && cp cut sks/03.npz && touch -d '2020-03-01' sks/03.npz
again
is 'a cache cut short is made again' "$status $(made)" '0 sks/03.npz '
touch -d '2020-03-01' sks/*.npz
cp sks/03.npz sks/04.npz && touch -d '2020-03-01' sks/04.npz
again
is 'a cache for another bucket is made again' "$(made)" 'sks/04.npz '
touch -d '2020-03-01' sks/*.npz
again --flip-aug
is '--flip-aug wants flipped latents too' "$(made)" 'sks/01.npz sks/02.npz sks/03.npz sks/04.npz '
is 'has them' "$(arrays sks/01.npz)" 'latents[4,8,8] original_size[2] crop_ltrb[4] latents_flipped[4,8,8] sd_source '
touch -d '2020-03-01' sks/*.npz
again
is 'and they do no harm without' "$(made)" ''
touch -d '2020-04-01' model.safetensors
again
is 'the same model with a newer date changes nothing' "$(made)" ''
sd-init -q --arch tiny --seed 5 -o other.safetensors && touch -d '2019-01-01' other.safetensors
all_four='sks/01.npz sks/02.npz sks/03.npz sks/04.npz '
again -m other.safetensors
is 'another VAE makes all again, however old' "$(made)" "$all_four"
again
touch -d '2020-05-01' sks/*.npz
again --mean
is 'another option too' "$(made)" "$all_four"
touch -d '2020-05-01' sks/*.npz
again --mean
is 'the same option not' "$(made)" ''
jq -c 'if .path == "sks/01.png" then .crop = [0, 0] | .resize = [70, 70] else . end' four >cropped
try sd-encode-latents -j 1 -m model.safetensors --mean <cropped
is 'another cut of the picture does' "$(made)" 'sks/01.npz '
cp "$root/t/data/store/plain.npz" sks/01.npz && touch -d '2020-05-01' sks/01.npz
head -1 four | jq -c '.bucket = [16, 24] | .resize = [24, 24] | .crop = [4, 0]' >foreign
try sd-encode-latents -j 1 -m model.safetensors <foreign
is 'a cache of sd-scripts that is newer than the model serves' "$(made)" ''
touch -d '2020-06-01' model.safetensors
try sd-encode-latents -j 1 -m model.safetensors <foreign
is 'one that is older does not' "$(made)" 'sks/01.npz '
again
touch -d '2020-07-01' sks/*.npz
again --no-skip-existing
is '--no-skip-existing' "$(made)" 'sks/01.npz sks/02.npz sks/03.npz sks/04.npz '

# what goes wrong
rm -f sks/*.npz
head -c 900 sks/02.png >cut && cp cut sks/02.png
rm sks/03.png
{
    cat four
    echo 'no record'
    echo '{"path":"sks/05.png"}'
    echo '{"bucket":[64,64],"resize":[64,64],"crop":[0,0]}'
    echo '{"path":"sks/05.png","bucket":[64,60],"resize":[64,64],"crop":[0,0]}'
    echo '{"path":"sks/05.png","bucket":[64,64],"resize":[64,64],"crop":[1,0]}'
    echo '{"path":"sks/05.png","bucket":"64","resize":[64,64],"crop":[0,0]}'
    echo '{"path":"sks/05.png","bucket":[9999999999,64],"resize":[9999999999,64],"crop":[0,0]}'
    echo '{"path":"sks/06.png","error":{"tool":"other","message":"mine"},  "x":1.50}'
    sed -n 5p all
} >bad
encode -b 2 <bad
is 'bad records: status' $status 1
is 'each with its reason, in order' "$(jq -r '.path + " " + (.error.message // .latents)' "$out")" 'sks/01.png sks/01.npz
sks/02.png truncated PNG (IDAT ends at byte 900)
sks/03.png cannot open: No such file or directory
sks/04.png sks/04.npz
sks/05.png the record has no "bucket"
 the record has no "path"
sks/05.png bucket [64,60] at crop [0,0] does not lie in resize [64,64], or is no multiple of 8
sks/05.png bucket [64,64] at crop [1,0] does not lie in resize [64,64], or is no multiple of 8
sks/05.png member "bucket": a string where an array of integers is expected
sks/05.png bucket [9999999999,64] at crop [0,0] does not lie in resize [9999999999,64], or is no multiple of 8
sks/06.png mine
sks/05.png sks/05.npz'
is 'each told once, the line too' "$(grep -c ^sd-encode-latents: "$err") $(grep -c '^no record' "$err")" '9 1'
like 'a record with an error passes as it is' "$(cat "$out")" '*"message":"mine"},  "x":1.50}*'
is 'caches of the good ones alone' "$(ls sks | grep npz | tr '\n' ' ')" '01.npz 04.npz 05.npz '

# two pictures that differ only in their ending
mkdir twins && picture rgb.png twins/a.png && picture q30.jpg twins/a.jpg
printf 'twins/a.png\ntwins/a.jpg\ntwins/a.png\n' | sd-scan |
    jq -c '. + {bucket: [16, 8], resize: [16, 11], crop: [0, 1]}' >twins.ndjson
encode <twins.ndjson
is 'do not share a cache' "$status $(jq -r '.error.message // .latents' "$out" | tr '\n' ';')" \
    '1 twins/a.npz;its cache would be twins/a.npz, which is another picture'"'"'s; use --cache-dir;twins/a.npz;'
encode --cache-dir twins <twins.ndjson
is 'nor need they, with --cache-dir' "$status $(jq -r .latents "$out" | sort -u | wc -l)" '0 2'

# models
head -c 3000000 "$model" >short.safetensors
try sd-encode-latents -m short.safetensors <four
like 'a model cut short' "$status $(cat "$out" "$err")" '1 sd-encode-latents: short.safetensors: *reach outside the *'
printf '\0\0\0\0\0\0\0\200{}' >long.safetensors
try sd-encode-latents -m long.safetensors <four
like 'a header length of 2^63' "$status $(cat "$out" "$err")" \
    "1 sd-encode-latents: long.safetensors: the header's length 9223372036854775808 *"
try sd-encode-latents -m "$root/t/data/store/types.safetensors" <four
like 'a file without a model' "$status $(cat "$out" "$err")" '1 sd-encode-latents: *not a Stable Diffusion model*'
try sd-encode-latents -m none.safetensors <four
is 'no file' "$status $(cat "$out" "$err")" '1 sd-encode-latents: none.safetensors: No such file or directory'
try sd-encode-latents <four
like 'no model' "$status $(head -1 "$err")" '2 sd-encode-latents: no model*'
encode --mixed-precision fp16 <four
like 'fp16' "$status $(head -1 "$err")" '2 sd-encode-latents: fp16 *'

# places that cannot be written
encode --cache-dir nowhere/cache <four
is 'a folder that cannot be made' "$status $(cat "$err")" '1 sd-encode-latents: nowhere/cache: No such file or directory'
encode --cache-dir all <four
like 'a file in place of the folder' "$status $(head -1 "$err")" '1 sd-encode-latents: all: Not a directory'
sd-encode-latents -j 1 -m "$model" --cache-dir full <all >/dev/full 2>"$err"
is 'a full disk behind standard output' "$? $(tail -1 "$err")" '3 sd-encode-latents: standard output: No space left on device'
if mkdir small && mount -t tmpfs -o size=8k tmpfs small 2>/dev/null; then
    encode --cache-dir small <all
    like 'a full disk for the caches' "$status $(jq -r '.error.message // empty' "$out" | grep small | head -1)" \
        '3 small/*: No space left on device'
    is 'all records are out' "$(wc -l <"$out")" "$(wc -l <all)"
    is 'no half cache' "$(find small -type f | wc -l)" "$(jq -r 'select(.latents).latents' "$out" | wc -l)"
    umount small
else
    skip 'a full disk for the caches' 'cannot mount here'
fi
finish
