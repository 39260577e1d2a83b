#!/bin/sh
# sd-meta: sd-scripts' metadata becomes records, and records become metadata.
. "$(dirname "$0")/lib.sh"
data=$root/t/data/meta

# Entries are the same whatever the white space and escapes; jq would round long numbers, so these stay out of it.
sorted() { jq -S . "$1"; }

# ---- sd-scripts' own files (t/ref/meta.py) ----

mkdir photos
for n in a b 'café 猫' d.x e; do
    picture rgb.png "photos/$n.png"
done
try sd-meta from "$data/full.json"
is 'with full paths' "$status $(cat "$err") $(jq -s length "$out")" '0  5'
cp "$out" full
is 'an entry becomes a record' "$(sed -n 1p full)" \
    '{"path":"photos/a.png","caption":"a cat on a mat","tags":["1girl","blue_eyes","^_^"],"bucket":[512,384],"width":64,"height":48}'
is 'several lines are several captions' "$(sed -n 2p full | jq -c .caption)" '["first line","second \"line\""]'
is 'a text that is not its parts joined is kept' "$(sed -n 4p full | jq -c '[.caption,.tags,.metadata_tags]')" \
    '["",["x","y","z"],"x,y ,, z"]'
is 'no tags' "$(sed -n 5p full | jq -c .tags)" '[]'
try sd-meta from --image_dir photos "$data/stems.json"
is 'without endings: found in the folder' "$status $(cat "$err")" '0 '
same 'the same records' "$out" full
cp "$out" stems
try sd-meta to <full
is 'to: status' "$status $(cat "$err")" '0 '
is 'metadata, records, metadata: the same' "$(sorted "$out")" "$(sorted "$data/full.json")"
is 'in the same order' "$(jq -c keys_unsorted "$out")" "$(jq -c keys_unsorted "$data/full.json")"
sd-meta to --relative <stems >out.json
is '--relative: names without endings again' "$(sorted out.json)" "$(sorted "$data/stems.json")"
sd-meta to --relative --image-dir photos <stems | cmp -s - out.json
is '--relative with --image-dir' $? 0

# ours.json is what FineTuningDataset was given when it made dataset.ndjson.
try sd-meta to --image-dir photos/ <stems
same '--image-dir: the very file that sd-scripts read' "$out" "$data/ours.json"
jq -c '{key: (.path | ltrimstr("photos/")), file: .path, size: (if .width then [.width, .height] else null end),
    caption: (((.caption | if type == "array" then join("\n") else . end) // "") as $c
        | (.metadata_tags // (.tags | join(", "))) as $t
        | $c + (if $c != "" and $t != "" then "," else "" end) + $t)}' stems | jq -S -c . >ours
jq -S -c . "$data/dataset.ndjson" >theirs
same "sd-scripts' data set has the same files, sizes, captions with tags" ours theirs

# ---- round trips ----

cat >odd.ndjson <<'EOT'
{"path":"x/1.png","id":12345678901234567890,"caption":"one","z":{"a": [1,  2.50, "\u00e9\/ }],{"]},"tags":["a","b c"],"bucket":[512,512]}
{"path":"caf\udce9.png","resize":[600,512],"crop":[44,0],"width":10,"height":20,"e":null,"latents":"c/1.npz"}
{"path":"q\"\\\n\u0001.png","caption":["two","three"],"tags":[],"rating":"safe","tag_scores":{"a":0.1e-3}}
EOT
try sd-meta to -o odd.json <odd.ndjson
is 'to a file' "$status $(cat "$out" "$err")" '0 '
try sd-meta from --no-resolve odd.json
same 'records, metadata, records: byte for byte' "$out" odd.ndjson
sd-meta to <odd.ndjson | cmp -s - odd.json
is 'the same bytes on standard output' $? 0
jq . odd.json >/dev/null
is 'it is JSON' $? 0
printf '%s' '{
  "k": {
    "n": [
      1.0,
      {
        "s": "a\n \" b"
      }
    ],
    "caption": "  x  ",
    "w": [1, 2]
  }
}' >py.json
try sd-meta from --no-resolve py.json
is "Python's indented form: line breaks between tokens go, the rest stays" "$(cat "$out")" \
    '{"path":"k","n":[1.0,{"s": "a\n \" b"}],"caption":"x","w":[1, 2],"metadata_caption":"  x  "}'
