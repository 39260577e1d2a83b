#!/bin/sh
# sd-sample: what a prompt line asks for is what is drawn, the same every time; a bad line costs only itself.
. "$(dirname "$0")/lib.sh"
model=$root/contrib/tiny/sd.safetensors
# draw FOLDER OPTION...: prompts on standard input
draw() {
    folder=$1
    shift
    try sd-sample -j 1 --model "$model" --width 64 --height 64 --steps 2 --seed 1 -o "$folder" "$@"
}
line() { printf '%s\n' "$@"; }
differ() { ! cmp -s "$1" "$2"; }

line 'a red circle on a blue ground --w 64 --h 64 --d 7 --s 3' >p
draw one <p
is 'a picture: status, nothing said' "$status $(cat "$err")" '0 '
is 'its record' "$(cat "$out")" '{"path":"one/00000-7.png","width":64,"height":64,"prompt":"a red circle on a blue ground","seed":7,"steps":3,"scale":7.5,"sampler":"ddim"}'
is 'its size' "$(sd-scan --verify one/00000-7.png | jq -c '[.width,.height,.error]')" '[64,64,null]'
draw two <p
same 'the same seed draws the same file' one/00000-7.png two/00000-7.png
draw two -j 2 <p
same 'with two threads too' one/00000-7.png two/00000-7.png
line 'something else --d 3' 'a red circle on a blue ground --d 7 --s 3' >p2
draw two <p2
same 'and as the second of two' one/00000-7.png two/00001-7.png
is 'the parameters are in it' "$(grep -ac tEXtparameters one/00000-7.png)" 1
ok 'as web UIs write them' grep -aq '^Steps: 3, Sampler: DDIM, CFG scale: 7.5, Seed: 7, Size: 64x64, Model: sd' one/00000-7.png

# what a line may say
draw all <<END
a red circle --n a blue square --w 72 --h 80 --d 5 --l 4.5 --s 2 --ss euler
END
is 'everything a line may say' "$(cat "$out")" '{"path":"all/00000-5.png","width":72,"height":80,"prompt":"a red circle","negative_prompt":"a blue square","seed":5,"steps":2,"scale":4.5,"sampler":"euler"}'
ok 'is in the parameters' grep -aq '^Negative prompt: a blue square' all/00000-5.png
ok 'with the sampler' grep -aq '^Steps: 2, Sampler: Euler, CFG scale: 4.5, Seed: 5, Size: 72x80' all/00000-5.png
cp all/00000-5.png want.png
echo 'a red circle' >p3
draw all --negative-prompt 'a blue square' --width 72 --height 80 --seed 5 --scale 4.5 --sampler euler <p3
same 'and the options say the same for all lines' all/00000-5.png want.png
for change in '--d 6' '--s 3' '--l 3' '--n a circle' '--ss ddim' '--w 80'; do
    line "a red circle $change" >p4
    draw change --negative-prompt 'a blue square' --width 72 --height 80 --seed 5 --scale 4.5 --sampler euler <p4
    ok "$change is another picture" test "$status" = 0
    ok "$change: not the same" differ "$(jq -r .path "$out")" want.png
done
draw off --scale 1 <p3
cp off/00000-1.png off.png
draw off --scale 1 --negative-prompt 'a blue square' <p3
is 'without guidance the negative prompt does nothing to the picture' \
    "$(sd-sheet -o off-sheet.png --cell 64 <"$out" >/dev/null; sd-scan off.png | sd-sheet -o want-sheet.png --cell 64 >/dev/null; cmp off-sheet.png want-sheet.png && echo same)" same
line '# a comment' '' 'a --w 70 --h 9 --d 1' '   ' 'b --d 2' >p5
draw lines <p5
is 'comments and blank lines are no prompts; sides are rounded' "$(jq -c '[.path,.width,.height]' "$out" | tr '\n' ' ')" \
    '["lines/00000-1.png",64,64] ["lines/00001-2.png",64,64] '
draw slash/ <p5
is 'a folder may be named with its slash' "$(jq -r .path "$out" | head -n 1)" slash/00000-1.png
# what it does to its own environment, while it waits for prompts
if [ -e /proc/self/environ ]; then
    mkfifo prompts
    (unset GOMP_SPINCOUNT OMP_WAIT_POLICY; exec sd-sample -q --model "$model" -o waiting <prompts) &
    exec 9>prompts
    i=0
    while [ ! -d waiting ] && [ $i -lt 100 ]; do sleep 0.1; i=$((i + 1)); done
    is 'its threads wait patiently' "$(tr '\0' '\n' <"/proc/$!/environ" | grep GOMP) $(cat "/proc/$!/comm")" 'GOMP_SPINCOUNT=1000 sd-sample'
    exec 9>&-
    wait $!
