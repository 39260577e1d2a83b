#!/bin/sh
# sd-bucket: sizes for training (the choices themselves, 10,000 in nine settings: t/unit/bucket.c).
. "$(dirname "$0")/lib.sh"

# sizes WIDTHxHEIGHT...: records of that size
sizes() { for s; do echo "{\"path\":\"$s.png\",\"width\":${s%x*},\"height\":${s#*x}}"; done; }
# chosen: bucket, resize, crop of the last try
chosen() { jq -r '[.bucket, .resize, .crop] | flatten | join(" ")' "$out"; }

sizes 1920x1080 600x800 300x1000 3000x400 512x512 100x100 576x448 >in
try sd-bucket --resolution 512 <in
is 'status' $status 0
is 'buckets, sizes after resizing, crops' "$(chosen)" \
    '640 384 683 384 21 0
448 576 448 597 0 10
256 832 256 853 0 10
1024 256 1920 256 448 0
512 512 512 512 0 0
512 512 512 512 0 0
576 448 576 448 0 0'
is 'a record gets three members at its end' "$(head -1 "$out")" \
    '{"path":"1920x1080.png","width":1920,"height":1080,"bucket":[640,384],"resize":[683,384],"crop":[21,0]}'
is 'counts on standard error' "$(sed '$d' "$err")" \
    'sd-bucket: number of images (including repeats)
sd-bucket: bucket 0: resolution (256, 832), count: 1
sd-bucket: bucket 1: resolution (448, 576), count: 1
sd-bucket: bucket 2: resolution (512, 512), count: 2
sd-bucket: bucket 3: resolution (576, 448), count: 1
sd-bucket: bucket 4: resolution (640, 384), count: 1
sd-bucket: bucket 5: resolution (1024, 256), count: 1'
like 'the mean error' "$(tail -1 "$err")" 'sd-bucket: mean ar error (without repeats): 0.5*'
cp "$out" upscaled

try sd-bucket --bucket_no_upscale <in
is '--bucket-no-upscale (and the default resolution)' "$status $(chosen)" \
    '0 640 384 683 384 21 0
384 512 384 512 0 0
256 832 256 853 0 10
960 128 960 128 0 0
512 512 512 512 0 0
64 64 100 100 18 18
576 448 576 448 0 0'
try sd-bucket --no-enable-bucket --resolution 640,384 <in
is '--no-enable-bucket' "$status $(chosen | sort -u | cut -d' ' -f1,2 | uniq)" '0 640 384'
is 'one line for the one bucket' "$(sed -n 2p "$err")" 'sd-bucket: bucket 0: resolution (640, 384), count: 7'
try sd-bucket -q --resolution 64 --bucket-reso-steps 8 --min-bucket-reso 32 <in
is 'small steps; -q is quiet' "$status $(chosen | head -2 | tr '\n' ';') $(cat "$err")" \
    '0 80 48 85 48 2 0;56 72 56 75 0 1; '
try sd-bucket --max_resolution=768,512 --max-bucket-reso 1100 --min-bucket-reso 300 <in
is 'sides that are no whole steps are rounded' "$status $(head -1 "$err")" \
    '0 sd-bucket: bucket sides are rounded to whole steps: 256 to 1152'

# repeats
printf '%s\n' '{"width":512,"height":512,"repeats":10}' '{"width":9,"height":9}' '{"width":10,"height":5,"repeats":3}' >repeated
try sd-bucket <repeated
is 'pictures count as often as they repeat' "$status $(sed '1d;$d' "$err" | sed 's/.*count: //' | tr '\n' ' ')" '0 11 3 '
is 'but not in the mean error' "$(tail -1 "$err")" "sd-bucket: mean ar error (without repeats): 0.066666666666666721"

# what passes
cat >odd <<'EOT'
{ "id" : 12345678901234567890 , "crop":[ 7,7 ], "width" : 512,"height":512, "u":"\u00e9\/" }
{"path":"p/a.png","width":1,"height":1,"error":{"tool":"sd-x","message":"broken"},"z":[1, 2]}
EOT
try sd-bucket -q <odd
is 'unknown members pass; members that are there keep their place' "$(sed -n 1p "$out")" \
    '{ "id" : 12345678901234567890 , "crop":[0,0], "width" : 512,"height":512, "u":"\u00e9\/" ,"bucket":[512,512],"resize":[512,512]}'
