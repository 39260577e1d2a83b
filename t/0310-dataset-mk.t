#!/bin/sh
# contrib/dataset.mk: builds a training set, does nothing when nothing changed, and what is needed when something did.
. "$(dirname "$0")/lib.sh"
model=$root/contrib/tiny/sd.safetensors
mkdir -p photos/stars photos/more
cp "$root/contrib/tiny/sks"/0[1-5].* photos/stars
cp "$root/contrib/tiny/sks"/0[68].* photos/more
cp photos/stars/01.png photos/copy.png # a duplicate, and a picture beside the folders
printf 'junk' >photos/more/broken.png

build() { # [TARGET] [VARIABLE=...]
    try env -u MAKEFLAGS make -s -j2 -f "$root/contrib/dataset.mk" "MODEL=$model" ENCODE= \
        'BUCKET=-q --resolution 64 --bucket-reso-steps 8 --min-bucket-reso 32' "$@"
}
stamps() { find dataset -name '*.n*' -printf '%T@ %p\n' | sort; }
caches() { find dataset/cache -name '*.npz' -printf '%T@\n' | sort; }
paths() { jq -r .path dataset/train.ndjson | tr '\n' ' '; }

build dataset
is 'builds' "$status" 0
is 'each picture once, in order' "$(paths)" "$(echo photos/copy.png photos/more/0[68].png photos/stars/0[2-5].png) "
is 'with captions and latents' "$(jq -s 'map(select(.caption and .latents)) | length' dataset/train.ndjson)" 6
is 'what failed is told apart' "$(jq -r '[.path, .error.tool] | @tsv' dataset/failed.ndjson)" "photos/more/broken.png	sd-scan"
like 'and on the way' "$(cat "$err")" '*photos/more/broken.png*'
ok 'the set at a glance' grep -q 'records *8' dataset/stat.txt
ok 'and to look at' grep -q '<html' dataset/show.html
is 'nothing is left over' "$(find dataset -name '*.new' -o -name '*.start')" ''

before=$(stamps)
build dataset
is 'a second run does nothing' "$status $(cat "$err" "$out")" '0 '
is 'to no file' "$(stamps)" "$before"

old=$(caches)
sleep 0.01
touch photos/more/06.png
build dataset
is 'a picture that was only touched is not encoded again' "$status $(caches | grep -vcxF "$old")" '0 0'
cp "$root/contrib/tiny/sks/10.jpg" photos/more/06.png
build dataset
is 'one that changed is' "$status $(caches | grep -vcxF "$old")" '0 1'
old=$(caches)
echo 'another caption' >photos/more/08.caption
build dataset
is 'a caption that changed' "$(jq -r 'select(.path == "photos/more/08.png").caption' dataset/train.ndjson)" 'another caption'
is 'encodes nothing' "$(caches)" "$old"
rm photos/stars/02.*
cp "$root/contrib/tiny/sks/09.jpg" photos/stars
build dataset
is 'one gone, one new' "$(paths)" "$(echo photos/copy.png photos/more/0[68].png photos/stars/0[3-5].png photos/stars/09.jpg) "
build prune
is 'prune takes the cache of what is gone' "$status $(caches | wc -l)" '0 7'
build dataset 'BUCKET=-q --resolution 32 --bucket-reso-steps 8 --min-bucket-reso 16'
is 'other settings' "$(jq -c '.bucket[0] <= 64' dataset/train.ndjson | sort -u)" true
is 'make all of it anew' "$(caches | grep -cxF "$old")" 0
build dataset MODEL=
is 'no model' "$status $(grep -c 'MODEL is not set' "$err")" '2 1'
finish
