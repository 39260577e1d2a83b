#!/bin/sh
# sd-dedup: copies, pictures that look alike, which of them is kept, what cannot be read. (The hash itself:
# t/unit/phash.c; the search: t/unit/near.c.)
. "$(dirname "$0")/lib.sh"

# a: the same picture in five files; b and the stars: others.
cp "$root"/t/data/phash/* .
rm phash.txt
cp a-small.jpg 'copy of small.jpg'
cp "$root/contrib/tiny/sks/01.png" "$root/contrib/tiny/sks/15.webp" "$root/contrib/tiny/sks/13.jpg" .
cp 13.jpg 13-copy.jpg

# ids RECORDS: "path duplicate_of duplicates" a line
ids() { jq -r '[.path, .duplicate_of // "-", .duplicates // "-"] | join(" ")' "$@"; }
groups() { jq -c '[.keep, .distance] + .duplicates' "$@"; }

sd-scan b.png 13.jpg a.png a-q80.jpg a-small.jpg 'copy of small.jpg' a-large.png 01.png a-q60.webp 13-copy.jpg 15.webp |
    sed 's|}$|, "id":12345678901234567890 , "u":"\\u00e9\\/" }|' >in

# ---- marks ----
try sd-dedup <in
is 'duplicates are found: status, silence' "$status $(cat "$err")" '0 '
is 'which, and of which' "$(ids "$out")" 'b.png - -
13.jpg - 1
a.png a-large.png -
a-q80.jpg a-large.png -
a-small.jpg a-large.png -
copy of small.jpg a-large.png -
a-large.png - 5
01.png - -
a-q60.webp a-large.png -
13-copy.jpg 13.jpg -
15.webp - -'
is 'the marks are added, the rest is byte for byte' \
    "$(sed 's/"duplicate_of":"[^"]*"//; s/"duplicates":[0-9]*//; s/, *}$/ }/; s/ *}$/ }/' "$out")" "$(cat in)"
is 'a record without duplicates is untouched' "$(sed -n '1p;8p;11p' "$out")" "$(sed -n '1p;8p;11p' in)"
try sd-dedup -v <in
is '-v counts' "$status $(cat "$err")" '0 sd-dedup: 6 duplicates in 2 groups among 11 records'

cp "$out" marked
try sd-dedup <marked
same 'again: the same' "$out" marked
grep -v -e '"path":"a-large' -e '"path":"13.jpg' marked >fewer
try sd-dedup <fewer
is 'marks of an earlier run are set anew or taken away' "$(ids "$out")" 'b.png - -
a.png - 4
a-q80.jpg a.png -
a-small.jpg a.png -
copy of small.jpg a.png -
01.png - -
a-q60.webp a.png -
13-copy.jpg - -
15.webp - -'
try sd-dedup </dev/null
is 'nothing' "$status $(cat "$out" "$err")" '0 '

# ---- what counts ----
try sd-dedup --groups <in
is '--groups' "$status $(groups "$out")" '0 ["13.jpg",0,"13-copy.jpg"]
["a-large.png",2,"a.png","a-q80.jpg","a-small.jpg","copy of small.jpg","a-q60.webp"]'
is '--groups: its members' "$(head -1 "$out")" '{"keep":"13.jpg","duplicates":["13-copy.jpg"],"distance":0}'
try sd-dedup -g --distance 0 <in
is '--distance 0: only the same hash' "$(groups "$out")" '["13.jpg",0,"13-copy.jpg"]
["a-large.png",0,"a.png","a-q80.jpg"]
["a-q60.webp",0,"a-small.jpg","copy of small.jpg"]'
try sd-dedup -g --colour 255 <in
is 'the same shape in another colour counts only when asked for' "$(groups "$out" | tail -1)" '["01.png",2,"15.webp"]'
try sd-dedup -g --color=0 <in
is '--colour 0 takes mean colours exactly' "$(groups "$out" | grep -c q60)" 0
try sd-dedup --groups --exact <in
is '--exact: copies only' "$status $(groups "$out")" '0 ["13.jpg",0,"13-copy.jpg"]
["a-small.jpg",0,"copy of small.jpg"]'
echo '{"path":"a.png"}' >one
try sd-dedup <one
is 'one record, no members but path' "$(cat "$out")" '{"path":"a.png"}'
cat one one | sd-dedup >"$out"
is 'the same file twice' "$(ids "$out")" 'a.png - 1
a.png a.png -'

# Empty sheets: grey and nothing else.
echo '{"path":"none.png","error":{"tool":"t","message":"t"}}' >none
sd-sheet --cell 16 --gap 0 -o flat16.png <none >"$out" 2>&1
sd-sheet --cell 20 --gap 0 -o flat20.png <none >"$out" 2>&1
cp flat16.png flat.png
sd-scan flat16.png flat20.png flat.png | sd-dedup -d 16 --groups >"$out"
is 'pictures of one colour are not alike, but their copies are' "$(groups "$out")" '["flat16.png",0,"flat.png"]'