fi
printf 'no newline at the end --d 4' >p6
draw lines <p6
is 'a last line without its end' "$(jq -c .seed "$out")" 4
line 'a --d 18446744073709551615 --s 1' >p7
draw lines <p7
is 'the largest seed' "$(cat "$out" | sed 's/.*"seed":\([0-9]*\).*/\1/') $(ls lines | grep -c 18446744073709551615)" '18446744073709551615 1'
printf 'caf\351 ★ --d 1\n' >p8
draw lines <p8
is 'any bytes' "$status $(grep -c 'caf\\udce9 ★' "$out")" '0 1'
line 'ein Stern ★ --d 1' >p9
draw lines <p9
ok 'text beyond Latin-1 in the picture' grep -aq 'iTXtparameters' lines/00000-1.png
yes 'a star, ' | head -200 | tr -d '\n' >long
draw lines <long
is 'a prompt of 600 tokens' "$status $(wc -l <"$out")" '0 1'
draw bf16 --mixed-precision bf16 <p
ok 'bfloat16 draws nearly the same' test "$status" = 0
draw clip --clip-skip 2 <p
ok '--clip-skip is another picture' differ clip/00000-7.png one/00000-7.png

# bad lines
line 'good --d 1' 'x --ss none' 'x --w 100000' 'x --s 1000' 'good --d 2' >badlines
draw bad <badlines
is 'bad lines: status' $status 1
like 'each is told' "$(cat "$err")" 'sd-sample: line 2: there is no sampler "none"; ddim, euler and k_euler are known
sd-sample: line 3: a picture of 100000x64: sides are multiples of 8, at most 16384
sd-sample: line 4: ddim with 1000 steps *'
is 'the others are drawn' "$(jq -r .path "$out" | tr '\n' ' ')$(ls bad | tr '\n' ' ')" \
    'bad/00000-1.png bad/00004-2.png 00000-1.png 00004-2.png '
line 'overflow --s 4 --l 100000000000000000000000000000000000000' 'good --d 2' >over
draw overflow <over
is 'latents that overflow: the step is told, the next is drawn' "$status $(cat "$err") $(ls overflow)" \
    '1 sd-sample: line 1: the latents became NaN at step 2 of 4 00001-2.png'
draw none </dev/null
is 'no prompts' "$status $(cat "$out" "$err")" '0 '

