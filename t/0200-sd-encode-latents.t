#!/bin/sh
# sd-encode-latents: caches that fit their buckets, the same however they are made; what is fresh stays; what cannot be
# encoded fails alone.
. "$(dirname "$0")/lib.sh"
model=$root/contrib/tiny/sd.safetensors
encode() { try sd-encode-latents -j 1 --model "$model" "$@"; }
# arrays FILE...: name and shape of every array
arrays() { sd-inspect --tensors-only "$@" | jq -r '"\(.tensor)\(.shape)"' | sed 's/^sd_source.*/sd_source/' | tr '\n' ' '; }

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
is 'another seed, other latents' "$(cmp -s seed/*/*/01-*.npz sks/01.npz; echo $?)" 1
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
is 'a picture that was only touched keeps its cache' "$status $(made)" '0 '
cp sks/02.png kept.png
cp sks/05.png sks/02.png && touch -d '2020-02-01' sks/02.png
again
like 'a picture that changed since the scan is told' "$status $(made)$(jq -r '.error.message // empty' "$out")" \
    '1 changed since it was scanned: *bytes, the record says *'
sd-scan sks/02.png | sd-bucket -q --resolution 64 --bucket-reso-steps 8 --min-bucket-reso 32 >new
try sd-encode-latents -j 1 -m model.safetensors <new
is 'and after a new scan encoded again' "$status $(made)" '0 sks/02.npz '
cp kept.png sks/02.png
try sd-encode-latents -j 1 -m model.safetensors <four
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
head -1 four | jq -c 'del(.width, .height) | .bucket = [16, 24] | .resize = [24, 24] | .crop = [4, 0]' >foreign
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
jq -c 'del(.bytes)' four >unsized && mv unsized four
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

