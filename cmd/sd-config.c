/* sd-config: sd-scripts' data set configuration becomes records. */
#include "config_records.h"

#include <math.h>
#include <string.h>

struct setting { /* of the command line */
    bool given, b;
    int64_t i;
    double d;
    const char *s;
};

struct options {
    struct sd_cmd cmd;
    const char *file, *train, *reg, *in_json;
    bool to_toml, check;
    int64_t seed;
    struct setting settings[SD_CONFIG_KEYS];
    struct sd_option table[SD_CONFIG_KEYS + 16];
};

/* ---- options, from the table of keys ---- */

static struct sd_option option_of(enum sd_config_id id, struct setting *s)
{
    const struct sd_config_key *k = sd_config_key(id);
    struct sd_option o = {.name = k->option,
                          .metavar = k->metavar,
                          .help = k->help,
                          .alias = k->alias,
                          .min = k->min,
                          .max = k->max,
                          .given = &s->given,
                          .to = &s->s,
                          .type = SD_TYPE_STRING};
    if (k->type == SD_CONFIG_BOOL) {
        o.type = SD_TYPE_BOOL;
        o.to = &s->b;
    } else if (k->type == SD_CONFIG_INT) {
        o.type = SD_TYPE_INT;
        o.to = &s->i;
        s->i = k->otherwise;
    } else if (k->type == SD_CONFIG_FLOAT || k->type == SD_CONFIG_NUMBER) {
        o.type = SD_TYPE_DOUBLE;
        o.to = &s->d;
        s->d = NAN;
    } else if (k->type == SD_CONFIG_STRING && strchr(k->metavar, '|')) {
        o.type = SD_TYPE_CHOICE;
    }
    return o;
}

static void make_table(struct options *o)
{
    const struct sd_option own[] = {
        {SD_OPT_BOOL("check", 0, &o->check, "look whether all is well; write nothing")},
        {SD_OPT_BOOL("to-toml", 0, &o->to_toml, "write a configuration that says the same, not records")},
        {SD_OPT_HEADING("Without a file")},
        {SD_OPT_STRING("train-data-dir", 0, &o->train, "DIR",
                       "the folder of folders <repeats>_<class tokens>; with --in-json, of the pictures")},
        {SD_OPT_STRING("reg-data-dir", 0, &o->reg, "DIR", "the same for regularisation pictures")},
        {SD_OPT_STRING("in-json", 0, &o->in_json, "FILE", "metadata, .json or .jsonl")},
        {SD_OPT_HEADING("What holds where the file says nothing")},
    };
    const struct sd_option last[] = {
        {SD_OPT_STRING("dataset-config", 0, &o->file, "FILE", "the same as FILE"), .hidden = true},
        {SD_OPT_INT("seed", 0, &o->seed, "N", "chooses pictures for validation without a validation seed")},
        SD_OPT_END,
    };
    size_t n = sizeof own / sizeof *own;
    memcpy(o->table, own, sizeof own);
    for (int id = 0; id < SD_CONFIG_KEYS; id++)
        if (sd_config_key((enum sd_config_id)id)->option)
            o->table[n++] = option_of((enum sd_config_id)id, &o->settings[id]);
    memcpy(o->table + n, last, sizeof last);
}

static void set_option(struct options *o, struct sd_config *config, enum sd_config_id id)
{
    const struct sd_config_key *k = sd_config_key(id);
    const struct setting *s = &o->settings[id];
    struct sd_config_value v = {.id = id};
    struct sd_err err = {0};
    int bad = 0;
    switch (k->type) {
    case SD_CONFIG_BOOL:
        v.b = s->b;
        break;
    case SD_CONFIG_INT:
        v.i = s->i;
        break;
    case SD_CONFIG_FLOAT:
    case SD_CONFIG_NUMBER:
        v.d = s->d;
        break;
    case SD_CONFIG_SIZE:
        bad = sd_size_parse(s->s, &v.size, &err);
        break;
    case SD_CONFIG_RANGE:
        bad = sd_config_parse_range(s->s, v.range, &err);
        break;
    case SD_CONFIG_STRING:
    case SD_CONFIG_TABLE:
        v.s = s->s;
    }
    if (bad || sd_config_set_option(config, &v, &err))
        cmd_usage(&o->cmd, "--%s: %s", k->option, err.msg);
}

