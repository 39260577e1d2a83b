#!/bin/sh
# sd-sheet: what is on the sheet, and what becomes of pictures that cannot be.
. "$(dirname "$0")/lib.sh"
make_sheet() { try sd-sheet -o sheet.png "$@"; }
size() { sd-scan sheet.png | jq -c '[.width,.height]'; }

# rgb.png is 21x15; a cell of 50 takes it twice as large: 42x30.
for i in a b c d e; do picture rgb.png $i.png; done
sd-scan a.png b.png c.png d.png e.png | jq -c '. + {id: 1234567890123456789}' >five

make_sheet --cell 50 --columns 3 <five
is 'status, nothing said' "$status $(cat "$err")" '0 '
same 'records pass byte for byte' "$out" five
is 'two rows of three cells, gaps of 4' "$(size)" '[166,112]'
make_sheet --cell 50 --gap 0 <five
is 'about square when no columns are asked for' "$(size)" '[150,100]'
head -2 five >two
make_sheet --cell 50 --columns 5 <two
is 'no wider than its pictures' "$(size)" '[112,58]'
make_sheet --cell 30 --columns 0 --gap 0 <two
is 'and sheets of two' "$(size)" '[60,30]'

# Pixels: a sheet of one picture at its own size is that picture, with grey above and below.
head -1 five >one
make_sheet --cell 21 --gap 0 <one
cp sheet.png self.png
sd-scan self.png >self
try sd-sheet -o again.png --cell 21 --gap 0 <self
same 'a sheet in a sheet of the same size is the same' sheet.png again.png
make_sheet --cell 1 --gap 0 <one
is 'shrunk to a pixel' "$(size)" '[1,1]'
make_sheet --cell 16 --gap 0 <one
is 'shrunk to fit' "$(size)" '[16,16]'

# what cannot be read
head -c 100 b.png >cut && mv cut b.png
echo 'not a picture' >c.png
rm d.png
make_sheet --cell 50 --columns 5 <five
is 'pictures that cannot be read: status' $status 1
is 'they carry the error, the others none' "$(jq -r '[.path,.error.tool,.error.message]|@tsv' "$out")" \
    "$(printf '%s\t%s\t%s\n' a.png '' '' b.png sd-sheet 'truncated PNG (IDAT ends at byte 100)' \
        c.png sd-sheet 'not a PNG, JPEG, WebP or BMP file' d.png sd-sheet 'cannot open: No such file or directory' e.png '' '')"
is 'each is told once' "$(cat "$err")" 'sd-sheet: b.png: truncated PNG (IDAT ends at byte 100)
sd-sheet: c.png: not a PNG, JPEG, WebP or BMP file
sd-sheet: d.png: cannot open: No such file or directory'
is 'their cells stay' "$(size)" '[274,58]'
cp "$out" failed
make_sheet --cell 50 --columns 5 <failed
same 'records that carry an error pass untouched' "$out" failed
is 'are not told again, and keep their cells' "$status $(cat "$err") $(size)" '0  [274,58]'
echo '{"width":3}' >pathless
make_sheet <pathless
like 'a record without a path' "$status $(cat "$err")" '1 sd-sheet: a record without a path: *'
{ cat two; echo 'no record'; } >mixed
make_sheet --cell 50 <mixed
like 'a line that is no record' "$status $(cat "$err")" '1 sd-sheet: *line 3*'

# no sheet
rm -f sheet.png
make_sheet </dev/null
is 'no records: no sheet' "$status $(cat "$err")" '1 sd-sheet: sheet.png: no pictures'
ok 'and no file' test ! -e sheet.png
try sd-sheet -o missing/sheet.png <one
like 'an output folder that is not there' "$status $(cat "$err")" '[13] sd-sheet: missing/sheet.png*: No such file or directory'
try sd-sheet -o sheet.png --cell 16384 --columns 1 </dev/null
is 'nothing is allocated before it is needed' $status 1
for i in 1 2 3; do cat one; done >three
try sd-sheet -o sheet.png --cell 16384 --columns 1 <three
like 'a sheet too large' "$status $(cat "$err")" '[13] sd-sheet: *'
ok 'leaves no file' test ! -e sheet.png
try sd-sheet <one
like 'no output' "$status $(cat "$err")" '2 sd-sheet: no sheet to write: --output FILE*'
try sd-sheet -o sheet.png --cell 0 <one
is 'a cell of nothing' $status 2
sd-sheet -o sheet.png <one >/dev/full 2>"$err"
is 'a full disk behind standard output' $? 3
is 'leaves nothing beside the sheet' "$(ls | grep -c '^\.\|tmp')" 0
finish
