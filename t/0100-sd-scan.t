#!/bin/sh
# sd-scan: folders, files and names become records.
. "$(dirname "$0")/lib.sh"

mkdir photos photos/sub photos/sub/deep
picture rgb.png photos/b.png
picture q30.jpg photos/a.JPG
picture lossy.webp photos/c.webp
picture rgb.bmp photos/d.bmp
picture rgb.png photos/Mixed.PnG
picture rgb.png photos/sub/e.png
picture rgb.png photos/sub-f.png
picture rgb.png photos/sub/deep/g.png
picture rgb.png photos/.hidden.png
echo text >photos/note.txt
mkdir photos/folder.png

try sd-scan photos
is 'a folder of good pictures: status' $status 0
is 'nothing on standard error' "$(cat "$err")" ''
is 'sorted by the bytes of the path; all endings, mixed case too' "$(jq -r .path "$out")" \
    'photos/Mixed.PnG
photos/a.JPG
photos/b.png
photos/c.webp
photos/d.bmp
photos/sub-f.png'
is 'members of a record' "$(sed -n 3p "$out")" \
    '{"path":"photos/b.png","width":21,"height":15,"format":"png","bytes":'"$(wc -c <photos/b.png | tr -d ' ')"'}'
is 'formats' "$(jq -r .format "$out" | tr '\n' ' ')" 'png jpeg png webp bmp png '
is 'sizes' "$(jq -c '[.width,.height]' "$out" | sort -u)" '[21,15]'

try sd-scan --recursive photos
is 'recursive, in the order of full paths' "$(jq -r .path "$out" | sed 1,5d)" \
    'photos/sub-f.png
photos/sub/deep/g.png
photos/sub/e.png'
try sd-scan -a photos
is '--all takes hidden names' "$(jq -r .path "$out" | head -1)" 'photos/.hidden.png'
cp "$out" want
for j in 1 2 7; do
    try sd-scan -a -j $j photos
    same "the same with -j $j" "$out" want
done

ln -s ../.. photos/sub/deep/up
try sd-scan -r photos
is 'a link that leads in a circle' "$status $(wc -l <"$out")" '0 8'
rm photos/sub/deep/up

try sd-scan photos/sub/ photos/b.png photos/sub
is 'folders and files in the order given' "$(jq -r .path "$out" | tr '\n' ' ')" \
    'photos/sub/e.png photos/b.png photos/sub/e.png '

# names
printf 'photos/b.png\nphotos/sub\nphotos/a.JPG' >names
try sd-scan <names
is 'names on standard input, a folder among them' "$(jq -r .path "$out" | tr '\n' ' ')" \
    'photos/b.png photos/sub/e.png photos/a.JPG '
mkdir odd
nl=$(printf 'new\nline') bad=$(printf 'caf\351')
picture rgb.png "odd/$nl.png"
picture rgb.png "odd/$bad.png"
picture rgb.png "odd/sp ace \"quote'\\back.png"
picture rgb.png odd/猫.png
try sd-scan odd
is 'odd names: status' "$status $(wc -l <"$out")" '0 4'
is 'quote, backslash' "$(jq -r .path "$out" | grep quote)" "odd/sp ace \"quote'\\back.png"
like 'bytes that are not UTF-8 are lone surrogates' "$(cat "$out")" '*"odd/caf\\udce9.png"*'
like 'UTF-8 stays as it is' "$(cat "$out")" '*"odd/猫.png"*'
find odd -type f -print0 | sort -z >names0
try sd-scan -0 <names0
is 'NUL-separated names' "$status $(wc -l <"$out")" '0 4'
# damage
mkdir broken
: >broken/empty.jpg
head -c 100 photos/b.png >broken/cut.png
head -c 20 photos/b.png >broken/header.png
cp photos/b.png broken/label.jpg
echo 'not a picture' >broken/text.png
picture rgb.png broken/z.png
ln -s nowhere broken/dangling.png
try sd-scan broken
is 'damaged pictures: status' $status 1
is 'all are there' "$(jq -r '[.path,.format,.error.message]|@tsv' "$out")" \
    "$(printf '%s\t%s\t%s\n' broken/cut.png png '' broken/dangling.png '' 'cannot open: No such file or directory' \
        broken/empty.jpg '' 'empty file' broken/header.png '' 'truncated PNG (the header ends at byte 20)' \
        broken/label.jpg png '' broken/text.png '' 'not a PNG, JPEG, WebP or BMP file' broken/z.png png '')"
