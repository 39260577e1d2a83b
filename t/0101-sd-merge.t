#!/bin/sh
# sd-merge: sidecar captions and tags, and sd-scripts' metadata, join the records.
. "$(dirname "$0")/lib.sh"

rec() { printf '{"path":"%s"}\n' "$@"; }

mkdir p
printf '  a cat on a mat \n' >p/a.caption
printf '1girl, blue_eyes ,, solo\n' >p/a.txt
printf 'first line\r\n\n  second line\r\n' >p/b.caption
printf '\357\273\277猫, \343\200\200犬\343\200\200\n' >p/b.txt
: >p/c.caption
rec p/a.png p/b.jpg p/c.png p/d.png >in
try sd-merge <in
is 'status' "$status $(cat "$err")" '0 '
is 'a caption and tags' "$(sed -n 1p "$out")" \
    '{"path":"p/a.png","caption":"a cat on a mat","tags":["1girl","blue_eyes","solo"]}'
is 'several lines are several captions; byte order mark and wide blanks go' "$(sed -n 2p "$out")" \
    '{"path":"p/b.jpg","caption":["first line","second line"],"tags":["猫","犬"]}'
is 'an empty file is an empty caption' "$(sed -n 3p "$out")" '{"path":"p/c.png","caption":""}'
is 'no file, no member' "$(sed -n 4p "$out")" '{"path":"p/d.png"}'

try sd-merge --require-caption <in
is '--require-caption' "$status $(sed -n 4p "$out")" \
    '1 {"path":"p/d.png","error":{"tool":"sd-merge","message":"no caption (there is no .caption file beside it)"}}'
is 'reported' "$(cat "$err")" 'sd-merge: p/d.png: no caption (there is no .caption file beside it)'
try sd-merge --caption_extention txt --tags_extension '' <in
is "sd-scripts' spelling, without the dot; an empty ending" "$(sed -n 1p "$out")" \
    '{"path":"p/a.png","caption":"1girl, blue_eyes ,, solo"}'

# what passes
cat >odd <<'EOT'
{ "id" : 12345678901234567890 , "path" : "p/a.png", "x":1.0e-2,"caption":"old", "u":"\u00e9\/" }
{"path":"p/a.png","error":{"tool":"sd-x","message":"broken"},"z":[1, 2]}
EOT
try sd-merge <odd
is 'unknown members, digits, spaces, escapes pass; a member keeps its place' "$(sed -n 1p "$out")" \
    '{ "id" : 12345678901234567890 , "path" : "p/a.png", "x":1.0e-2,"caption":"a cat on a mat", "u":"\u00e9\/" ,"tags":["1girl","blue_eyes","solo"]}'
is 'a record with an error passes untouched, and is not reported again' "$(sed -n 2p "$out") $status $(cat "$err")" \
    "$(sed -n 2p odd) 0 "
try sd-merge --keep <odd
is '--keep' "$(sed -n 1p "$out" | jq -c '[.caption,.tags]')" '["old",["1girl","blue_eyes","solo"]]'

# what fails
printf 'caf\351\n' >p/e.caption
printf 'a\0b' >p/f.txt
mkdir p/g.caption
rec p/e.png p/f.png p/g.png p/a.png >in2
echo '{"id":1}' >>in2
echo '{"path":7}' >>in2
try sd-merge <in2
is 'records on which it fails: status' $status 1
is 'messages in band' "$(jq -r '.error.message // "-"' "$out")" \
    'p/e.caption: not UTF-8 text
p/f.txt: a NUL at byte 2: not UTF-8 text
p/g.caption: cannot read: Is a directory
-
the record has no "path"
member "path": a number where a string is expected'
is 'each once on standard error' "$(cat "$err")" \
    'sd-merge: p/e.png: p/e.caption: not UTF-8 text
sd-merge: p/f.png: p/f.txt: a NUL at byte 2: not UTF-8 text
sd-merge: p/g.png: p/g.caption: cannot read: Is a directory
sd-merge: line 5: the record has no "path"
sd-merge: line 6: member "path": a number where a string is expected'

# names
mkdir odd.d
nl=$(printf 'new\nline') bad=$(printf 'caf\351')
for n in "$nl" "$bad" 'sp ace "q" \b' 猫 dots.in.name; do
    picture rgb.png "odd.d/$n.png"
    printf '%s' "caption of $n" | tr -d '\n\351' >"odd.d/$n.caption"
done
try sh -c 'sd-scan odd.d | sd-merge --require-caption'
is 'sidecars of odd names' "$status $(jq -r .caption "$out" | sort | tr '\n' ';')" \
    '0 caption of caf;caption of dots.in.name;caption of newline;caption of sp ace "q" \b;caption of 猫;'