tr -d '\n' <py.json | sd-meta from --no-resolve | sd-meta to | jq -c . >one
jq -c . py.json >two
same 'compact, from standard input, and back' one two
try sh -c 'sd-meta from --no-resolve py.json | sed s/\"x\"/\"y\"/ | sd-meta to'
is 'a caption that was changed counts, not the text it was read from' "$(jq -r .k.caption "$out")" y
is 'an empty object' "$(printf '\357\273\277 { } \n' | sd-meta from; echo $?)" 0
is 'no records' "$(sd-meta to </dev/null | jq -c .)" '{}'

# ---- names of entries ----

mkdir in in/sub
for n in in/p.png in/p.JPG in/q.webp in/sub/r.bmp in/t.txt s.png; do : >"$n"; done
echo '{"p":{},"q":{},"sub/r":{},"q.webp":{},"s.png":{},"t":{},"t.txt":{},"'"$PWD"'/in/q":{}}' >names.json
try sd-meta from --image-dir in names.json
is 'below the folder, with and without ending; as they are' "$(jq -r '.path + (if .error then " failed" else "" end)' "$out")" \
    "in/p.JPG
in/q.webp
in/sub/r.bmp
in/q.webp
s.png
in/t failed
in/t.txt
$PWD/in/q.webp"
is 'one that is not there' "$status $(cat "$err")" \
    '1 sd-meta: in/t: no such picture, with or without an ending'
try sd-meta from --no-resolve --image-dir in/ names.json
is '--no-resolve' "$status $(jq -r .path "$out" | head -3 | tr '\n' ' ')$(jq -r .path "$out" | tail -1)" \
    "0 in/p in/q in/sub/r $PWD/in/q"
try sd-meta from names.json
is 'without a folder names are looked for as they are' "$status $(jq -r 'select(.error | not).path' "$out" | head -1)" '1 s.png'
printf '{"path":"in/p.png"}\n{"path":"in/sub/p.png"}\n{"path":"in/p.jpg"}\n{"path":"other/p.png"}\n{"path":"inn/p"}\n' >paths
try sd-meta to --image-dir in <paths
is '--image-dir: names below it' "$status $(jq -c keys_unsorted "$out")" '1 ["p.png","sub/p.png","p.jpg"]'
is 'pictures elsewhere' "$(cat "$err")" 'sd-meta: other/p.png: not in the folder "in"
sd-meta: inn/p: not in the folder "in"'
try sd-meta to --relative <paths
is 'names that are the same' "$status $(jq -c keys_unsorted "$out") $(grep -c 'there is an entry "p" already' "$err")" '1 ["p"] 4'
try sd-meta to --relative --image-dir in <paths
like 'both: only directly in it' "$(cat "$err")" '*in/sub/p.png: not directly in the folder "in"*'

# ---- what fails ----

cat >bad.json <<'EOT'
{"a": {"caption": "1"}, "a": {"caption": "2"}, "b": [5], "c": {"path": "x", "n": 1}, "d": {"train_resolution": [0, 8]},
 "e": {"image_size": [8, 8], "width": 9}, "f": {"caption": 7}, "g\u0000": {}, "h": {"tags": "x\u0000y"}, "i": {}}
