#!/bin/sh
# sd-train: its events, its file, what the options do, and how it ends when something is wrong.
. "$(dirname "$0")/lib.sh"
model=$root/contrib/tiny/sd.safetensors
cp -r "$root/contrib/tiny/sks" sks
sd-scan sks | sd-merge | sd-bucket -q --resolution 64 --bucket-reso-steps 8 --min-bucket-reso 32 | head -6 |
    sd-encode-latents -j 1 --flip-aug --model "$model" --cache-dir cache >data
train() { try sd-train lora -j 1 -q --model "$model" --seed 1 --network-dim 2 --learning-rate 1e-3 "$@"; }
metadata() { sd-inspect --metadata-only "$1" | jq -r ".metadata.$2"; }
tensors() { metadata "$1" sshs_model_hash; }
# step N LOG PID: waits until training has come so far, or has ended
step() {
    while kill -0 "$3" 2>/dev/null && ! grep -q "\"step\":$1," "$2"; do sleep 0.05; done
}
losses() { jq -c 'select(.event == "step").loss' "$out" | tr '\n' ' '; }

train --max-train-steps 8 -o a.safetensors <data
is 'status, nothing said' "$status $(cat "$err")" '0 '
is 'events' "$(jq -r .event "$out" | tr '\n' ' ')" \
    'start step step step step step step epoch step step epoch save end '
is 'start' "$(jq -c 'select(.event == "start") | del(.parameters)' "$out")" \
    '{"event":"start","images":6,"reg_images":0,"batches_per_epoch":6,"epochs":2,"steps":8,"modules":60,"model":"tiny"}'
ok 'each step has its members' jq -se 'map(select(.event == "step")) | length == 8 and all(.[];
    (.loss | type == "number" and . > 0) and .avr_loss > 0 and .lr_unet == 0.001 and .lr_textencoder == 0.001 and
    .grad_norm > 0 and .seconds > 0) and map(.step) == [range(1; 9)] and map(.epoch) == [1, 1, 1, 1, 1, 1, 2, 2]' "$out"
is 'save' "$(jq -c 'select(.event == "save")' "$out")" '{"event":"save","step":8,"epoch":2,"path":"a.safetensors"}'
ok 'end' jq -se '.[-1] | .event == "end" and .step == 8 and .epoch == 2 and .avr_loss > 0 and .seconds > 0' "$out"
is 'the file: 60 modules of 3 tensors' "$(sd-inspect --tensors-only a.safetensors | wc -l)" 180
is 'their names' "$(sd-inspect --tensors-only a.safetensors | jq -r .tensor | sed 's/[0-9]/N/g' | grep -c '^lora_\(unet\|te\)_.*\.\(alpha\|lora_down.weight\|lora_up.weight\)$')" 180
is 'metadata' "$(sd-inspect --metadata-only a.safetensors | jq -c '.metadata | [.ss_steps, .ss_epoch, .ss_seed,
    .ss_network_dim, .ss_network_alpha, .ss_learning_rate, .ss_lr_warmup_steps, .ss_output_name, .ss_network_module,
    .ss_base_model_version, .["modelspec.architecture"]]')" \
    '["8","2","1","2","1.0","0.001","0","a","networks.lora","sd_v1","stable-diffusion-v1/lora"]'
is 'each key once' "$(head -c 20000 a.safetensors | grep -ao '"ss_[a-z_]*":' | sort | uniq -d)" ''
is 'the model it was trained on' "$(metadata a.safetensors ss_new_sd_model_hash)" "$(sha256sum <"$model" | cut -d' ' -f1)"
cp "$out" events

# the same seed, the same file
want=$(tensors a.safetensors)
for how in '' '-j 2' '--gradient-checkpointing' '--no-metadata' '--network_alpha 1 --network_dim=2'; do
    train --max-train-steps 8 -o b.safetensors $how <data
    is "the same tensors${how:+ with $how}" "$(tensors b.safetensors)" "$want"
done
train --max-train-epochs 2 -o b.safetensors <data
is '--max-train-epochs' "$(jq -c 'select(.event == "end") | [.step, .epoch]' "$out")" '[12,2]'
train --seed 2 --max-train-steps 8 -o b.safetensors <data
is 'another seed, other tensors' "$(test "$(tensors b.safetensors)" != "$want"; echo $?)" 0
tac data | sd-train lora -j 1 -q --model "$model" --seed 1 --max-train-steps 1 -o b.safetensors >"$out"
is 'the order of the records counts' "$(test "$(losses)" != "$(jq -c 'select(.event == "step" and .step == 1).loss' events) "; echo $?)" 0

