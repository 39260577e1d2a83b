#!/bin/sh
# sd-show: what is told of each use, the sheet, the terminal, and the page, looked at in Chromium.
. "$(dirname "$0")/lib.sh"

for i in a b c d e f; do picture rgb.png $i.png; done # 21x15
sd-scan a.png b.png c.png d.png e.png f.png >plain
jq -c '. + {bucket: [16,8], resize: [21,15], crop: [2,3], caption: "a \(.path[:1])", tags: ["one","two","three"]}' plain >six
seen() { jq -c .seen "$out"; }

# --- records ---

try sd-show --order input --seed 1 <six
is 'status, nothing said' "$status $(cat "$err")" '0 '
jq -c --unbuffered 'del(.seen)' "$out" >without
jq -c . six >want
same 'all else passes, in order' without want
is 'what is seen of the first' "$(seen | head -1)" \
    '{"epoch":1,"caption":"a a,one, two, three","size":[16,8],"crop":[2,3],"flipped":false,"loss_weight":1}'
head -1 six >one
sed 's/^{/{ "id": 1234567890123456789.50,/' one >digits
is 'byte for byte' "$(sd-show --order input <digits | sed 's/,"seen":{[^}]*}//')" "$(cat digits)"

try sd-show --order input --seed 1 <plain
is 'whole without a bucket' "$(seen | sort -u)" \
    '{"epoch":1,"caption":"","size":[21,15],"crop":[0,0],"flipped":false,"loss_weight":1}'

try sd-show --order input --epochs 40 --seed 1 --shuffle-caption --keep-tokens 1 --flip-aug <one
is 'each epoch one use' "$(jq -s -c 'map(.seen.epoch)' "$out")" "$(jq -n -c '[range(1;41)]')"
is 'captions are shuffled, the first part stays' "$(seen | jq -r .caption | sort -u)" 'a a, one, three, two
a a, one, two, three
a a, three, one, two
a a, three, two, one
a a, two, one, three
a a, two, three, one'
is 'some are mirrored, some are not' "$(seen | jq -c .flipped | sort -u | tr '\n' ' ')" 'false true '
cp "$out" first
try sd-show --order input --epochs 40 --seed 1 --shuffle_caption --keep_tokens 1 --flip_aug <one
same 'the same seed draws the same' "$out" first
try sd-show --order input --epochs 40 --seed 2 --shuffle-caption --keep-tokens 1 --flip-aug <one
ok 'another seed draws others' test "$(cksum <"$out")" != "$(cksum <first)"
sd-show --order input --epochs 40 --caption-dropout-rate 1 <one >"$out"
is 'dropped captions are empty' "$(seen | jq -c .caption | sort -u)" '""'
sd-show --order input --epochs 60 --random-crop <one >"$out"
is 'random crops' "$(seen | jq -c .crop | sort -u | wc -l | tr -d ' ')" "$(seen | jq -c .crop | sort -u | grep -c '\[[0-5],[0-7]\]')"
ok 'at several places' test "$(seen | jq -c .crop | sort -u | wc -l)" -gt 10
jq -c '. + {subset: {caption_prefix: "zz", flip_aug: true}}' one | sd-show --order input --epochs 40 --caption-prefix yy >"$out"
is "the record's subset is stronger than the options" "$(seen | jq -r .caption | sort -u)" 'zz a a,one, two, three'
is 'in augmentation too' "$(seen | jq -c .flipped | sort -u | tr '\n' ' ')" 'false true '
jq -c '. + {latents: "none.npz"}' one | sd-show --order input --epochs 40 --random-crop --color-aug --flip-aug >"$out"
is 'cached latents are only mirrored' "$(seen | jq -c '[.crop,.flipped]' | sort -u | tr '\n' ' ')" '[[2,3],false] [[2,3],true] '
jq -c '. + {reg: true}' one | sd-show --order input --prior-loss-weight 0.25 >"$out"
is 'the weight of regularisation pictures' "$(seen | jq .loss_weight)" 0.25
{
    cat one
    n=0
    until [ -e seen ] || [ $((n += 1)) -gt 300 ]; do sleep 0.1; done
    ls seen >early 2>&1
} | sd-show --order input | {
    head -1 >"$out"
    touch seen
    cat >/dev/null
}
is 'a record flows through before the next comes' "$(jq -r .path "$out") $(cat early)" 'a.png seen'

