#!/bin/sh
# sd-inspect: what it says of the numbers and the hashes of files, beside what NumPy and sd-scripts say (t/data/inspect,
# made by t/ref/inspect_files.py), and metadata as JSON.
. "$(dirname "$0")/lib.sh"
data=$root/t/data/inspect

# passed NAME: the last command's status is the verdict.
passed() {
    result $? "$1" || {
        show <"$out"
        show <"$err"
    }
}

# near: what of expected.json differs from the records, by tensor and member; nothing when all agree
near='def near($a; $b): if $a == null or $b == null then $a == $b
        else (($a - $b) | fabs) <= 1e-13 * ([($a | fabs), ($b | fabs)] | max) + 1e-15 end;
    INDEX(.tensor) as $got | $want[0].stats | to_entries[] | .key as $t | .value | to_entries[] |
    select(near($got[$t][.key]; .value) | not) | "\($t).\(.key): \($got[$t][.key]), expected \(.value)"'
for jobs in 1 3; do
    try sd-inspect --stats --tensors-only -j $jobs "$data"/numbers.safetensors
    is "-j $jobs: every tensor" "$status $(wc -l <"$out")" "0 $(jq '.stats | length' "$data"/expected.json)"
    is "-j $jobs: min, max, mean, std, l2, nan and inf as NumPy has them" \
        "$(jq -sr --slurpfile want "$data"/expected.json "$near" "$out")" ''
done
is 'in the order of the file' "$(jq -r .tensor "$out" | head -n 3 | paste -sd ' ')" 'z.f16 bf16 a.f64'
is 'a constant has no spread' "$(jq 'select(.tensor == "constant").std' "$out")" 0
try sd-inspect --stats --tensors-only "$root"/t/data/store/deflated.npz
is 'a deflated array' "$(jq -c 'select(.tensor == "latents") | [.min, .max, .nan, .deflated]' "$out")" '[0,2.875,0,true]'
cp "$root"/t/data/store/deflated.npz broken.npz
printf 'XXXXXXXX' | dd of=broken.npz bs=1 seek=60 conv=notrunc 2>/dev/null
try sd-inspect --stats --tensors-only broken.npz "$root"/t/data/store/plain.npz
test $status = 1 && jq -se '.[0].error.tool == "sd-inspect" and (.[0] | has("min") | not) and
    ([.[] | select(.file != "broken.npz")] | length == 3 and all(has("min")))' "$out" >/dev/null
passed 'a damaged array costs its own record only'

for file in numbers:"$data"/numbers.safetensors tiny:"$root"/contrib/tiny/sd.safetensors lora:"$root"/t/data/lora/run1.safetensors; do
    try sd-inspect --hash --metadata-only "${file#*:}"
    is "hashes of ${file%%:*}" \
        "$(jq -cS '{sha256, autov1, autov2, autov3, sshs_model_hash, sshs_legacy_hash}' "$out")" \
        "$(jq -cS --arg k "${file%%:*}" '.hashes[$k]' "$data"/expected.json)"
done
try sd-inspect --hash --metadata-only "$root"/t/data/store/plain.npz
is 'an npz has those of files only' "$(jq -c '[.sha256, .autov2, .autov1, has("sshs_model_hash")]' "$out")" \
    "$(sha256sum <"$root"/t/data/store/plain.npz | jq -Rc '.[:64] | [., .[:10], "e3b0c442", false]')"

try sd-inspect --metadata-only "$data"/numbers.safetensors
is 'metadata are strings' "$(jq -r '[.metadata[] | type] | unique | add' "$out")" string
try sd-inspect --metadata-only --parse-metadata "$data"/numbers.safetensors
is 'one line' "$(wc -l <"$out")" 1
is '--parse-metadata: objects and arrays as such, all else as it is' "$(jq -c .metadata "$out")" \
    '{"ss_network_dim":"4","ss_tag_frequency":{"1_cat":{"a":1}},"ss_optimizer":"[not json","modelspec.title":"x"}'

for options in '--stats --metadata-only' '--hash --tensors-only' '--parse-metadata --tensors-only'; do
    # shellcheck disable=SC2086
    try sd-inspect $options "$data"/numbers.safetensors
    like "$options exclude each other" "$status $(cat "$out" "$err")" '2 sd-inspect: *leaves out*'
done
sd-inspect --stats "$data"/numbers.safetensors >/dev/full 2>"$err"
is 'a full disk' $? 3
finish