# pictures without latents
sd-scan sks | sd-merge | sd-bucket -q --resolution 64 --bucket-reso-steps 8 --min-bucket-reso 32 | head -6 >pictures
train --max-train-steps 3 -o p.safetensors <pictures
is 'pictures without latents' "$status $(cat "$err") $(metadata p.safetensors ss_cache_latents)" '0  False'
ok 'have finite losses' jq -se 'map(select(.event == "step")) | length == 3 and all(.[]; .loss > 0 and .loss < 10)' "$out"
want_p=$(losses)
train --max-train-steps 3 -j 2 --gradient-checkpointing -o p.safetensors <pictures
is 'the same again' "$(losses)" "$want_p"
for how in --random-crop --color-aug --flip-aug '--resize-interpolation lanczos'; do
    train --max-train-steps 6 -o q.safetensors $how <pictures
    is "$how: other losses" "$status $(test "$(losses)" != "$want_p"; echo $?)" '0 0'
done
train --max-train-steps 6 -o q.safetensors --random-crop <pictures
want_r=$(losses)
jq -c '.subset = {"random_crop": true}' pictures >subset
train --max-train-steps 6 -o q.safetensors <subset
is 'a record can ask for it' "$(losses)" "$want_r"
jq -c '.subset = {"random_crop": false}' pictures >subset
train --max-train-steps 3 -o q.safetensors --random-crop <subset
is 'and against it' "$(losses)" "$want_p"
{ head -3 data; tail -3 pictures; } >mixed
train --max-train-steps 6 -o q.safetensors <mixed
is 'some with latents, some without' "$status $(losses | wc -w)" '0 6'
train --max-train-steps 3 -o q.safetensors --color-aug <data
is 'latents cannot change colour' "$status $(grep -c 'color_aug makes another picture at each use' "$err")" '1 6'
jq -c '.subset = {"alpha_mask": true}' data >subset
train --max-train-steps 3 -o q.safetensors <subset
is 'no masked loss' "$status $(grep -c 'alpha_mask' "$err")" '1 6'
jq -c '.dataset = {"index": 1, "batch_size": 3}' data >subset
train --max-train-epochs 1 -o q.safetensors --train-batch-size 1 <subset
is 'a dataset has its batch size' "$(jq -c 'select(.event == "start").batches_per_epoch' "$out")" 4
{ head -5 data; tail -1 data | jq -c '.validation = true'; } >subset
train --max-train-epochs 1 -o q.safetensors <subset
is 'records for validation are left out' "$status $(jq -c 'select(.event == "start").images' "$out")" '0 5'
jq -c '.path = "gone.png"' pictures >subset
train --max-train-steps 2 -o q.safetensors <subset
is 'a picture that is gone' "$status $(cat "$err")" \
    '1 sd-train: gone.png: cannot open: No such file or directory; nothing is trained yet, so nothing is saved'

# options
train --max-train-steps 3 --network-train-unet-only -o b.safetensors <data
is '--network-train-unet-only' "$(sd-inspect --tensors-only b.safetensors | jq -r .tensor | sed 's/_.*//;s/lora//' | sort -u)$(sd-inspect --tensors-only b.safetensors | grep -c lora_te)" 0
ok 'only its rate is told' jq -se 'map(select(.event == "step")) | all(.[]; .lr_unet and (has("lr_textencoder") | not))' "$out"
train --max-train-steps 3 --network-train-text-encoder-only -o b.safetensors <data
is '--network-train-text-encoder-only' "$(sd-inspect --tensors-only b.safetensors | grep -c lora_unet)" 0
train --max-train-steps 3 --text-encoder-lr 5e-4 --unet-lr 2e-4 -o b.safetensors <data
is 'rates of their own' "$(jq -c 'select(.event == "step") | [.lr_textencoder, .lr_unet]' "$out" | sort -u)" '[0.0005,0.0002]'
train --max-train-steps 4 --lr-scheduler constant_with_warmup --lr-warmup-steps 4 -o b.safetensors <data
is 'warm-up' "$(jq -c 'select(.event == "step").lr_unet' "$out" | tr '\n' ' ')" '0 0.00025 0.0005 0.00075 '
train --max-train-steps 4 --gradient-accumulation-steps 4 -o b.safetensors <data
is 'accumulation: an update for 4 batches and one for the 2 that are left' \
    "$(jq -c 'select(.event == "step") | [.step, .epoch]' "$out" | tr '\n' ' ')" '[1,1] [2,1] [3,2] [4,2] '
