#!/bin/sh
# sd-lora-resize: fixed and dynamic ranks, records, metadata; what it refuses. (Values: t/unit/lora_tools.c.)
. "$(dirname "$0")/lib.sh"
a=$root/t/data/lora-tools/a.safetensors

meta() { sd-inspect --metadata-only "$1" | jq -c ".metadata | $2"; }

try sd-lora-resize "$a" --new-rank 2 --new-conv-rank 3 -o fixed.safetensors
is 'a fixed rank' "$status $(cat "$out")" '0 '
is 'metadata' "$(meta fixed.safetensors '[.ss_network_dim, .ss_network_alpha, .ss_training_comment, ."modelspec.title", (.sshs_legacy_hash | length)]')" \
    "$(meta "$root/t/data/lora-tools/fixed.safetensors" '[.ss_network_dim, .ss_network_alpha, .ss_training_comment, ."modelspec.title", 8]')"
try sd-lora-resize --model "$a" --save_to ratio.safetensors --new_rank 4 --dynamic_method sv_ratio --dynamic_param 3 --verbose
is 'records with --verbose' "$status $(jq -se 'length > 30 and all(.[]; .old_rank == 4 and .rank >= 2 and .rank <= 4 and
    .fro_retained <= 1.000001 and .fro_retained > 0.8 and .sum_retained > 0.5 and .max_ratio >= 1 and (.alpha - .rank / 2 | fabs) < 1e-6)' "$out")" '0 true'
like 'and their mean' "$(cat "$err")" '*Frobenius norm retained: 9*'
is 'metadata of a dynamic rank' "$(meta ratio.safetensors '[.ss_network_dim, .ss_network_alpha, .ss_training_comment]')" \
    '["Dynamic","Dynamic","Dynamic resize with sv_ratio: 3.0 from 4; made up"]'
is 'as sd-scripts has it' "$(meta ratio.safetensors .ss_training_comment)" "$(meta "$root/t/data/lora-tools/ratio.safetensors" .ss_training_comment)"
try sd-lora-resize -j 1 "$a" --new-rank 2 --new-conv-rank 3 -o one.safetensors
same 'the same bytes for any number of threads' one.safetensors fixed.safetensors
try sd-lora-resize "$a" --new-rank 2 --save-precision fp16 -o half.safetensors
is 'in half precision' "$status $(sd-inspect --tensors-only half.safetensors | jq -r .dtype | sort -u)" '0 F16'
for c in "$root"/t/data/lora-tools/c.safetensors "$root"/t/data/lora-tools/c.pt; do
    sd-lora-resize "$c" --new-rank 2 -o c.safetensors 2>/dev/null
    meta c.safetensors .sshs_model_hash
done >hashes
is 'a file of torch.save, in columns, is the same LoRA' "$(uniq hashes | wc -l) $(wc -l <hashes) $(grep -c null hashes)" '1 2 0'

refused() {
    _name=$1 _want=$2
    shift 2
    try sd-lora-resize "$@"
    like "$_name" "$status $(cat "$err")" "$_want"
}
refused 'no LoRA' '2 *no LoRA*' -o x.safetensors
refused 'no output' '2 *no output*' "$a"
refused 'a method without its parameter' '2 *go together*' "$a" -o x.safetensors --dynamic-method sv_fro
refused 'a parameter without its method' '2 *go together*' "$a" -o x.safetensors --dynamic-param 0.5
refused 'a share beyond 1' '2 *at most 1*' "$a" -o x.safetensors --dynamic-method sv_fro --dynamic-param 2
refused 'a parameter of 0' '2 *larger than 0*' "$a" -o x.safetensors --dynamic-method sv_ratio --dynamic-param 0
refused 'another method' '2 *sv_other*' "$a" -o x.safetensors --dynamic-method sv_other --dynamic-param 2
refused 'a rank of 0' '2 *' "$a" -o x.safetensors --new-rank 0
refused 'a model' '1 *no LoRA*' "$root/t/data/model/sd1-small-ldm.safetensors" -o x.safetensors
head -c 5000 "$a" >short.safetensors
refused 'a file cut short' '1 *short.safetensors*' short.safetensors -o x.safetensors
jq -cnj '{"x.lora_down.weight": {dtype: "F32", shape: [1, 2], data_offsets: [0, 8]}, "x.lora_up.weight": {dtype: "F32", shape: [2, 2], data_offsets: [8, 24]}}' >header
{ printf "\\$(printf %o "$(wc -c <header)")\0\0\0\0\0\0\0" && cat header && head -c 24 /dev/zero; } >bad.safetensors
refused 'matrices that do not fit' '1 *x.lora_up.weight is *2,2*expected*' bad.safetensors -o x.safetensors
jq -cnj '{"x.lora_down.weight": {dtype: "F32", shape: [1, 2], data_offsets: [0, 8]}}' >header
{ printf "\\$(printf %o "$(wc -c <header)")\0\0\0\0\0\0\0" && cat header && head -c 8 /dev/zero; } >bad.safetensors
refused 'half a pair' '1 *x.lora_up.weight is missing*' bad.safetensors -o x.safetensors
ok 'nothing is left of what failed' test ! -e x.safetensors
finish