# A picture twice as large by a whole factor, made by sd-sheet.
sd-scan b.png | sd-sheet --cell 144 --gap 0 -o b2.png >"$out"
sd-scan b.png 01.png | sd-sheet --cell 72 --gap 0 -o both.png >"$out"
is 'the sheet is larger' "$(sd-scan b2.png | jq -c '[.width,.height]')" '[144,144]'
sd-scan b.png b2.png both.png | sd-dedup -g >"$out"
is 'borders make it another picture' "$(cat "$out")" ''

# ---- which one is kept ----
touch -d 2020-01-01 a-q80.jpg
touch -d 2021-01-01 13.jpg 13-copy.jpg a.png a-small.jpg 'copy of small.jpg' a-large.png
touch -d 2022-01-01 a-q60.webp
for keep in largest:a-large.png first:a.png newest:a-q60.webp oldest:a-q80.jpg; do
    try sd-dedup -g --keep "${keep%:*}" <in
    is "--keep ${keep%:*}" "$(groups "$out" | tail -1 | jq -r '.[0]')" "${keep#*:}"
    is "--keep ${keep%:*}: of equals the first" "$(groups "$out" | head -1 | jq -r '.[0]')" 13.jpg
done
sd-scan a-q80.jpg a.png | sd-dedup -g >"$out"
is '--keep largest: of as many pixels the one of more bytes' "$(groups "$out")" '["a.png",0,"a-q80.jpg"]'

# ---- --remove ----
try sd-dedup --remove <in
is '--remove' "$status $(cat "$err") $(ids "$out")" '0  b.png - -
13.jpg - 1
a-large.png - 5
01.png - -
15.webp - -'
try sd-dedup --remove -v <in
is '--remove -v says how many' "$(cat "$err")" 'sd-dedup: 6 duplicates in 2 groups among 11 records; removed'
ok 'no file is touched' test -f 'copy of small.jpg' -a -f 13-copy.jpg

# ---- --trust ----
zeros=0000000000000000000000000000000000000000000000000000000000000000
sd-scan --sha256 13.jpg b.png 13-copy.jpg >sums
sum=$(jq -r .sha256 sums | head -1)
try sd-dedup --exact --trust -g <sums
is '--trust: sums of sd-scan' "$status $(groups "$out")" '0 ["13.jpg",0,"13-copy.jpg"]'
sed 's/"sha256":"[^"]*"/"sha256":"'$zeros'"/' sums >wrong
try sd-dedup --exact -g <wrong
is 'without --trust they are not looked at' "$(groups "$out")" '["13.jpg",0,"13-copy.jpg"]'
try sd-dedup --exact --trust -g <wrong
is 'with it they are believed' "$(groups "$out")" '["b.png",0,"13.jpg","13-copy.jpg"]'
{ head -1 sums | sed "s/$sum/$(echo "$sum" | tr a-f A-F)/"; echo '{"path":"13-copy.jpg"}'; } >mixed
try sd-dedup --exact --trust -g <mixed
is 'a record without a sum gets one; capital digits are digits' "$(groups "$out")" '["13.jpg",0,"13-copy.jpg"]'
for bad in '"12"' "\"${zeros}0\"" "\"x${zeros#0}\"" 5; do
    echo "{\"path\":\"a.png\",\"sha256\":$bad}" >one
    try sd-dedup --trust <one
    like "a sum that is none ($bad)" "$status $(jq -r .error.message "$out")" '1 member "sha256": *'
    try sd-dedup <one
    same 'is nothing to a program that does not look at it' "$out" one
done

# ---- what fails ----
head -c 300 a-q80.jpg >cut.png
printf 'no picture' >text.png
mkdir folder.png
mkfifo fifo.png
cat >bad <<'EOT'
{"path":"a.png"}
{"path":"missing.png"}
{"path":"text.png","id":1.50}
{"path":"folder.png"}
{"path":"fifo.png"}
{"id":7}
{"path":5}
{"path":"a\u0000b"}
no record
{"path":"a.png","error":{"tool":"sd-x","message":"broken"}}
{"path":"a-q80.jpg"}
EOT
try sd-dedup <bad
is 'status' $status 1
is 'what cannot be read passes with an error, the rest is found' \
    "$(jq -r '[.path // .id, .error.tool // "-", .error.message // "-", .duplicate_of // "-"] | join("|")' "$out")" \
    "$(printf '%s\n' 'a.png|-|-|-' \
        'missing.png|sd-dedup|cannot open: No such file or directory|-' \
        "text.png|sd-dedup|$(echo '{"path":"text.png"}' | sd-dedup 2>&1 >/dev/null | sed 's/.*text.png: //')|-" \
        'folder.png|sd-dedup|not a regular file|-' \
        'fifo.png|sd-dedup|not a regular file|-' \
        '7|sd-dedup|the record has no "path"|-' \
        '5|sd-dedup|member "path": a number where a string is expected|-' \
        "$(sed -n 8p "$out" | jq -r '[.path,.error.tool, .error.message, "-"]|join("|")')" \
        'a.png|sd-x|broken|-' 'a-q80.jpg|-|-|a.png')"