# What sd-scripts' own dataset gave of the same pictures, use by use.
(cd "$root" && sd-show --order input --seed 7 --shuffle_caption --keep_tokens 1 --caption_prefix 'art of' \
    --caption_dropout_rate 0.1 --caption_tag_dropout_rate 0.2 --flip_aug --color_aug --random_crop \
    --prior_loss_weight 0.5 <t/data/show/records.ndjson) >"$out"
seen | jq -c '{caption, size, flipped, loss_weight}' >got
jq -c '{caption, size, flipped, loss_weight}' "$root/t/data/show/seen.ndjson" >want
is 'as many uses' "$(wc -l <got)" "$(wc -l <want)"
same 'seen as sd-scripts sees them' got want

# --- the order of training ---

jq -c 'if .path == "b.png" then .repeats = 3 else . end | if .path > "d" then .bucket = [8,8] else . end' six >mixed
try sd-show --seed 5 --batch-size 2 <mixed
is 'each as often as it repeats' "$(jq -r .path "$out" | sort | uniq -c | awk '{ print $1 $2 }' | tr '\n' ' ')" \
    '1a.png 3b.png 1c.png 1d.png 1e.png 1f.png '
is 'batches from 1 on' "$(seen | jq .batch | uniq | tr '\n' ' ')" '1 2 3 4 5 '
is 'of at most two' "$(seen | jq .batch | uniq -c | awk '$1 > 2' | wc -l | tr -d ' ')" 0
is 'a batch has one bucket' "$(seen | jq -c '[.batch,.size]' | sort -u | wc -l | tr -d ' ')" 5
try sd-show --seed 5 --batch-size 2 --epochs 3 <mixed
is 'epochs one after the other' "$(seen | jq -c .epoch | uniq -c | awk '{ print $1 "x" $2 }' | tr '\n' ' ')" '8x1 8x2 8x3 '
ok 'in orders of their own' test "$(jq -r 'select(.seen.epoch == 1).path' "$out" | tr '\n' ' ')" != "$(jq -r 'select(.seen.epoch == 2).path' "$out" | tr '\n' ' ')"
is '--limit' "$(sd-show --limit 5 --epochs 2 <mixed | wc -l) $(sd-show --order input -n 5 --epochs 2 <mixed | wc -l)" '5 5'
try sd-show --seed 1 </dev/null
is 'no records' "$status $(cat "$out")$(cat "$err")" '0 '

# --- what cannot be ---

echo '{"path":"x.png","error":{"tool":"sd-scan","message":"was \u0007 broken"}}' >broken
{ cat broken one && echo '{"path":5}' && jq -c '.bucket = [16,9]' one && jq -c '.repeats = 2 | .path = "gone.png"' one; } >bad
for order in input epoch; do
    try sd-show --order $order --html bad.html --sheet bad.png <bad
    is "--order $order: status" $status 1
    is 'each is told once' "$(sort "$err")" "$(printf '%s\n' \
        'sd-show: a.png: a bucket of 16x9 is no multiple of 8 pixels' \
        'sd-show: bad.html: 0.0 MB' \
        'sd-show: gone.png: cannot open: No such file or directory' \
        'sd-show: a record without a path: member "path": a number where a string is expected' | sort)"
    is 'comes out once' "$(jq -c '[.path,.error.tool]' "$out" | sort | tr '\n' ' ')" \
        '["a.png","sd-show"] ["a.png",null] ["gone.png","sd-show"] ["x.png","sd-scan"] [5,"sd-show"] '
    is 'what came broken passes untouched' "$(grep x.png "$out")" "$(cat broken)"
done
try sd-show --terminal auto <one
TERM=dumb try env -u KITTY_WINDOW_ID -u TERM_PROGRAM TERM=dumb sd-show -t auto <one
like 'no terminal for pictures' "$status $(cat "$err")" '2 sd-show: --terminal auto: *'
try sd-show --face-crop-aug-range 2 <one
is 'half a range' $status 2
try sd-show --html no/where.html <one
like 'no folder for the page' "$status $(cat "$err")" '[13] sd-show: no/where.html: No such file or directory'
try sd-show --sheet none.png </dev/null
like 'no pictures, no sheet' "$status $(cat "$err") $(ls none.png 2>&1)" '1 sd-show: none.png: no pictures *No such*'
sd-show --order input <six >/dev/full 2>"$err"
is 'a full disk behind standard output' $? 3

