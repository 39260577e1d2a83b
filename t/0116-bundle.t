#!/bin/sh
# no-sanitizer
# make bundle: a folder that runs from anywhere, with libraries of its own.
. "$(dirname "$0")/lib.sh"
if [ -n "${SD_TEST_BUNDLE:-}" ]; then
    cp -R "$SD_TEST_BUNDLE" sd
else
    ok 'make bundle' env -u MAKEFLAGS -u MAKELEVEL make -C "$root" -j2 bundle
    # Moved, unpacked from what is carried.
    tar -xzf "$root/build/bundle/sd.tar.gz"
fi
mv sd 'another place'
cd 'another place' || exit 1
ok 'below 60 MB' test "$(du -sk . | cut -f1)" -lt 60000
[ -f bin/libsdcuda.so ] || echo '# there is no nvcc: this bundle has no libsdcuda.so'

# The loader tells what it maps: from the bundle, or glibc's own.
foreign() {
    LD_TRACE_LOADED_OBJECTS=1 "$@" | sed -n 's|.* => \(.*\) (0x.*|\1|p' |
        grep -v "^$PWD/\|/libc\.so\|/libm\.so\|/ld-linux\|/libpthread\.so\|/libdl\.so\|/librt\.so"
}
for p in bin/sd-train bin/sd-show unit/ops bench/bench-model; do
    is "$p: nothing from outside but glibc" "$(foreign "./$p")" ''
done
for p in "$root"/cmd/sd-*.c; do
    p=$(basename "$p" .c)
    case $p in sd-lora-extract | sd-lora-merge | sd-lora-resize) continue ;; esac
    try "bin/$p" --version
    like "$p" "$status $(cat "$out")" "0 $p *"
done
try bin/sd
like 'the file itself tells what it is' "$status $(cat "$err")" '2 sd: this file is all programs in one*sd-train*'
try unit/optim
is 'a unit test' "$status $(grep -c '^not ok' "$out")" '0 0'
ok 'a unit test that reads data' unit/picture
PATH=$PWD/bin:/usr/bin:/bin
cp -R contrib/tiny/sks ../pictures
try sh -c "sd-scan ../pictures 2>/dev/null | sd-merge | sd-clean | sd-bucket -q --resolution 64 --bucket-reso-steps 8 \
    --min-bucket-reso 32 | sd-encode-latents --device cpu --model contrib/tiny/sd.safetensors |
    sd-train lora --device cpu --model contrib/tiny/sd.safetensors --network-dim 2 --max-train-steps 2 --seed 1 -o ../x.safetensors"
is 'pictures to a LoRA' "$status $(grep -c '"event":"step"' "$out")" '0 2'

SD_PLUGINS=/nowhere try t/check-gpu
like 'check-gpu without a card says so' "$status $(cat "$out")" '0 *1..0 # SKIP no card here: the device tests were not run'
finish
