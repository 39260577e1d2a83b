#!/bin/sh
# sd-config: a data set configuration becomes records.
. "$(dirname "$0")/lib.sh"
data=$root/t/data/config

# The files that the cases are about: pictures, and texts whose ends and line ends count.
jq -r 'keys[] | select(contains("/")) | sub("/[^/]*$"; "")' "$data/files.json" | while IFS= read -r dir; do mkdir -p "$dir"; done
jq -r 'to_entries[] | select(.value == null).key' "$data/files.json" | while IFS= read -r path; do picture rgb.png "$path"; done
jq -j 'to_entries[] | select(.value) | .key + "\u0002" + .value + "\u0001"' "$data/files.json" |
    awk 'BEGIN { RS = "\001"; FS = "\002" } { printf "%s", $2 >$1; close($1) }'

# ---- as sd-scripts' config_util (t/ref/config.py) ----

cat >compare.jq <<'EOT'
def defaults: {shuffle_caption: false, caption_separator: ",", keep_tokens: 0, keep_tokens_separator: "",
    secondary_separator: null, enable_wildcard: false, caption_prefix: null, caption_suffix: null, color_aug: false,
    flip_aug: false, random_crop: false, face_crop_aug_range: null, token_warmup_min: 1, token_warmup_step: 0,
    caption_dropout_rate: 0, caption_tag_dropout_rate: 0, caption_dropout_every_n_epochs: 0, alpha_mask: false,
    resize_interpolation: null, custom_attributes: {}};
