#!/bin/sh
# sd-config: a data set configuration becomes records.
. "$(dirname "$0")/lib.sh"
data=$root/t/data/config

# The files that the cases are about; shell variables cannot hold their names' line ends, JSON lines can.
make_files() {
    jq -c 'to_entries[]' "$data/files.json" >files
    while read -r entry; do
        path=$(printf '%s' "$entry" | jq -r .key)
        case $path in */*) mkdir -p "${path%/*}" ;; esac
        if [ "$(printf '%s' "$entry" | jq -c .value)" = null ]; then
            picture rgb.png "$path"
        else
            printf '%s' "$entry" | jq -j .value >"$path"
        fi
    done <files
}
make_files

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
accepted=0 wrong='' silent=''
while read -r case; do
    printf '%s\n' "$case" >case.json
    rm -f x.toml x.json
    kind=$(jq -r 'if has("toml") then "toml" elif has("json") then "json" else "none" end' case.json)
    name=$(jq -r .name case.json)
    [ "$kind" = none ] || jq -j ".$kind" case.json >"x.$kind"
    if [ "$(jq .refused case.json)" = true ]; then
        sd-config "x.$kind" >"$out" 2>"$err"
        case $? in 1 | 2) ;; *) wrong="$wrong; $name" ;; esac
        [ -s "$err" ] || silent="$silent; $name"
        continue
    fi
    jq -r '.args[]' case.json >args
    set --
    while IFS= read -r arg; do set -- "$@" "$arg"; done <args
    [ "$kind" = none ] || set -- "$@" "x.$kind"
    sd-config "$@" >"$out" 2>"$err"
    is "as sd-scripts: $name" "$(jq -n -r --slurpfile case case.json --slurpfile ours "$out" -f compare.jq)" same
    accepted=$((accepted + 1))
    # the configuration written anew means the same
    if sd-config --to-toml "$@" >again.toml 2>"$err"; then
        sd-config -q "$@" 2>/dev/null >one
        sd-config -q again.toml >two 2>/dev/null
        cmp -s one two || again="$again; $name"
    else
        again="$again; $name: $(cat "$err")"
    fi
done <"$data/cases.ndjson"
is 'what sd-scripts refuses is refused' "$wrong" ''
is 'with a message' "$silent" ''
is '--to-toml of all of these says the same' "$again" ''
is 'there were cases' $((accepted > 40)) 1

finish
