#!/bin/sh
# sd-resize: copies like those of sd-scripts' tool, sizes of buckets, what is beside a picture, what goes wrong.
. "$(dirname "$0")/lib.sh"
data=$root/t/data/resize
cp -r "$data/src" src

# The pixels of a picture of at most 64x64, whatever its compression.
pixels() { sd-scan "$1" | sd-sheet -o pixels.png --cell 64 --gap 0 >/dev/null && cksum <pixels.png; }
same_pixels() { is "$1" "$(pixels "$2")" "$(pixels "$3")"; }

# ---- like the tool (t/ref/resize_tool.py made t/data/resize with it) ----

sd-scan src/wide.png src/high.jpg src/small.bmp >three
try sd-resize -o default --max_resolution '40x40, 24x24' <three
is 'status, nothing said' "$status $(cat "$err")" '0 '
for f in "$data"/default/*; do
    same "default: ${f##*/}, byte for byte" "default/${f##*/}" "$f"
done
is 'no file more' "$(ls default)" "$(ls "$data/default")"
for name in area cubic lanczos4; do
    sd-resize -o $name --max-resolution 40x40,24x24 --interpolation $name --divisible_by 4 --save_as_png <three >/dev/null
    for f in "$data/$name"/*; do
        same_pixels "$name: ${f##*/}" "$name/${f##*/}" "$f"
    done
done
sd-scan src/square.png >square
for name in nearest linear bilinear box; do
    sd-resize -o $name --max-resolution 40x40,24x24 --interpolation $name --divisible_by 4 --save_as_png <square >/dev/null
    theirs=${name#bi}
    for f in "$data/$theirs"/*; do
        same_pixels "$name: ${f##*/}" "$name/${f##*/}" "$f"
    done
done

wrapper=$root/contrib/kohya/resize_images_to_resolution
mkdir kohya-src
cp src/wide.png src/high.jpg src/small.bmp kohya-src
echo 'a cat' >kohya-src/high.txt
echo 'notes' >kohya-src/README
mkdir kohya-src/folder
try "$wrapper" --max_resolution '40x40, 24x24' kohya-src kohya --copy_associated_files
is "the tool's command line: status" "$status $(cat "$err")" '0 '
same 'its pictures' 'kohya/wide+24x24.jpg' "$data/default/wide+24x24.jpg"
is 'its files' "$(ls kohya | tr '\n' ' ')" 'README high+24x24.jpg high+24x24.txt high+40x40.jpg high+40x40.txt high.txt small+24x24.jpg small+40x40.jpg wide+24x24.jpg wide+40x40.jpg '
try "$wrapper" kohya-src
like 'its wrong usage' "$status $(cat "$err")" '2 resize_images_to_resolution: two folders are needed*'
try "$wrapper" kohya-src kohya --max_resolutions 3x3
like 'its unknown options' "$status $(cat "$err")" '2 *unknown option --max_resolutions*'

# ---- records ----

try sd-resize -o default --max_resolution '40x40, 24x24' -j 3 <three
is 'records of copies' "$(jq -c '[.path,.width,.height,.format,.original]' "$out")" \
    '["default/wide+40x40.jpg",50,31,"jpeg","src/wide.png"]
["default/wide+24x24.jpg",30,18,"jpeg","src/wide.png"]
["default/high+40x40.jpg",34,46,"jpeg","src/high.jpg"]
["default/high+24x24.jpg",20,27,"jpeg","src/high.jpg"]
["default/small+40x40.jpg",17,13,"jpeg","src/small.bmp"]
["default/small+24x24.jpg",17,13,"jpeg","src/small.bmp"]'
is 'their bytes' "$(jq .bytes "$out" | head -1)" "$(wc -c <default/wide+40x40.jpg | tr -d ' ')"
sd-scan default/wide+40x40.jpg | jq -c 'del(.path)' >scanned
head -1 "$out" | jq -c 'del(.path,.original)' >told
same 'sizes as sd-scan tells them' told scanned
echo '{"id":12345678901234567890,"path":"src/wide.png","sha256":"x","latents":"y.npz","bucket":[64,64],"resize":[70,64],"crop":[3,0],"caption":"caf\u00e9"}' |
    sd-resize -o other --max-resolution 40x40 >record
is 'what was of the picture itself goes, all else stays' "$(sed 's/,"width.*//' record)" \
    '{"id":12345678901234567890,"path":"other/wide+40x40.jpg","caption":"caf\u00e9","original":"src/wide.png"'
for i in 1 2 3 4 5 6 7 8 9; do cp src/small.bmp src/n$i.bmp; done
sd-scan src/n*.bmp | sd-resize -j 4 -o many --max-resolution 10x10,5x5 | jq -r .path >order
is 'order with many threads' "$(cat order)" "$(for i in 1 2 3 4 5 6 7 8 9; do echo "many/n$i+10x10.jpg"; echo "many/n$i+5x5.jpg"; done)"

# ---- buckets ----

sd-scan src/wide.png | sd-bucket -q --resolution 64 --min-bucket-reso 16 --bucket-reso-steps 8 >bucketed
bucket=$(jq -r '.bucket|join("x")' bucketed)
try sd-resize -o buckets --bucket --save-as-png <bucketed
is 'a bucket: the copy has its size, and the record fits it' \
    "$status $(jq -c '[.path,(.bucket == [.width,.height]),(.resize == .bucket),.crop]' "$out")" \
    "0 [\"buckets/wide+$bucket.png\",true,true,[0,0]]"
is 'no larger than asked for, whole steps' "$(jq -c '[.width * .height <= 4096, .width % 8, .height % 8]' "$out")" '[true,0,0]'
echo '{"path":"src/wide.png","bucket":[97,61],"resize":[97,61],"crop":[0,0]}' | sd-resize -o buckets --bucket --save-as-png >/dev/null
is 'a bucket of its own size changes no pixel' "$(sd-scan buckets/wide+97x61.png | sd-sheet -o a.png --cell 97 --gap 0 >/dev/null; cksum <a.png)" \
    "$(sd-scan src/wide.png | sd-sheet -o b.png --cell 97 --gap 0 >/dev/null; cksum <b.png)"
echo '{"path":"src/wide.png"}' >bare
try sd-resize -o buckets --bucket <bare
like 'a record without a bucket' "$status $(cat "$err")" '1 sd-resize: src/wide.png: the record has no "bucket"'
echo '{"path":"src/wide.png","bucket":[64,64],"resize":[64,64],"crop":[1,0]}' >outside
try sd-resize -o buckets --bucket <outside
like 'a crop outside' "$status $(cat "$err")" '1 *bucket \[64,64\] at crop \[1,0\] does not lie in resize \[64,64\]'
ok 'leaves no file' test ! -e buckets/wide+64x64.jpg

# ---- beside the picture ----

echo 'a cat' >src/wide.txt
echo 'tags' >src/wide.tags.txt
echo 'other' >src/wider.txt
cp src/small.bmp src/wide.bmp
sd-scan src/wide.png >wide
try sd-resize -o with --max-resolution 40x40 --copy-associated-files <wide
is 'the files of its name, no pictures' "$status $(ls with | tr '\n' ' ')" '0 wide+40x40.jpg wide+40x40.tags.txt wide+40x40.txt '
same 'whole' with/wide+40x40.txt src/wide.txt

# ---- again ----

touch -d '2001-01-01' with/wide+40x40.jpg
touch -d '2000-01-01' src/wide.png
ls --full-time with/wide+40x40.jpg >before
try sd-resize -o with --max-resolution 40x40 --skip-existing <wide
ls --full-time with/wide+40x40.jpg >after
same 'a copy that is newer is kept' before after
is 'and told of' "$(jq -c '[.path,.width,.height]' "$out")" '["with/wide+40x40.jpg",50,31]'
touch -d '2002-01-01' src/wide.png
try sd-resize -o with --max-resolution 40x40 --skip-existing <wide
ls --full-time with/wide+40x40.jpg >after
ok 'one that is older is not' test "$(cat before)" != "$(cat after)"
head -c 50 with/wide+40x40.jpg >cut && cp cut with/wide+40x40.jpg
try sd-resize -o with --max-resolution 40x40 --skip-existing <wide
is 'a copy that is cut off in its header is made again' "$status $(jq -c '[.path,.width]' "$out")" '0 ["with/wide+40x40.jpg",50]'

# ---- alpha ----

picture rgba.png clear.png
sd-scan clear.png >clear
sd-resize -o dropped --max-resolution 99x99 --save-as-png <clear >/dev/null
sd-resize -o white --max-resolution 99x99 --save-as-png --white <clear >/dev/null
ok 'alpha is dropped, or blended over white' test "$(pixels dropped/clear+99x99.png)" != "$(pixels white/clear+99x99.png)"

# ---- what goes wrong ----

{ cat wide; echo '{"path":"missing.png"}'; echo '{"path":"x/wide.png"}'; cat clear; } >mixed
mkdir x && cp src/wide.png x
try sd-resize -o out --max-resolution 40x40 <mixed
is 'some fail: status' $status 1
is 'which' "$(jq -r '[.path,.error.message // "fine"]|@tsv' "$out")" "$(printf '%s\t%s\n' out/wide+40x40.jpg fine missing.png \
    'cannot open: No such file or directory' x/wide.png 'out/wide+40x40.jpg is the copy of an earlier record' out/clear+40x40.jpg fine)"
tar -cf pictures.tar -C src wide.png
try sd-resize -o packed --max-resolution 40x40 <<END
{"path":"pictures.tar!/wide.png"}
END
is 'a picture in an archive' "$status $(jq -r .path "$out") $(pixels packed/wide+40x40.jpg)" \
    "0 packed/wide+40x40.jpg $(pixels out/wide+40x40.jpg)"
try sd-resize -o packed --max-resolution 40x40 --copy-associated-files <<END
{"path":"pictures.tar!/wide.png"}
END
is 'has nothing beside it' "$status $(jq -r .error.message "$out")" \
    '1 what lies beside a picture in an archive is not copied; use sd-unpack'
for i in 1 2 3 4 5 6 7 8 9; do cat wide && jq -c '.path = "x/wide.png"' wide; done >twice
sd-resize -j 8 -o both --max-resolution 40x40 <twice 2>/dev/null >"$out"
is 'the first of one name has it, whatever the threads' "$(jq -s '[.[] | .error == null] | index(true)' "$out") $(jq -s '[.[] | select(.error == null)] | length' "$out")" '0 1'
echo '{"path":"q","error":{"tool":"t","message":"m"}}' >failed
try sd-resize -o out <failed
same 'records that carry an error pass' "$out" failed
echo 'no picture' >broken.png
echo '{"path":"broken.png"}' >broken
try sd-resize -o out <broken
like 'no picture' "$status $(cat "$err")" '1 sd-resize: broken.png: not a PNG, JPEG, WebP or BMP file'
try sd-resize -o out --max-resolution 40x40 --divisible-by 64 <clear
like 'a side shorter than a step' "$status $(cat "$err")" '1 *shorter than --divisible-by 64'
for bad in 512 512x 0x4 4x4, x4 4x4x4 '4x-4' 999999x1; do
    try sd-resize -o out --max-resolution $bad <wide
    is "--max-resolution $bad" $status 2
done
try sd-resize <wide
like 'no folder' "$status $(cat "$err")" '2 sd-resize: no folder for the copies*'
try sd-resize -o out --bucket --max-resolution 4x4 <wide
is '--bucket and --max-resolution' $status 2
try sd-resize -o out --interpolation sinc <wide
is 'no such interpolation' $status 2
try sd-resize -o wide <wide
like 'the folder is a file' "$status $(cat "$err")" '[13] sd-resize: wide: *'
sd-resize -o out --max-resolution 40x40 <wide >/dev/full 2>"$err"
is 'a full disk behind standard output' $? 3
finish