train --max-train-steps 2 --train-batch-size 4 -o b.safetensors <data
is 'batches are of one bucket' "$(jq -c 'select(.event == "start").batches_per_epoch' "$out")" \
    "$(jq -c .bucket data | sort | uniq -c | awk '{ n += int(($1 + 3) / 4) } END { print n }')"
train --max-train-steps 3 --save-precision fp16 -o b.safetensors <data
is '--save-precision' "$(sd-inspect --tensors-only b.safetensors | jq -r .dtype | sort -u)" F16
train --max-train-steps 3 --mixed-precision bf16 -o b.safetensors <data
ok 'bfloat16 is near' jq -se --slurpfile f32 events '(map(select(.event == "step").loss)) as $a |
    ($f32 | map(select(.event == "step").loss)) as $b | [range(3) | ($a[.] - $b[.]) / $b[.] | fabs] | max < 0.05' "$out"
train --max-train-steps 12 --save-every-n-steps 4 --save-every-n-epochs 1 -o s.safetensors <data
is 'saves between' "$(ls s* | grep safetensors | tr '\n' ' ')" \
    's-000001.safetensors s-step00000004.safetensors s-step00000008.safetensors s-step00000012.safetensors s.safetensors '
is 'the last step is the end' "$(tensors s-step00000012.safetensors)" "$(tensors s.safetensors)"
train --max-train-steps 4 -o first4.safetensors <data
is 'a save between is what a shorter run gives' "$(tensors s-step00000004.safetensors)" "$(tensors first4.safetensors)"
train --max-train-steps 1 --output_dir new --output_name cat <data
is '--output_dir, --output_name' "$status $(ls new)" '0 cat.safetensors'
train --max-train-steps 1 --learning-rate 1e-12 --network-weights a.safetensors -o b.safetensors <data
is '--network-weights starts there' "$(losses)" \
    "$(train --max-train-steps 1 --network-weights a.safetensors -o c.safetensors <data; losses)"
is 'not at the base' "$(test "$(losses)" != "$(jq -c 'select(.event == "step" and .step == 1).loss' events) "; echo $?)" 0

# network_args
names() { sd-inspect --tensors-only "$1" | jq -r .tensor | sed 's/\..*//' | sort -u; }
shape() { sd-inspect --tensors-only "$1" | jq -c "select(.tensor == \"$2\").shape"; }
train --max-train-steps 3 --network_args "conv_dim=4" "conv_alpha=1" -o n.safetensors <data
is 'conv_dim: more modules' "$status $(jq -c 'select(.event == "start").modules' "$out") $(names n.safetensors | grep -c _resnets_)" '0 91 29'
is 'of that rank' "$(shape n.safetensors lora_unet_mid_block_resnets_0_conv1.lora_down.weight | jq -c '[.[0], .[2], .[3]]')" '[4,3,3]'
is 'the others of theirs' "$(shape n.safetensors lora_unet_mid_block_resnets_0_time_emb_proj.lora_down.weight | jq -c '.[0]')" 2
is 'ss_network_args' "$(metadata n.safetensors ss_network_args)" '{"conv_dim": "4", "conv_alpha": "1", "dropout": null}'
train --max-train-steps 1 --network-args conv_dim=4 conv_dim=3 --network-dropout 0.25 --no-metadata -o n.safetensors <data
is 'of two the last' "$(metadata n.safetensors ss_network_args)" '{"conv_dim": "3", "dropout": 0.25}'
is 'no words, no key' "$(metadata a.safetensors ss_network_args) $(metadata a.safetensors ss_network_dropout)" 'null None'
dims=$(seq -s, 25 | sed 's/[0-9]\{1,\}/2/g')
train --max-train-steps 3 --network-args "block_dims=$(echo "$dims" | sed 's/2,2,2,2,2$/0,0,0,0,0/;s/^2,2/0,3/')" -o n.safetensors <data
is 'block_dims: ranks by block' "$status $(shape n.safetensors lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight | jq '.[0]')" '0 3'
train --max-train-steps 3 --network-args conv_dim=2 down_lr_weight=0,.5,.5,.5,2 mid_lr_weight=0 up_lr_weight=zeros -o n.safetensors <data
is 'rates by block' "$(jq -c 'select(.event == "step") | with_entries(select(.key | test("^lr_")))' "$out" | sort -u)" \
    '{"lr_textencoder":0.001,"lr_unet_block1":0.0005,"lr_unet_block3":0.0005,"lr_unet_block4":0.002}'