like 'a NUL in a name' "$(sed -n 8p "$out")" '{"path":"a\\u0000b","error":*NUL*}'
is 'a record that fails keeps its bytes' "$(sed -n 3p "$out" | cut -c1-28)" '{"path":"text.png","id":1.50'
is 'each is told once' "$(wc -l <"$err") $(sed -n 's/^sd-dedup: missing.png: //p' "$err")" \
    '9 cannot open: No such file or directory'
like 'a line that is no record' "$(head -2 "$err")" 'sd-dedup: line 9: not a JSON object*no record'
try sd-dedup -g <bad
is '--groups: only groups; what fails is told' "$status $(wc -l <"$err") $(groups "$out")" '1 9 ["a.png",0,"a-q80.jpg"]'
echo '{"path":"cut.png"}' >one
try sd-dedup --exact <one
is '--exact does not look into pictures' "$status $(cat "$out")" '0 {"path":"cut.png"}'

# A file that was there at the first look and is gone at the second.
cp 13.jpg gone.jpg
{
    echo '{"path":"gone.jpg"}'
    yes '{"path":"13.jpg"}' | head -255
    sleep 1
    rm gone.jpg
} | sd-dedup --exact --remove >"$out" 2>"$err"
is 'a file that goes while it is being looked at' "$(cat "$out" "$err")" \
    '{"path":"gone.jpg","error":{"tool":"sd-dedup","message":"cannot open: No such file or directory"}}
{"path":"13.jpg","duplicates":254}
sd-dedup: gone.jpg: cannot open: No such file or directory'

# ---- names ----
odd=$(printf 'new\nline \351".jpg')
cp 13.jpg "$odd"
sd-scan 13.jpg "$odd" | sd-dedup --keep first >"$out"
is 'any name' "$(tail -1 "$out" | sed 's/.*"duplicate_of"/"duplicate_of"/')" '"duplicate_of":"13.jpg"}'
sd-scan "$odd" 13.jpg | sd-dedup >"$out"
is 'also as the one to keep' "$(tail -1 "$out" | sed 's/.*"duplicate_of"/"duplicate_of"/')" \
    '"duplicate_of":"new\nline \udce9\".jpg"}'

# ---- threads ----
rm "$odd"
i=0
while [ $i -lt 40 ]; do
    sd-scan ./*.jpg ./*.png ./*.webp "$root/contrib/tiny/sks" 2>/dev/null | jq -c "select(.error | not) | .n = $i"
    i=$((i + 1))
done >many
for mode in '' --exact --groups '--remove --keep newest' '--groups --distance 10 --colour 80'; do
    # shellcheck disable=SC2086
    sd-dedup -j 1 $mode <many >want 2>&1
    ok "-j 1 $mode writes something" test -s want
    for j in 2 4; do
        # shellcheck disable=SC2086
        sd-dedup -j $j $mode <many >"$out" 2>&1
        same "-j $j $mode: the same" "$out" want
    done
done

# ---- usage and this machine ----
try sd-dedup --exact --distance 3 <in
like '--exact and --distance' "$status $(cat "$err")" '2 sd-dedup: --distance has no meaning with --exact*'
try sd-dedup --exact --colour 3 <in
like '--exact and --colour' "$status $(cat "$err")" '2 sd-dedup: --colour has no meaning with --exact*'
try sd-dedup --remove --groups <in
like '--remove and --groups' "$status $(cat "$err")" '2 sd-dedup: --remove and --groups exclude each other*'
for wrong in '--distance 17' '--distance -1' '--colour 256' '--keep best'; do
    # shellcheck disable=SC2086
    try sd-dedup $wrong <in
    is "$wrong" "$status $(cat "$out")" '2 '
done
mkdir tmp
TMPDIR=$PWD/tmp try sd-dedup <in
is 'TMPDIR: nothing is left there' "$status $(ls -A tmp)" '0 '
TMPDIR=$PWD/nowhere try sd-dedup <in
is 'TMPDIR that is not there' "$status $(cat "$out" "$err")" \
    "3 sd-dedup: $PWD/nowhere: cannot make a temporary file: No such file or directory"
TMPDIR=$PWD/nowhere try sd-dedup -g <in
is '--groups needs none' $status 0
(
    trap '' XFSZ
    ulimit -f 1
    sd-dedup --exact 2>&1 >/dev/null <many | head -3
) >"$out"
like 'no room for the temporary file' "$(cat "$out")" 'sd-dedup: cannot write the temporary file: *'
sd-dedup <in >/dev/full 2>"$err"
is 'a full disk' "$? $(cat "$err")" '3 sd-dedup: standard output: No space left on device'
sleep 1 | timeout --preserve-status -s TERM 0.2 sd-dedup >"$out" 2>&1
is 'a signal ends it, before anything is written' "$? $(cat "$out")" '143 '
finish
