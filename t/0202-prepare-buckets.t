#!/bin/sh
# contrib/kohya/prepare_buckets_latents: sd-scripts' command line; where caches go and what becomes of the metadata.
. "$(dirname "$0")/lib.sh"
model=$root/contrib/tiny/sd.safetensors
prepare() { try "$root/contrib/kohya/prepare_buckets_latents" "$@"; }
sizes='--max_resolution 64,64 --min_bucket_reso 32 --max_bucket_reso 128 --bucket_reso_steps 8'

mkdir -p photos/inner
cp "$root/contrib/tiny/sks/01.png" "$root/contrib/tiny/sks/09.jpg" photos
cp "$root/contrib/tiny/sks/15.webp" photos/inner/w.webp
cp "$root/contrib/tiny/sks/star 07.png" 'photos/a b.png'
echo '{"09": {"caption": "nine", "x": 1.5}, "gone": {"tags": "a, b"}}' >in.json
files() { (cd photos && find . -name '*.npz' | sort | tr '\n' ' '); }

prepare photos in.json out.json "$model" $sizes
is 'status' $status 0
like 'says what sd-bucket says' "$(cat "$err")" '*mean ar error*'
is 'caches beside the pictures' "$(files)" './01.npz ./09.npz ./a b.npz '
is 'entries in place, new ones at the end, other members as they were' "$(jq -c . out.json)" \
    '{"09":{"caption":"nine","x":1.5,"train_resolution":[64,64]},"gone":{"tags":"a, b"},"01":{"train_resolution":[64,64]},"a b":{"train_resolution":[56,72]}}'
ls -i photos/*.npz >before
prepare photos in.json out.json "$model" $sizes --skip_existing
is '--skip_existing' "$status $(ls -i photos/*.npz | cmp - before)" '0 '
prepare --flip_aug --batch_size=2 --v2 --max_data_loader_n_workers 2 photos out.json out2.json "$model" $sizes
is '--flip_aug, options first' "$status $(sd-inspect --tensors-only photos/01.npz | grep -c latents_flipped)" '0 1'
ok 'metadata once more are the same' cmp out.json out2.json

rm -f photos/*.npz
prepare photos in.json out.json "$model" $sizes --recursive
is '--recursive: all in the folder itself' "$status $(files)" '0 ./01.npz ./09.npz ./a b.npz ./w.npz '
rm -f photos/*.npz
prepare ./photos/ in.json out.json "$model" $sizes --recursive --full_path
is '--full_path: in the pictures'"'"' folders' "$status $(files)" '0 ./01.npz ./09.npz ./a b.npz ./inner/w.npz '
is 'and entries are paths' "$(jq -c keys out.json)" '["09","gone","photos/01.png","photos/09.jpg","photos/a b.png","photos/inner/w.webp"]'

head -c 300 photos/01.png >cut && cp cut photos/01.png
prepare photos in.json out3.json "$model" $sizes
is 'a damaged picture is left out' "$status $(jq -c keys out3.json)" '1 ["09","a b","gone"]'
for wrong in 'photos in.json out.json' 'none in.json out.json m' 'photos none out.json m' 'photos in.json out.json m more' \
    '--best photos in.json out.json m' 'photos in.json out.json m --batch_size'; do
    # shellcheck disable=SC2086
    prepare $wrong
    like "wrong: $wrong" "$status $(cat "$err")" '2 prepare_buckets_latents: *'
done
prepare photos in.json out4.json "$model" $sizes --mixed_precision fp16
like 'fp16' "$status $(grep fp16 "$err")" '2 *fp16*'
ok 'nothing is written then' test ! -e out4.json
finish
