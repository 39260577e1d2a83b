#!/bin/sh
# sd-unpack: what sd-pack packed comes back, byte for byte; hostile archives get nothing outside the folder.
. "$(dirname "$0")/lib.sh"
archives=$root/t/data/archive

mkdir photos photos/sub
picture rgb.png photos/a.png
picture 420.jpg photos/b.jpg
picture lossy.webp photos/sub/c.webp
sd-scan -r photos | jq -c '. + {caption: ["a cat", "a \"tom\""], tags: ["x, y"], rating: null}' |
    sed 's/"rating":null/"more": { "a":1.50,  "b":[] }/' >in

for kind in tar zip; do
    sd-pack -q -o x.$kind <in >packed
    mkdir here.$kind
    try sh -c "cd here.$kind && sd-unpack ../x.$kind"
    is "$kind: status, nothing said" "$status $(cat "$err")" '0 '
    same 'the same records' "$out" in
    ok 'the same files, and no others' diff -r photos here.$kind/photos
    try sd-unpack -d "there.$kind/" <packed
    is 'by records on standard input' "$status $(cat "$out")" "0 $(sed "s,\"path\":\",&there.$kind/," in)"
    ok 'the same files' diff -r photos there.$kind/photos
done
for j in 1 2 7; do
    rm -rf out
    try sd-unpack -j $j -d out x.tar
    is "in order with -j $j" "$(jq -r .path "$out" | tr '\n' ' ')" 'out/photos/a.png out/photos/b.jpg out/photos/sub/c.webp '
done
sd-pack -q -o s-%d.tar --max-count 1 <in >"$out"
try sd-unpack -d shards s-0.tar s-1.tar s-2.tar
is 'several archives' "$status $(jq -r .path "$out" | wc -l)" '0 3'
{ head -1 packed; sed -n 2p in; } >mixed
try sd-unpack -d some <mixed
is 'pictures that are files pass' "$status $(jq -r .path "$out" | tr '\n' ' ')$(find some -type f)" \
    '0 some/photos/a.png photos/b.jpg some/photos/a.png'

# texts
mkdir text
picture rgb.png text/a.png && echo 'a cat' >text/a.txt
picture rgb.png text/b.png && printf '{\n "tags": ["x"],\r\n "error":"old","path":"/etc/passwd"\n}\n\n' >text/b.json && echo 'a dog' >text/b.txt
picture rgb.png text/c.png && echo '{"id":5' >text/c.json
picture rgb.png text/d.png && printf '\377' >text/d.txt
picture rgb.png text/e.png && echo 'notes' >text/e.md
tar cf text.tar text/a.* text/b.* text/c.* text/d.* text/e.*
try sd-unpack -v -d texts text.tar
is '.txt and .json become members' "$status $(head -2 "$out")" \
    '1 {"path":"texts/text/a.png","width":21,"height":15,"format":"png","bytes":136,"caption":"a cat"}
{  "tags": ["x"],"path":"texts/text/b.png" ,"width":21,"height":15,"format":"png","bytes":136}'
like 'a broken .json' "$(sed -n 3p "$out")" '{"path":"text.tar!/text/c.png","error":{"tool":"sd-unpack","message":"its .json*'
like 'a text that is none' "$(sed -n 4p "$out")" '*"text.tar!/text/d.png"*not UTF-8 text*'
is 'files that are no pictures stay away' "$(ls texts/text | tr '\n' ' ')" 'a.png b.png e.png '
like 'which -v tells' "$(cat "$err")" '*6 members that are no pictures were left (--all writes them)*'
try sd-unpack --all -d alltexts text.tar
is '--all writes them' "$(ls alltexts/text | tr '\n' ' ')" 'a.png a.txt b.json b.png b.txt c.json d.txt e.md e.png '
echo '{"path":"text.tar!/text/b.png","caption":"mine"}' | sd-unpack -d other >"$out"
is 'a record keeps what it has' "$(cat "$out")" '{"path":"other/text/b.png","caption":"mine","tags":["x"]}'

# files that are there
try sd-unpack -d here.tar x.tar
is 'files that are there stay' "$status $(jq -r .error.message "$out" | head -1)" \
    '1 here.tar/photos/a.png is there already (--overwrite replaces it)'
echo old >here.tar/photos/a.png
try sd-unpack --overwrite -d here.tar x.tar
is '--overwrite' "$status $(cmp here.tar/photos/a.png photos/a.png)" '0 '
mkdir -p linked/photos && echo precious >precious && ln -s "$PWD/precious" linked/photos/a.png
try sd-unpack --overwrite -d linked x.tar
is 'not through a link' "$status $(cat precious) $(jq -r .error.message "$out" | head -1)" \
    '1 precious linked/photos/a.png is there already, and is no regular file'
