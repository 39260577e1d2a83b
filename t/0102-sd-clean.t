#!/bin/sh
# sd-clean: captions and tags by sd-scripts' rules (the rules themselves: t/unit/clean.c).
. "$(dirname "$0")/lib.sh"

# clean RECORD: what becomes of it
clean() { printf '%s\n' "$1" | sd-clean 2>"$err"; }

is 'tags: underscores, ratings, repeated words' \
    "$(clean '{"tags":["1girl","long_hair","blue_eyes","shirt","white_shirt","^_^","rating:safe","solo"]}')" \
    '{"tags":["1girl","long hair","blue eyes","white shirt","^_^"]}'
is 'tags: several people' \
    "$(clean '{"tags":["2girls","long hair","black hair","blonde hair","blue eyes","red eyes","smile"]}')" \
    '{"tags":["2girls","long hair","smile"]}'
is 'tags: nothing left' "$(clean '{"tags":["_"]}')$(clean '{"tags":[]}')" '{"tags":[" "]}{"tags":[]}'
is 'tags: a leading rating stays' "$(clean '{"tags":["rating:safe","a_b"]}')" '{"tags":["rating:safe","a b"]}'
is 'tags: one text, as in metadata, stays one' "$(clean '{"tags":"1girl, blue_eyes"}')" '{"tags":"1girl, blue eyes"}'
is 'tags: any script' "$(clean '{"tags":["猫_耳","スカート","赤い スカート"]}')" '{"tags":["猫 耳","赤い スカート"]}'
is 'caption' "$(clean '{"caption":"a young woman in an anime anime style"}')" '{"caption":"a girl in an anime style"}'
is 'captions, each by itself' "$(clean '{"caption":["an anime cartoon image of people","a cat",""]}')" \
    '{"caption":["an image of girls","a cat",""]}'
is 'both' "$(clean '{"path":"a.png","tags":["a_b"],"width":8,"caption":"a lady"}')" \
    '{"path":"a.png","tags":["a b"],"width":8,"caption":"a girl"}'

# what is left alone
cat >in <<'EOT'
{ "id" : 12345678901234567890 , "path" : "a.png", "x":1.0e-2,"u":"a_b woman \u00e9\/" }
{"caption" : "plain \u00e9",  "tags":[ "1girl" , "caf\u00e9" ]}
{"caption":null,"tags":null}
{"tags":["a_b"],"caption":"a woman","error":{"tool":"sd-x","message":"broken"}}
{"caption":"","tags":[]}
{"caption":[],"tags":["odd\udce9"]}
EOT
try sd-clean <in
same 'other members, clean members, null, records with an error: byte for byte' "$out" in
is 'status, and silence' "$status $(cat "$err")" '0 '
is 'a changed member keeps its place among untouched ones' \
    "$(clean '{ "id" : 12345678901234567890 , "tags" : ["a_b"] , "u":"\u00e9" }')" \
    '{ "id" : 12345678901234567890 , "tags" : ["a b"] , "u":"\u00e9" }'
is 'bytes that are not UTF-8 pass through cleaning' "$(clean '{"tags":["odd\udce9_x","y"]}')" '{"tags":["odd\udce9 x","y"]}'

# options
echo '{"tags":["a_b"],"caption":"a woman"}' >both
try sd-clean --no-captions <both
is '--no-captions' "$(cat "$out")" '{"tags":["a b"],"caption":"a woman"}'
try sd-clean --no-tags <both
is '--no-tags' "$(cat "$out")" '{"tags":["a_b"],"caption":"a girl"}'
try sd-clean --no-tags --no-captions <both
same 'neither' "$out" both
try sd-clean -v <both
is '-v counts' "$status $(cat "$err")" '0 sd-clean: captions changed in 1 records, tags in 1'
try sd-clean --words <both
like 'an option it does not have' "$status $(cat "$err")" '2 sd-clean: unknown option --words*'

# what fails
printf '%s\n' '{"path":"a.png","caption":5}' '{"path":"b.png","tags":[1]}' '{"path":"c.png","tags":["x_y"]}' 'no record' >bad
try sd-clean <bad
is 'status' $status 1
is 'records that fail are passed on and marked, the others are cleaned' "$(cat "$out")" \
    '{"path":"a.png","caption":5,"error":{"tool":"sd-clean","message":"member \"caption\": a number where an array of strings is expected"}}
{"path":"b.png","tags":[1],"error":{"tool":"sd-clean","message":"member \"tags\": a number where a string is expected"}}
{"path":"c.png","tags":["x y"]}'
is 'each told once' "$(cat "$err")" \
    'sd-clean: a.png: member "caption": a number where an array of strings is expected
sd-clean: b.png: member "tags": a number where a string is expected
sd-clean: line 4: not a JSON object at byte 1
no record'

# order
i=0
while [ $i -lt 3000 ]; do
    echo "{\"n\":$i,\"tags\":[\"a_$i\",\"2girls\",\"red eyes\",\"blue eyes\"],\"caption\":\"woman $i\"}"
    i=$((i + 1))
done >many
sd-clean -j 1 <many >want
is 'all of them' "$(tail -1 want)" '{"n":2999,"tags":["a 2999","2girls"],"caption":"girl 2999"}'
for j in 2 5; do
    try sd-clean -j $j <many
    same "-j $j: the same" "$out" want
done
finish