is 'too few are told' "$status $(cat "$err")" '0 sd-train: network_args: down_lr_weight has fewer numbers than blocks; the rest is 1'
is 'nothing where the rate is 0' "$(names n.safetensors | grep -c 'mid_block\|up_blocks')" 0
train --max-train-steps 2 --network-args loraplus_lr_ratio=4 loraplus_unet_lr_ratio=2 -o n.safetensors <data
is 'LoRA+' "$(jq -c 'select(.event == "step") | with_entries(select(.key | test("^lr_")))' "$out" | sort -u)" \
    '{"lr_textencoder":0.001,"lr_textencoder_plus":0.004,"lr_unet":0.001,"lr_unet_plus":0.002}'

# AdaFactor: rates of its own, or those given
train --max-train-steps 3 --optimizer-type adafactor -o n.safetensors <data
is 'AdaFactor: it trains, and says what becomes of the rate' "$status $(cat "$err")" \
    '0 sd-train: AdaFactor: the learning rate is only the first one told: relative_step=True makes its own'
ok 'AdaFactor: rates of its own, the text encoder first' jq -se 'map(select(.event == "step")) |
    all(.[]; .lr_unet > 1e-5 and .lr_unet < 0.01 and .lr_textencoder > 1e-5 and .lr_textencoder < 0.01)' "$out"
is 'AdaFactor: metadata' "$(for k in ss_optimizer ss_lr_scheduler ss_learning_rate ss_unet_lr; do metadata n.safetensors $k; done)" \
    "transformers.optimization.Adafactor(relative_step=True)
adafactor:0.001
None
None"
cp n.safetensors f.safetensors
train --max-train-steps 3 --optimizer-type AdaFactor --learning-rate 5e-4 -j 2 -o n.safetensors <data
is 'AdaFactor: the rate does not count, nor do threads' "$(tensors n.safetensors)" "$(tensors f.safetensors)"
train --max-train-steps 3 --optimizer-type AdaFactor --lr-scheduler adafactor --optimizer-args warmup_init=True beta1=0.9 \
    relative_step=False -o n.safetensors <data
is 'AdaFactor: warmup_init' "$status $(metadata n.safetensors ss_optimizer)" \
    '0 transformers.optimization.Adafactor(warmup_init=True,beta1=0.9,relative_step=True)'
ok 'AdaFactor: its rates rise' jq -se 'map(select(.event == "step").lr_unet) | .[2] > 2.9 * .[0]' "$out"
train --max-train-steps 2 --optimizer-type AdaFactor --optimizer-args relative_step=False scale_parameter=False clip_threshold=2 \
    -o n.safetensors <data
is 'AdaFactor with rates of your own' "$status $(jq -c 'select(.event == "step").lr_unet' "$out" | sort -u)
$(grep -c AdaFactor "$err") $(metadata n.safetensors ss_lr_scheduler)" '0 0.001
3 constant'

train --max-train-steps 8 --network-args rank_dropout=0.2 module_dropout=0.2 --network-dropout 0.1 -o n.safetensors <data
dropped=$(tensors n.safetensors)
is 'dropout: other tensors' "$status $(metadata n.safetensors ss_network_dropout) $(test "$dropped" != "$want"; echo $?)" '0 0.1 0'
train --max-train-steps 8 --network-args rank_dropout=0.2 module_dropout=0.2 --network-dropout 0.1 --gradient-checkpointing -j 2 \
    -o n.safetensors <data
is 'the same again, recomputed, with two threads' "$(tensors n.safetensors)" "$dropped"
train --max-train-steps 4 --network-args module_dropout=1 -o n.safetensors <data
train --max-train-steps 1 --network-args module_dropout=1 -o m.safetensors <data
is 'what is always dropped stays as it was' "$status $(tensors n.safetensors)" "0 $(tensors m.safetensors)"
train --max-train-steps 4 --scale-weight-norms 0.001 -o n.safetensors <data
ok 'norms are limited' jq -se 'map(select(.event == "step")) | all(.[]; .keys_scaled > 0 and .max_key_norm < 0.0010001 and
    .avg_key_norm <= .max_key_norm)' "$out"
is 'ss_scale_weight_norms' "$(metadata n.safetensors ss_scale_weight_norms)" 0.001

# from other networks
train --max-train-steps 1 --network-args conv_dim=3 --network-alpha 2 -o conv.safetensors <data
train --max-train-steps 1 --learning-rate 1e-30 --optimizer-args weight_decay=0 --network-weights conv.safetensors --dim-from-weights -o n.safetensors <data
is '--dim-from-weights' "$status $(tensors n.safetensors)" "0 $(tensors conv.safetensors)"
train --max-train-steps 1 --network-weights conv.safetensors --dim-from-weights --network-train-unet-only -o n.safetensors <data
is 'with one part only' "$status $(names n.safetensors | grep -c lora_te) $(names n.safetensors | wc -l)" \
    "0 0 $(names conv.safetensors | grep -c lora_unet)"
