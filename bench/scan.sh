#!/usr/bin/env bash
# The programs that read no pixels, over 20,000 pictures with sidecars, in the page cache and out of it, against imagesize (the
# header reader sd-scripts uses) and sd-scripts' finetune scripts. Prints one JSON object a line.
#
#   bench/scan.sh [N]     N pictures (20000)
#   SD_BENCH_PYTHON       a Python with imagesize, Pillow (python3); SD_SCRIPTS: a checkout of sd-scripts, and what it imports
#   SD_BENCH_DIR          where the pictures are made and kept (build/bench)
set -eu
cd "$(dirname "$0")/.."
n=${1:-20000} runs=${RUNS:-9} root=$PWD
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

# median COMMAND: the median of the wall times of $runs runs after a warm-up; of the only one when $runs is 0
median() {
    perl -MTime::HiRes=time -e '
        my ($runs, $command) = @ARGV;
        my @times;
        for my $i (0 .. $runs) {
            my $start = time;
            system($command) == 0 or die "$command: status $?\n";
            push @times, time - $start if $i || !$runs;
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

# line NAME UNIT COMMAND PEER PEER_RATE [cold]
line() {
    [ "${6:-}" != cold ] || cold
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

# peer NAME [RUNS]: its rate, or nothing when it is not there
peer() { "$python" "$root/t/ref/bench_data.py" "$1" "$dir" "${2:-5}" 2>/dev/null | tail -n 1; }

line scan files/s "$bin/sd-scan $dir >/dev/null" imagesize "$(peer imagesize)"
line scan-j1 files/s "$bin/sd-scan -j 1 $dir >/dev/null" PIL.Image.open "$(peer pil)"
"$bin/sd-scan" "$dir" >"$dir.ndjson"
line merge-captions records/s "$bin/sd-merge --tags-extension '' <$dir.ndjson >/dev/null" sd-scripts "$(peer merge-captions)"
line merge-tags records/s "$bin/sd-merge --caption-extension '' <$dir.ndjson >/dev/null" sd-scripts "$(peer merge-tags)"
line merge-captions-tags records/s "$bin/sd-merge <$dir.ndjson >/dev/null" '' 0
"$bin/sd-merge" <"$dir.ndjson" >"$dir.merged"
line clean records/s "$bin/sd-clean -q <$dir.merged >/dev/null" sd-scripts "$(peer clean)"
line bucket records/s "$bin/sd-bucket -q <$dir.merged >/dev/null" '' 0
line meta-to records/s "$bin/sd-meta to -q <$dir.merged >/dev/null" '' 0

# With nothing in the page cache, one run each; only root can empty it.
cold() { sync && echo 3 2>/dev/null >/proc/sys/vm/drop_caches; }
if cold; then
    runs=0
    line scan-cold files/s "$bin/sd-scan $dir >/dev/null" imagesize "$(cold && peer imagesize 0)" cold
    line merge-captions-tags-cold records/s "$bin/sd-merge <$dir.ndjson >/dev/null" 'sd-scripts, captions alone' \
        "$(cold && peer merge-captions 0)" cold
fi
