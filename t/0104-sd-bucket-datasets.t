#!/bin/sh
# sd-bucket: settings of data sets, regularisation pictures, the reports.
. "$(dirname "$0")/lib.sh"

# regularisation pictures: 161 data sets in one stream, as sd-scripts weighs them
jq -c '{path: "\(.d)/\(input_line_number).png", width: 64, height: 64, repeats, reg, want,
        dataset: {index: .d, resolution: [64, 64], min_bucket_reso: 64}}' "$root/t/data/bucket/balance.ndjson" >all
try sd-bucket <all
is 'balancing: status' $status 0
is 'repeats are those of sd-scripts' "$(jq -c 'select(.want != .repeats)' "$out")" ''
jq -r 'select(.want > 0) | .path' all >want
jq -r .path "$out" >got
same 'those not used leave the stream, the others keep their order' got want
is 'they are told' "$(grep -c 'regularisation pictures are left out' "$err")" \
    "$(jq -s 'map(select(.want == 0)) | map(.dataset.index) | unique | length' all)"
like 'with counts' "$(grep 'are left out' "$err" | head -1)" \
    'sd-bucket: \[Dataset 2\] 5 of 9 regularisation pictures are left out: the others match the 4 training pictures (including repeats)'
is 'the counts are of what is used' "$(sed -n 's/.*count: //p' "$err" | jq -s add)" "$(jq -s 'map(.want) | add' all)"
cp "$out" once
cp "$err" once.err
for j in 1 5; do
    try sd-bucket -j $j <all
    same "-j $j: the same records" "$out" once
    same "-j $j: the same messages" "$err" once.err
done
try sd-bucket -q <once
same 'what is balanced stays so' "$out" once
try sd-bucket --no-balance <all
is '--no-balance' "$status $(jq -c '[.path, .repeats]' "$out" | cksum)" "0 $(jq -c '[.path, .repeats]' all | cksum)"
try sd-bucket -v <all
is '-v names those that are not used' "$(sed -n 's/sd-bucket: \(.*\): not used: .*/\1/p' "$err" | cksum)" \
    "$(jq -r 'select(.want == 0) | .path' all | cksum)"

cat >mixed <<'EOT'
{"path":"a.png","width":64,"height":64}
{"path":"r.png","width":64,"height":64,"reg":true}
{"path":"bad.png","width":64,"reg":true}
{"path":"failed.png","error":{"tool":"sd-x","message":"m"},"reg":true}
no record
{"path":"s.png","width":64,"height":64,"reg":true}
{"path":"b.png","width":64,"height":64,"repeats":2}
EOT
try sd-bucket <mixed
is 'what fails is not counted, and keeps its place' "$status $(jq -r '"\(.path):\(.repeats)"' "$out" | tr '\n' ' ')" \
    '1 a.png:null r.png:2 bad.png:null failed.png:null s.png:null b.png:2 '
like 'bad lines are told' "$(cat "$err")" '*line 5:*no record*'
TMPDIR=/nonexistent try sd-bucket -q <mixed
is 'no place to put records aside' "$status $(grep -c '^sd-bucket: /nonexistent: cannot make a temporary file: No such file' "$err")" '3 1'
head -1 mixed >plain
TMPDIR=/nonexistent try sd-bucket -q <plain
is 'none is needed without regularisation pictures' "$status $(jq -r .path "$out")" '0 a.png'
(
    cat plain
    sleep 2
) | sd-bucket -q | (
    read -r line
    echo "$line" >first
    date +%s >first.time
    cat >/dev/null
    date +%s >last.time
)
ok 'then records flow' test "$(cat first.time)" -lt "$(cat last.time)"