# --- the sheet ---

sd-sheet -o want.png --cell 42 <plain >/dev/null
sd-show --order input --sheet got.png --cell 42 --caption-lines 0 <plain >/dev/null
same 'a sheet of whole pictures is that of sd-sheet' got.png want.png
sd-show --order input --sheet got.png --cell 60 --columns 6 <six >/dev/null
is 'a sheet of cut ones, three lines of caption below each' "$(sd-scan got.png | jq -c '[.width,.height]')" '[388,102]'
jq -c '.caption = "other"' six | sd-show --order input --sheet other.png --cell 60 --columns 6 >/dev/null
ok 'which is drawn' test "$(cksum <got.png)" != "$(cksum <other.png)"

# --- the terminal ---

jq -c '.caption = "evil \u001b[2Jcaption"' one >evil
try sd-show --order input -t kitty <evil
is 'kitty: a PNG in pieces' "$(head -c 20 "$out" | od -An -c | tr -d ' \n')" '033_Ga=T,f=100,q=2,m=0'
like 'below it path, size and caption, harmless' "$(tail -n +2 "$out")" 'a.png  16x8
evil \\x1b\[2Jcaption,one, two, three*'
try sd-show --order input -t sixel <evil
is 'sixel: a device control string' "$(head -c 2 "$out" | od -An -c | tr -d ' \n')" '033P'
TERM_PROGRAM=ghostty try sd-show --order input -t auto <evil
is 'auto: by the environment' "$(head -c 3 "$out" | od -An -c | tr -d ' \n')" '033_G'

# --- the page ---

hostile='</script><script>document.title="owned"</script><img src=x onerror="document.title=1">"'"'😀BYTE&lt;"
{
    jq -c '.repeats = 7 | .reg = true | .caption = "a black cat" | .tags = ["cat","night"]' one
    sed -n 2p six | jq -c '.bucket = [8,8] | .caption = "a white cat" | .tags = ["cat","day"]'
    sed -n 3p six | jq -c '.caption = "a dog" | .tags = ["day"]'
    sed -n 4p six | jq -c '.caption = "cut, in, parts" | del(.tags)'
    sed -n 5p six | jq -c --arg h "$hostile" '.caption = $h | .tags = [$h, "x"]' | sed 's/BYTE/\\udcff/g'
    echo '{"path":"</script><script>document.title=2</script>","error":{"tool":"<b>","message":"</script><!--<script>"}}'
} >shown
try sd-show --order input --html page.html --title '<Cats> & "dogs"' <shown
is 'page: status' $status 0
like 'its size is told' "$(cat "$err")" 'sd-show: page.html: 0.0 MB'
is 'nothing closes a script but its own end' "$(grep -c 'document.title=' page.html) $(grep -o '</script' page.html | wc -l | tr -d ' ')" \
    "$(grep -c 'u003cscript>document.title=\|&lt;script&gt;document.title=' page.html) 7"
is 'nothing is asked of the network' "$(grep -Eo '(src|href)="?https?:|url\(|@import' page.html)" ''
is 'no file is left beside it' "$(ls -A | grep -c '^\.')" 0

chromium() {
    HOME=$tmp timeout 300 chromium-headless-shell --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --hide-scrollbars \
        --user-data-dir="$tmp/chromium" --virtual-time-budget=5000 "$@" 2>"$tmp/chromium.err"
}
# dom HASH: what the browser made of the page, by parts
dom() {
    chromium --dump-dom "file://$tmp/work/page.html#$1" >dom
    title=$(sed -n 's|.*<title>\(.*\)</title>.*|\1|p' dom)
    perl -0777 -ne 'print $1 if m|<div class="status"(.*?)</div>|s' dom >status
    perl -0777 -ne 'print $1 if m|(<details class="failed".*?</details>)|s' dom >failed
    perl -0777 -ne 'print $1 if m|<div class="grid" id="grid">(.*)</div>\s*<div id="more">|s' dom | sed 's|<article|\n&|g' >cards
    perl -0777 -ne 'print $1 if m|<ul class="tags" id="tags">(.*?)</ul>|s' dom |
        perl -ne 'print "$2 $1; " while m|<span>([^<]*)</span><span class="num">([^<]*)<|g' >tags
}
paths() { perl -ne 'print "$1 " if m|class="path" title="([^"]*)"|' cards; }

if [ -n "${SD_SAN:-}" ]; then
    finish # the browser has seen the release build's page
fi
if ! command -v chromium-headless-shell >/dev/null && grep -q '^ID=ubuntu' /etc/os-release; then
    skip 'the page in a browser' 'Chromium is no package of Ubuntu'
    finish
fi

dom ''
is 'in Chromium: the title, and no hostile script ran' "$title" '&lt;Cats&gt; &amp; "dogs"'
is 'five cards' "$(grep -c '^<article' cards) $(paths)" '5 a.png b.png c.png d.png e.png '
like 'the count' "$(cat status)" '*<b>5</b> pictures*'
is 'each has its picture' "$(grep -c 'img [^>]*src="data:image/png;base64,iVBORw0KGgo' cards)" 5
like 'the caption as seen' "$(grep a.png cards)" '*<p class="seen">a black cat,cat, night</p>*'
like 'tags as chips' "$(grep a.png cards)" '*data-tag="cat"*data-tag="night"*'
like 'repeats, regularisation, bucket' "$(grep a.png cards)" '*regularisation*×7*16×8*'
like 'a caption in parts has chips too' "$(grep d.png cards)" '*data-tag="cut"*data-tag="in"*data-tag="parts"*'
like 'a hostile caption is text' "$(grep e.png cards)" '*<p class="seen">&lt;/script&gt;&lt;script&gt;document.title="owned"&lt;/script&gt;&lt;img src=x onerror=*😀*&amp;lt;,*, x</p>*'
like 'errors are listed apart' "$(cat failed)" '*1 record could not be shown*&lt;/script&gt;&lt;script&gt;document.title=2*&lt;b&gt;: &lt;/script&gt;&lt;!--*'
like 'tags and how often they are' "$(cat tags)" '2 cat; 2 day; 1 *'
dom 'q=CAT'
is 'a search by the address' "$(paths)" 'a.png b.png '
like 'says how many of how many' "$(cat status)" '*<b>2</b> of 5*'
like 'and marks the word' "$(grep a.png cards)" '*a black <mark>cat</mark>,<mark>cat</mark>, night*'
is 'counts tags among what is left' "$(cat tags)" '2 cat; 1 day; 1 night; '
dom 'q=white+a&tag=cat'
is 'words and a tag together' "$(paths)" 'b.png '
dom 'tag=cat&tag=day'
is 'two tags' "$(paths)" 'b.png '
dom 'bucket=8x8'
is 'a bucket' "$(paths)" 'b.png '
dom 'sort=long'
is 'sorted by length' "$(paths | cut -d' ' -f1)" 'e.png'
dom 'q=no+such'
like 'nothing found' "$(cat cards)" '*Nothing matches.*'

# Thousands of cards: made when they come into sight.
jq -c -n --slurpfile r one '$r[0] as $r | range(3000) | $r + {caption: "number \(.)"}' | sd-show --order input -q --html page.html >/dev/null
dom ''
like 'a large page tells of all' "$(cat status)" '*<b>3,000</b> pictures*'
ok 'and makes the first cards' test "$(grep -c '^<article' cards)" -lt 1000
dom 'q=2999'
is 'but finds the last' "$(grep -c '^<article' cards) $(grep -c 'number <mark>2999</mark>' cards)" '1 1'

# Looked at: not blank, and darker in the dark.
sd-scan "$root"/contrib/tiny/sks | sd-show --order input -q --html page.html >/dev/null
for theme in light dark; do
    chromium --window-size=800,600 --screenshot="$theme.png" "file://$tmp/work/page.html#theme=$theme" >/dev/null
done
is 'screenshots' "$(sd-scan light.png dark.png | jq -c '[.width,.height]' | tr '\n' ' ')" '[800,600] [800,600] '
ok 'are not blank' test "$(wc -c <light.png)" -gt 20000 -a "$(wc -c <dark.png)" -gt 20000
for theme in light dark; do # their mean, as a sheet of one pixel
    sd-scan $theme.png | sd-sheet -o dot.png --cell 1 --gap 0 >/dev/null
    perl -0777 -ne 'use Compress::Zlib; m/IDAT(.*)/s; print unpack("x C", uncompress($1)), "\n"' dot.png
done >means
ok 'and darker in the dark' test "$(tail -1 means)" -lt "$(($(head -1 means) - 50))"
finish
