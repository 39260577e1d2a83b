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

# archives
archives=$root/t/data/archive
cp "$archives/stored.zip" "$archives/deflated.zip" "$archives/pax.tar" "$archives/odd.tar" "$archives/odd.zip" .
for a in stored.zip deflated.zip pax.tar; do
    try sd-scan $a
    is "$a: its pictures in its order" "$status $(head -2 "$out")" \
        "0 {\"path\":\"$a!/a.png\",\"width\":21,\"height\":15,\"format\":\"png\",\"bytes\":136}
{\"path\":\"$a!/sub/b.jpg\",\"width\":21,\"height\":15,\"format\":\"jpeg\",\"bytes\":998}"
done
like 'a long name' "$(jq -r .path "$out" | tail -1)" 'pax.tar!/long/long/*éé.png'
cp "$out" want
for j in 1 2 7; do
    try sd-scan -j $j pax.tar
    same "an archive with -j $j" "$out" want
done
try sd-scan --verify --sha256 deflated.zip
is '--sha256 and --verify of members' "$status $(jq -r .sha256 "$out" | sed -n 2p)" \
    "0 $(sha256sum <"$root/t/data/image/420.jpg" | cut -d' ' -f1)"
try sd-scan 'stored.zip!/sub/b.jpg' 'stored.zip!/none.jpg'
is 'a member by its name' "$status $(jq -c '[.path,.width,.error.message]' "$out")" \
    '1 ["stored.zip!/sub/b.jpg",21,null]
["stored.zip!/none.jpg",null,"no such member in the archive"]'
printf 'photos/b.png\nstored.zip\n' >names
try sd-scan <names
is 'an archive among names' "$status $(wc -l <"$out")" '0 4'

try sd-scan odd.tar
is 'members that are not read' "$status $(jq -r '[.path,.error.message // ""]|join(" ")' "$out")" \
    '1 odd.tar!/good.png 
odd.tar!/../up.png its name leads out of the folder
odd.tar!/sub/../../up.png its name leads out of the folder
odd.tar!//abs.png its name is absolute
odd.tar!/sym.png a link, which is not followed
odd.tar!/hard.png a link, which is not followed
odd.tar!/pipe.png a device or pipe
odd.tar!/device.png a device or pipe
odd.tar!/sparse.png a sparse file, which is not supported
odd.tar!/good.png its name occurs before in the archive
odd.tar!/last.png '
try sd-scan -a odd.tar
is '--all takes hidden members' "$(jq -r .path "$out" | grep -c '!/..png')" 1
try sd-scan --verify odd.zip
is 'the same in a zip; a CRC' "$status $(jq -r '[.path,.error.message // ""]|join(" ")' "$out")" \
    '1 odd.zip!/good.png 
odd.zip!/../up.png its name leads out of the folder
odd.zip!//abs.png its name is absolute
odd.zip!/locked.png encrypted
odd.zip!/method.png compression method 99, expected 0 or 8 (deflate)
odd.zip!/crc.png damaged (its CRC is wrong)
odd.zip!/last.png 
odd.zip!/sym.png a link, which is not followed'
like 'a member without a name for a path' "$(cat "$err")" '*sd-scan: odd.zip: member 4: its name holds a NUL*'

head -c 4000 pax.tar >cut.tar
try sd-scan cut.tar
is 'a tar that is cut short: what is there, and a word' "$status $(wc -l <"$out") $(cat "$err")" \
    "1 1 sd-scan: cut.tar: damaged tar archive: an entry that is cut short at byte 1536"
head -c 1000 stored.zip >cut.zip
try sd-scan cut.zip
is 'a zip that is cut short' "$status $(cat "$out")$(cat "$err")" \
    '1 sd-scan: cut.zip: not a zip archive, or cut short (no end record)'
gzip -c pax.tar >c.tar.gz
try sd-scan c.tar.gz photos/b.png
is 'a compressed tar is refused' "$status $(wc -l <"$out") $(cat "$err")" \
    '1 1 sd-scan: c.tar.gz: compressed, so that its members cannot be reached; decompress it (gunzip)'
mkdir mixed
cp stored.zip mixed/b.zip
picture rgb.png mixed/a.png
picture rgb.png mixed/c.png
try sd-scan mixed
is 'archives in folders are left' "$status $(wc -l <"$out")" '0 2'
try sd-scan --archives mixed
is '--archives takes them in their place' "$(jq -r .path "$out" | tr '\n' ' ')" \
    'mixed/a.png mixed/b.zip!/a.png mixed/b.zip!/sub/b.jpg mixed/b.zip!/é.bmp mixed/c.png '

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
