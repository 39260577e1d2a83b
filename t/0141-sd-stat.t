#!/bin/sh
# sd-stat: a set of records at a glance, for people and as JSON.
. "$(dirname "$0")/lib.sh"

# stat FILTER [OPTION]...: what jq's FILTER makes of the JSON about ./in
stat() {
    filter=$1
    shift
    sd-stat --format json "$@" <in 2>"$err" | jq -c "$filter"
}

cat >in <<'EOT'
{"path":"a.png","width":512,"height":768,"format":"png","bytes":1000,"caption":"a cat","tags":["1girl","solo","smile"],"bucket":[512,768],"repeats":2}
{"path":"b.jpg","width":64,"height":64,"format":"jpeg","bytes":500,"caption":"a cat","tags":["1girl","solo"],"bucket":[64,64]}
{"path":"c.png","width":1024,"height":768,"format":"png","bytes":1500,"caption":["","Él  gato\tgordo"],"tags":"1girl, smile,,1girl"}
{"path":"d.png","width":"?","error":{"tool":"sd-x","message":"broken"}}
{"path":"e.png","caption":" ","tags":[]}
{"path":"f.png","caption":[],"bucket":[64,64],"repeats":10}
EOT
try sd-stat --pairs 2 <in
is 'for people' "$status $(cat "$err" "$out")" '0 records        6, 1 with errors; 15 pictures with repeats
bytes          3000 (3.0 kB)
formats        png 2, jpeg 1, unknown 2
sizes          3 known, 2 not
  width        64 to 1024, median 512
  height       64 to 768, median 768
  megapixels   0.004 to 0.786, median 0.393
  aspect       0.667 to 1.333, median 1.000
  shape        portrait 1, square 1, landscape 1
  smallest     64x64 b.jpg
               512x768 a.png
               1024x768 c.png
buckets        2; 2 records without
             2 64x64, 11 with repeats
             1 512x768, 2 with repeats
captions       3 records with, 1 without, 1 empty
  texts        3, 2 distinct, 1 duplicates
  characters   5 to 14, median 5
  words        2 to 3, median 2
tags           3 records with, 2 without
  total        7, 3 distinct
  a record     2 to 3, median 2
             3 1girl
             2 solo
             2 smile
pairs of tags
             2 1girl + solo
             2 1girl + smile'
try sd-stat --format json <in
is 'as JSON: one line' "$status $(wc -l <"$out")$(cat "$err")" '0 1'
is 'counts' "$(stat '[.records,.errors,.failed,.repeated,.bytes,.no_bytes,.no_format]')" '[6,1,0,15,3000,2,2]'
is 'formats' "$(stat .formats)" '{"png":2,"jpeg":1}'
is 'sizes' "$(stat '.sizes | del(.smallest)')" \
    '{"known":3,"missing":2,"width":{"min":64,"median":512,"max":1024},"height":{"min":64,"median":768,"max":768},"megapixels":{"min":0.004096,"median":0.393216,"max":0.786432},"aspect":{"min":0.6667,"median":1,"max":1.3333},"portrait":1,"square":1,"landscape":1}'
is '--smallest' "$(stat .sizes.smallest --smallest 1)" '[{"path":"b.jpg","width":64,"height":64}]'
is 'no smallest' "$(stat .sizes.smallest --smallest 0)" '[]'
is 'buckets' "$(stat '[.no_bucket,.buckets]')" \
    '[2,[{"bucket":[64,64],"count":2,"repeated":11},{"bucket":[512,768],"count":1,"repeated":2}]]'
is 'captions' "$(stat .captions)" \
    '{"present":3,"missing":1,"empty":1,"texts":3,"distinct":2,"duplicates":1,"characters":{"min":5,"median":5,"max":14},"words":{"min":2,"median":2,"max":3}}'
is 'tags' "$(stat '.tags | del(.top, .pairs)')" \
    '{"present":3,"missing":2,"total":7,"distinct":3,"each":{"min":2,"median":2,"max":3}}'