EOT
try sd-meta from --no-resolve bad.json
is 'failures are in band' "$status $(jq -c '[.path, .error.message]' "$out")" '1 ["a",null]
["a","the metadata has an entry of this name already"]
["b","the entry is no JSON object: [5]"]
["c","the entry has a member \"path\", which is the record'"'"'s own"]
["d","member \"train_resolution\": 0 by 8 is no size"]
["e","the entry has both image_size and width or height"]
["f","member \"caption\": a number where an array of strings is expected"]
["g\u0000","a NUL character in the name of the entry"]
["h","member \"tags\": a NUL character at byte 2 of the text"]
["i",null]'
is 'and told' "$(wc -l <"$err") $(sed -n 2p "$err")" '8 sd-meta: b: the entry is no JSON object: [5]'
is 'what they hold stays' "$(sed -n 4p "$out" | jq .n) $(sed -n 5p "$out" | jq -c .train_resolution)" '1 [0,8]'
cp "$out" failed
try sd-meta to -o left.json <failed
is 'records with an error are left out' "$status $(jq -c . left.json) $(cat "$err")" \
    '1 {"a":{"caption":"1"},"i":{}} sd-meta: 8 records that carry an error are left out'

# damaged TEXT MESSAGE: what is in front of the damage is out
damaged() {
    printf "$1" >damaged.json
    try sd-meta from --no-resolve damaged.json
    is "damaged: $2" "$status $(cat "$err")" "1 sd-meta: damaged.json: $2"
}
damaged '' 'nothing but white space where a JSON object is expected'
damaged ' [{}]' 'not a JSON object at byte 2'
damaged '{"a":{}' 'the object does not end at byte 8'
damaged '{"a":{},}' 'a string is expected at byte 9'
damaged '{,}' 'a string is expected at byte 2'
damaged '{"a":{}}x' 'more text after the object at byte 9'
damaged '{"a":{}, "b" {}}' "entry \"b\": ':' is expected at byte 14"
damaged '{"a":{}\n"b":{}}' "entry \"a\": ',' or '}' is expected at byte 9"
damaged '{"a":{"c":"\377"}}' 'entry "a": invalid UTF-8 at byte 12'
damaged '{"a":{"c":NaN}}' 'entry "a": a value is expected at byte 11'
damaged '{"a\\u001b":{"c":[1}}}' "entry \"a\\x1b\": ',' or ']' is expected at byte 19"
damaged '{"a":{"c":"x' 'entry "a": the string does not end at byte 13'
is 'entries before it are out' "$(printf '{"a":{},"b":{' | sd-meta from --no-resolve 2>/dev/null)" '{"path":"a"}'
{ printf '{"a":{"x":' && head -c 600 /dev/zero | tr '\0' '[' && printf '1' && head -c 600 /dev/zero | tr '\0' ']' && printf '}}'; } >deep.json
try sd-meta from --no-resolve deep.json
is 'nested too deep' "$status $(cat "$err")" '1 sd-meta: deep.json: entry "a": nested too deep at byte 522'
{ printf '{"a":{}, "b":{"x":"' && head -c 67108864 /dev/zero | tr '\0' x && printf '"}}'; } >long.json
try sd-meta from --no-resolve long.json
is 'an entry that is too long' "$status $(cat "$out" "$err")" \
    '1 {"path":"a"}
sd-meta: long.json: the entry that begins at byte 10 does not end within 67108864 bytes, the most that are read'
rm long.json

cat >in.ndjson <<'EOT'
{"id":1}
{"path":"a","bucket":[512]}
{"path":"b","bucket":[512,512],"train_resolution":[8,8]}
{"path":"c","tags":["x,y"," z"]}
nonsense
{"path":"d","caption":[5]}
{"path":"e","width":"wide"}
{"path":"f","tags":null,"caption":null,"bucket":null}
EOT
try sd-meta to <in.ndjson
is 'to: the rest is written' "$status $(jq -c . "$out")" \
    '1 {"c":{"tags":"x,y,  z"},"f":{"tags":null,"caption":null,"bucket":null}}'
is 'to: messages' "$(cat "$err")" 'sd-meta: a record without a path: the record has no "path"
sd-meta: a: member "bucket": 1 numbers where 2 are expected
sd-meta: b: the record has both bucket and train_resolution
sd-meta: line 5: not a JSON object at byte 1
nonsense
sd-meta: d: member "caption": a number where a string is expected
sd-meta: e: member "width": a string where a whole number of 64 bits is expected
sd-meta: 1 entries will be read as other captions or tags: a part holds a comma or a line break, or begins or ends with a blank'

# ---- files, usage ----

echo old >keep.json
mkfifo slow
sd-meta to -o keep.json <slow 2>"$err" &
exec 3>slow
cat odd.ndjson >&3
sleep 1
kill $!
exec 3>&-
{ wait $!; } 2>"$err"
is 'stopped on the way: the old file is there, and nothing beside it' "$? $(cat keep.json) $(ls -A . | grep -c tmp)" '143 old 0'
try sd-meta to -o /dev/full </dev/null
is 'a full disk' "$status $(cat "$err")" '3 sd-meta: /dev/full: No space left on device'
sd-meta to <odd.ndjson 2>"$err" >/dev/full
is 'standard output on a full disk' "$? $(cat "$err")" '3 sd-meta: standard output: No space left on device'
try sd-meta to -o none/x.json </dev/null
is 'a folder that is not there' "$status $(cat "$err")" '2 sd-meta: none/x.json: No such file or directory'
try sd-meta from none.json
is 'no file' "$status $(cat "$err")" '2 sd-meta: none.json: No such file or directory'
try sd-meta from in
is 'a folder' "$status $(cat "$err")" '2 sd-meta: in: Is a directory'
for args in '' 'back' 'to x.json' 'to --no-resolve' 'from --relative py.json' 'from -o x py.json' 'from a b' 'to --image-dir='; do
    # shellcheck disable=SC2086
    try sd-meta $args </dev/null
    is "wrong usage: $args" "$status $(cat "$out")" '2 '
done

# ---- a stream, and many ----

sd-meta from --no-resolve <slow >got 2>"$err" &
exec 3>slow
printf '{"a":{},' >&3
sleep 1
is 'entries flow as they come' "$(cat got)" '{"path":"a"}'
exec 3>&-
wait $!
is 'and the end is told' "$? $(cat "$err")" '1 sd-meta: standard input: a string is expected at byte 9'
awk 'BEGIN { print "{"; for (i = 0; i < 30000; i++)
    printf "%s\"d/%06d.png\": {\n  \"caption\": \"picture %d\", \"tags\": \"a, b, t%d\"}", i ? "," : "", i, i, i; print "}" }' >many.json