# what a record says against the file
cp -r "$root/contrib/tiny/sks" said && rm -f said/*.npz
sd-scan --sha256 said/01.png said/02.png | sd-bucket -q --resolution 64 --bucket-reso-steps 8 --min-bucket-reso 32 >hashed
{
    head -1 hashed
    tail -1 hashed | jq -c '.sha256 = "00"'
    tail -1 hashed | jq -c '.width = 65 | del(.sha256)'
} >doubtful
encode --no-skip-existing <doubtful
is 'another SHA-256, other sizes' "$status $(jq -r '.error.message // .latents' "$out" | tr '\n' ';')" \
    '1 said/01.npz;changed since it was scanned: its SHA-256 is another;changed since it was scanned: 64x64 pixels, the record says 65x64;'
encode <hashed
encode <doubtful
is 'they are not hidden by a cache that is there' "$status $(jq -r 'select(.error) | .error.message' "$out" | wc -l)" '1 2'

# two pictures that differ only in their ending
mkdir twins && picture rgb.png twins/a.png && picture q30.jpg twins/a.jpg
printf 'twins/a.png\ntwins/a.jpg\ntwins/a.png\n' | sd-scan |
    jq -c '. + {bucket: [16, 8], resize: [16, 11], crop: [0, 1]}' >twins.ndjson
encode <twins.ndjson
is 'do not share a cache' "$status $(jq -r '.error.message // .latents' "$out" | tr '\n' ';')" \
    '1 twins/a.npz;its cache would be twins/a.npz, which is another picture'"'"'s; use --cache-dir;twins/a.npz;'
encode --cache-dir twins <twins.ndjson
is 'nor need they, with --cache-dir' "$status $(jq -r .latents "$out" | sort -u | wc -l)" '0 2'

head -1 four | jq -c '., (.resize = [72, 72] | .crop = [4, 4])' >two-ways
encode --no-skip-existing <two-ways
is 'one picture cut in two ways needs two caches' "$status $(jq -r '.error.message // empty' "$out")" \
    '1 its cache would be sks/01.npz, which holds the same picture cut in another way'

# formats and layouts
cp -r "$root/contrib/tiny/sks" gens && rm -f gens/*.npz
sd-scan gens/01.png gens/09.jpg | sd-bucket -q --resolution 64 --bucket-reso-steps 8 --min-bucket-reso 32 >gens.ndjson
for format in npz1 npz2 npz3 npz4; do
    rm -f gens/*.npz
    encode --format $format --flip-aug <gens.ndjson
    is "$format: files" "$status $(cd gens && echo *.npz)" "0 $(case $format in
        npz1 | npz2) echo '01.npz 01_flip.npz 09.npz 09_flip.npz' ;;
        npz3) echo '01.npz 09.npz' ;;
        npz4) echo '01_0064x0064_sd.npz 09_0128x0128_sd.npz' ;;
        esac)"
    cp "$out" "$format.ndjson"
    first=$(jq -r .latents "$out" | head -1)
    is "$format: arrays" "$(arrays "$first")" "$(case $format in
        npz1) echo 'arr_0[4,8,8] sd_source ' ;;
        npz2) echo 'latents[4,8,8] original_size[2] crop_left_top[2] sd_source ' ;;
        *) echo 'latents[4,8,8] original_size[2] crop_ltrb[4] latents_flipped[4,8,8] sd_source ' ;;
        esac)"
    for way in '' --flipped; do
        sd-decode-latents -q -j 1 -m "$model" -o "seen$way-$format" $way <"$out" >/dev/null
        ok "$format: the same latents $way" cmp "seen$way-$format"/00000-*.png "seen$way-npz1"/00000-*.png
    done
    ls -i gens/*.npz >before
    encode --format $format --flip-aug <gens.ndjson
    is "$format: kept" "$status $(ls -i gens/*.npz | cmp - before)" '0 '
    encode --format $format --flip-aug --seed 1 <gens.ndjson
    is "$format: not with another seed" "$status $(ls -i gens/*.npz | cmp -s - before; echo $?)" '0 1'
done
rm -f gens/*.npz
encode <gens.ndjson
encode --format npz4 <gens.ndjson
is 'an older STEM.npz goes before npz4, as in sd-scripts' "$status $(cd gens && echo *.npz)" '0 01.npz 09.npz'
jq -c 'del(.width)' gens.ndjson >unsized && rm -f gens/*.npz
encode --format npz4 <unsized
like 'npz4 without sizes' "$status $(jq -r .error.message "$out" | head -1)" "1 the cache's name needs width and height*"
encode --format npz1 --alpha-mask <gens.ndjson
like 'no mask in npz1' "$status $(head -1 "$err")" '2 *--format npz1 hold no alpha mask'

encode --cache-dir flat --layout flat <four
encode --cache-dir flat <four
is 'flat caches serve where new ones would lie in folders' "$status $(find flat -name '*.npz' | wc -l) $(find flat -mindepth 1 -type d)" '1 2 '
encode --cache-dir tree <four
is 'a tree of folders' "$status $(find tree -name '*.npz' | sed 's|/[0-9a-f][0-9a-f]/[0-9a-f][0-9a-f]/|/xx/xx/|; s/-[0-9a-f]*.npz/-HASH.npz/' | sort | tr '\n' ' ')" \
    '1 tree/xx/xx/01-HASH.npz tree/xx/xx/04-HASH.npz '
encode --cache-dir stem --layout stem <twins.ndjson
is 'names as prepare_buckets_latents has them' "$status $(ls stem)" '1 a.npz'

encode --layout flat <four
like '--layout without a folder' "$status $(head -1 "$err")" '2 *--layout is for caches in a folder*'

# pictures in an archive
cp -r "$root/contrib/tiny/sks" packed && rm -f packed/*.npz
sd-scan packed | sd-pack -q -o pictures.zip >/dev/null
sd-scan pictures.zip | sd-bucket -q --resolution 64 --bucket-reso-steps 8 --min-bucket-reso 32 >inside
encode <inside
like 'no caches beside pictures in an archive' "$status $(jq -r .error.message "$out" | sort -u)" '1 no cache can lie beside*'
encode --cache-dir inside-cache <inside
is 'but elsewhere' "$status $(find inside-cache -name '*.npz' | wc -l)" "0 $(wc -l <inside)"
cp "$out" inside-done
find inside-cache -name '*.npz' -exec ls -i {} + >before
encode --cache-dir inside-cache <inside
is 'which are kept' "$status $(find inside-cache -name '*.npz' -exec ls -i {} + | cmp - before)$(cmp "$out" inside-done)" '0 '

# one archive
sed -n '5,$p' all >rest
encode --shard s.zip -b 3 <rest
cp "$out" sharded
is 'a shard' "$status $(jq -r .latents "$out" | sed 's/-[0-9a-f]*.npz/-HASH.npz/' | head -1) $(find . -name 's*.zip' -o -name '*.tmp')" \
    '0 s.zip!/05-HASH.npz ./s.zip'
ok 'with the order and members of the records' sh -c 'jq -c "del(.latents)" sharded | cmp - rest'
if command -v unzip >/dev/null; then
    mkdir unpacked && unzip -q s.zip -d unpacked
    is 'its members are ordinary caches' "$(ls unpacked | wc -l)" "$(wc -l <rest)"
else
    skip 'its members are ordinary caches' 'no unzip'
fi
sd-decode-latents -q -j 1 -m "$model" -o seen-shard <sharded >/dev/null
encode --cache-dir files --layout flat <rest
sd-decode-latents -q -j 1 -m "$model" -o seen-files <"$out" >/dev/null
ok 'the same latents as in files' diff -r seen-shard seen-files
before=$(ls -i s.zip)
encode --shard s.zip <rest
is 'nothing new: the archive is not touched' "$status $(ls -i s.zip)$(cmp "$out" sharded)" "0 $before"
head -1 four | encode --shard s.zip -q
tail -n +2 rest | encode --shard s.zip -q
is 'something new: the rest is kept' "$(sd-scan s.zip >/dev/null 2>&1; encode --shard s.zip <rest; cmp "$out" sharded; ls -i s.zip | cut -d' ' -f2)" s.zip
encode --shard s.tar <rest
sd-decode-latents -q -j 1 -m "$model" -o seen-tar <"$out" >/dev/null
ok 'a tar archive' diff -r seen-tar seen-files
head -c 2000 s.zip >short.zip && cp short.zip cut.zip
encode --shard cut.zip <rest
is 'a damaged one is left alone' "$status $(wc -c <"$out") $(cmp cut.zip short.zip)" '1 0 '
encode --shard s.rar <rest
like 'another kind' "$status $(head -1 "$err")" '2 *must end in .tar or .zip'
encode --shard no/s.zip <rest
is 'a place that is not there' "$status $(cat "$err")" '1 sd-encode-latents: no/s.zip: No such file or directory'
encode --shard x.zip --format npz1 <rest
like 'old formats are files' "$status $(head -1 "$err")" '2 *npz1 are files'
encode --shard x.zip --cache-dir y <rest
like 'one place' "$status $(head -1 "$err")" '2 *exclude each other'

# what the record's subset says; masks
mkdir alpha && cp "$root/t/data/image/rgba.png" alpha/ && picture rgb.png alpha/rgb.png
sd-scan alpha | sd-bucket -q --resolution 16 --bucket-reso-steps 8 --min-bucket-reso 8 >alpha.ndjson
encode --alpha-mask --cache-dir masks --layout flat <alpha.ndjson
is '--alpha-mask' "$status $(for f in masks/*; do arrays "$f" | grep -o 'alpha_mask[^ ]*'; done | sort -u)" \
    "0 $(jq -r '"alpha_mask[\(.bucket[1]),\(.bucket[0])]"' alpha.ndjson | sort -u)"
encode --cache-dir masks --layout flat <alpha.ndjson
is 'a cache with a mask does not serve without' "$status $(for f in masks/*; do arrays "$f"; done | grep -c alpha_mask)" '0 0'
jq -c '.subset = {flip_aug: true, alpha_mask: true, resize_interpolation: "lanczos"}, (del(.subset) | .path |= sub("alpha/"; "./alpha/"))' \
    alpha.ndjson >subsets
encode --cache-dir mixed --layout flat -b 2 <subsets
is 'subset of a record' "$status $(jq -r .latents "$out" | while read -r f; do arrays "$f"; done | grep -o 'latents_flipped\|alpha_mask' | sort | uniq -c | tr -s ' \n' ' ')" \
    '0  2 alpha_mask 2 latents_flipped '
head -1 four | jq -c '.subset = {color_aug: true}, .subset = {random_crop: true}, .subset = {flip_aug: 1}, .subset = 3,
    .subset = {resize_interpolation: "best"}, .subset = {color_aug: false}' >refused
encode <refused
is 'subsets that cannot be' "$status $(jq -r '.error.message // .latents' "$out" | sed 's/none of.*/n.../')" \
    '1 latents cannot be cached with color_aug