# settings of data sets
set0='{"index":0,"resolution":[512,512],"batch_size":1,"enable_bucket":true,"min_bucket_reso":256,"max_bucket_reso":1024,"bucket_reso_steps":64,"bucket_no_upscale":false}'
set1='{ "index" : 1, "resolution":[64,64], "enable_bucket":false, "batch_size":3, "new":{"x":[1]} }'
printf '{"path":"%s","width":1920,"height":1080,"dataset":%s}\n' a "$set0" b "$set1" c "$set0" >sets
echo '{"path":"d","width":1920,"height":1080}' >>sets
try sd-bucket --resolution 768 --bucket-reso-steps 32 <sets
is 'a data set has its own settings' "$status $(jq -c .bucket "$out" | tr '\n' ' ')" '0 [640,384] [64,64] [640,384] [1024,576] '
is 'and its own counts' "$(grep -v error "$err")" \
    'sd-bucket: number of images (including repeats)
sd-bucket: bucket 0: resolution (1024, 576), count: 1
sd-bucket: [Dataset 0]
sd-bucket: number of images (including repeats)
sd-bucket: bucket 0: resolution (640, 384), count: 2
sd-bucket: [Dataset 1]
sd-bucket: number of images (including repeats)
sd-bucket: bucket 0: resolution (64, 64), count: 1'
# bad DATASET MESSAGE
bad() {
    printf '{"path":"a","width":9,"height":9,"dataset":%s}\n' "$1" >one
    try sd-bucket <one
    is "$1" "$status $(jq -r .error.message "$out")" "1 member \"dataset\": $2"
}
bad '7' 'not a JSON object at byte 1'
bad '{"resolution":[64,64]}' 'the record has no "index"'
bad '{"index":-1}' 'index is -1, not 0 to 2147483647'
bad '{"index":0,"resolution":512}' 'member "resolution": a number where an array of integers is expected'
bad '{"index":0,"resolution":[2000,2000]}' 'the resolution 2000x2000 lies outside the bucket sides 256 to 1024 (--min-bucket-reso, --max-bucket-reso)'
bad '{"index":0,"resolution":[128,512]}' 'the resolution 128x512 lies outside the bucket sides 256 to 1024 (--min-bucket-reso, --max-bucket-reso)'
bad '{"index":0,"bucket_reso_steps":20}' 'bucket-reso-steps: 20 is no multiple of 8, the pixels of a latent'
bad '{"index":0,"bucket_reso_steps":0}' 'bucket steps are 1 to 65536 pixels, not 0'
bad '{"index":0,"enable_bucket":false,"resolution":[100,100]}' 'resolution: 100x100 are no multiples of 8, the pixels of a latent'
bad '{"index":0,"batch_size":0}' 'batch_size is 0, not 1 to 1048576'
bad '{"index":0,"bucket_no_upscale":"no"}' 'member "bucket_no_upscale": a string where true or false is expected'
awk 'BEGIN { for (i = 0; i < 1100; i++) printf "{\"width\":64,\"height\":64,\"dataset\":{\"index\":%d}}\n", i }' >hostile
try sd-bucket -q -j 1 <hostile
is 'data sets without end' "$status $(jq -r 'select(.error).error.message' "$out" | sort | uniq -c | sed 's/^ *//')" \
    '1 101 member "dataset": more than 1000 data sets'

# reports
awk 'BEGIN { for (i = 0; i < 4000; i++) printf "{\"width\":%d,\"height\":%d,\"repeats\":%d}\n", 100 + i * 7919 % 2000, 100 + i * 104729 % 1500, 1 + i % 3 }' >many
try sd-bucket -q --histogram <many
like 'histogram' "$(head -2 "$err")" 'sd-bucket: size            pictures *with repeats
sd-bucket:   256 x 832  *#*'
is 'its counts' "$(sed 1d "$err" | awk '{ n += $5; r += $6 } END { print n, r }')" "4000 $(jq -s 'map(.repeats) | add' many)"
try sd-bucket --dry-run --json --batch-size 4 -j 1 <many
cp "$out" report.json
is '--dry-run --json: one object and nothing else' "$status $(wc -l <"$out") $(cat "$err")" '0 1 '
for j in 2 5; do
    try sd-bucket -n --json --train_batch_size 4 -j $j <many
    same "-j $j: the same sums" "$out" report.json