mkdir clash && echo x >clash/photos
try sd-unpack -d clash x.tar
is 'a file where a folder should be' "$status $(jq -r .error.message "$out" | head -1)" '1 clash/photos/a.png: Not a directory'

# hostile archives
mkdir -p deep/down
try sd-unpack --all -d deep/down/in "$archives/odd.tar"
is 'odd.tar: two good members' "$status $(cd deep && find . -type f | sort | tr '\n' ' ')" \
    '1 ./down/in/..png ./down/in/good.png ./down/in/last.png '
is 'no links, pipes, devices' "$(find deep ! -type f ! -type d)" ''
is 'each of the others is told' "$(grep -c '^sd-unpack: ' "$err")" 9
try sd-unpack --all -d zip "$archives/odd.zip"
is 'odd.zip' "$status $(ls -A zip | tr '\n' ' ')$(grep -c '^sd-unpack: ' "$err")" '1 good.png last.png 7'
ok 'nothing beside' test ! -e up.png -a ! -e deep/up.png -a ! -e deep/down/up.png -a ! -e /abs.png
jq -c . <<END >hostile
{"path":"$archives/odd.tar!/../up.png"}
{"path":"$archives/odd.tar!/sym.png"}
{"path":"$archives/odd.tar!/none.png"}
{"path":"x.tar!/photos/../../up.png"}
{"path":"none.tar!/a.png"}
END
try sd-unpack -d records <hostile
is 'records that ask for them' "$status $(jq -r .error.message "$out")" \
    "1 its name leads out of the folder
a link, which is not followed
no such member in the archive
no such member in the archive
none.tar: No such file or directory"
is 'get nothing' "$(find records -type f)" ''

# bombs
{ cat "$root/t/data/image/rgb.bmp"; head -c 3000000 /dev/zero; } >bomb.bmp
gzip -c bomb.bmp >bomb.gz
perl -e '
    use strict;
    open my $f, "<:raw", "bomb.gz"; local $/; my $gz = <$f>;
    my ($crc, $size) = unpack "VV", substr $gz, -8;
    my $flags = unpack "x3C", $gz;
    my $head = 10; if ($flags & 8) { $head = 1 + index $gz, "\0", 10 }
    my $packed = substr $gz, $head, -8;
    my $common = pack "vvvvvVVVvv", 20, 0, 8, 0, 33, $crc, length $packed, $size, 8, 0;
    my $local = "PK\3\4" . $common . "bomb.bmp" . $packed;
    my $entry = "PK\1\2" . pack("v", 20) . $common . pack("vvvVV", 0, 0, 0, 0, 0) . "bomb.bmp";
    print $local, $entry, "PK\5\6", pack "vvvvVVv", 0, 0, 1, 1, length $entry, length $local, 0;
' >bomb.zip
try sd-unpack -d bombs bomb.zip
like 'a bomb' "$status $(jq -r .error.message "$out")" '1 3001014 bytes unpacked from *, more than the 100 times of --max-ratio'
try sd-unpack -d bombs --max-ratio 2000 --max-size 2 bomb.zip
is 'a large member' "$status $(jq -r .error.message "$out")" '1 3001014 bytes, more than the 2 MB of --max-size'
try sd-unpack -d bombs --max-ratio 2000 bomb.zip
is 'unless that is wanted' "$status $(cmp bombs/bomb.bmp bomb.bmp)" '0 '

# damage
head -c 2500 x.tar >cut.tar
try sd-unpack -d cut cut.tar
is 'an archive that is cut short' "$status $(jq -r .path "$out")" '1 cut/photos/a.png'
like 'is told' "$(cat "$err")" '*sd-unpack: cut.tar: damaged tar archive: *at byte *'
try sd-unpack -d cut text/a.png
is 'no archive' "$status $(cat "$err")" "2 sd-unpack: text/a.png: an archive's name ends in .zip or .tar"
cp text/a.png not.tar
try sd-unpack --overwrite -d cut not.tar x.tar
is 'one that is none; the rest goes on' "$status $(wc -l <"$out") $(cat "$err")" '1 3 sd-unpack: not.tar: neither a zip nor a tar archive'
sd-unpack --overwrite -d cut x.tar >/dev/full 2>"$err"
is 'a full disk' $? 3
finish
