#include "base/progress.h"

#include <time.h>

int64_t sd_clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void sd_progress_start(struct sd_progress *p, uint64_t total)
{
    int64_t now = sd_clock_ns();
    *p = (struct sd_progress){.start_ns = now, .shown_ns = now + 400 * 1000 * 1000, .total = total};
}

bool sd_progress_due(struct sd_progress *p)
{
    int64_t now = sd_clock_ns();
    if (now - p->shown_ns < 100 * 1000 * 1000)
        return false;
    p->shown_ns = now;
    return true;
}

static int add_time(struct sd_buf *out, uint64_t s)
{
    if (s >= 3600)
        return sd_buf_addf(out, "%llu:%02d:%02d", (unsigned long long)(s / 3600), (int)(s / 60 % 60),
                           (int)(s % 60));
    return sd_buf_addf(out, "%d:%02d", (int)(s / 60), (int)(s % 60));
}

int sd_progress_line(const struct sd_progress *p, uint64_t done, const char *extra, struct sd_buf *out)
{
    double seconds = (double)(sd_clock_ns() - p->start_ns) / 1e9;
    double rate = seconds > 0 ? (double)(done - p->first) / seconds : 0;
    int bad = sd_buf_addf(out, "%llu", (unsigned long long)done);
    if (p->total)
        bad |= sd_buf_addf(out, "/%llu  %d%%", (unsigned long long)p->total,
                           (int)((double)done / (double)p->total * 100));
    if (rate >= 1 || rate == 0)
        bad |= sd_buf_addf(out, rate >= 100 ? "  %.0f/s" : "  %.1f/s", rate);
    else
        bad |= sd_buf_addf(out, "  %.2f s each", 1 / rate);
    if (p->total > done && rate > 0) {
        bad |= sd_buf_adds(out, "  ") | add_time(out, (uint64_t)((double)(p->total - done) / rate + 0.5));
        bad |= sd_buf_adds(out, " left");
    } else {
        bad |= sd_buf_adds(out, "  ") | add_time(out, (uint64_t)seconds);
    }
    if (extra && *extra)
        bad |= sd_buf_addf(out, "  %s", extra);
    return bad ? -1 : 0;
}