is '--top' "$(stat .tags.top --top 2)" '[{"tag":"1girl","count":3},{"tag":"solo","count":2}]'
is '--pairs' "$(stat .tags.pairs --pairs 9)" \
    '[{"tags":["1girl","solo"],"count":2},{"tags":["1girl","smile"],"count":2},{"tags":["solo","smile"],"count":1}]'
is '--pairs are those of the top' "$(stat '.tags.pairs | length' --pairs 9 --top 2)" 1
is 'without --pairs none' "$(stat .tags.pairs)" '[]'

: >none
try sd-stat <none
is 'no records' "$status $(cat "$err" "$out")" '0 records        0'
is 'no records, JSON' "$(sd-stat --format json <none | jq -c '[.records,.sizes.width,.captions.words,.tags.top]')" \
    '[0,null,null,[]]'

# names from outside
printf '%s\n' '{"path":"\u001b[31m\n.png","width":1,"height":1,"format":"\u0007","tags":["\u001b]0;x","odd\udce9","q\"\\"]}' >in
try sd-stat <in
is 'no control character reaches a terminal' "$status $(tr -d '\n[:print:]' <"$out" | LC_ALL=C tr -d '\351')" '0 '
like 'they are shown' "$(cat -v "$out")" '*1x1 \\x1b\[31m\\x0a.png*'
is 'JSON quotes them' "$(sd-stat --format json <in | grep -c 'odd\\udce9.*q\\"\\\\')" 1

# what fails
cat >in <<'EOT'
{"path":"a.png","width":"8","height":8}
{"path":"b.png","width":0,"height":8,"caption":"counts nowhere"}
{"path":"c.png","caption":5}
no record
{"path":"d.png","tags":[1]}
{"path":"e.png","bucket":[64]}
{"path":"f.png","bytes":-1}
{"path":"g.png","repeats":0}
{"path":"h.png","width":99999999999,"height":99999999999}
{"path":"i.png","width":8,"height":8,"format":7}
{"path":"j.png","width":8,"height":8}
[1]
EOT
try sd-stat --format json <in
is 'what cannot be read: the rest is counted' "$status $(jq -c '[.records,.errors,.failed,.sizes.known,.captions.texts]' "$out")" \
    '1 [10,0,9,1,0]'
is 'each told once' "$(cat "$err")" 'sd-stat: a.png: member "width": a string where a whole number of 64 bits is expected
sd-stat: b.png: a size of 0x8: sides are 1 to 2147483647
sd-stat: c.png: member "caption": a number where an array of strings is expected
sd-stat: line 4: not a JSON object at byte 1
no record
sd-stat: d.png: member "tags": a number where a string is expected
sd-stat: e.png: member "bucket": 1 numbers where 2 are expected
sd-stat: f.png: bytes is -1, less than 0
sd-stat: g.png: repeats is 0, not 1 to 1000000
sd-stat: h.png: a size of 99999999999x99999999999: sides are 1 to 2147483647
sd-stat: i.png: member "format": a number where a string is expected
sd-stat: line 12: not a JSON object at byte 1
[1]'
try sd-stat --format xml <in
like 'a format it does not have' "$status $(cat "$out" "$err")" '2 sd-stat: *--format*'
try sd-stat --top -1 <in
like 'a number out of range' "$status $(cat "$out" "$err")" '2 sd-stat: *--top*'
sd-stat <none >/dev/full 2>"$err"
is 'a full disk' $? 3
mkfifo pipe
sd-stat <pipe >"$out" 2>"$err" &
pid=$!
exec 3>pipe
echo '{"path":"a.png"}' >&3
kill -TERM $pid
exec 3>&-
status=0
wait $pid 2>/dev/null || status=$?
is 'a signal: no report of a part' "$status $(cat "$out")" '143 '

# many, against jq
awk 'BEGIN { srand(7); for (i = 0; i < 1500; i++) {
    printf "{\"path\":\"%d.png\",\"width\":%d,\"height\":%d,\"bytes\":%d,\"caption\":\"word%s\",\"tags\":[",
        i, 64 + rand() * 2000, 64 + rand() * 2000, rand() * 1e7, substr(" abcdefgh ijklmnop qrst uvw", 1, rand() * 26)
    for (k = 0; k < 12; k++)
        printf "%s\"t%d\"", (k ? "," : ""), 300 * rand() ^ 3
    print "]}" } }' >in