latents cannot be cached with random_crop
subset: member "flip_aug": a number where true or false is expected
subset: not a JSON object at byte 1
subset: resize_interpolation is "best", n...
sks/01.npz'

# precision
encode --cache-dir f32 --layout flat <four
encode --cache-dir f32too --layout flat --mixed-precision bf16 --no-half-vae <four
ok '--no-half-vae' diff -r f32 f32too
at=$(sd-inspect --tensors-only "$model" | jq 'select(.tensor == "first_stage_model.quant_conv.bias").offset')
cp "$model" nan.safetensors
printf '\0\0\300\177' | dd of=nan.safetensors bs=1 seek="$at" conv=notrunc 2>/dev/null
try sd-encode-latents -j 1 -m nan.safetensors --cache-dir nan <four
is 'NaN' "$status $(jq -r .error.message "$out" | grep -c 'the VAE gives NaN') $(find nan -type f)" '1 2 '

# the same cache at once
for i in 1 2 3; do
    sd-encode-latents -q -m "$model" --no-skip-existing --cache-dir race <rest >race1 &
    sd-encode-latents -q -m "$model" --no-skip-existing --cache-dir race <rest >race2 || break
    wait $! || break
    cmp -s race1 race2 || break
    sd-decode-latents -q -j 1 -m "$model" -o seen-race <race1 >/dev/null || break
done
is 'two programs that write the same caches' "$i $(find race -type f | wc -l) $(ls -A race | grep -c tmp)" "3 $(wc -l <rest) 0"

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
