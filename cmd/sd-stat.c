/* sd-stat: a set of records at a glance. */
#include "cmd.h"

#include "data/stat.h"

int main(int argc, char **argv)
{
    struct sd_stat_options o = {.top = 20, .pairs = 0, .smallest = 5};
    const char *format = "text";
    const struct sd_option options[] = {
        {SD_OPT_CHOICE("format", 0, &format, "text|json",
                       "lines for people, or one JSON object on one line")},
        {SD_OPT_INT("top", 0, &o.top, "N", "list the N most frequent tags"), .max = 1e6},
        {SD_OPT_INT("pairs", 0, &o.pairs, "N",
                    "list the N pairs of these tags that are most often in a record together"),
         .max = 1e6},
        {SD_OPT_INT("smallest", 0, &o.smallest, "N", "list the N smallest pictures"), .max = 1e4},
        SD_OPT_END,
    };
    struct sd_cmd c = {
        .program = {.name = "sd-stat",
                    .summary = "Show a set of records at a glance: sizes, buckets, captions, tags",
                    .options = options},
        .own_progress = true};
    cmd_start(&c, &argc, argv);
    struct sd_stat s;
    struct sd_record r = SD_RECORD_INIT;
    struct sd_buf report = SD_BUF_INIT;
    struct sd_err err = {0};
    uint64_t ticket;
    sd_stat_init(&s, &o);
    while (cmd_next(&c, &r, &ticket)) {
        if (sd_stat_add(&s, &r, &err)) {
            if (err.code == SD_ERR_MACHINE)
                cmd_die(&c, &err);
            cmd_fail(&c, &r, &err);
        }
        cmd_drop(&c, ticket);
        cmd_progress(&c, s.records, NULL);
    }
    if (!cmd_stopped(&c)) {
        if (sd_stat_write(&s, *format == 'j', &report, &err))
            cmd_die(&c, &err);
        sd_stream_write(c.stream, report.data, report.len, 1);
    }
    sd_record_free(&r);
    sd_buf_free(&report);
    sd_stat_free(&s);
    return cmd_finish(&c);
}