is 'many: sizes' "$(stat '[.bytes,.sizes.width,.sizes.height]')" "$(jq -sc '
    def range: sort | {min: .[0], median: .[(length - 1) / 2 | floor], max: .[-1]};
    [(map(.bytes) | add), (map(.width) | range), (map(.height) | range)]' in)"
is 'many: the smallest' "$(stat '[.sizes.smallest[].path]' --smallest 30)" \
    "$(jq -sc 'sort_by(.width * .height)[:30] | map(.path)' in)"
is 'many: captions' "$(stat '.captions | [.texts,.distinct,.characters.median,.words]')" "$(jq -sc '
    def range: sort | {min: .[0], median: .[(length - 1) / 2 | floor], max: .[-1]};
    map(.caption) | [length, (unique | length), (map(length) | range.median), (map(split(" ") | map(select(. != "")) | length) | range)]' in)"
is 'many: tags' "$(stat '.tags | [.total,.distinct,(.top | map([.tag,.count]) | sort)]' --top 1000)" "$(jq -sc '
    map(.tags | unique) | add | [length, (unique | length), (group_by(.) | map([.[0], length]) | sort)]' in)"
is 'many: the counts fall' "$(stat '.tags.top | map(.count) | . == (sort | reverse)' --top 1000)" true
is 'many: pairs' "$(stat '[.tags.pairs[] | [(.tags | sort), .count]] | sort' --top 1000 --pairs 1000000 | md5sum)" "$(jq -c '.tags | unique | . as $t | range(length) as $i |
    range($i + 1; length) as $k | [$t[$i], $t[$k]]' in | jq -sc 'group_by(.) | map([.[0], length]) | sort' | md5sum)"
sd-stat --pairs 10 -j 1 <in >want
try sd-stat --pairs 10 -j 4 <in
same '-j 4: the same' "$out" want
sort -r in >turned
sd-stat --format json --top 0 <in | jq 'del(.sizes.smallest)' >want
sd-stat --format json --top 0 <turned | jq 'del(.sizes.smallest)' >"$out"
same 'in another order: the same numbers' "$out" want

# more than is kept in memory: sizes and tags lie in temporary files
awk 'BEGIN { srand(5); for (i = 0; i < 12000; i++)
    printf "{\"width\":%d,\"height\":%d,\"tags\":[\"a%d\",\"b%d\"]}\n",
        1 + rand() * 5000, 1 + rand() * 5000, 4 * rand(), 3 * rand() }' >in
mkdir temp
TMPDIR=$PWD/temp try sd-stat --format json --pairs 100 <in
is 'temporary files: nothing is left' "$status $(cat "$err") $(ls -A temp)" '0  '
is 'temporary files: sizes' "$(jq -c '.sizes | del(.smallest)' "$out")" "$(jq -sc '
    def r($k): $k * . + 0.5 | floor / $k;
    def range: sort | {min: .[0], median: .[(length - 1) / 2 | floor], max: .[-1]};
    {known: length, missing: 0, width: map(.width) | range, height: map(.height) | range,
    megapixels: map(.width * .height / 1e6) | range, aspect: (map(.width / .height) | range | map_values(r(10000))),
    portrait: map(select(.width < .height)) | length, square: map(select(.width == .height)) | length,
    landscape: map(select(.width > .height)) | length}' in)"
is 'temporary files: pairs' "$(jq -c '[.tags.pairs[] | [(.tags | sort), .count]] | sort' "$out")" \
    "$(jq -sc 'group_by(.tags) | map([.[0].tags, length]) | sort' in)"
TMPDIR=$PWD/nowhere try sd-stat <in
is 'TMPDIR that is not there' "$status $(cat "$out" "$err")" \
    "3 sd-stat: $PWD/nowhere: cannot make a temporary file: No such file or directory"
finish
