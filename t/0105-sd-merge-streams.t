#!/bin/sh
# sd-merge: streams of records joined by path, and texts written beside the pictures.
. "$(dirname "$0")/lib.sh"

cat >a <<'EOT'
{"path":"1.png","n":1,"caption":"one","tags":["a","b"]}
{"path":"2.png","n":2}
{"path":"3.png", "n":3, "x":null}
EOT
cat >b <<'EOT'
{"path":"3.png","caption":"three","x":9,"n":null}
{"path":"4.png","caption":"four"}
{"path":"1.png","caption":"uno","tags":["b","c"],"extra":{"k":[1, 2]}}
EOT
echo '{"path":"4.png","tags":["d"],"caption":"last"}' >c
try sd-merge a b
is 'the first stream in its order, then what only others have' "$status $(cat "$out" "$err")" \
    '0 {"path":"1.png","n":1,"caption":"uno","tags":["b","c"],"extra":{"k":[1, 2]}}
{"path":"2.png","n":2}
{"path":"3.png", "n":3, "x":9,"caption":"three"}
{"path":"4.png","caption":"four"}'
try sd-merge --left a b c
is '--left' "$(jq -r .path "$out" | tr '\n' ' ')" '1.png 2.png 3.png '
try sd-merge a b c
is 'three streams: the last counts' "$(sed -n 4p "$out")" '{"path":"4.png","caption":"last","tags":["d"]}'
try sd-merge --keep a b c
is '--keep' "$(jq -c '[.caption, .tags, .x]' "$out" | tr '\n' ' ')" '["one",["a","b"],null] [null,null,null] ["three",null,9] ["four",["d"],null] '
try sd-merge --first caption,n --join tags a b
is '--first and --join' "$(sed -n 1p "$out")" '{"path":"1.png","n":1,"caption":"one","tags":["a","b","c"],"extra":{"k":[1, 2]}}'
try sd-merge --keep --last caption a b
is '--keep but for --last' "$(jq -c '[.caption, .tags]' "$out" | head -1)" '["uno",["a","b"]]'
try sd-merge --join caption --join tags,caption a b c
is 'captions joined' "$(jq -c .caption "$out" | tr '\n' ' ')" '["one","uno"] null "three" ["four","last"] '
try sd-merge --join caption a a
is 'the same twice stays one' "$(cat "$out")" "$(cat a)"
try sd-merge --join n a a
is 'numbers cannot be joined' "$status $(jq -r '.error.message' "$out" | head -1)" \
    '1 a: cannot join: member "n": a number where an array of strings is expected'
try sd-merge - b <a
is 'the first from standard input' "$status $(jq -r .path "$out" | tr '\n' ' ')" '0 1.png 2.png 3.png 4.png '
cp "$out" want
try sd-merge a - <b
same 'a later one from standard input' "$out" want
mkfifo pipe
cat b >pipe &
try sd-merge a pipe
same 'from a pipe' "$out" want
try sd-merge a
same 'one stream alone' "$out" a
printf 'beside' >1.caption
try sd-merge a b
is 'files beside the pictures are not looked at' "$(jq -r .caption "$out" | head -1)" uno
try sd-merge --caption-extension caption a b
is 'unless they are asked for' "$(jq -r .caption "$out" | head -1)" beside
rm 1.caption

# texts that are kept belong to their members
echo '{"path":"1.png","tags":["a","b"],"metadata_tags":"a,b"}' >kept
echo '{"path":"1.png","tags":["a","b"]}' >plain
try sd-merge kept plain
is 'a kept text goes with the tags it is of' "$(cat "$out")" '{"path":"1.png","tags":["a","b"]}'
try sd-merge plain kept
is 'and comes with them' "$(cat "$out")" "$(cat kept)"
try sd-merge --join tags kept plain
is 'tags that are joined have none' "$(cat "$out")" '{"path":"1.png","tags":["a","b"]}'
try sd-merge --keep kept plain
is 'and it stays with them' "$(cat "$out")" "$(cat kept)"

# bad input
: >empty
cat >bad <<'EOT'
{"path":"1.png","caption":"first"}
nonsense
{"id":7}

