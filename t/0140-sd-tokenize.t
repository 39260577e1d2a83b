#!/bin/sh
# sd-tokenize: tokens counted, ids, what falls off (the tokenizer itself: t/unit/clip_bpe.c).
. "$(dirname "$0")/lib.sh"

# tok RECORD [OPTION]...: what becomes of it
tok() {
    printf '%s\n' "$1" >one
    shift
    sd-tokenize "$@" <one 2>"$err"
}
# words N: "cat cat ..." of N words, each of one token
words() { awk -v n="$1" 'BEGIN { for (i = 1; i <= n; i++) printf "%scat", (i > 1 ? " " : "") }'; }

is 'a caption' "$(tok '{"caption":"a photo of sks cat"}')" '{"caption":"a photo of sks cat","tokens":5,"chunks":1}'
is '--ids' "$(tok '{"caption":"A photo of  sks CAT"}' --ids | jq -c .ids)" '[320,1125,539,48136,2368]'
is 'nothing to count' "$(tok '{"path":"a.png"}' --ids)" '{"path":"a.png","tokens":0,"chunks":1,"ids":[]}'
is 'null counts as absent' "$(tok '{"caption":null,"tags":null,"class_tokens":null}' | jq -c '[.tokens,.chunks]')" '[0,1]'
is 'tags are joined' "$(tok '{"tags":["1girl","solo"]}' --ids | jq -c .ids)" '[272,1611,267,5797]'
is 'caption and tags' "$(tok '{"caption":"a cat","tags":["1girl","solo"]}' --ids | jq -c .ids)" \
    '[320,2368,267,272,1611,267,5797]'
is '--caption-separator' "$(tok '{"caption":"a cat","tags":["solo"]}' --caption-separator ' ! ' --ids | jq -c .ids)" \
    '[320,2368,256,5797]'
is '--from caption' "$(tok '{"caption":"a cat","tags":["1girl"]}' --from caption | jq -c .tokens)" 2
is '--from tags' "$(tok '{"caption":["a","b"],"tags":["1girl"]}' --from tags | jq -c .tokens)" 2
is 'class_tokens stand in' "$(tok '{"class_tokens":"sks cat"}' | jq -c .tokens)" 2
is 'and do not where one member is asked for' "$(tok '{"class_tokens":"sks cat"}' --from caption | jq -c .tokens)" 0
is 'several captions' "$(tok '{"caption":["a cat","","dog"],"tags":["x"]}' --ids)" \
    '{"caption":["a cat","","dog"],"tags":["x"],"tokens":[4,2,3],"chunks":1,"ids":[[320,2368,267,343],[267,343],[1929,267,343]]}'
is 'an empty array of captions' "$(tok '{"caption":[]}' | jq -c '[.tokens,.chunks]')" '[0,1]'
is 'SD1 and SD2 exclaim differently' \
    "$(tok '{"caption":"!!!"}' | jq .tokens) $(tok '{"caption":"!!!"}' --v2 | jq .tokens)" '1 3'

# the limit
w75=$(words 75)
is 'exactly 75' "$(tok '{"caption":"'"$w75"'"}' | jq -c '[.tokens,.chunks,.lost]')" '[75,1,null]'
is 'the 76th' "$(tok '{"caption":"'"$w75"' Dog  "}' | jq -c '[.tokens,.chunks,.lost]')" '[76,2,"Dog"]'
is 'in the words of the caption' "$(tok '{"caption":"'"$w75"' , Él  Gato (Ω)\n 2 "}' | jq -c .lost)" \
    '", Él  Gato (Ω)\n 2"'
is 'a word that is cut in two' "$(tok '{"caption":"'"$(words 74)"' xyzzyquxfrob-x"}' | jq -c '[.tokens > 76,.lost]')" \
    '[true,"xyzzyquxfrob-x"]'
is 'a cut inside a run without blanks' "$(tok '{"caption":"'"$(words 74)"' dog,bird,frog"}' | jq -r .lost)" ',bird,frog'
is 'a cut behind a special token' "$(tok '{"caption":"'"$(words 74)"'<|endoftext|>dog"}' | jq -r .lost)" dog
is 'a cut before one' "$(tok '{"caption":"'"$w75"',<|endoftext|>"}' | jq -r .lost)" ',<|endoftext|>'
is 'bytes that are not UTF-8' "$(tok '{"caption":"'"$w75"' od\udce9d"}' | sed 's/.*"lost"/"lost"/')" '"lost":"od\udce9d"}'
is '--max-token-length 150' "$(tok '{"caption":"'"$(words 150)"' dog"}' --max-token-length 150 | jq -c '[.chunks,.lost]')" \
    '[3,"dog"]'
is '--max-token-length 225, as sd-scripts writes it' \
    "$(tok '{"caption":"'"$(words 225)"'"}' --max_token_length=225 | jq -c '[.tokens,.chunks,.lost]')" '[225,3,null]'
