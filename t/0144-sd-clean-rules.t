#!/bin/sh
# sd-clean: choosing rules, rule files, and telling what was done (the rules one by one: t/unit/rules.c).
. "$(dirname "$0")/lib.sh"

# clean RECORD OPTION...: what becomes of it
clean() {
    _record=$1
    shift
    printf '%s\n' "$_record" | sd-clean "$@" 2>"$err"
}

# ---- choosing ----

try sd-clean --list-rules </dev/null
is '--list-rules' "$status $(cat "$err")$(awk -F'\t' 'NF != 4' "$out")" '0 '
is 'what is on by default is what sd-scripts does' \
    "$(awk -F'\t' '$3 == "off" { printf "%s ", $1 }' "$out")" 'nfc spaces rating-tags wd-underscores duplicates '
cp "$out" rules
is 'the names are different' "$(cut -f1 rules | sort | uniq -d)" ''
sd-clean --list-rules </dev/null >/dev/full 2>"$err"
is '--list-rules to a full disk' "$? $(cat "$err")" '3 sd-clean: standard output could not be written'
is '--list-rules shows the choice' \
    "$(sd-clean --rules none --rule lady,eyes --no-rule eyes --list-rules </dev/null | awk -F'\t' '$3 == "on" { print $1 }')" lady

people='{"tags":["2girls","a_b","red eyes","blue eyes","shirt","white shirt","^_^","o_o","rating:s","b"],"caption":"a woman and a person"}'
is 'all of sd-scripts' "$(clean "$people")" '{"tags":["2girls","a b","white shirt","^_^","o o"],"caption":"a girl and a girl"}'
is '--rules: only these' "$(clean "$people" --rules eyes,person)" \
    '{"tags":["2girls","a_b","shirt","white shirt","^_^","o_o","rating:s","b"],"caption":"a woman and a girl"}'
is '--rules none' "$(clean "$people" --rules none)" "$people"
is '--no-rule' "$(clean "$people" --no-rule eyes,woman --no-rule rating-tail)" \
    '{"tags":["2girls","a b","red eyes","blue eyes","white shirt","^_^","o o","rating:s"],"caption":"a woman and a girl"}'
is '--rule' "$(clean "$people" --rule wd-underscores,rating-tags)" \
    '{"tags":["2girls","a_b","white shirt","^_^","o_o","b"],"caption":"a girl and a girl"}'
is 'sd-scripts, named, is the default' "$(clean "$people" --rules sd-scripts)" "$(clean "$people")"
is 'blanks, composition, duplicates' \
    "$(clean '{"tags":[" a  b","","a b","e\u0301","\u00e9"],"caption":" one\n two\te\u0301 "}' --rule nfc,spaces,duplicates)" \
    '{"tags":["a b","é"],"caption":"one two é"}'
is 'several captions' "$(clean '{"caption":[" a  lady","b"]}' --rule spaces)" '{"caption":["a girl","b"]}'
try sd-clean --rule lday </dev/null
is 'an unknown rule' "$status $(head -1 "$err")" "2 sd-clean: no rule is named 'lday'; did you mean lady? (--list-rules shows them)"
try sd-clean --no-rule 'eyes,' </dev/null
is 'an empty name' "$status $(head -1 "$err")" "2 sd-clean: no rule is named '' (--list-rules shows them)"

# ---- rule files ----

cat >my.rules <<'EOT'
# tags of a booru
alias kitty -> cat
imply cat -> animal, mammal
imply animal -> living thing
remove watermark
order 1girl, solo

tags regex ^(.*) \(cosplay\)$ -> \1, cosplay
replace smile -> happy
caption regex [0-9]+[ ]years?[ ]old ->
EOT
record='{"tags":["solo","kitty","watermark","miku (cosplay)","smile","1girl"],"caption":"a smile, smiles, 9 years old"}'
is 'a rule file' "$(clean "$record" --rule-file my.rules)" \
    '{"tags":["1girl","solo","cat","miku","cosplay","happy","animal","mammal","living thing"],"caption":"a happy, smiles, "}'
is 'with blanks tidied after it' "$(clean "$record" --rule-file my.rules --rule spaces --no-tags | jq -r .caption)" 'a happy, smiles,'
echo 'remove cosplay, happy' >more.rules
is 'two rule files' "$(clean "$record" --rule-file my.rules --rule-file more.rules --no-captions | jq -c .tags)" \
    '["1girl","solo","cat","miku","animal","mammal","living thing"]'
is 'after the built-in rules' "$(clean '{"tags":["black_cat"]}' --rule-file "$(echo 'alias black cat -> cat' >a.rules && echo a.rules)")" \
    '{"tags":["cat"]}'
is 'tags in one text' "$(clean '{"tags":"big_dog, kitty"}' --rule-file my.rules)" '{"tags":"big dog, cat, animal, mammal, living thing"}'
is 'nothing left' "$(clean '{"tags":["watermark"],"caption":"9 years old"}' --rule-file my.rules)" '{"tags":[],"caption":""}'
is 'nothing to do: byte for byte' "$(clean '{ "tags" : [ "dog" ] ,"caption":"d\u006fg" }' --rule-file my.rules --explain)" \
    '{ "tags" : [ "dog" ] ,"caption":"d\u006fg" }'
is 'bytes that are not UTF-8' "$(clean '{"tags":["odd\udce9","kitty"],"caption":"odd\udce9 smile"}' --rule-file my.rules | cut -c1-39)" \
    '{"tags":["odd\udce9","cat","animal","ma'
: >empty.rules
is 'an empty rule file' "$(clean "$record" --rule-file empty.rules)" "$(clean "$record")"