is 'each is reported once' "$(cat "$err")" \
    'sd-scan: broken/dangling.png: cannot open: No such file or directory
sd-scan: broken/empty.jpg: empty file
sd-scan: broken/header.png: truncated PNG (the header ends at byte 20)
sd-scan: broken/text.png: not a PNG, JPEG, WebP or BMP file'
is 'the tool is named' "$(jq -r '.error.tool // empty' "$out" | sort -u)" sd-scan
try sd-scan --verify broken
is '--verify finds what the header hides' "$(jq -r 'select(.path == "broken/cut.png").error.message' "$out")" \
    'truncated PNG (IDAT ends at byte 100)'
is '--verify accepts a wrong ending' "$(jq -c 'select(.path == "broken/label.jpg").error' "$out")" null
for f in "$root"/t/data/image/*.png "$root"/t/data/image/*.jpg "$root"/t/data/image/*.webp "$root"/t/data/image/*.bmp; do
    echo "$f"
done >all
try sd-scan --verify <all
is '--verify: all good ones' "$status $(jq -c .error "$out" | sort -u)" '0 null'
try sd-scan --sha256 photos/b.png
is '--sha256' "$(jq -r .sha256 "$out")" "$(sha256sum <photos/b.png | cut -d' ' -f1)"
try sd-scan --sha256 --verify photos/b.png
is '--sha256 with --verify' "$(jq -r .sha256 "$out")" "$(sha256sum <photos/b.png | cut -d' ' -f1)"
mkfifo broken/pipe.png
try sd-scan broken/pipe.png
is 'a named pipe is not waited for' "$status $(jq -r .error.message "$out")" '1 not a regular file'

try sd-scan nothing photos/b.png
is 'a name that does not exist' "$status $(jq -r '[.path,.error.message // ""]|join(" ")' "$out" | tr '\n' ';')" \
    '1 nothing cannot open: No such file or directory;photos/b.png ;'

# a folder that cannot be read
mkdir -p locked/in locked/out
picture rgb.png locked/in/a.png
picture rgb.png locked/out/b.png
chmod 000 locked/in
unreadable='setpriv --reuid=65534 --regid=65534 --clear-groups'
[ "$(id -u)" -ne 0 ] && unreadable=
chmod 755 "$tmp" "$tmp/work"
if [ "$(id -u)" -eq 0 ] && ! $unreadable sd-scan --version >/dev/null 2>&1; then
    skip 'an unreadable folder' 'cannot run as another user here'
else
    try $unreadable sd-scan -r locked
    is 'an unreadable folder: the rest goes on' "$status $(jq -r .path "$out")" '1 locked/out/b.png'
    is 'and is told' "$(cat "$err")" 'sd-scan: locked/in: cannot open the folder: Permission denied'
fi

# ends
try sd-scan </dev/null
is 'no names' "$status $(cat "$out" "$err")" '0 '
sd-scan photos >/dev/full 2>"$err"
is 'a full disk' $? 3
is 'is told' "$(cat "$err")" 'sd-scan: standard output: No space left on device'
yes photos | head -2000 >many
try sh -c 'sd-scan <many | head -1'
is 'a reader that goes away' "$(wc -l <"$out") $(cat "$err")" '1 '
try sd-scan --recusive photos
is 'an unknown option' "$status $(head -1 "$err")" '2 sd-scan: unknown option --recusive; did you mean --recursive?'
finish
