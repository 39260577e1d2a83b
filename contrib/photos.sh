#!/bin/sh
# The dataset programs on real photographs and drawings: the backgrounds of some Debian packages, JPEG, PNG and WebP, from 256
# to 5640 pixels wide. They are fetched as root or anybody else, unpacked but not installed (330 MB).
#
#   contrib/photos.sh [FOLDER]      FOLDER is out/photos; look at FOLDER/dataset/show.html
#
# MODEL is whose VAE encodes them, the bundled tiny one unless told otherwise.
set -eu
cd "$(dirname "$0")/.."
root=$PWD
PATH=$root/bin:$PATH
MODEL=$(realpath "${MODEL:-contrib/tiny/sd.safetensors}")
mkdir -p "${1:-out/photos}"
cd "${1:-out/photos}"

for package in gnome-backgrounds mate-backgrounds plasma-workspace-wallpapers; do
    [ -d "photos/$package" ] && continue
    apt-get download -q "$package"
    dpkg-deb --fsys-tarfile "$package"_*.deb | tar -x --wildcards './usr/share/backgrounds' './usr/share/wallpapers' 2>/dev/null || true
    mkdir -p "photos/$package"
    mv usr/share/* "photos/$package"
    rm -r usr "$package"_*.deb
done

# They come without captions; the names of their folders and files serve as tags, in files beside them.
sd-scan -q --recursive photos |
    jq -c '.tags = (.path | split("/")[4:] | map(sub("\\.[a-z]+$"; "") | split("[-_]"; null)) | add | unique |
        map(select(test("^[A-Za-z]{3,}$"))) - ["contents", "images", "screenshot"])' |
    sd-merge -q --write .txt >/dev/null

make -j2 -f "$root/contrib/dataset.mk" dataset "MODEL=$MODEL" "BUCKET=--resolution 512 --histogram"
cat dataset/stat.txt