# What is trained further on a model with A in it starts where A ended.
train --max-train-steps 1 --network-dim 2 --base-weights a.safetensors -o n.safetensors <data
is '--base-weights' "$status $(cat "$err")" '0 '
base=$(jq -c 'select(.event == "step").loss' "$out")
train --max-train-steps 1 --network-weights a.safetensors -o n.safetensors <data
ok 'is what --network-weights starts from' jq -se --argjson base "$base" \
    'map(select(.event == "step"))[0].loss | (. - $base) / $base | fabs < 1e-4' "$out"
train --max-train-steps 1 --base-weights a.safetensors a.safetensors --base-weights-multiplier 0.5 -0.5 -o n.safetensors <data
ok 'half and minus half are nothing' jq -se --argjson want "$(jq -c 'select(.event == "step" and .step == 1).loss' events)" \
    'map(select(.event == "step"))[0].loss | (. - $want) / $want | fabs < 1e-6' "$out"
# the same as a LoKr whose first factor is [[alpha]] = [[1]]; without alpha, so at alpha = rank = 2
perl -e 'local $/; binmode STDIN; binmode STDOUT; my $all = <STDIN>; my $n = unpack "Q<", $all; my $h = substr $all, 8, $n;
    $h =~ s/lora_up\.weight/lokr_w2_a/g; $h =~ s/lora_down\.weight/lokr_w2_b/g;
    $h =~ s/\.alpha":(\{"dtype":"F32","shape":)\[\]/.lokr_w1":$1\[1,1]/g;
    print pack("Q<", length $h), $h, substr $all, 8 + $n' <a.safetensors >lokr.safetensors
train --max-train-steps 1 --base-weights lokr.safetensors --base-weights-multiplier 0.5 -o n.safetensors <data
ok 'a LoKr of the same product' jq -se --argjson base "$base" \
    'map(select(.event == "step"))[0].loss | (. - $base) / $base | fabs < 1e-6' "$out"
train --max-train-steps 1 --base-weights "$model" -o n.safetensors <data
like 'base weights that are no network' "$status $(cat "$err")" '1 sd-train: *: no LoRA of this model *'

train --max-train-steps 4 --flip-aug -o b.safetensors <data
is '--flip-aug: other losses' "$status $(test "$(losses)" != "$(jq -c 'select(.event == "step" and .step <= 4).loss' events | tr '\n' ' ')"; echo $?)" '0 0'
head -2 data | jq -c '.repeats = 3' >repeated
train --max-train-steps 1 -o b.safetensors <repeated
is 'repeats' "$(jq -c 'select(.event == "start").images' "$out")" 6
head -2 data | jq -c '.reg = true | .caption = null | .class_tokens = "star"' | cat - data >reg
train --max-train-steps 2 --prior-loss-weight 0.5 -o b.safetensors <reg
is 'regularisation pictures' "$status $(jq -c 'select(.event == "start") | [.images, .reg_images]' "$out")" '0 [6,2]'

# caches: members of an archive, old formats, those of another VAE
pictures='sd-scan sks | sd-merge | sd-bucket -q --resolution 64 --bucket-reso-steps 8 --min-bucket-reso 32 | head -6'
encode() { eval "$pictures" | sd-encode-latents -j 1 -q --flip-aug --model "$model" "$@"; }
train --max-train-steps 4 --flip-aug -o b.safetensors <data
want_flip=$(tensors b.safetensors)
encode --shard s.zip >sharded
train --max-train-steps 4 --flip-aug -o b.safetensors <sharded
is 'a shard: the same tensors' "$status $(tensors b.safetensors)" "0 $want_flip"
for format in npz1 npz2 npz4; do
    encode --cache-dir "$format" --format "$format" >old
    train --max-train-steps 4 --flip-aug -o b.safetensors <old
    is "$format: the same tensors" "$status $(tensors b.safetensors)" "0 $want_flip"
done
sd-init -q --arch tiny --seed 5 -o other.safetensors
encode --cache-dir othervae --vae other.safetensors >othervae.ndjson
train --max-train-steps 1 -o c.safetensors <othervae.ndjson
like 'latents of another VAE' "$status $(grep -c 'another VAE' "$err") $(head -1 "$err")" \
    "1 6 sd-train: sks/01.png: othervae/*: encoded by another VAE than that of $model (--vae names it, *"
