# shellcheck shell=sh
# The test helper: POSIX shell, TAP, a folder of one's own, the plan at the end, output shown where a check fails.
#
#     . "$(dirname "$0")/lib.sh"
#     try sd-scan photos              # runs it: $status, $out and $err are files with what it wrote
#     is 'exit status' $status 0
#     is 'records' "$(jq -r .path "$out")" "photos/a.png"
#     like 'message' "$(cat "$err")" '*truncated PNG*'
#     ok 'file is there' test -f x.npz
#     same 'bytes pass' "$out" expected.ndjson
#     finish
#
# $root is the repository, $tmp the test's folder and where it runs; programs come from $SD_BIN (default bin).

root=$(cd "$(dirname "$0")/.." && pwd)
PATH="$(cd "$root" && cd "${SD_BIN:-bin}" && pwd):$PATH"
tmp=$(mktemp -d "${TMPDIR:-/tmp}/sd-test.XXXXXX") || exit 1
mkdir "$tmp/work" && cd "$tmp/work" || exit 1
out=$tmp/out err=$tmp/err count=0 failed=0
trap 'chmod -R u+rwX "$tmp" 2>/dev/null; rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM
unset CDPATH GREP_OPTIONS
LC_ALL=C.UTF-8
# Tests are about the processor, whatever card there is; those of the emulated card name its plugin.
SD_PLUGINS=$tmp
# shellcheck disable=SC2034
emulated=$root/build/$([ -n "$SD_SAN" ] && echo san || echo release)/emulated
export LC_ALL PATH SD_PLUGINS

# Shows a file or text as TAP comments, at most 40 lines.
show() { sed -n '1,40s/^/#   /p'; }

# result STATUS NAME: prints the line of a check; true when it passed
result() {
    count=$((count + 1))
    if [ "$1" -eq 0 ]; then
        printf 'ok %d - %s\n' "$count" "$2"
    else
        printf 'not ok %d - %s\n' "$count" "$2"
        failed=$((failed + 1))
        return 1
    fi
}

# try COMMAND...: runs it, standard input as it is
# shellcheck disable=SC2034 # status is for the caller
try() {
    status=0
    "$@" >"$out" 2>"$err" || status=$?
}

# ok NAME COMMAND...: passes when the command succeeds; its output is shown when not
ok() {
    _name=$1
    shift
    _rc=0
    "$@" >"$tmp/ok" 2>&1 </dev/null || _rc=$?
    result "$_rc" "$_name" || {
        printf '# exit %d: %s\n' "$_rc" "$*"
        show <"$tmp/ok"
    }
}

# is NAME GOT WANT
is() {
    _rc=0
    [ "$2" = "$3" ] || _rc=1
    result "$_rc" "$1" || {
        printf '# got:\n'
        printf '%s\n' "$2" | show
        printf '# want:\n'
        printf '%s\n' "$3" | show
        [ ! -s "$err" ] || { printf '# stderr of the last try:\n' && show <"$err"; }
    }
}

# like NAME GOT PATTERN (a shell pattern)
like() {
    _rc=1
    # shellcheck disable=SC2254
    case $2 in $3) _rc=0 ;; esac
    result "$_rc" "$1" || {
        printf '# got:\n'
        printf '%s\n' "$2" | show
        printf '# want: %s\n' "$3"
    }
}

# same NAME FILE FILE
same() {
    _rc=0
    cmp -s "$2" "$3" || _rc=1
    result "$_rc" "$1" || diff "$2" "$3" | show
}

# skip NAME REASON
skip() {
    count=$((count + 1))
    printf 'ok %d - %s # SKIP %s\n' "$count" "$1" "$2"
}

# Two pictures to work with: good, small, valid.
picture() { cp "$root/t/data/image/${1##*/}" "$2"; }

finish() {
    printf '1..%d\n' "$count"
    exit $((failed > 0))
}