try sd-meta from --no-resolve -v many.json
is 'many' "$status $(wc -l <"$out") $(cat "$err")" '0 30000 sd-meta: 30000 entries'
sd-meta to <"$out" | sd-meta from --no-resolve | cmp -s - "$out"
is 'many, there and back' $? 0
if [ -z "$SD_SAN" ]; then
    is 'in little memory' "$( (ulimit -v 100000; sd-meta from --no-resolve many.json | wc -l))" 30000
fi

# more names than memory holds digests of
awk 'BEGIN { print "{"; for (i = 0; i < 420000; i++) printf "\"%d\":{},\n", i; print "\"7\":{}, \"last\":{}}" }' >many.json
mkdir temp
TMPDIR=$PWD/temp try sd-meta from --no-resolve many.json
is 'names in temporary files: one that comes twice is told' "$status $(wc -l <"$out") $(cat "$err") $(ls -A temp)" \
    '1 420002 sd-meta: 7: the metadata has an entry of this name already '
jq -c 'del(.error)' "$out" >many.ndjson
TMPDIR=$PWD/temp try sd-meta to -o out.json <many.ndjson
is 'to: the same' "$status $(wc -l <out.json) $(cat "$err") $(ls -A temp)" \
    '1 420003 sd-meta: 7: there is an entry "7" already '
rm -f out.json
TMPDIR=$PWD/nowhere try sd-meta to -o out.json <many.ndjson
is 'to: TMPDIR that is not there' "$status $(cat "$out" "$err") $(ls out.json 2>&1 >/dev/null | wc -l)" \
    "3 sd-meta: $PWD/nowhere: cannot make a temporary file: No such file or directory 1"
TMPDIR=$PWD/nowhere try sd-meta from --no-resolve many.json
is 'from: TMPDIR that is not there' "$status $(cat "$err")" \
    "3 sd-meta: $PWD/nowhere: cannot make a temporary file: No such file or directory"
finish
