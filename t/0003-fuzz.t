#!/bin/sh
# no-sanitizer
# Every parser of bytes from outside meets some seconds of mutated files. The targets are built with the sanitizers; make
# fuzz runs them for longer.
. "$(dirname "$0")/lib.sh"
cd "$root" || exit 1

for source in t/fuzz/*.c; do
    name=$(basename "$source" .c)
    target=$root/build/san/fuzz/$name
    if [ ! -x "$target" ]; then
        skip "$name" 'not built (make SAN=address,undefined fuzzers)'
        continue
    fi
    seeds=$(sed -n 's/.*fuzz-seeds: *\([^*]*\).*/\1/p' "$source")
    # shellcheck disable=SC2086
    ok "$name" "$target" -t "${FUZZ_SECONDS:-2}" ${seeds:-t/data}
done
finish