# LoRA
mkdir sks && cp "$root"/contrib/tiny/sks/0[1-4].* sks && rm -f sks/*.npz
sd-scan sks | sd-merge | sd-bucket -q --resolution 64 --bucket-reso-steps 8 --min-bucket-reso 32 |
    sd-encode-latents -j 1 --model "$model" >data
sd-train lora -j 1 -q --model "$model" --seed 1 --learning-rate 1e-2 --max-train-steps 5 -o lora.safetensors <data >log
draw lora --lora lora.safetensors <p
is 'a LoRA: status, nothing said' "$status $(cat "$err")" '0 '
ok 'it changes the picture' differ lora/00000-7.png one/00000-7.png
draw zero --lora lora.safetensors:0 <p
same 'times 0 it changes nothing' zero/00000-7.png one/00000-7.png
draw half --lora lora.safetensors:0.5 <p
ok 'by half it is neither' sh -c '! cmp -s half/00000-7.png one/00000-7.png && ! cmp -s half/00000-7.png lora/00000-7.png'
sd-lora-convert -q lora.safetensors -o peft.safetensors
draw peft --lora peft.safetensors <p
same "under PEFT's names it does the same" peft/00000-7.png lora/00000-7.png
draw twice --lora lora.safetensors:0.5 --lora lora.safetensors:0.5 <p
is 'two of them' $status 0
# The same product as another kind of network: LoKr with a first factor of [[alpha]] = [[1]] and no alpha, so as strong as
# a LoRA of alpha 4.
# rename FROM TO FILE: the tensors of a safetensors file under other names, alphas as matrices
rename() {
    perl -e 'local $/; binmode STDIN; binmode STDOUT; my $all = <STDIN>; my $n = unpack "Q<", $all;
        my ($h, $rest) = (substr($all, 8, $n), substr $all, 8 + $n);
        $h =~ s/\.lora_up\.weight"/.$ARGV[0]"/g; $h =~ s/\.lora_down\.weight"/.$ARGV[1]"/g;
        $h =~ s/\.alpha":(\{"dtype":"F32","shape":)\[\]/.$ARGV[2]":$1\[1,1]/g;
        print pack("Q<", length $h), $h, $rest' "$@"
}
rename lokr_w2_a lokr_w2_b lokr_w1 <lora.safetensors >lokr.safetensors
sd-inspect --tensors-only lokr.safetensors >list
is 'a LoKr file' "$(grep -c lokr_w1 list) $(grep -c 'lora_up\|alpha' list)" "$(sd-inspect --tensors-only lora.safetensors | grep -c alpha) 0"
draw lokr --lora lokr.safetensors:0.25 <p
like 'a LoKr: status, and what it takes' "$status $(cat "$err")" '0 sd-sample: added networks to * layers, which take * MiB beside the model'
ok 'it is not the plain picture' differ lokr/00000-7.png one/00000-7.png
draw lokr --lora lokr.safetensors:0 <p
same 'times 0 it is' lokr/00000-7.png one/00000-7.png
draw both -q --lora lora.safetensors --lora lokr.safetensors:-0.25 <p
is 'both kinds at once' "$status $(cat "$err")" '0 '
rename hada_w1_a hada_w1_b alphas <lora.safetensors >loha.safetensors
draw x --lora loha.safetensors <p
like 'a tensor of no known kind' "$status $(cat "$out" "$err")" '1 sd-sample: loha.safetensors: *: there is no "alphas" in a LoRA*'
draw x --lora "$model" <p
like 'a model is no LoRA' "$status $(cat "$out" "$err")" '1 sd-sample: *: no LoRA of this model (* keys that belong to no layer: *'
draw x --lora none.safetensors <p
is 'no such file' "$status $(cat "$out" "$err")" '1 sd-sample: none.safetensors: No such file or directory'
head -c 100000 lora.safetensors >cut.safetensors
draw x --lora cut.safetensors <p
like 'a LoRA cut short' "$status $(cat "$out" "$err")" '1 sd-sample: cut.safetensors: *reach outside *'
sed 's/lora_unet_mid_block_/lora_unet_mad_block_/g' lora.safetensors >other.safetensors
draw other --lora other.safetensors <p
like 'keys that match nothing are told' "$status $(cat "$err")" '0 sd-sample: other.safetensors: *keys belong to no layer*: lora_unet_mad_block_*'
draw other --lora other.safetensors --strict <p
like 'and refused with --strict' "$status $(cat "$out")" '2 '

# models
sd-init -q --arch tiny --seed 0 -o random.safetensors
try sd-sample -j 1 --model random.safetensors --width 64 --height 64 --steps 1 -o random <p
is 'a model of sd-init' "$status $(ls random)" '0 00000-7.png'
head -c 3000000 "$model" >short.safetensors
try sd-sample --model short.safetensors -o x <p
like 'a model cut short' "$status $(cat "$out" "$err")" '1 sd-sample: short.safetensors: *reach outside the *'
printf '\0\0\0\0\0\0\0\200{}' >huge.safetensors
try sd-sample --model huge.safetensors -o x <p
like 'a header length of 2^63' "$status $(cat "$out" "$err")" \
    "1 sd-sample: huge.safetensors: the header's length 9223372036854775808 *"
sed 's/model.diffusion_model.out.2.bias/model.diffusion_model.out.9.bias/' "$model" >missing.safetensors
try sd-sample --model missing.safetensors -o x <p
like 'a tensor missing, another left over' "$status $(cat "$out" "$err")" \
    '1 sd-sample: missing.safetensors: *1 missing (unet.conv_out.bias); 1 unknown (model.diffusion_model.out.9.bias)'
sed 's/\("model.diffusion_model.out.2.weight":{"dtype":"F16","shape":\)\[4,48,3,3\]/\1[48,4,3,3]/' "$model" >shape.safetensors
try sd-sample --model shape.safetensors -o x <p
like 'a tensor of another shape' "$status $(cat "$out" "$err")" \
    '1 sd-sample: shape.safetensors: *1 of another shape (unet.conv_out.weight*)'
try sd-sample --model "$root/t/data/store/types.safetensors" -o x <p
like 'a file without a model' "$status $(cat "$out" "$err")" '1 sd-sample: *not a Stable Diffusion model*'
try sd-sample -o x <p
like 'no model' "$status $(head -1 "$err")" '2 sd-sample: no model*'
draw x --sampler heun <p
like 'an unknown sampler' "$status $(head -1 "$err")" '2 sd-sample: there is no sampler "heun"*'
draw x --width 0 <p
is 'a width of nothing' $status 2
draw x --mixed-precision fp16 <p
is 'fp16' $status 2

# places
draw p <p
is 'a file in place of the folder' "$status $(cat "$err")" '1 sd-sample: p: Not a directory'
draw nowhere/x <p
is 'a folder that cannot be made' "$status $(cat "$err")" '1 sd-sample: nowhere/x: No such file or directory'
sd-sample -j 1 --model "$model" --width 64 --height 64 --steps 1 -o full <p2 >/dev/full 2>"$err"
is 'a full disk behind standard output' "$? $(cat "$err")" '3 sd-sample: standard output: No space left on device'
ln -s /dev/full full/00000-9.png
line 'a --d 9' 'b --d 10' >p10
draw full <p10
like 'a full disk' "$status $(cat "$out" "$err")" '3 sd-sample: line 1: full/00000-9.png: No space left on device'
line 'a --d 1 --s 900 --w 256 --h 256' >long1
sd-sample -j 1 --model "$model" -o slow <long1 >"$out" 2>"$err" &
pid=$!
while kill -0 $pid 2>/dev/null && [ ! -d slow ]; do sleep 0.05; done
sleep 0.3
kill -TERM $pid
rc=0
wait $pid 2>/dev/null || rc=$?
is 'SIGTERM: ends by it, no half picture' "$rc $(ls -A slow 2>/dev/null) $(cat "$err")" '143  '
finish
