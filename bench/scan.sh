#!/usr/bin/env bash
# sd-scan and sd-merge over 20,000 pictures with sidecars, files in the page cache, against imagesize (the header reader
# sd-scripts uses) and sd-scripts' own merge_captions_to_metadata. Prints one JSON object a line.
#
#   bench/scan.sh [N]     N pictures (20000)
#   SD_BENCH_PYTHON       a Python with imagesize (python3); SD_SCRIPTS: a checkout of sd-scripts and what it imports
#   SD_BENCH_DIR          where the pictures are made and kept (build/bench)
set -eu
cd "$(dirname "$0")/.."
n=${1:-20000} runs=${RUNS:-9}
python=${SD_BENCH_PYTHON:-python3}
dir=$(mkdir -p "${SD_BENCH_DIR:-build/bench}" && cd "${SD_BENCH_DIR:-build/bench}" && pwd)/scan-$n
bin=$PWD/${SD_BIN:-bin}

# Copies of a few real files, filled up behind their end to 28 KB, the mean of a scraped set; 4 of 5 JPEG.
[ -e "$dir/done" ] || perl -e '
    my ($dir, $n, @files) = @ARGV;
    mkdir $dir;
    my @blobs = map { local $/; open my $f, "<:raw", $_ or die "$_: $!"; [/(\.\w+)$/, <$f>] } @files;
    my @words = qw(1girl solo outdoors landscape mountain forest lake sunset blue_sky cloud city night street smile hat);
    srand 1;
    for my $i (0 .. $n - 1) {
        my ($ending, $bytes) = @{$blobs[$i % @blobs]};
        my $base = sprintf "%s/img_%06d", $dir, $i;
        my @w = map { $words[rand @words] } 1 .. 10;
        put($base . $ending, $bytes . ("\0" x (20000 + rand 16000)));
        put("$base.caption", "a picture of @w[0 .. 5]\n");
        put("$base.txt", join(", ", @w) . "\n");
    }
    put("$dir/done", "");
    sub put { open my $f, ">:raw", $_[0] or die "$_[0]: $!"; print $f $_[1]; close $f or die "$_[0]: $!" }
' "$dir" "$n" t/data/image/{q30,420,exif,progressive}.jpg t/data/image/rgb.png

# median COMMAND: the median of the wall times of $runs runs after a warm-up, and the largest memory, as "SECONDS MIB"
median() {
    perl -MTime::HiRes=time -e '
        my ($runs, $command) = @ARGV;
        my @times;
        for my $i (0 .. $runs) {
            my $start = time;
            system($command) == 0 or die "$command: status $?\n";
            push @times, time - $start if $i;
        }
        @times = sort { $a <=> $b } @times;
        print $times[@times / 2], "\n";' "$runs" "$1"
}

peak() { # MiB
    if [ -x /usr/bin/time ]; then
        /usr/bin/time -f %M sh -c "exec $1" 2>&1 >/dev/null | tail -1 | awk '{ printf "%.1f", $1 / 1024 }'
    else
        echo null
    fi
}

# line NAME UNIT COMMAND PEER PEER_RATE
line() {
    seconds=$(median "$3")
    awk -v name="$1" -v unit="$2" -v s="$seconds" -v n="$n" -v peak="$(peak "${3%% >*}")" -v runs="$runs" -v peer="$4" \
        -v peer_rate="$5" 'BEGIN {
            rate = n / s
            printf "{\"name\":\"%s\",\"value\":%.0f,\"unit\":\"%s\",", name, rate, unit
            if (peer_rate + 0 > 0)
                printf "\"against\":\"%s\",\"peer_value\":%.0f,\"ratio\":%.2f,", peer, peer_rate, rate / peer_rate
            printf "\"peak_mib\":%s,\"runs\":%d}\n", peak, runs
        }'
}

skipped() { printf '{"name":"%s","skipped":"%s"}\n' "$1" "$2"; }

imagesize_rate=0
if "$python" -c 'import imagesize' 2>/dev/null; then
    imagesize_rate=$("$python" - "$dir" "$runs" <<'PY'
import imagesize, os, sys, time
d, runs = sys.argv[1], int(sys.argv[2])
times = []
for _ in range(runs + 1):
    start = time.perf_counter()
    files = sorted(os.path.join(d, f) for f in os.listdir(d) if f.endswith((".jpg", ".png", ".webp")))
    for f in files:
        imagesize.get(f)
    times.append(time.perf_counter() - start)
print(len(files) / sorted(times[1:])[runs // 2])
PY
    )
else
    skipped scan-imagesize "no imagesize in $python"
fi

merge_rate=0
if [ -n "${SD_SCRIPTS:-}" ]; then
    merge_rate=$(cd "$SD_SCRIPTS" && PYTHONPATH=. "$python" - "$dir" "$runs" 2>/dev/null <<'PY' | tail -n 1
import os, sys, tempfile, time
sys.path.insert(0, "finetune")
import merge_captions_to_metadata as m
d, runs = sys.argv[1], int(sys.argv[2])
times = []
for _ in range(min(runs, 5)):
    out = tempfile.mktemp(".json")
    args = m.setup_parser().parse_args([d, out, "--full_path"])
    start = time.perf_counter()
    m.main(args)
    times.append(time.perf_counter() - start)
    os.remove(out)
n = sum(f.endswith((".jpg", ".png")) for f in os.listdir(d))
print(n / sorted(times)[len(times) // 2])
PY
    ) || merge_rate=0
else
    skipped merge-sd-scripts "SD_SCRIPTS is not set"
fi

line scan files/s "$bin/sd-scan $dir >/dev/null" imagesize "$imagesize_rate"
line scan-j1 files/s "$bin/sd-scan -j 1 $dir >/dev/null" imagesize "$imagesize_rate"
"$bin/sd-scan" "$dir" >"$dir.ndjson"
line merge-captions records/s "$bin/sd-merge --tags-extension '' <$dir.ndjson >/dev/null" sd-scripts "$merge_rate"
line merge-captions-tags records/s "$bin/sd-merge <$dir.ndjson >/dev/null" sd-scripts "$merge_rate"
