#!/bin/sh
# sd-pack: pictures and texts into archives that tar and unzip read; shards; names; what fails.
. "$(dirname "$0")/lib.sh"

mkdir photos photos/sub
picture rgb.png photos/a.png
picture 420.jpg photos/b.jpg
picture lossy.webp photos/sub/a.webp
picture rgb.bmp photos/c.bmp
picture q30.jpg photos/d.jpg
sd-scan -r photos |
    jq -c 'if .path == "photos/a.png" then . + {caption: ["a cat", "a tom"], tags: ["cat"]}
           elif .path == "photos/b.jpg" then . + {tags: ["tree", "sky"], id: 12345678901234567890} else . end' |
    sed 's/12345678901234567000/12345678901234567890/; s/12345678901234567890/1234567890.5000/' >in

try sd-pack -o x.tar <in
is 'status' "$status $(cat "$err")" '0 sd-pack: 5 pictures in 1 archives'
is 'records: only their paths change' "$(cat "$out")" "$(sed 's,"path":"photos,"path":"x.tar!/photos,' in)"
is 'members' "$(tar tf x.tar | tr '\n' ' ')" \
    'photos/a.png photos/a.json photos/a.txt photos/b.jpg photos/b.json photos/b.txt photos/c.bmp photos/c.json photos/d.jpg photos/d.json photos/sub/a.webp photos/sub/a.json '
mkdir tarred && tar xf x.tar -C tarred
for f in a.png b.jpg c.bmp d.jpg sub/a.webp; do same "the bytes of $f" photos/$f tarred/photos/$f; done
is '.json is the record' "$(cat tarred/photos/b.json)" "$(sed -n 2p in)"
is '.txt is the caption' "$(cat tarred/photos/a.txt; echo .)" 'a cat
a tom.'
is 'or the tags' "$(cat tarred/photos/b.txt; echo .)" 'tree, sky.'
is 'no owner, no time' "$(tar tvf x.tar --numeric-owner --utc --full-time | awk '{ print $1, $2, $4, $5 }' | sort -u)" \
    '-rw-r--r-- 0/0 1970-01-01 00:00:00'
cp x.tar first.tar
touch photos/a.png
sd-pack -q -o x.tar <in >"$out"
same 'the same input gives the same bytes' x.tar first.tar
is 'sd-scan finds them in it' "$(sd-scan x.tar | jq -c '[.path,.width,.format]')" \
    "$(jq -c '[.path,.width,.format]' "$out")"
try sd-merge --caption-extension .txt --tags-extension '' <<END
{"path":"x.tar!/photos/b.jpg"}
END
is 'and sd-merge the texts' "$(jq -r .caption "$out")" 'tree, sky'

sd-pack -q -o x.zip <in >"$out"
is 'a zip' "$(jq -r .path "$out" | head -1)" 'x.zip!/photos/a.png'
ok 'unzip: the CRCs' unzip -tq x.zip
mkdir zipped && unzip -q x.zip -d zipped
ok 'the same files' diff -r tarred zipped
is 'stored' "$(unzip -v x.zip | awk '/photos/ { print $2 }' | sort -u)" Stored
cp x.zip first.zip
sd-pack -q -o x.zip <in >"$out"
same 'the same bytes again' x.zip first.zip
is 'a zip of a tar, by its records' "$(sd-pack -q -o again.zip <in | cut -c1-20 | head -1; sd-pack -q -o x.tar <in | sd-pack -q -o again.zip >"$out"; jq -r .path "$out" | head -1)" \
    '{"path":"again.zip!/
again.zip!/photos/a.png'

# files beside the pictures
try sd-pack -q -o with.tar --with .caption=caption -w tags=tags,caption -w id=id <in
is '--with' "$(tar tf with.tar | tr '\n' ' ')" \
    'photos/a.png photos/a.caption photos/a.tags photos/b.jpg photos/b.tags photos/b.id photos/c.bmp photos/d.jpg photos/sub/a.webp '
is 'a number as it is written' "$(tar xOf with.tar photos/b.id)" 1234567890.5000
try sd-pack -q -o bare.tar --with '' <in
is "--with '': pictures alone" "$(tar tf bare.tar | grep -c .)" 5
try sd-pack -q -o bare.tar --image-dir photos/ --with '' <in
is '--image-dir' "$(tar tf bare.tar | tr '\n' ' ')" 'a.png b.jpg c.bmp d.jpg sub/a.webp '

# shards
try sd-pack -o out/s-%03d.tar --max-count 2 --first 7 <in
is '--max-count' "$status $(jq -r .path "$out" | tr '\n' ' ')" \
    '0 out/s-007.tar!/photos/a.png out/s-007.tar!/photos/b.jpg out/s-008.tar!/photos/c.bmp out/s-008.tar!/photos/d.jpg out/s-009.tar!/photos/sub/a.webp '
is 'the files' "$(ls out)" 's-007.tar
s-008.tar
s-009.tar'
try sd-pack -o out/s-%03d.tar --max-count 3 --first 7 <in
like 'an archive of an earlier run is told' "$(cat "$err")" '*sd-pack: out/s-009.tar is there from before*'
head -c 700000 /dev/zero >zeros
for i in 1 2 3; do { cat "$root/t/data/image/rgb.bmp" zeros; } >photos/large$i.bmp; done
sd-scan photos/large?.bmp | sd-pack -q -o size-%d.zip --max-size 2 >"$out"
is '--max-size' "$(jq -r .path "$out" | tr '\n' ' ')$(find . -name 'size-*' -size +2000000c)" \
    'size-0.zip!/photos/large1.bmp size-0.zip!/photos/large2.bmp size-1.zip!/photos/large3.bmp '