/* ---- the program ---- */

static void warn(void *ctx, const char *message)
{
    cmd_warn(ctx, "%s", message);
}

static void check_usage(struct options *o, int argc, char **argv)
{
    const struct sd_cmd *c = &o->cmd;
    if (argc > 1 && o->file)
        cmd_usage(c, "two files: %s and %s", o->file, argv[1]);
    if (argc > 1)
        o->file = argv[1];
    if (o->file && (o->train || o->reg || o->in_json))
        cmd_usage(c, "--%s does not go with a file; its subsets tell the folders",
                  o->train ? "train-data-dir"
                  : o->reg ? "reg-data-dir"
                           : "in-json");
    if (!o->file && !o->train && !o->in_json)
        cmd_usage(c, "a file is expected, or --train-data-dir or --in-json");
    if (o->in_json && o->reg)
        cmd_usage(c, "--reg-data-dir does not go with --in-json");
    if (o->check && o->to_toml)
        cmd_usage(c, "--check and --to-toml do not go together");
}

static void make_config(struct options *o, struct sd_config *config)
{
    struct sd_err err = {0};
    config->warn = warn;
    config->ctx = &o->cmd;
    for (int id = 0; id < SD_CONFIG_KEYS; id++)
        if (o->settings[id].given)
            set_option(o, config, (enum sd_config_id)id);
    int bad = o->file      ? sd_config_read(config, o->file, &err)
              : o->in_json ? sd_config_add_metadata(config, o->in_json, o->train, &err)
                           : sd_config_add_folders(config, o->train, o->reg, &err);
    if (bad || sd_config_check(config, &err))
        cmd_die(&o->cmd, &err);
}

static void write_toml(struct options *o, const struct sd_config *config)
{
    struct sd_buf text = SD_BUF_INIT;
    struct sd_err err = {0};
    if (sd_config_toml(config, &text, &err))
        cmd_die(&o->cmd, &err);
    sd_stream_write(o->cmd.stream, text.data, text.len, 0);
    sd_buf_free(&text);
}

static void say_counts(const struct options *o, const struct sd_config *config)
{
    uint64_t datasets = 0, subsets = 0;
    for (const struct sd_config_dataset *d = config->datasets; d; d = d->next, datasets++)
        for (const struct sd_config_subset *s = d->subsets; s; s = s->next)
            subsets += !s->dropped;
    cmd_say(&o->cmd, "%llu data sets, %llu subsets", (unsigned long long)datasets,
            (unsigned long long)subsets);
}

int main(int argc, char **argv)
{
    static struct options o;
    struct sd_config config = SD_CONFIG_INIT;
    make_table(&o);
    o.cmd.program = (struct sd_program){
        .name = "sd-config",
        .args = "[FILE.toml|FILE.json]",
        .summary = "Turn sd-scripts' data set configuration into records",
        .options = o.table,
        .max_args = 1,
    };
    o.cmd.source = true;
    cmd_start(&o.cmd, &argc, argv);
    check_usage(&o, argc, argv);
    make_config(&o, &config);
    if (o.to_toml) {
        write_toml(&o, &config);
    } else {
        config_look(&o.cmd, &config);
        if (o.check || o.cmd.common.verbose)
            say_counts(&o, &config);
        if (!o.check && !config_write(&o.cmd, &config, o.seed) && !cmd_stopped(&o.cmd)) {
            cmd_warn(&o.cmd, "no pictures at all");
            cmd_status(&o.cmd, SD_ERR_DATA);
        }
    }
    sd_config_free(&config);
    return cmd_finish(&o.cmd);
}