def lines: if type == "array" then join("\n") else . end;
# what sd-train takes for the caption; FineTuningDataset's rule for tags
def caption: (.subset.caption_separator // ",") as $sep
    | (.metadata_caption // (.caption | if . == null then "" else lines end)) as $c
    | (.metadata_tags // (if .tags then .tags | join(", ") else null end)) as $t
    | if .caption == null and $t == null and .class_tokens then .class_tokens
      elif $t == null then $c
      elif .subset.enable_wildcard then [$c | split("\n")[] | select(test("\\S")) | . + $sep + $t] | join("\n")
      else $c + (if $c != "" and $t != "" then $sep else "" end) + $t end;
def ours: {path, caption: caption, repeats, reg: (.reg // false), validation: (.validation // false), mask,
    dataset: ({network_multiplier: 1} + .dataset | del(.validation_split, .validation_seed)),
    subset: (defaults + (.subset // {}))};
(($case[0].pictures | map({mask: null} + .)) as $theirs
| ($ours | map(ours) | map(select(.validation | not)) + map(select(.validation))) as $mine
| if $mine == $theirs then "same" else
    "ours differ", [range([($mine | length), ($theirs | length)] | max) | select($mine[.] != $theirs[.])][0:2][] as $i
    | "\($mine[$i])", "\($theirs[$i])" end)
EOT
accepted=0 again=''
grep '"pictures": ' "$data/cases.ndjson" >accepted
while read -r case; do
    printf '%s\n' "$case" >case.json
    name=$(jq -r .name case.json)
    jq -r '.args[]' case.json >args
    set --
    while IFS= read -r arg; do set -- "$@" "$arg"; done <args
    case $case in
    *'"toml": '*) jq -j .toml case.json >x.toml && set -- "$@" x.toml ;;
    *'"json": '*) jq -j .json case.json >x.json && set -- "$@" x.json ;;
    esac
    sd-config "$@" >ours 2>"$err"
    is "as sd-scripts: $name" "$(jq -n -r --slurpfile case case.json --slurpfile ours ours -f compare.jq)" same
    accepted=$((accepted + 1))
    # the configuration written anew means the same
    sd-config --to-toml "$@" >again.toml 2>"$err" && sd-config again.toml 2>/dev/null | cmp -s - ours ||
        again="$again; $name: $(cat "$err")"
done <accepted
is 'there were cases' $((accepted > 40)) 1

refused=0 wrong=''
jq -j 'select(.refused) | .toml + "\u0001"' "$data/cases.ndjson" | awk 'BEGIN { RS = "\001" } { f = "r" NR ".toml"; print > f; close(f) }'
for f in r[0-9]*.toml; do
    sd-config "$f" >"$out" 2>"$err"
    case $? in
    1 | 2) [ -s "$err" ] || wrong="$wrong$(cat "$f") (no message)" ;;
    *) wrong="$wrong$(cat "$f")" ;;
    esac
    refused=$((refused + 1))
done
is 'what sd-scripts refuses is refused' "$wrong" ''
is '--to-toml of all of these says the same' "$again" ''
is 'there were such cases' $((refused > 250)) 1

# ---- records ----

cat >one.toml <<'EOT'
[general]
enable_bucket = true
flip_aug = true
[[datasets]]
resolution = [512, 768]
validation_seed = 3
  [[datasets.subsets]]
  image_dir = "one_two_three"
  class_tokens = "sks \"dog\""
  num_repeats = 10
  is_reg = true
  custom_attributes = {b = [1.0, "x"], day = 1979-05-27}
EOT
try sd-config --batch-size 3 one.toml
is 'a record' "$status $(cat "$out" "$err")" "0 $(printf '%s' '{"path":"one_two_three/x_4.png","width":21,"height":15,' \
    '"format":"png","bytes":136,"class_tokens":"sks \"dog\"","repeats":10,"reg":true,"dataset":{"index":0,' \
    '"resolution":[512,768],"batch_size":3,"enable_bucket":true,"min_bucket_reso":256,"max_bucket_reso":1024,' \
    '"bucket_reso_steps":64,"bucket_no_upscale":false,"validation_seed":3},"subset":{"flip_aug":true,' \
    '"custom_attributes":{"b":[1,"x"],"day":"1979-05-27"}}}')"
try sh -c 'sd-config one.toml | jq -c "del(.reg)" | sd-bucket -q --resolution 512,768 | jq -c "[.bucket, .dataset.index]"'
is 'other programs take it' "$status $(cat "$out")" '0 [[704,512],0]'
try sd-config --to-toml --train-data-dir train --reg-data-dir regs --resolution 512 --flip_aug --alpha-mask \
    --caption-dropout-rate 1 --caption-prefix 'a "b"'
is '--to-toml' "$status $(cat "$out")" '0 [general]
resolution = [512, 512]
caption_prefix = "a \"b\""
flip_aug = true
caption_dropout_rate = 1.0

[[datasets]]

  [[datasets.subsets]]
  image_dir = "train/ 03_"
  class_tokens = ""
  num_repeats = 3
  alpha_mask = true

  [[datasets.subsets]]
  image_dir = "train/10_sks cat"
  class_tokens = "sks cat"
  num_repeats = 10
  alpha_mask = true

  [[datasets.subsets]]
  image_dir = "train/2_a_b_c"
  class_tokens = "a_b_c"
  num_repeats = 2
  alpha_mask = true

  [[datasets.subsets]]
  image_dir = "train/7"
  class_tokens = ""
  num_repeats = 7
  alpha_mask = true

  [[datasets.subsets]]
  image_dir = "regs/1_cat"
  is_reg = true
  class_tokens = "cat"
  num_repeats = 1
  alpha_mask = true'
is 'folders that are not of the convention' "$(cat "$err")" 'sd-config: train/-4_neg: left out: less than 1 repeat
sd-config: train/0_none: left out: less than 1 repeat
sd-config: train/x_dog: left out: the name does not begin with a number of repeats, as in 10_cat'
try sd-config --train-data-dir db --resolution 512
is 'pictures that lie outside of such folders' "$status $(tail -1 "$err")" \
    '2 sd-config: db: no folder in it is named <repeats>_<class tokens>, like 10_cat; pictures belong in such folders'
printf '{"datasets":[{"resolution":512,"subsets":[{"image_dir":"one_two_three","custom_attributes":{"a":[null]}}]}]}' >null.json
try sd-config --to-toml null.json
is 'null has no place in TOML' "$status $(cat "$out" "$err")" '2 sd-config: null.json: custom_attributes: line 1, column 98: null, for which TOML has nothing'
is 'but in records' "$(sd-config -q null.json 2>/dev/null | jq -c .subset)" '{"custom_attributes":{"a":[null]}}'

# text: a configuration of one data set with one subset, from these lines of them
config() { printf '[[datasets]]\nresolution = 512\n%s\n[[datasets.subsets]]\n%s\n' "$1" "$2" >c.toml; }

# without a validation seed --seed takes its place; validation pictures go behind the others
config 'validation_split = 0.3' 'image_dir = "many"'
validation() { sd-config -q "$@" c.toml 2>/dev/null | jq -r 'select(.validation).path' | tr '\n' ' '; }
one=$(validation --seed 5)
config 'validation_split = 0.3
validation_seed = 5' 'image_dir = "many"'
is '--seed chooses for validation' "$one" "$(validation --seed 9)"
is 'another seed, other pictures' "$([ "$one" != "$(validation --validation-seed 9)" ] || echo same)" 'same'
config 'validation_split = 0.3' 'metadata_file = "ft.json"
image_dir = "ft"'
try sd-config c.toml
is 'only DreamBooth data sets are split' "$status $(jq -r 'select(.validation)' "$out")$(cat "$err")" \
    '0 sd-config: validation_split works for DreamBooth data sets only; data set 0 is not split'

# ---- what is wrong with pictures and captions ----

mkdir bad && picture rgb.png bad/good.png && echo no >bad/broken.png && picture rgb.png bad/bytes.png && picture rgb.png bad/empty.png
printf 'caf\351\n' >bad/bytes.txt
: >bad/empty.txt
echo fine >bad/good.txt
config '' 'image_dir = "bad"
caption_extension = ".txt"'
try sd-config c.toml
is 'failures are in band' "$status $(jq -c '[.path, .caption, .error.tool, .error.message]' "$out")" \
'1 ["bad/broken.png",null,"sd-config","not a PNG, JPEG, WebP or BMP file"]
["bad/bytes.png",null,"sd-config","bad/bytes.txt: not UTF-8 text"]
["bad/empty.png",null,"sd-config","bad/empty.txt: the caption file is empty"]
["bad/good.png","fine",null,null]'
is 'and told' "$(head -2 "$err")" 'sd-config: bad/broken.png: not a PNG, JPEG, WebP or BMP file
sd-config: bad/bytes.png: bad/bytes.txt: not UTF-8 text'
cat >bad.json <<'EOT'
{"good.png": {"caption": "1", "repeats": 7}, "none.png": {"n": 1}, "good.png": {}, "broken.png": {"caption": 2},
 "x\u0000": {}, "bytes.png": [], "empty.png": {"image_size": [9, 9], "path": "p"}}
EOT
config '' 'metadata_file = "bad.json"
image_dir = "bad"'
try sd-config c.toml
is 'metadata: failures are in band' "$status $(jq -c '[.path, .repeats, .error.message]' "$out")" \
'1 ["bad/broken.png",1,"member \"caption\": a number where an array of strings is expected"]
["bad/bytes.png",1,"the entry is no JSON object: []"]
["bad/empty.png",1,"the entry has a member \"path\", which is the record'"'"'s own"]
["bad/good.png",1,null]
["bad/none.png",1,"no such picture, with or without an ending"]
["bad/good.png",1,"the metadata has an entry of this name already"]
["x\u0000",1,"a NUL character in the name of the entry"]'
printf '{"a.png":{}' >cut.json
printf '{"image_path":"good.png"}\n\n{"caption":"x"}\n' >no.jsonl
config '' 'metadata_file = "cut.json"'
try sd-config c.toml
is 'metadata that is cut' "$status $(cat "$out" "$err")" '1 sd-config: cut.json: the object does not end at byte 12'
config '' 'metadata_file = "no.jsonl"'
try sd-config c.toml
is 'lines without a picture' "$status $(cat "$out" "$err")" '1 sd-config: no.jsonl: line 3: no image_path'
printf '{"image_path":"good.png"}\r\n \n{"image_path":"empty.png","n":1}\n{"image_path":"good.png"}' >twice.jsonl
config '' 'metadata_file = "twice.jsonl"
image_dir = "bad"'
try sd-config c.toml
is 'lines of one picture: the longest names first, the second fails' "$status $(jq -c '[.path, .n, .error.message]' "$out")" \
    '1 ["bad/empty.png",1,null]
["bad/good.png",null,null]
["bad/good.png",null,"the metadata has an entry of this name already"]'
{ cat twice.jsonl && echo && head -c 67108900 /dev/zero | tr '\0' ' '; } >long.jsonl
config '' 'metadata_file = "long.jsonl"'
try sd-config c.toml
is 'a line without end' "$status $(cat "$out" "$err")" '1 sd-config: long.jsonl: line 5 is longer than 67108864 bytes'
rm long.jsonl
config '' 'metadata_file = "bad"'
try sd-config c.toml
is 'metadata that is a folder' "$status $(cat "$out" "$err")" '1 sd-config: bad: not a regular file'
mkfifo fifo
config '' 'metadata_file = "fifo"'
try sd-config c.toml
is 'or a pipe' "$status $(cat "$out" "$err")" '1 sd-config: fifo: not a regular file'
config '' 'image_dir = "no-such"
[[datasets.subsets]]
image_dir = "reg"
[[datasets.subsets]]
image_dir = "empty"'
try sd-config c.toml
is 'a folder that is not there: the rest is written' "$status $(jq -r .path "$out" | tr '\n' ' ')$(head -1 "$err")" \
    '1 reg/r1.png reg/r2.png sd-config: image_dir: no-such: No such file or directory'
is 'a folder without pictures, pictures without captions' "$(tail -2 "$err")" \
"sd-config: reg: 2 pictures have no caption file, and there are no class_tokens: their captions are empty
sd-config: empty: no pictures; this subset is left out"
config '' 'image_dir = "empty"'
try sd-config c.toml
is 'nothing at all' "$status $(tail -1 "$err")" '1 sd-config: no pictures at all'
config '' 'image_dir = "cn"
conditioning_data_dir = "more"'
try sd-config c.toml
is 'masks that belong to no picture' "$status $(cat "$out" "$err")" '1 sd-config: masks that belong to no picture: more/c.png
sd-config: pictures and masks must match; nothing was written'

# ---- the folder's cache ----

mkdir cache && picture rgb.png 'cache/ä.png' && picture rgb.png cache/b.png && picture rgb.png cache/c.png
printf 'one\n\n"two"\n' >'cache/ä.caption'
printf 'three' >cache/b.caption
config 'enable_wildcard = true' 'image_dir = "cache"
cache_info = true
class_tokens = "sks"'
try sd-config c.toml
is 'cache_info: the first time' "$status $(cat "$err")" '0 '
cp "$out" fresh
is 'the cache, as Python would write it' "$(cat cache/metadata_cache.json)" '{
  "cache/b.png": {
    "caption": "three",
    "resolution": [
      21,
      15
    ]
  },
  "cache/c.png": {
    "caption": "sks",
    "resolution": [
      21,
      15
    ]
  },
  "cache/ä.png": {
    "caption": "one\n\"two\"",
    "resolution": [
      21,
      15
    ]
  }
}'
rm cache/*.caption cache/*.png
try sd-config c.toml
is 'cache_info: the next time nothing else is looked at' "$status $(cat "$err")$(jq -c '[.path, .width, .height, .caption]' "$out")" \
    '0 ["cache/b.png",21,15,"three"]
["cache/c.png",21,15,"sks"]
["cache/ä.png",21,15,["one","\"two\""]]'
is 'the subset is the same' "$(jq -c .subset "$out")" "$(jq -c .subset fresh)"
echo '{"x": {"caption": null, "resolution": [5, 6]}, "y": {"resolution": [0, 1]}, "z": 5}' >cache/metadata_cache.json
try sd-config c.toml
is 'a cache with faults' "$status $(jq -c '[.path, .caption, .error.message]' "$out")" '1 ["x","",null]
["y",null,"a resolution of 0 by 1 in metadata_cache.json"]
["z",null,"not a JSON object at byte 1"]'
config '' 'image_dir = "bad"
cache_info = true'
try sd-config c.toml
is 'none is written where a picture failed' "$status $(tail -2 "$err" | head -1) $(test -e bad/metadata_cache.json; echo $?)" \
    '1 sd-config: bad/metadata_cache.json: not written, since not all pictures could be read 1'

# ---- what is wrong with a configuration ----

# refuse TEXT MESSAGE
refuse() {
    printf "$1" >r.toml
    try sd-config r.toml
    is "refused: $2" "$status $(cat "$out" "$err")" "2 sd-config: r.toml: $2"
}
good='[[datasets]]\nresolution = 512\n[[datasets.subsets]]\nimage_dir = "db"\n'
refuse "${good}shufle_caption = true\n" "line 5, column 1: unknown key 'shufle_caption' in [[datasets.subsets]]; did you mean shuffle_caption?"
refuse "[general]\n  batch-size = 1\n$good" "line 2, column 3: unknown key 'batch-size' in [general]; did you mean batch_size?"
refuse "[general]\nxyzzy = 1\n$good" "line 2, column 1: unknown key 'xyzzy' in [general]"
refuse "${good}batch_size = 1\n" "line 5, column 1: 'batch_size' belongs in [general] or [[datasets]], not in [[datasets.subsets]]"
refuse "[general]\nimage_dir = 'x'\n$good" "line 2, column 1: 'image_dir' belongs in [[datasets.subsets]], not in [general]"
refuse "resolution = 512\n$good" "line 1, column 1: 'resolution' stands outside of [general], [[datasets]] and [[datasets.subsets]]"
refuse "[generel]\n$good" "line 1, column 2: unknown table 'generel', did you mean general; expected [general] and [[datasets]]"
refuse "${good}num_repeats = 1.5\n" 'line 5, column 15: num_repeats: a number with a point where a whole number is expected'
refuse "[general]\nvalidation_split = 0\n$good" 'line 2, column 20: validation_split: a whole number where a number with a point, like 0.1 or 1.0 is expected'
refuse "[general]\nresolution = [1, 2, 3]\n$good" 'line 2, column 14: resolution: an array where a whole number or [width, height] is expected'
refuse "${good}caption_dropout_rate = 1.5\n" 'line 5, column 24: caption_dropout_rate: 1.5 is not between 0 and 1'
refuse "${good}face_crop_aug_range = [4.0, 2.0]\n" 'line 5, column 23: face_crop_aug_range: expected 0 < low <= high'
refuse "${good}resize_interpolation = 'best'\n" "line 5, column 24: resize_interpolation: 'best' is not one of lanczos|nearest|bilinear|linear|bicubic|cubic|area|box"
refuse "${good}[[datasets.subsets]]\nmetadata_file = 'x'\n" 'line 5, column 12: this subset has metadata_file, that of line 3 has none; expected: all subsets of a data set, or none'
refuse '[[datasets]]\nresolution = 512\nclass_tokens = "x"\n[[datasets.subsets]]\nmetadata_file = "x"\n' \
    "line 3, column 1: 'class_tokens' is for DreamBooth data sets; this one is fine-tuning (metadata_file)"
refuse '[[datasets]]\nresolution = 512\n[[datasets.subsets]]\nis_reg = true\n' 'line 3, column 12: this subset has no image_dir'
refuse '[[datasets]]\nresolution = 512\n' 'line 1, column 3: this data set has no [[datasets.subsets]]'
refuse '[general]\n' 'there are no [[datasets]]'
refuse '[[datasets]]\n[[datasets.subsets]]\nimage_dir = "db"\n' 'the data set of line 1: no resolution; expected in the data set, in [general] or as --resolution'
refuse "[general]\nenable_bucket = true\nmax_bucket_reso = 300\n$good" \
    'the data set of line 4: the resolution 512x512 lies outside the bucket sides 256 to 320 (min_bucket_reso, max_bucket_reso)'
refuse "${good}resolution 5\n" "line 5, column 12: '=' is expected behind a name"
refuse "${good}image_dir = 'x'\n" "line 5, column 1: 'image_dir' is there already, from line 4"
refuse "${good}custom_attributes = {a = inf}\n" 'custom_attributes: line 5, column 26: a number that JSON cannot hold'
printf '{"datasets": [\n {"resolution": 512,}]}' >r.json
try sd-config r.json
is 'JSON: the place' "$status $(cat "$err")" '2 sd-config: r.json: line 2, column 21: a string is expected'
printf '{"general": {"keep_tokens": 1,\n "keep_tokens": 2}}' >r.json
try sd-config r.json
is 'JSON: a name that is twice' "$status $(cat "$err")" "2 sd-config: r.json: line 2, column 2: 'keep_tokens' is there already"
printf '{"general": {"flip_aug": null}}' >r.json
try sd-config r.json
is 'JSON: null is no value' "$status $(cat "$err")" '2 sd-config: r.json: line 1, column 26: flip_aug: null where true or false is expected'

# ---- the program ----

printf "$good" >g.toml
try sd-config --check g.toml
is '--check' "$status $(cat "$out" "$err")" '0 sd-config: 1 data sets, 1 subsets'
try sd-config --check c.toml -q
is '--check -q' "$status $(cat "$out" "$err")" '0 '
for args in '' 'g.toml --train-data-dir train' 'g.toml g.toml' '--dataset-config g.toml g.toml' '--in-json ft.json --reg-data-dir regs' \
    '--check --to-toml g.toml' 'g.toml --keep-tokens -1' 'g.toml --resolution 5x5' 'g.toml --face-crop-aug-range 3,2' \
    'g.toml --caption-dropout-rate 2' 'g.toml --resize-interpolation best' 'none.toml' 'db' 'ft.json' 'files'; do
    # shellcheck disable=SC2086
    try sd-config $args </dev/null
    is "wrong usage: $args" "$status $(cat "$out") $([ -s "$err" ] && echo told)" '2  told'
done
sd-config g.toml >/dev/full 2>"$err"
is 'standard output on a full disk' "$? $(grep 'standard output' "$err")" '3 sd-config: standard output: No space left on device'
mkdir lots
i=0
while [ $i -lt 1500 ]; do
    ln one_two_three/x_4.png lots/$i.png
    i=$((i + 1))
done
config '' 'image_dir = "lots"
class_tokens = "x"'
sd-config -j 1 c.toml >one
sd-config -j 8 c.toml >two
same 'any number of threads gives the same records' one two
is 'sorted by name' "$(jq -r .path one | LC_ALL=C sort -c && wc -l <one)" 1500

finish