{"path":5}
{"path":"1.png","caption":"second"}
{"path":"2.png","caption":"cut sho
EOT
try sd-merge a bad
is 'bad lines of a later stream are told and left out' "$status $(cat "$err")" \
    '1 sd-merge: bad: line 2: not a JSON object at byte 1
sd-merge: bad: line 3: the record has no "path"
sd-merge: bad: line 5: member "path": a number where a string is expected
sd-merge: bad: line 7: the string does not end at byte 35
sd-merge: bad: 1 more records of pictures that were there before: the last of each counts'
is 'of doubles the last counts' "$(jq -r .caption "$out" | head -1)" second
{ head -c 67108900 /dev/zero | tr '\0' ' ' && printf '\n{"path":"2.png","caption":"behind"}' && echo; } >long
try sd-merge a long
is 'so is a line that is too long' "$status $(cat "$err") $(jq -c .caption "$out" | tr '\n' ' ')" \
    '1 sd-merge: long: line 1 is longer than 67108864 bytes "one" "behind" null '
rm long
printf '{"path":"2.png","capt' >cut
try sd-merge a cut
is 'a stream cut mid-line' "$status $(cat "$err")" '1 sd-merge: cut: line 1: the string does not end at byte 22'
try sd-merge cut a
is 'or the first' "$status $(jq -r .path "$out" | tr '\n' ' ')" '1 1.png 2.png 3.png '
cat a a >doubled
try sd-merge doubled b
is 'each record of the first stream counts, doubles too' "$status $(jq -r .path "$out" | tr '\n' ' ')" \
    '0 1.png 2.png 3.png 1.png 2.png 3.png 4.png '
echo '{"path":"2.png","caption":"c","error":{"tool":"sd-x","message":"m"}}' >failed
try sd-merge --require-tags a failed
is 'an error of another stream comes along' "$(sed -n 2p "$out")" \
    '{"path":"2.png","n":2,"caption":"c","error":{"tool":"sd-x","message":"m"}}'
is 'and is not told again' "$status $(cat "$err")" '1 sd-merge: 3.png: no tags'
try sd-merge failed b
is 'a failed record passes untouched' "$(sed -n 1p "$out")" "$(cat failed)"
for j in 1 2; do
    try sd-merge -j $j failed a c
    is "and is not there again, -j $j" "$(sed -n 1p "$out") $(jq -r .path "$out" | tr '\n' ' ')" "$(cat failed) 2.png 1.png 3.png 4.png "
done
try sd-merge --debug failed a c
is 'nor in order' "$(jq -r .path "$out" | tr '\n' ' ')" '2.png 1.png 3.png 4.png '
try sd-merge empty failed a
is 'nor when it comes from a later stream' "$(sed -n 1p "$out") $(jq -r .path "$out" | tr '\n' ' ')" "$(cat failed) 2.png 1.png 3.png "
for f in none .; do
    try sd-merge a $f
    like "$f" "$status $(cat "$err")" "2 sd-merge: $f: cannot open: *"
done
try sd-merge none a
is 'no first stream' "$status $(cat "$err")" '2 sd-merge: none: cannot open: No such file or directory'
try sd-merge - - <a
like 'standard input twice' "$status $(cat "$err")" '2 sd-merge: standard input (-) can be read only once*'
try sd-merge --in-json - <a
like 'also as metadata' "$status $(cat "$err")" '2 sd-merge: standard input (-) can be read only once*'
echo '{"1.png":{"tags":"m"}}' | sd-merge --left --in-json - a >"$out"
is 'metadata from standard input' "$(jq -c .tags "$out" | head -1)" '["m"]'
TMPDIR=/nonexistent try sd-merge a - <b
is 'no place for a copy' "$status $(cat "$err")" '3 sd-merge: /nonexistent: cannot make a temporary file: No such file or directory'
try sd-merge a empty
same 'nothing to join' "$out" a
try sd-merge empty b
is 'nothing to join to' "$(jq -r .path "$out" | tr '\n' ' ')" '3.png 4.png 1.png '

# many, in any order
awk 'BEGIN { for (i = 0; i < 20000; i++) printf "{\"path\":\"%d.png\",\"n\":%d}\n", i, i }' >many
awk 'BEGIN { for (i = 0; i < 20000; i++) printf "{\"path\":\"%d.png\",\"m\":%d}\n", i * 7919 % 30000, i * 7919 % 30000 }' >others
try sd-merge -j 1 many others
cp "$out" want
is 'each with its own' "$(jq -c 'select(.m) | select(.path != "\(.m).png" or (.n and .n != .m))' want | wc -l)" 0
is 'all of them' "$(jq -s -c '[length, (map(select(.n)) | length), (map(select(.m)) | length), (map(.path) | unique | length)]' want)" \
    "$(cat many others | jq -s -c '[(map(.path) | unique | length), 20000, 20000, (map(.path) | unique | length)]')"
for j in 2 5; do
    try sd-merge -j $j many others
    same "-j $j: the same" "$out" want
done

# writing
mkdir w
cat >texts <<'EOT'
{"path":"w/a.png","caption":"a cat","tags":["x","y z"]}
{"path":"w/b.png","caption":["one","two"]}
{"path":"w/c.png"}
{"path":"w/d.png","caption":"","tags":[]}
EOT
try sd-merge --write .caption --write .txt <texts
is '--write' "$status $(cat "$err") $(cd w && echo *)" '0  a.caption a.txt b.caption d.caption d.txt'
is 'records pass' "$(cat "$out")" "$(cat texts)"
is 'a caption is lines, tags are a list' "$(cat w/a.caption w/b.caption w/a.txt w/d.caption)" 'a cat
one
two
x, y z'
jq -c '{path}' texts >paths
try sd-merge <paths
is 'they read back' "$(cat "$out")" "$(cat texts)"
printf 'x,y z' >w/a.txt
touch -d '2020-01-01' w/*
try sd-merge --write tags=.txt -w .caption -v <texts
is 'what says the same is not touched' "$status $(find w -type f -newermt 2020-01-02) $(tail -1 "$err")" \
    '0  sd-merge: 0 files written, 5 as they should be'
sed 's/a cat/another cat/' texts >changed
try sd-merge --caption-extension '' --tags-extension '' --write .caption <changed
is 'what says something else stays, and is told' "$status $(cat w/a.caption) $(cat "$err")" \
    '1 a cat sd-merge: w/a.png: w/a.caption: is there with another text'
try sd-merge --caption-extension '' --write .caption --overwrite <changed
is '--overwrite' "$status $(cat w/a.caption) $(find w -type f -newermt 2020-01-02)" '0 another cat w/a.caption'
try sd-merge --caption-extension '' --tags-extension '' --write caption=words --write tags=.list <texts
is 'other endings' "$status $(cat w/a.words w/a.list)" '0 a cat
x, y z'
printf '{"path":"w/%s","caption":"%s"}\n' s.png same s.jpg same s.webp other s.bmp same >stems
try sd-merge --caption-extension '' --overwrite --write .caption -j 4 <stems
is 'two pictures with one file: the first has it' "$status $(cat w/s.caption) $(cat "$err")" \
    '1 same sd-merge: w/s.webp: w/s.caption: another picture of this name has another text'
printf '{"path":"w/%s.png","tags":["%s"]}\n' t 'a, b' u ' blank' >odd
try sd-merge --tags-extension '' --write .txt <odd
is 'tags that would be read as others' "$status $(ls w/[tu].txt 2>/dev/null) $(jq -r .error.message "$out" | sort -u)" \
    '1  member "tags" cannot be written as a file: a part is empty, holds a comma or a line end, or begins or ends with a blank'
mkdir w/x.caption
printf '\377' >w/y.caption
printf '{"path":"w/%s.png","caption":"c"}\n' x y no/z >hard
try sd-merge --caption-extension '' --write .caption <hard
like 'files that cannot be written' "$status $(cat "$err")" '1 sd-merge: w/x.png: w/x.caption: *directory*
sd-merge: w/y.png: w/y.caption: not UTF-8 text
sd-merge: w/no/z.png: w/no/z.caption: *No such file*'
try sd-merge --caption-extension '' --write .caption --overwrite <hard
is '--overwrite replaces what is no text' "$status $(cat w/y.caption)" '1 c'
is 'nothing is left behind' "$(find w -name '.*' -o -name '*.tmp*')" ''
# refused MESSAGE OPTION...
refused() {
    want=$1
    shift
    try sd-merge "$@" <texts
    like "$*" "$status $(cat "$err")" "2 sd-merge: $want*"
}
refused "--write: '.words' is none of .caption, .txt, caption=ENDING, tags=ENDING" --write .words
refused "--write: 'rating=.x' is none of" --write rating=.x
refused "--write: '.png' is no ending for a text" --write caption=.png
refused "--write: '' is no ending" --write tags=
refused "--write: './x' is no ending" --write tags=./x
refused '--write: two endings for tags' --write .txt --write tags=.x
refused '--write: caption and tags cannot both go to .x' --write caption=x --write tags=.x
refused '--overwrite goes with --write' --overwrite
finish