is 'more than any limit' "$(tok '{"caption":"'"$(words 226)"'"}' --max-token-length 225 | jq -c '[.chunks,.lost]')" '[4,"cat"]'
is 'one of several captions' "$(tok '{"caption":["dog","'"$w75"' dog"]}' | jq -c '[.tokens,.chunks,.lost]')" \
    '[[1,76],2,["","dog"]]'
is 'the tags are behind the caption' "$(tok '{"caption":"'"$w75"'","tags":["x","y"]}' | jq -c .lost)" '",x, y"'

# padding
is '--padded' "$(tok '{"caption":"a cat"}' --padded | jq -c '.ids | [length, (.[0] | length, .[:5], .[76])]')" \
    '[1,77,[49406,320,2368,49407,49407],49407]'
is '--padded --v2' "$(tok '{"caption":"a cat"}' --padded --v2 | jq -c '.ids[0] | [.[:5], .[76]]')" \
    '[[49406,320,2368,49407,0],0]'
is '--padded in three chunks' \
    "$(tok '{"caption":"'"$(words 80)"'"}' --padded --max-token-length 225 | jq -c '.ids | [map(length), .[0][76], .[1][:7], .[2][1]]')" \
    '[[77,77,77],49407,[49406,2368,2368,2368,2368,2368,49407],49407]'
is '--padded, several captions' "$(tok '{"caption":["a","b"]}' --padded | jq -c '.ids | map(.[0][1])')" '[320,321]'

# what is left alone, and what is not
cat >in <<'EOT'
{ "id" : 12345678901234567890 , "x":1.0e-2,"caption" : "caf\u00e9 \/" , "u":"\u00e9"}
{"caption":"a cat","error":{"tool":"sd-x","message":"broken"}}
EOT
try sd-tokenize <in
is 'other members, and records with an error: byte for byte' "$status $(cat "$err" "$out")" \
    '0 { "id" : 12345678901234567890 , "x":1.0e-2,"caption" : "caf\u00e9 \/" , "u":"\u00e9","tokens":2,"chunks":1}
{"caption":"a cat","error":{"tool":"sd-x","message":"broken"}}'
is 'members from before are renewed' "$(tok '{"tokens":9,"lost":"x","caption":"a cat","chunks":7}')" \
    '{"tokens":2,"caption":"a cat","chunks":1}'
printf '{"caption":"%s dog"}\n' "$w75" | sd-tokenize >once
try sd-tokenize <once
same 'a second run changes nothing' "$out" once

# summary
try sd-tokenize -v <once
is '-v' "$status $(cat "$err")" \
    '0 sd-tokenize: captions: 1, the longest of 76 tokens; 1 lose text behind token 75'

# what fails
printf '%s\n' '{"path":"a.png","caption":5}' '{"path":"b.png","tags":[1]}' '{"path":"c.png","caption":"a cat"}' \
    'no record' '{"path":"d.png","caption":"a\u0000b"}' '{"path":"e.png","class_tokens":[]}' >bad
try sd-tokenize <bad
is 'status' $status 1
is 'records that fail are passed on and marked' "$(cat "$out")" \
    '{"path":"a.png","caption":5,"error":{"tool":"sd-tokenize","message":"member \"caption\": a number where an array of strings is expected"}}
{"path":"b.png","tags":[1],"error":{"tool":"sd-tokenize","message":"member \"tags\": a number where a string is expected"}}
{"path":"c.png","caption":"a cat","tokens":2,"chunks":1}
{"path":"d.png","caption":"a\u0000b","error":{"tool":"sd-tokenize","message":"member \"caption\": a NUL character in it"}}
{"path":"e.png","class_tokens":[],"error":{"tool":"sd-tokenize","message":"member \"class_tokens\": an array where a string is expected"}}'
is 'each told once' "$(cat "$err")" \
    'sd-tokenize: a.png: member "caption": a number where an array of strings is expected
sd-tokenize: b.png: member "tags": a number where a string is expected
sd-tokenize: line 4: not a JSON object at byte 1
no record
sd-tokenize: d.png: member "caption": a NUL character in it
sd-tokenize: e.png: member "class_tokens": an array where a string is expected'
try sd-tokenize --max-token-length 77 <in
like 'a length that does not exist' "$status $(cat "$out" "$err")" '2 sd-tokenize: --max-token-length is 75, 150 or 225*'
try sd-tokenize --from path <in
like 'a member it does not count' "$status $(cat "$out" "$err")" '2 sd-tokenize: *--from*'
sd-tokenize <in >/dev/full 2>"$err"
is 'a full disk' $? 3

# order
awk -v w="$w75" 'BEGIN { for (i = 0; i < 3000; i++)
    printf "{\"n\":%d,\"caption\":\"%s number %d\",\"tags\":[\"t%d\"]}\n", i, i % 3 ? "a cat" : w, i, i }' >many
sd-tokenize -j 1 --ids <many >want
is 'all of them' "$(wc -l <want) $(tail -1 want | jq -c '[.n,.tokens,.lost]')" '3000 [2999,13,null]'
for j in 2 4; do
    try sd-tokenize -j $j --ids <many
    same "-j $j: the same" "$out" want
done
finish