# refused NAME RULES MESSAGE
refused() {
    printf '%s\n' "$2" >bad.rules
    try sd-clean --rule-file bad.rules <<EOT
$record
EOT
    is "$1" "$status $(cat "$out" "$err")" "2 sd-clean: bad.rules:$3"
}
refused 'no such kind' '
replcae a -> b' "2: 'replcae' is no kind of rule, did you mean replace; expected: replace, regex, remove, alias, imply or order"
refused 'no arrow' 'alias a b' "1: no ' -> '; expected: alias TAG -> TAG"
refused 'a bad pattern' 'regex (a -> b' '1: not an extended regular expression: Unmatched ( or \('
refused 'a reference back' 'regex (a)\1 -> b' '1: the pattern refers back with \1, which is not supported'
refused 'counts without end' 'regex (a{1,50}){1,50} -> b' '1: the counts in the pattern multiply to more than 100'
refused 'a group that is not there' 'regex (a) -> \2' '1: \2 in the replacement, but the pattern has 1 groups'
refused 'a circle of aliases' 'alias a -> b
alias b -> a' "1: aliases of 'a' lead back to it; expected no circle"
refused 'a circle of implications' 'imply a -> b
imply b -> c, a' "2: implications of 'a' lead back to it; expected no circle"
refused 'an empty tag' 'remove a,, b' '1: an empty tag; expected: remove TAG, TAG...'
refused 'a tag twice in the order' 'order a, b
order a' '2: a tag that the order has already; expected: order TAG, TAG...'
refused 'an alias twice' 'alias a -> b
alias a -> c' '2: bad.rules:1 has made an alias of this tag already'
refused 'what cannot be held to captions' 'caption remove a' \
    '1: only replace and regex can be held to tags or caption; expected: remove TAG, TAG...'
printf 'remove a\nremove \377\n' >bad.rules
try sd-clean --rule-file bad.rules </dev/null
is 'not UTF-8' "$status $(cat "$err")" '2 sd-clean: bad.rules:2: not UTF-8 text'
try sd-clean --rule-file no.rules </dev/null
is 'no such file' "$status $(cat "$err")" '2 sd-clean: no.rules: cannot open: No such file or directory'
try sd-clean --rule-file . </dev/null
is 'a folder' "$status $(cat "$err")" '2 sd-clean: .: not a regular file'

# a text too long for a pattern fails its record, not the others
long=$(printf '%05000d' 0)
echo 'regex 0 -> 1' >long.rules
printf '%s\n' '{"path":"a.png","caption":"'"$long"'"}' '{"path":"b.png","caption":"0"}' >in
try sd-clean --rule-file long.rules <in
is 'a text too long for a pattern' "$status $(cut -c1-99 "$err") $(tail -1 "$out")" \
    '1 sd-clean: a.png: long.rules:1: a text of 5000 bytes; a pattern takes at most 4096 {"path":"b.png","caption":"1"}'

# ---- explaining ----

is '--explain' "$(clean '{"tags":["solo","a_b","kitty","watermark"],"caption":"a lady","x":1}' --explain --rule-file my.rules | jq -c '.cleaned[]')" \
    '{"member":"caption","rule":"lady","from":"lady","to":"girl"}
{"member":"tags","rule":"underscores","from":"a_b","to":"a b"}
{"member":"tags","rule":"my.rules:2","from":"kitty","to":"cat"}
{"member":"tags","rule":"my.rules:3","from":"cat","to":"cat, animal"}
{"member":"tags","rule":"my.rules:3","from":"cat","to":"cat, mammal"}
{"member":"tags","rule":"my.rules:4","from":"animal","to":"animal, living thing"}
{"member":"tags","rule":"my.rules:5","from":"watermark","to":null}'
is 'in the place of an earlier one' "$(clean '{"cleaned":[],"caption":"a lady","x":1}' --explain)" \
    '{"cleaned":[{"member":"caption","rule":"lady","from":"lady","to":"girl"}],"caption":"a girl","x":1}'
is 'quotes and odd bytes' "$(clean '{"tags":["\"_\udce9"]}' --explain)" \
    '{"tags":["\" \udce9"],"cleaned":[{"member":"tags","rule":"underscores","from":"\"_\udce9","to":"\" \udce9"}]}'
is 'only of what changed' "$(clean '{"tags":["a_b"],"caption":"a cat"}' --explain --no-tags)" '{"tags":["a_b"],"caption":"a cat"}'
is 'all changes go by a rule' "$(clean "$people" --explain | jq -c '[.cleaned[].rule] | unique')" \
    '["eyes","person","rating-tail","repeated-words","underscores","woman"]'

# ---- many records, any number of threads ----

i=0
while [ $i -lt 2000 ]; do
    echo "{\"n\":$i,\"tags\":[\"solo\",\"a_$i\",\"kitty\",\"x$i (cosplay)\",\"smile\"],\"caption\":\"a lady, $i years old, smile\"}"
    i=$((i + 1))
done >many
sd-clean -j 1 --explain --rule-file my.rules <many >want
is 'the last of them' "$(tail -1 want | jq -c '[.caption, .tags, (.cleaned | length)]')" \
    '["a girl, , happy",["solo","a 1999","cat","x1999","cosplay","happy","animal","mammal","living thing"],10]'
for j in 2 5; do
    try sd-clean -j $j --explain --rule-file my.rules <many
    same "-j $j: the same" "$out" want
done
sd-clean --rule-file my.rules <many >plain
jq -c 'del(.cleaned)' <want >without
same 'without --explain: the same but for that' plain without
finish