done
# sums OPTION...: what the records say, in the order of figures
sums() {
    sd-bucket -q "$@" <many | jq -s -c '[
        (map(.bucket) | unique | length),
        (map(.resize[0] * .resize[1]) | add),
        (map(.resize[0] * .resize[1] - .bucket[0] * .bucket[1]) | add),
        (map(select(.resize[0] > .width or .resize[1] > .height)) | length),
        (group_by(.bucket) | map(map(.repeats) | add) | (map((. + 3) / 4 | floor) | add), (map(select(. % 4 > 0)) | length))]'
}
figures='[.bucket_count, .resized_pixels, .cropped_pixels, .enlarged, .batches, .unfull_batches]'
is 'the report is the sum of the records' "$(jq -c ".datasets[0] | $figures" report.json)" "$(sums)"
for i in 8 32; do
    is "steps of $i instead" "$(jq -c ".datasets[0].instead[] | select(.what == \"steps of $i\") | $figures" report.json)" \
        "$(sums --bucket-reso-steps $i)"
done
is 'never enlarging' "$(jq -c ".datasets[0].instead[] | select(.what == \"never enlarging\") | $figures" report.json)" \
    "$(sums --bucket-no-upscale)"
is 'wider sides' "$(jq -c ".datasets[0].instead[] | select(.what == \"sides half to double\") | $figures" report.json)" \
    "$(sums --min-bucket-reso 128 --max-bucket-reso 2048)"
is 'the buckets add up' "$(jq -c '.datasets[0] | [.pictures, .repeated, .cropped_pixels, .enlarged, .batches] == (.buckets |
    [(map(.pictures) | add), (map(.repeated) | add), (map(.cropped_pixels) | add), (map(.enlarged) | add), (map(.batches) | add)])' report.json)" true
ok 'mean enlargement' jq -e '.datasets[0].enlargement > 1 and .datasets[0].enlargement < 6' report.json
printf '{"width":256,"height":256}\n{"width":128,"height":512}\n' >two
try sd-bucket -n --json <two
is 'by how much' "$(jq -c '.datasets[0] | [.enlarged, .enlargement]' "$out")" '[2,2]'
try sd-bucket --dry-run <sets
is 'for people' "$status $(cat "$err")" '0 '
like 'settings, buckets, alternatives' "$(cat "$out")" '*Resolution 512 x 512, sides 256 to 1024 in steps of 64, batches of 1*
bucket *640 x 384 *all *
with *these settings *
steps of 8 *
\[Dataset 1\]
Resolution 64 x 64, no other buckets, batches of 3*'
try sd-bucket -n --no-enable-bucket --json <many
is 'buckets instead of none' "$(jq -c ".datasets[0].instead[] | select(.what == \"with buckets\") | $figures" "$out")" \
    "$(jq -c ".datasets[0] | $figures" report.json | cut -d, -f1-4 | sed 's/$/,/')$(jq -c '.datasets[0].repeated' report.json),0]"
try sd-bucket -n <mixed
is 'failed records are told, not written' "$status $(grep -c '{' "$out") $(grep -c 'bad.png: the record has no' "$err")" '1 0 1'
like 'regularisation pictures' "$(tail -1 "$out")" '3 training pictures with repeats; 2 of 2 regularisation pictures used'
printf '{"width":40,"height":4000}\n{"width":64,"height":64}\n' >thin
try sd-bucket -n --json <thin
is 'what another setting would refuse' "$(jq '.datasets[0].instead[] | select(.what == "never enlarging").refused' "$out")" 1
try sd-bucket --dry-run </dev/null
is 'no pictures' "$status $(cat "$out")" '0 No pictures.'
try sd-bucket -n --json </dev/null
is 'as JSON' "$status $(cat "$out")" '0 {"datasets":[]}'
try sd-bucket --json </dev/null
like '--json alone' "$status $(cat "$err")" '2 sd-bucket: --json goes with --dry-run*'
finish
