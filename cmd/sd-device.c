/* sd-device: what can compute here, a record each. */
#include "cmd.h"

#include "base/json.h"
#include "tensor/cpu/isa.h"
#include "tensor/graph.h"
#include "tensor/plugin.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* One record's text as it grows. */
struct line {
    struct sd_buf text;
    bool failed;
};

static void add(struct line *l, const char *name, const char *text)
{
    l->failed |= sd_buf_addf(&l->text, "%s\"%s\":", l->text.len > 1 ? "," : "", name) ||
                 sd_json_add_string(&l->text, text, strlen(text));
}

static void add_number(struct line *l, const char *name, uint64_t n)
{
    l->failed |= sd_buf_addf(&l->text, ",\"%s\":%" PRIu64, name, n) != 0;
}

static void add_raw(struct line *l, const char *json)
{
    l->failed |= sd_buf_adds(&l->text, json) != 0;
}

static void begin(struct line *l)
{
    *l = (struct line){.text = SD_BUF_INIT};
    add_raw(l, "{");
}

static void put(struct sd_cmd *c, struct line *l)
{
    struct sd_err err = {0};
    add_raw(l, "}\n");
    if (l->failed) {
        sd_err_memory(&err, l->text.len);
        cmd_die(c, &err);
    }
    sd_stream_write(c->stream, l->text.data, l->text.len, 1);
    sd_buf_free(&l->text);
}

/* The value of a line "name : value" or "name: value kB" of a file in /proc; "" where there is none. */
static void proc_value(const char *path, const char *name, char *value, size_t size)
{
    char text[512];
    FILE *f = fopen(path, "re");
    *value = 0;
    while (f && !*value && fgets(text, sizeof text, f)) {
        char *colon = strchr(text, ':');
        if (strncmp(text, name, strlen(name)) || !colon)
            continue;
        colon += 1 + strspn(colon + 1, " \t");
        snprintf(value, size, "%.*s", (int)strcspn(colon, "\n"), colon);
    }
    if (f)
        fclose(f);
}

static uint64_t memory(const char *name)
{
    char value[64];
    unsigned long long kib = 0;
    proc_value("/proc/meminfo", name, value, sizeof value);
    return sscanf(value, "%llu", &kib) == 1 ? (uint64_t)kib << 10 : 0;
}

static void put_processor(struct sd_cmd *c)
{
    static const char *const isa[SD_ISAS] = {"plain", "avx2", "avx512", "amx"};
    struct line l;
    char name[256];
    proc_value("/proc/cpuinfo", "model name", name, sizeof name);
    begin(&l);
    add(&l, "device", "cpu");
    add(&l, "name", name);
    add_number(&l, "processors", (uint64_t)sysconf(_SC_NPROCESSORS_ONLN));
    add_number(&l, "memory", memory("MemTotal"));
    add_number(&l, "free", memory("MemAvailable"));
    add(&l, "instructions", isa[sd_isa_best(true)]);
    add_raw(&l, ",\"precisions\":[\"no\",\"bf16\"]");
    put(c, &l);
}

static void put_card(struct sd_cmd *c, const struct sd_device_info *d)
{
    struct line l;
    char text[32];
    begin(&l);
    snprintf(text, sizeof text, "cuda:%d", d->index);
    add(&l, "device", text);
    add(&l, "name", d->name);
    add_number(&l, "processors", (uint64_t)d->processors);
    add_number(&l, "memory", d->bytes);
    add_number(&l, "free", d->free);
    snprintf(text, sizeof text, "%d.%d", d->major, d->minor);
    add(&l, "capability", text);
    snprintf(text, sizeof text, "%d.%d", d->driver / 1000, d->driver % 1000 / 10);
    add(&l, "driver", text);
    snprintf(text, sizeof text, "%d.%d", d->runtime / 1000, d->runtime % 1000 / 10);
    add(&l, "runtime", text);
    add(&l, "uuid", d->uuid);
    add(&l, "libraries", d->libraries);
    add_raw(&l, ",\"precisions\":[\"no\",\"bf16\",\"fp16\"]");
    put(c, &l);
}

static void describe(struct sd_cmd *c, const struct sd_plugin *p, int index)
{
    struct sd_err err = {0};
    struct sd_device_info d;
    if (p->describe(index, &d, &err))
        cmd_die(c, &err);
    put_card(c, &d);
}

/* All cards, or the one that was asked for. */
static void put_cards(struct sd_cmd *c)
{
    struct sd_err err = {0};
    const struct sd_plugin *p = sd_plugin_load("cuda", &err);
    int n = p ? p->count(&err) : -1;
    bool asked = c->common.device == SD_DEVICE_CUDA;
    if (asked && !n)
        sd_err_set(&err, SD_ERR_MACHINE, "cuda: there is no device");
    if (asked && n <= 0)
        cmd_die(c, &err);
    if (n < 0)
        cmd_say(c, "%s", err.msg);
    if (c->common.device_index >= 0)
        describe(c, p, c->common.device_index);
    else
        for (int i = 0; i < n; i++)
            describe(c, p, i);
}

int main(int argc, char **argv)
{
    static const struct sd_option options[] = {SD_OPT_END};
    struct sd_cmd c = {.program = {.name = "sd-device",
                                   .args = "",
                                   .summary = "list what can compute on this machine",
                                   .options = options},
                       .source = true};
    cmd_start(&c, &argc, argv);
    if (c.common.device != SD_DEVICE_CUDA)
        put_processor(&c);
    if (c.common.device != SD_DEVICE_CPU)
        put_cards(&c);
    return cmd_finish(&c);
}