train --max-train-steps 1 --allow-other-vae -o c.safetensors <othervae.ndjson
is '--allow-other-vae' "$status $(cat "$err")" '0 '
train --max-train-steps 1 --vae other.safetensors -o c.safetensors <othervae.ndjson
is '--vae' "$status $(cat "$err")" '0 '
train --max-train-steps 1 --vae other.safetensors -o c.safetensors <data
like '--vae counts, not the model' "$status $(cat "$err")" '1 *than that of other.safetensors*'
sed 's/s.zip!/gone.zip!/' sharded >gone
train --max-train-steps 1 -o c.safetensors <gone
like 'a shard that is not there' "$status $(head -1 "$err")" '1 *gone.zip: No such file*'

# records that cannot be used
ok 'a cache to break' test "$(jq -r .latents data | sort -u | wc -l)" = 6
first=$(head -1 data)
cp "$(echo "$first" | jq -r .latents)" nan.npz
at=$(sd-inspect --tensors-only nan.npz | jq 'select(.tensor == "latents").offset')
bytes=$(sd-inspect --tensors-only nan.npz | jq 'select(.tensor == "latents").bytes')
# puts a NaN there, and the checksum that belongs to it
perl -e 'my ($at, $bytes) = @ARGV;
    open my $f, "+<:raw", "nan.npz" or die; local $/; my $z = <$f>;
    substr($z, $at + 8, 4) = "\0\0\300\177";
    my $from = 30 + unpack("v", substr $z, 26, 2) + unpack("v", substr $z, 28, 2);
    my $crc = 0xffffffff;
    for my $byte (unpack "C*", substr $z, $from, $at + $bytes - $from) {
        $crc ^= $byte;
        $crc = $crc & 1 ? $crc >> 1 ^ 0xedb88320 : $crc >> 1 for 1 .. 8;
    }
    substr($z, 14, 4) = substr($z, index($z, "PK\1\2") + 16, 4) = pack "V", ~$crc & 0xffffffff;
    seek $f, 0, 0; print $f $z;' "$at" "$bytes"
head -c 900 "$(echo "$first" | jq -r .latents)" >cut.npz
{
    cat data
    echo "$first" | jq -c 'del(.latents, .resize)'
    echo 'no record'
    echo "$first" | jq -c '.latents = "gone.npz"'
    echo "$first" | jq -c '.latents = "nan.npz"'
    echo "$first" | jq -c '.latents = "cut.npz"'
    echo "$first" | jq -c '.bucket = [48, 80]'
    echo "$first" | jq -c '.bucket = [60, 80]'
    echo "$first" | jq -c '.repeats = 0'
    echo "$first" | jq -c '.error = {tool: "sd-x", message: "mine"}'
} >bad
train --max-train-steps 8 -o b.safetensors <bad
is 'bad records are left out: status' $status 1
is 'each is told' "$(sed 's/cache.[^ :]*npz/CACHE/' "$err")" 'sd-train: sks/01.png: the record has no "resize"
sd-train: line 8: not a JSON object at byte 1
no record
sd-train: sks/01.png: gone.npz: No such file or directory
sd-train: sks/01.png: nan.npz: number 2 of the latents is NaN
sd-train: sks/01.png: cut.npz: not a zip archive, or cut short (no end record)
sd-train: sks/01.png: CACHE: array "latents" is [4,8,8], expected [4,10,6]
sd-train: sks/01.png: a bucket of 60x80 is no multiple of 8 pixels
sd-train: sks/01.png: repeats is 0, not 1 to 1000000
sd-train: left out 1 records that carry an error'
is 'and changes nothing for the others' "$(tensors b.safetensors)" "$want"
sd-train lora -q --model "$model" -o none.safetensors </dev/null 2>"$err"
is 'nothing to train on' "$? $(cat "$err")" '1 sd-train: there is nothing to train on: no usable record came in'
ok 'leaves no file' test ! -e none.safetensors

# a loss that is not finite
train --max-train-steps 9 --lr-scheduler constant_with_warmup --lr-warmup-steps 4 --learning-rate 1e30 --max-grad-norm 0 \
    -o wild.safetensors <data
is 'a loss of NaN: status and message' "$status $(cat "$err")" \
    '1 sd-train: the loss became NaN at step 3 (learning rate too high?); the weights after step 1 are in wild.safetensors'
is 'the events say so' "$(jq -c 'select(.event == "save") | [.step, .path]' "$out")" '[1,"wild.safetensors"]'
train --max-train-steps 1 --lr-scheduler constant_with_warmup --lr-warmup-steps 4 --learning-rate 1e30 --max-grad-norm 0 \
    -o one.safetensors <data
