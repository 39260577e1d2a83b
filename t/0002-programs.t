#!/bin/sh
# Every program: help, version, usage errors, its option table, manual page and completion.
. "$(dirname "$0")/lib.sh"

for c in "$root"/cmd/sd-*.c; do
    name=$(basename "$c" .c)
    try "$name" --help </dev/null
    like "$name --help" "$status $(head -1 "$out") $(cat "$err")" "0 Usage: $name*"
    try "$name" --version </dev/null
    like "$name --version" "$status $(cat "$out")" "0 $name [0-9]*"
    try "$name" --no-such-option-exists </dev/null
    like "$name: an unknown option" "$status $(cat "$out")$(cat "$err")" \
        "2 $name: unknown option --no-such-option-exists*"
    try "$name" --help </dev/null
    "$name" --help >/dev/full 2>/dev/null
    is "$name --help to a full disk" $? 3

    "$name" --dump-options >table
    is "$name: the table has whole rows" "$(awk -F'\t' '$1 == "option" && NF != 8' table)" ''
    is "$name: no option twice" "$(awk -F'\t' '$1 == "option" { print "--" $2; if ($3 != "-") print "-" $3 }' table | sort | uniq -d)" ''
    is "$name: every option is in --help" \
        "$(awk -F'\t' '$1 == "option" { print $2 }' table | while read -r o; do
            grep -qE -- "--(\[no-\])?$o( |\$)" "$out" || echo "$o"
        done)" ''
    awk -f "$root/completions/bash.awk" table >completion
    ok "$name: its completion is a shell script" bash -n completion
    is "$name: completes --hel" "$(bash -c '. ./completion; COMP_WORDS=('"$name"' --hel); COMP_CWORD=1; _'"$(echo "$name" | tr - _)"'; echo "${COMPREPLY[@]}"')" --help

    ok "$name has a test" sh -c "ls $root/t/[0-9]*-$name.t"
    ok "$name has a line in the README" grep -q "\`$name\`" "$root/README.md"
    ok "$name has a manual page" test -f "$root/man/$name.1"
    page=$root/man/$name.1
    [ -f "$page" ] || continue
    awk -f "$root/man/options.awk" table "$page" >filled
    is "$name.1: has its sections" \
        "$(for s in NAME SYNOPSIS DESCRIPTION OPTIONS EXAMPLES 'EXIT STATUS' 'SEE ALSO'; do grep -q "^\.SH \"*$s\"*$" filled || echo "$s"; done)" ''
    is "$name.1: is filled from the table" "$(grep -c '@[A-Z]*@' filled) $(grep -c '@OPTIONS@' "$page")" '0 1'
    if command -v groff >/dev/null; then
        is "$name.1: no complaint from groff" "$(groff -man -Tutf8 -ww filled 2>&1 >/dev/null)" ''
    fi
done
for page in "$root"/man/*.[57]; do
    ok "$(basename "$page") has a name" grep -q '^\.SH NAME' "$page"
done
finish