# metadata
cat >meta.json <<'EOT'
{
  "p/d.png": {"caption": "by path", "train_resolution": [512, 512]},
  "q": {"caption": "by stem", "tags": "a, b_c,d"},
  "other/r.png": {"tags": ""},
  "p/a.png": {"caption": "from metadata"}
}
EOT
rec p/d.png some/q.webp other/r.png p/a.png >in3
try sd-merge --in_json meta.json <in3
is '--in-json: by path, by stem; sidecars win' "$(cat "$out")" \
    '{"path":"p/d.png","caption":"by path","bucket":[512, 512]}
{"path":"some/q.webp","caption":"by stem","tags":["a","b_c","d"],"metadata_tags":"a, b_c,d"}
{"path":"other/r.png","tags":[]}
{"path":"p/a.png","caption":"a cat on a mat","tags":["1girl","blue_eyes","solo"]}'
echo '{"p/d.png": 5}' >bad.json
try sd-merge --in-json bad.json <in3
is 'an entry that is none' "$status $(head -1 "$out" | jq -r .error.message)" \
    '1 bad.json: entry "p/d.png": the entry is no JSON object: 5'
echo '{"a":' >bad.json
try sd-merge --in-json bad.json <in3
is 'a broken file' "$status $(cat "$err")" '2 sd-merge: bad.json: entry "a": a value is expected at byte 7'
try sd-merge --in-json none.json <in3
is 'no file' "$status $(cat "$err")" '2 sd-merge: none.json: cannot open: No such file or directory'

try sd-merge --in-json meta.json --full-path --caption-extension '' --tags-extension '' <in3
is '--full-path: by nothing but the path' "$(jq -c .caption "$out" | tr '\n' ' ')" '"by path" null null "from metadata" '
echo '{"path":"p/d.png","caption":"own","width":7,"n":1}' >own
echo '{"p/d.png": {"caption":"theirs","image_size":[9,9],"n":2,"m":3}}' >more.json
try sd-merge --in-json more.json <own
is 'a caption is replaced, what else the record has stays, what it lacks comes' "$(cat "$out")" \
    '{"path":"p/d.png","caption":"theirs","width":7,"n":1,"height":9,"m":3}'
try sd-merge --in-json more.json --keep <own
is '--keep' "$(jq -c .caption "$out")" '"own"'
try sd-merge --in-json more.json --join caption --last n <own
is '--join and --last' "$(jq -c '[.caption, .n]' "$out")" '[["own","theirs"],2]'
try sd-merge --in-json more.json --in-json meta.json --full-path <own
is 'the later file counts' "$(jq -c '[.caption, .m]' "$out")" '["by path",3]'
echo '{"p/d.png":{"caption":"one"},"p/d.png":{"caption":"two"}}' >twice.json
try sd-merge --in-json twice.json <own
is 'an entry that is there twice' "$(jq -c .caption "$out") $(cat "$err")" \
    '"two" sd-merge: twice.json: 1 more records of pictures that were there before: the last of each counts'
try sd-merge --in-json /dev/stdin own <more.json
is 'metadata from a pipe' "$status $(jq -c .caption "$out")" '0 "theirs"'
try sd-merge --full-path <own
like '--full-path alone' "$status $(cat "$err")" '2 sd-merge: --full-path goes with --in-json*'

# texts as they are
printf 'one \r\n\n two\n' >p/d.caption
printf ' x,y ,, z\n' >p/d.txt
rec p/d.png p/a.png >in4
try sd-merge --keep-text <in4
is '--keep-text where the parts do not tell all' "$(cat "$out")" \
    '{"path":"p/d.png","caption":["one","two"],"metadata_caption":"one \n\n two","tags":["x","y","z"],"metadata_tags":"x,y ,, z"}
{"path":"p/a.png","caption":"a cat on a mat","tags":["1girl","blue_eyes","solo"],"metadata_tags":"1girl, blue_eyes ,, solo"}'
rm p/d.caption p/d.txt
try sd-merge --debug -j 3 <in4
is '--debug' "$(cat "$err")" 'sd-merge: p/a.png: caption "a cat on a mat", tags ["1girl","blue_eyes","solo"]'

# many, in order
i=0
while [ $i -lt 3000 ]; do
    printf '{"path":"p/%s.png","n":%d}\n' "$(echo "a b c d e" | cut -d' ' -f$((i % 5 + 1)))" $i
    i=$((i + 1))
done >many
try sd-merge -j 1 <many
cp "$out" want
cp "$err" want.err
for j in 2 5; do
    try sd-merge -j $j <many
    same "-j $j: the same records" "$out" want
    same "-j $j: the same messages" "$err" want.err
done
is 'in order' "$(jq .n want | sort -n -c && echo yes)" yes
finish