is 'a record with an error passes untouched' "$(sed -n 2p "$out") $status" "$(sed -n 2p odd) 0"
try sd-bucket </dev/null
is 'nothing in, nothing out' "$status $(cat "$out" "$err")" '0 '

# what fails
cat >bad <<'EOT'
{"path":"a.png","height":5}
{"path":"b.png","width":5}
{"path":"c.png","width":"5","height":5}
{"path":"d.png","width":5.5,"height":5}
{"path":"e.png","width":0,"height":5}
{"path":"f.png","width":5,"height":-5}
{"path":"g.png","width":9223372036854775807,"height":5}
{"path":"h.png","width":5,"height":5,"repeats":0}
{"path":"i.png","width":512,"height":512}
EOT
try sd-bucket <bad
is 'status' $status 1
is 'every record is passed on' "$(jq -r .path "$out" | tr '\n' ' ')" \
    'a.png b.png c.png d.png e.png f.png g.png h.png i.png '
is 'only the good one has a bucket' "$(jq -r 'select(.bucket).path' "$out")" i.png
is 'and all others are marked' "$(jq -r 'select(.error.tool == "sd-bucket") | .error.message' "$out")" \
    'the record has no "width"
the record has no "height"
member "width": a string where a whole number of 64 bits is expected
member "width": a number where a whole number of 64 bits is expected
a picture of 0x5 pixels has no bucket
a picture of 5x-5 pixels has no bucket
a picture of 9223372036854775807x5 pixels has no bucket
repeats is 0, less than 1'
is 'each told once' "$(grep -c '^sd-bucket: [a-h].png: ' "$err")" 8
like 'counts are of the good ones' "$(grep bucket: "$err" | tail -2)" '*resolution (512, 512), count: 1*'
sizes 40x3000 63x64 64x64 >thin
try sd-bucket --bucket-no-upscale <thin
is 'less than a step' "$status $(head -2 "$err")" \
    '1 sd-bucket: 40x3000.png: 40x3000 pixels are less than one bucket step of 64
sd-bucket: 63x64.png: 63x64 pixels are less than one bucket step of 64'

# bad options
# refused MESSAGE OPTION...
refused() {
    want=$1
    shift
    try sd-bucket "$@" <in
    like "$*" "$status $(wc -c <"$out" | tr -d ' ') $(cat "$err")" "2 0 sd-bucket: $want*"
}
refused '"9x" is no resolution: N or WIDTH,HEIGHT' --resolution 9x
refused 'a resolution is 1 to 65536 pixels a side, not 0x0' --resolution 0
refused 'the resolution 2000x2000 lies outside the bucket sides 256 to 1024' --resolution 2000
refused 'the resolution 128x128 lies outside' --resolution 128
refused 'bucket steps are 1 to 65536 pixels, not 0' --bucket-reso-steps 0
refused '--bucket-reso-steps: 20 is no multiple of 8' --bucket-reso-steps 20
refused '--resolution: 500x500 are no multiples of 8' --no-enable-bucket --resolution 500
refused 'the smallest bucket side, 512, and the largest, 256, leave no buckets' --min-bucket-reso 512 --max-bucket-reso 256
refused "--min-bucket-reso: 'x' is not a whole number" --min-bucket-reso x
refused 'too many arguments' in

# order
awk 'BEGIN { for (i = 0; i < 5000; i++) printf "{\"n\":%d,\"width\":%d,\"height\":%d}\n", i, 100 + i * 7919 % 4000, 100 + i * 104729 % 3000 }' >many
try sd-bucket -j 1 <many
cp "$out" want
cp "$err" want.err
is 'all of them, in order' "$(jq -c .n want | sort -nc && wc -l <want | tr -d ' ')" 5000
for j in 2 5; do
    try sd-bucket -j $j <many
    same "-j $j: the same records" "$out" want
    same "-j $j: the same counts" "$err" want.err
done
finish