is 'the last good weights are kept' "$(tensors wild.safetensors)" "$(tensors one.safetensors)"
echo 'a sks star --w 64 --h 64 --s 2 --d 1' >prompt
try sd-sample -j 1 --model "$model" --lora wild.safetensors -o out <prompt
is 'and can be used' "$status" 0
train --max-train-steps 9 --learning-rate 1e30 --max-grad-norm 0 -o never.safetensors <data
is 'from the first update on: nothing is saved' "$status $(cat "$err") $(ls never* 2>/dev/null)" \
    '1 sd-train: the loss became NaN at step 2 (learning rate too high?); nothing is trained yet, so nothing is saved '

# a cache that goes away while it trains
: >log
sd-train lora -j 1 -q --model "$model" --seed 1 --max-train-steps 1000000 -o gone.safetensors <data >log 2>msg &
pid=$!
step 3 log $pid
mv cache moved
wait $pid 2>/dev/null
mv moved cache
like 'what was trained is saved' "$(cat msg)" 'sd-train: cache/*: No such file or directory; the weights after step * are in gone.safetensors'
ok 'and can be read' sd-inspect gone.safetensors

# signals
for sig in INT TERM; do
    : >log # else step may take the steps of the round before for its own
    env --default-signal=INT sd-train lora -j 1 -q --model "$model" --seed 1 --max-train-steps 1000000 -o sig.safetensors \
        <data >log 2>"$err" &
    pid=$!
    step 3 log $pid
    kill -$sig $pid
    rc=0
    wait $pid 2>/dev/null || rc=$?
    is "SIG$sig ends it by the signal" $rc "$([ $sig = INT ] && echo 130 || echo 143)"
    ok 'the step is finished, the weights saved' jq -se '.[-1].stopped and .[-2].event == "save" and
        .[-1].step == (map(select(.event == "step")) | length)' log
    is 'with their step' "$(metadata sig.safetensors ss_steps)" "$(tail -1 log | jq .step)"
done
{ sd-train lora -j 1 -q --model "$model" --seed 1 --max-train-steps 1000000 -o pipe.safetensors <data 2>"$err"; } | head -3 >log
is 'a reader that goes away ends it too' "$(wc -l <log) $(cat "$err")" '3 '
ok 'saved' sd-inspect pipe.safetensors

# places that cannot be written are found out before training
refused() {
    like "$1" "$status $(wc -l <"$out") $(cat "$err")" "$2"
}
train --max-train-steps 2 -o nowhere/x.safetensors <data
refused 'no such folder' '1 0 sd-train: nowhere/x.safetensors: No such file or directory'
train --max-train-steps 2 -o sks <data
refused 'a folder in place of the file' '1 0 sd-train: sks: Is a directory'
if [ "$(id -u)" -eq 0 ]; then
    skip 'a folder that must not be written' 'root may write everywhere'
else
    mkdir locked && chmod 555 locked
    train --max-train-steps 2 -o locked/x.safetensors <data
    refused 'a folder that must not be written' '1 0 sd-train: locked/x.safetensors: Permission denied'
fi
train --max-train-steps 2 -o /dev/full <data
is 'a full disk' "$status $(cat "$err")" '3 sd-train: /dev/full: No space left on device'
cp a.safetensors kept.safetensors
sd-train lora -j 1 -q --model "$model" --max-train-steps 2 -o full.safetensors <data >/dev/full 2>"$err"
is 'a full disk behind standard output' "$? $(cat "$err")" '3 sd-train: standard output: No space left on device'

# models and options
head -c 3000000 "$model" >short.safetensors
try sd-train lora --model short.safetensors -o x.safetensors <data
like 'a model cut short' "$status $(cat "$out" "$err")" '1 sd-train: short.safetensors: *reach outside the *'
printf '\0\0\0\0\0\0\0\200{}' >long.safetensors
try sd-train lora --model long.safetensors -o x.safetensors <data
like 'a header length of 2^63' "$status $(cat "$out" "$err")" \
    "1 sd-train: long.safetensors: the header's length 9223372036854775808 *"
sed 's/model.diffusion_model.out.2.bias/model.diffusion_model.out.9.bias/' "$model" >missing.safetensors
try sd-train lora --model missing.safetensors -o x.safetensors <data
like 'a tensor missing, another left over' "$status $(cat "$out" "$err")" \
    '1 sd-train: missing.safetensors: *1 missing (unet.conv_out.bias); 1 unknown (model.diffusion_model.out.9.bias)'
