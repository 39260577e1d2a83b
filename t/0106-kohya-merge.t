#!/bin/sh
# contrib/kohya: what sd-scripts' merge scripts write, from the same command lines.
. "$(dirname "$0")/lib.sh"
PATH=$root/contrib/kohya:$PATH
data=$root/t/data/merge

n=$(wc -l <"$data/tree.ndjson")
i=1
while [ $i -le "$n" ]; do
    sed -n ${i}p "$data/tree.ndjson" >entry
    file=$(jq -r .file entry)
    mkdir -p "$(dirname "$file")"
    if [ "$(jq .text entry)" = null ]; then picture rgb.png "$file"; else jq -j .text entry >"$file"; fi
    i=$((i + 1))
done

n=$(wc -l <"$data/cases.ndjson")
i=1
while [ $i -le "$n" ]; do
    sed -n ${i}p "$data/cases.ndjson" >case
    jq -c .in case >in.json
    rm -f out.json
    # shellcheck disable=SC2046
    set -- $(jq -r '.script, .args[]' case)
    try "$@"
    if [ "$(jq .out case)" = null ]; then
        ok "$*: fails, and writes nothing" test "$status" -gt 0 -a -s "$err" -a ! -e out.json
    else
        is "$*" "$status $(jq -c . out.json)" "0 $(jq -c .out case)"
    fi
    i=$((i + 1))
done

try merge_captions_to_metadata --debug p out.json
is '--debug tells of each picture' "$(sed -n 's/sd-merge: \(.*\): caption .*/\1/p' "$err" | wc -l)" 7
like 'what it was given' "$(cat "$err")" '*sd-merge: p/a.png: caption "a cat on a mat", tags none*'
jq -c 'map_values(.caption |= "old") | .more = {"caption":"m"}' out.json >before
cp before out.json
try merge_dd_tags_to_metadata p out.json
is 'without --in_json an existing file is added to' "$status $(jq -c '[.a, .more]' out.json)" \
    '0 [{"caption":"old","tags":"1girl, blue_eyes, solo"},{"caption":"m"}]'
echo '{"a":' >broken.json
cp out.json before
try merge_dd_tags_to_metadata p out.json --in_json broken.json
ok 'broken metadata' test "$status" -gt 0 -a "$(cksum <out.json)" = "$(cksum <before)"
like 'is told' "$(cat "$err")" '*broken.json: entry "a": a value is expected at byte 7*'
try merge_captions_to_metadata p
is 'a missing argument' "$status $(cat "$err")" '2 merge_captions_to_metadata: a folder and a file to write are needed'
try merge_captions_to_metadata nowhere out.json
is 'no folder' "$status $(cat "$err")" '2 merge_captions_to_metadata: nowhere: no such folder'
try merge_captions_to_metadata p out.json --batch
is 'unknown option' "$status $(cat "$err")" '2 merge_captions_to_metadata: unknown option --batch'
try merge_dd_tags_to_metadata --help
like '--help' "$status $(cat "$out")" '0 Usage: merge_dd_tags_to_metadata*default: .txt*'
finish
