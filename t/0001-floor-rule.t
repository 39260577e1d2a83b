#!/bin/sh
# no-sanitizer
# The house plan, as far as a machine can see it: a room of lib/ includes only rooms below it, nothing in lib/ prints to
# standard output or ends the program, no file has grown past its limit.
. "$(dirname "$0")/lib.sh"
cd "$root" || exit 1

# room: what it may include besides itself
below() {
    case $1 in
    base) echo '' ;;
    record | image | store | text) echo base ;;
    tensor) echo base ;;
    data) echo base record image store text ;;
    nn) echo base tensor ;;
    model) echo base store tensor nn text ;;
    adapter) echo base store tensor nn model ;;
    diffusion | optim) echo base tensor ;;
    train) echo base record image store text data tensor nn model adapter diffusion optim dist sample ;;
    dist) echo base tensor ;;
    hub) echo base ;;
    sample) echo base image store text tensor nn model adapter diffusion ;;
    *) echo unknown ;;
    esac
}

for dir in lib/*/; do
    room=${dir#lib/}
    room=${room%/}
    find "$dir" -name '*.[ch]' -o -name '*.cc' -o -name '*.inc' | sort >"$tmp/files"
    [ -s "$tmp/files" ] || continue
    allowed=" $room $(below "$room") "
    # the room in each #include "room/..."; files beside are named without one
    xargs grep -nE '^[[:space:]]*#[[:space:]]*include "' <"$tmp/files" |
        sed -nE 's|^([^:]*:[0-9]*):.*"([^"/]+)/[^"]*".*|\1 \2|p' |
        while read -r where other; do
            case $allowed in *" $other "*) ;; *) echo "$where includes $other" ;; esac
        done >"$tmp/wrong"
    is "lib/$room includes only rooms below it" "$(cat "$tmp/wrong")" ''
done

# What the library's objects ask of the C library. Text for people goes through the caller.
lib=build/release/libsdcore.a
if [ -e "$lib" ]; then
    nm -A "$lib" 2>/dev/null |
        grep -E ' U (exit|_exit|_Exit|quick_exit|abort|printf|__printf_chk|vprintf|__vprintf_chk|puts|putchar|perror|stdout|stderr)$' |
        sed 's/^[^:]*://' >"$tmp/wrong"
    is 'nothing in lib/ prints or exits' "$(cat "$tmp/wrong")" ''
    # Constant tables of pointers lie in .data.rel.ro; what is in the other data sections can be written.
    objdump -t "$lib" 2>/dev/null |
        awk '/file format/ { file = $1 } / O \.(data|bss|tdata|tbss)/ && !/\.data\.rel\.ro/ { print file, $NF }' >"$tmp/wrong"
    is 'no variable of lib/ outlives a call' "$(cat "$tmp/wrong")" ''
else
    skip 'nothing in lib/ prints or exits' "no $lib"
    skip 'no variable of lib/ outlives a call' "no $lib"
fi

find cmd lib gpu t bench contrib -name '*.[ch]' -o -name '*.cc' -o -name '*.cu' -o -name '*.py' -o -name '*.sh' \
    2>/dev/null |
    xargs wc -l | awk '$2 != "total" && $1 > 800 { print $2 ": " $1 " lines" }' | sort >"$tmp/wrong"
is 'no source file is longer than 800 lines' "$(cat "$tmp/wrong")" ''

finish