sed 's/\("model.diffusion_model.out.2.weight":{"dtype":"F16","shape":\)\[4,48,3,3\]/\1[48,4,3,3]/' "$model" >shape.safetensors
try sd-train lora --model shape.safetensors -o x.safetensors <data
like 'a tensor of another shape' "$status $(cat "$out" "$err")" \
    '1 sd-train: shape.safetensors: *1 of another shape (unet.conv_out.weight*)'
printf '\77\0\0\0\0\0\0\0{"\\u001b[2J":{"dtype":"F32","shape":[4],"data_offsets":[0,8]}} 12345678' >esc.safetensors
try sd-train lora --model esc.safetensors -o x.safetensors <data
like 'control characters do not reach the terminal' "$status $(cat "$err")" '1 sd-train: esc.safetensors: *\\x1b*2J*'
train --max-train-steps 2 --network-weights "$model" -o x.safetensors <data
like 'weights that are no LoRA' "$status $(cat "$err")" '1 sd-train: *: no LoRA of this model *'
wrong() {
    want=$1
    shift
    try sd-train "$@" <data
    like "wrong usage: $*" "$status $(cat "$out")$(head -1 "$err")" "2 sd-train: $want*"
}
wrong 'too few arguments*' --model "$model" -o x.safetensors
wrong '"ti" is no method*' ti --model "$model" -o x.safetensors
wrong 'no model*' lora -o x.safetensors
wrong 'no output*' lora --model "$model"
wrong '--lr-scheduler*' lora --model "$model" -o x.safetensors --lr-scheduler linear
wrong 'no optimizer Lyon: there are AdamW, AdamW8bit, *' lora --model "$model" -o x.safetensors --optimizer-type Lyon
wrong 'optimizer_args: eps=1e-8: Lion takes betas, weight_decay' lora --model "$model" -o x.safetensors \
    --optimizer-type Lion --optimizer-args eps=1e-8
wrong 'optimizer_args: betas=.9: 1 numbers, expected 2' lora --model "$model" -o x.safetensors --optimizer-args betas=.9
wrong 'optimizer_args: weight_decay: expected KEY=VALUE' lora --model "$model" -o x.safetensors --optimizer-args weight_decay
wrong 'optimizer_args: weight_decay=os.system("x"): expected a number*' lora --model "$model" -o x.safetensors \
    --optimizer-args 'weight_decay=os.system("x")'
wrong '--lr-scheduler adafactor is for*' lora --model "$model" -o x.safetensors --lr-scheduler adafactor
wrong '--lr-scheduler adafactor is for*' lora --model "$model" -o x.safetensors --lr-scheduler adafactor --optimizer-type AdaFactor \
    --optimizer-args relative_step=False
wrong '--lr-warmup-steps: AdaFactor*' lora --model "$model" -o x.safetensors --optimizer-type AdaFactor --lr-warmup-steps 5
wrong 'optimizer_args: slice_p=2: Prodigy takes betas, beta3, *' lora --model "$model" -o x.safetensors --optimizer-type Prodigy \
    --optimizer-args slice_p=2
wrong 'optimizer_args: d0=0: expected a number above 0*' lora --model "$model" -o x.safetensors --optimizer-type prodigy \
    --optimizer-args d0=0
wrong '--use-8bit-adam*exclude*' lora --model "$model" -o x.safetensors --use-8bit-adam --optimizer-type Lion
wrong 'fp16 *' lora --model "$model" -o x.safetensors --mixed-precision fp16
wrong '--network-train*exclude*' lora --model "$model" -o x.safetensors --network-train-unet-only \
    --network-train-text-encoder-only
wrong '--max-train-steps*' lora --model "$model" -o x.safetensors --max-train-steps 0
wrong 'network_args: networks.lora has no "conv_rank"*' lora --model "$model" -o x.safetensors --network-args conv_rank=2
wrong 'network_args: block_dims=1,2: 2 numbers*' lora --model "$model" -o x.safetensors --network_args block_dims=1,2
wrong '--dim-from-weights takes*' lora --model "$model" -o x.safetensors --dim-from-weights
wrong '--dim-from-weights: *' lora --model "$model" -o x.safetensors --dim-from-weights --network-weights a.safetensors \
    --network-args conv_dim=2
wrong '--base-weights-multiplier: "x"*' lora --model "$model" -o x.safetensors --base-weights a.safetensors \
    --base-weights-multiplier x
wrong '--base-weights-multiplier has*' lora --model "$model" -o x.safetensors --base-weights-multiplier 1
wrong '--network-dropout*' lora --model "$model" -o x.safetensors --network-dropout 1.5
ok 'nothing lies about' test "$(ls -A | grep -c '^\.')" = 0
finish
