#!/bin/sh
# contrib/kohya/clean_captions_and_tags: the file that sd-scripts' program writes, byte for byte.
. "$(dirname "$0")/lib.sh"
PATH=$root/contrib/kohya:$PATH
data=$root/t/data/meta

try clean_captions_and_tags "$data/clean-in.json" out.json
is 'status' "$status" 0
same 'sd-scripts writes the same' out.json "$data/clean-out.json"
is 'entries without a caption are told' "$(grep -c ': no caption$' "$err")" \
    "$(jq '[.[] | select(.caption == null)] | length' "$data/clean-in.json")"
try clean_captions_and_tags folder "$data/clean-in.json" three.json
same 'the folder that older versions took' three.json out.json
try clean_captions_and_tags --debug "$data/clean-in.json" debug.json
ok '--debug tells of changes' grep -q '^FROM: ' "$err"
same 'and changes nothing' debug.json out.json
echo '{"a": {"tags": "x' >broken.json
try clean_captions_and_tags broken.json out2.json
ok 'broken metadata writes nothing' test "$status" -gt 0 -a ! -e out2.json
try clean_captions_and_tags only.json
is 'an argument is missing' "$status $(cat "$err")" '2 clean_captions_and_tags: a file to read and a file to write are needed'
try clean_captions_and_tags nowhere.json out.json
is 'no file' "$status $(cat "$err")" '2 clean_captions_and_tags: nowhere.json: no such file'
is 'nothing is left over' "$(ls)" "$(printf '%s\n' broken.json debug.json out.json three.json)"
finish