try sd-pack -o none-%d.tar </dev/null
is 'nothing gives no shard' "$status $(ls none-* 2>/dev/null)" '0 '
try sd-pack -o none.tar </dev/null
is 'but an archive that was named' "$status $(tar tf none.tar)" '0 '

# names
mkdir -p dots.d 'long'
picture rgb.png dots.d/a.b.c.png
picture rgb.png dots.d/a_b_c.png
picture rgb.png dots.d/a_b_c.JPG
picture rgb.png .x.png
long=$(printf '%0120d' 7)
mkdir -p "long/$long/$long"
picture rgb.png "long/$long/$long/é$long.png"
printf '%s\n' dots.d/a.b.c.png ./dots.d//a_b_c.png dots.d/../dots.d/a_b_c.JPG "$PWD/.x.png" "long/$long/$long/é$long.png" |
    sd-scan >odd
for kind in tar zip; do
    try sd-pack -o odd.$kind --with '' <odd
    is "$kind: keys have no dots, are one each, and stay inside" "$status $(jq -r .path "$out")" \
        "0 odd.$kind!/dots.d/a_b_c.png
odd.$kind!/dots.d/a_b_c-2.png
odd.$kind!/dots.d/dots.d/a_b_c.JPG
odd.$kind!/${PWD#/}/_x.png
odd.$kind!/long/$long/$long/é$long.png"
    like 'and it is told' "$(cat "$err")" '*3 names changed*'
done
is 'tar reads such names' "$(tar tf odd.tar --quoting-style=literal | tail -1)" "long/$long/$long/é$long.png"
is 'unzip too' "$(unzip -Z1 odd.zip | wc -l)" 5

# what fails
cp in bad && sed -i 's/"bytes":998/"bytes":999/' bad
echo 'text' >photos/text.png
{
    cat bad
    echo '{"path":"photos/text.png"}'
    echo '{"path":"photos/none.png"}'
    echo '{"width":5}'
    echo '{"path":"photos/a.png","error":{"tool":"x","message":"y"}}'
    echo '{"path":"photos/a.png","caption":[1]}'
} >worse
try sd-pack -o x.tar <worse
is 'records that fail pass in their place' "$status $(jq -r '.error.message // "good"' "$out")" \
    "1 good
it has changed: 998 bytes, but the record says 999
good
good
good
not a PNG, JPEG, WebP or BMP file
cannot open: No such file or directory
the record has no \"path\"
y
member \"caption\": a number where a string is expected"
is 'and are not packed' "$(tar tf x.tar | grep -c 'png\|jpg\|bmp\|webp')" 4
cp x.tar before.tar
try sd-pack -o x.tar.gz <in
is 'a compressed archive' "$status $(head -1 "$err")" '2 sd-pack: -o x.tar.gz: the name must end in .tar or .zip'
try sd-pack -o x.tar --max-count 5 <in
is 'a limit and one name' "$status $(head -1 "$err")" \
    '2 sd-pack: --max-count, --max-size and --first need a number in the name: -o x-%06d.tar'
for bad in x-%s.tar x-%d-%d.tar %d/x.tar x-%; do
    try sd-pack -o "$bad" <in
    is "-o $bad" "$status" 2
done
try sd-pack -o x.tar --with png=caption <in
is '--with the ending of a picture' "$status $(head -1 "$err")" '2 sd-pack: --with png=caption: the ending of a picture'
try sd-pack -o no/such/x.tar <in
is 'a folder that cannot be made' "$status $(cat "$err")" '1 sd-pack: no/such: No such file or directory'
same 'nothing of that touched the archive' x.tar before.tar
try sh -c '{ cat in; sleep 5; } | sd-pack -q -o killed.tar & p=$!; sleep 1; kill $p; wait $p'
is 'a signal leaves no archive, and no records' "$(ls -A | grep -c killed) $(wc -c <"$out")" '0 0'

# metadata that names pictures in archives
try sd-meta --resolve from <<END
{"x.tar!/photos/a.png":{"caption":"a cat"},"missing.tar!/a.png":{"caption":"no cat"}}
END
is 'sd-meta --resolve takes them' "$status $(jq -c '[.path,.error.message]' "$out" | head -1)" '1 ["x.tar!/photos/a.png",null]'

# caches of their latents need a place
try sd-encode-latents --model "$root/contrib/tiny/sd.safetensors" <<END
{"path":"x.tar!/photos/a.png","bucket":[64,64],"resize":[64,64],"crop":[0,0]}
END
is 'sd-encode-latents asks for --cache-dir' "$status $(jq -r .error.message "$out")" \
    '1 no cache can lie beside a picture in an archive; use --cache-dir'
try sd-encode-latents --model "$root/contrib/tiny/sd.safetensors" --cache-dir cache <<END
{"path":"x.tar!/photos/a.png","bucket":[64,64],"resize":[64,64],"crop":[0,0]}
END
is 'and takes the picture with it' "$status $(find cache -name 'a-*.npz' | wc -l)" '0 1'
finish
