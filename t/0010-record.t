#!/bin/sh
# What every record program does with its stream, options and signals, shown with sd-merge.
. "$(dirname "$0")/lib.sh"

# lines that are no records
printf '%s\n' '{"path":"a","n":1}' 'not json' '[1]' '' '{"path":"b"' '{"path":"c","n":2}' >in
printf '{"bad":"\377"}\n{"path":"last","n":3}' >>in
try sd-merge <in
is 'lines that are not JSON objects: status' $status 1
is 'good records pass, the last without a newline too' "$(jq -c .n "$out" | tr '\n' ' ')" '1 2 3 '
is 'each bad line is reported with its number and copied' "$(tr '\377' '?' <"$err")" \
    'sd-merge: line 2: not a JSON object at byte 1
not json
sd-merge: line 3: not a JSON object at byte 1
[1]
sd-merge: line 5: the object does not end at byte 12
{"path":"b"
sd-merge: line 7: invalid UTF-8 at byte 9
{"bad":"?"}'
for j in 1 2 8; do
    sd-merge -j $j <in >again 2>again.err
    same "the same with -j $j" again "$out"
    same "the same messages with -j $j" again.err "$err"
done
printf '\357\273\277{"path":"a"}\r\n' >dos
try sd-merge <dos
is 'a byte order mark and DOS line ends' "$status $(jq -c . "$out")" '0 {"path":"a"}'
try sd-merge </dev/null
is 'no records' "$status $(cat "$out" "$err")" '0 '

# a slow stream flows record by record
mkfifo fifo
sd-merge <fifo >flow &
pid=$!
exec 3>fifo
echo '{"path":"first"}' >&3
i=0
while [ $i -lt 100 ] && [ ! -s flow ]; do
    sleep 0.05
    i=$((i + 1))
done
is 'a record comes out before the next goes in' "$(cat flow)" '{"path":"first"}'
echo '{"path":"second"}' >&3
sleep 0.3
kill -TERM $pid
rc=0
{ wait $pid || rc=$?; } 2>/dev/null
exec 3>&-
is 'SIGTERM: what was read is out, and the status tells of the signal' "$rc $(wc -l <flow)" '143 2'

# a reader that goes away
yes '{"path":"x"}' | head -100000 >many
try sh -c 'sd-merge <many | head -1'
is 'SIGPIPE ends it quietly' "$(cat "$out" "$err")" '{"path":"x"}'
sh -c 'trap "" PIPE; sd-merge <many 2>err; echo $? >status' | head -1 >/dev/null
is 'even when SIGPIPE is ignored' "$(cat status err)" 141

# a full disk
rc=0
sd-merge <many >/dev/full 2>err || rc=$?
is 'a full disk: status 3, told once' "$rc $(cat err)" '3 sd-merge: standard output: No space left on device'
rc=0
sd-merge <many >&- 2>err || rc=$?
is 'standard output is closed' "$rc $(cat err)" '3 sd-merge: standard output: Bad file descriptor'
try sd-merge <.
is 'standard input is a folder' "$status $(cat "$err")" '2 sd-merge: standard input: Is a directory'

# options
try sd-merge --help
is '--help: on standard output, status 0' "$status $(head -1 "$out") $(cat "$err")" '0 Usage: sd-merge [OPTION]... [STREAM...] '
like 'defaults are shown' "$(cat "$out")" '*(default: .txt)*'
try sd-merge --version
like '--version' "$status $(cat "$out")" '0 sd-merge [0-9]*'
try sd-merge --no-such
is 'unknown option' "$status $(cat "$err")" "2 sd-merge: unknown option --no-such
Try 'sd-merge --help'."
try sd-merge --tag-extension .x
like 'the nearest one is named' "$(cat "$err")" '*did you mean --tags-extension?*'
try sd-bucket extra
like 'arguments it does not take' "$status $(cat "$err")" '2 sd-bucket: too many arguments: expected none*'
try sd-merge -j x
like 'a number is expected' "$status $(cat "$err")" "2 sd-merge: --jobs: 'x' is not a whole number*"
try sd-merge --progress sometimes
like 'one of a few' "$status $(cat "$err")" "2 sd-merge: --progress: 'sometimes' is not one of auto|never|always*"
try sd-merge --in-json
like 'a value is missing' "$status $(cat "$err")" '2 sd-merge: --in-json needs a value: --in-json FILE*'
echo '{"path":"a"}' >one
for o in --keep -k --no-keep --require_tags=x; do
    try sd-merge $o <one
    want=0
    [ $o = --require_tags=x ] && want=2
    is "switches: $o" $status $want
done

# A terminal on standard input, by util-linux's script.
if command -v script >/dev/null; then
    rc=0
    script -qec 'sd-merge' /dev/null </dev/null >tty 2>&1 || rc=$?
    is 'a terminal and no arguments: usage, status 2' "$rc $(head -1 tty | tr -d '\r')" '2 Usage: sd-merge [OPTION]... [STREAM...]'
else
    skip 'a terminal and no arguments' 'no script(1) here'
fi
try sd-merge --progress always <many
like 'progress is only on standard error' "$(sort -u "$out")" '{"path":"x"}'
finish
