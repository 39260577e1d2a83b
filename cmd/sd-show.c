/* sd-show: records in, what training will see of them out: as records, as a sheet, as a page, in a terminal.
 */
#include "subset_options.h"

#include "base/path.h"
#include "data/page.h"
#include "data/view.h"
#include "image/fit.h"
#include "image/jpeg.h"
#include "image/png.h"
#include "image/sheet.h"
#include "image/terminal.h"
#include "record/spool.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 64 };                /* uses whose pictures are made at the same time, at most */
enum { SMALL = 128, QUALITY = 85 }; /* of pictures in the page: up to here PNG, else JPEG */

/* One use, on its way through: drawn in order, its picture made with others at a time, shown in order. */
struct slot {
    struct sd_view view;
    struct sd_record record; /* owns its text */
    struct sd_dataset alone; /* --order input: holds the item */
    size_t index;            /* --order epoch: of the item */
    bool given_up;           /* the record came with an error */
    struct sd_err err;
    struct sd_image picture; /* as large as a cell at most */
    struct sd_buf file;      /* the same as a file, for the page */
};

struct show {
    struct sd_cmd cmd;
    struct cmd_subset subset;
    const char *order, *sheet_path, *html, *title, *terminal;
    int64_t epochs, batch_size, limit, seed, cell, columns, lines;
    enum sd_terminal drawn;
    struct sd_pyrandom random;
    struct sd_archives archives;
    struct sd_dataset data;
    struct sd_spool records; /* of data's items, at these places */
    uint64_t *places;
    size_t cap_places;
    bool *failed; /* of data's items: already told */
    struct sd_sheet sheet;
    struct sd_page *page;
    struct slot slots[BLOCK];
    size_t n_slots;
    int64_t shown;
};

/* ---- a block of uses ---- */

static bool needs_picture(const struct show *s, const struct slot *slot)
{
    return s->sheet_path || s->html || s->drawn || !slot->view.item->bucket.w;
}

/* Small pictures are shown enlarged, so every pixel counts. */
static int encode(const struct sd_image *im, struct sd_buf *out, struct sd_err *err)
{
    return im->width <= SMALL && im->height <= SMALL ? sd_png_encode(im, NULL, 0, out, err)
                                                     : sd_jpeg_encode(im, QUALITY, out, err);
}

/* The picture, its small copy, its file. */
static int make(const struct show *s, struct slot *slot, struct sd_err *err)
{
    if (slot->picture.data || !needs_picture(s, slot))
        return 0;
    if (sd_view_picture(&slot->view, err))
        return -1;
    int rc = sd_image_fit(&slot->view.cut.picture, (uint32_t)s->cell, false, &slot->picture, err);
    sd_image_free(&slot->view.cut.picture);
    if (rc)
        return -1;
    return s->html ? encode(&slot->picture, &slot->file, err) : 0;
}

static void put_line(struct show *s, const struct sd_record *r)
{
    struct sd_buf line = SD_BUF_INIT;
    if (s->drawn)
        return;
    if (sd_record_write(r, &line) || sd_buf_addc(&line, '\n'))
        cmd_die(&s->cmd, &(struct sd_err){SD_ERR_MACHINE, "out of memory"});
    sd_stream_write(s->cmd.stream, line.data, line.len, 1);
    sd_buf_free(&line);
}

/* The picture where the cursor is, path and facts below, then the caption. */
static void draw(struct show *s, const struct slot *slot)
{
    const struct sd_view *v = &slot->view;
    struct sd_image large;
    struct sd_buf out = SD_BUF_INIT;
    struct sd_err err = {0};
    if (sd_image_fit(&slot->picture, (uint32_t)s->cell, true, &large, &err))
        cmd_die(&s->cmd, &err);
    int bad = sd_terminal_draw(s->drawn, &large, &out, &err);
    sd_image_free(&large);
    if (bad)
        cmd_die(&s->cmd, &err);
    if (sd_buf_addc(&out, '\n') || sd_path_visible(&out, v->item->path, strlen(v->item->path)) ||
        sd_buf_addf(&out, "  %lldx%lld%s\n", (long long)v->size.w, (long long)v->size.h,
                    v->mirrored ? "  mirrored" : "") ||
        sd_path_visible(&out, v->caption.data ? v->caption.data : "", v->caption.len) ||
        sd_buf_adds(&out, "\n\n"))
        cmd_die(&s->cmd, &(struct sd_err){SD_ERR_MACHINE, "out of memory"});
    sd_stream_write(s->cmd.stream, out.data, out.len, 1);
    sd_buf_free(&out);
}

static void put_failed(struct show *s, struct slot *slot)
{
    struct sd_err err = {0};
    if (s->failed && s->failed[slot->index])
        return;
    if (s->failed)
        s->failed[slot->index] = true;
    if (!slot->given_up)
        cmd_fail(&s->cmd, &slot->record, &slot->err);
    put_line(s, &slot->record);
    if ((s->page && sd_page_add(s->page, &slot->record, NULL, 0, &err)) ||
        (s->sheet_path && sd_sheet_add(&s->sheet, NULL, &err)))
        cmd_die(&s->cmd, &err);
}

static void put(struct show *s, struct slot *slot)
{
    const char *caption = slot->view.caption.data ? slot->view.caption.data : "";
    struct sd_err err = {0};
    if (slot->given_up || slot->err.code) {
        put_failed(s, slot);
        return;
    }
    if (sd_view_tell(&slot->view, &slot->record))
        cmd_die(&s->cmd, &(struct sd_err){SD_ERR_MACHINE, "out of memory"});
    put_line(s, &slot->record);
    if (s->drawn)
        draw(s, slot);
    if ((s->page && sd_page_add(s->page, &slot->record, slot->file.data, slot->file.len, &err)) ||
        (s->sheet_path && (sd_sheet_add(&s->sheet, &slot->picture, &err) ||
                           sd_sheet_label(&s->sheet, caption, slot->view.caption.len, &err))))
        cmd_die(&s->cmd, &err);
    s->shown++;
}

static void empty(struct slot *slot)
{
    sd_view_free(&slot->view);
    sd_record_free(&slot->record);
    sd_dataset_free(&slot->alone);
    sd_image_free(&slot->picture);
    sd_buf_free(&slot->file);
    *slot = (struct slot){0};
}

/* Makes the pictures of the block, shows them, and begins the next. */
static void show_block(struct show *s)
{
#pragma omp parallel for schedule(dynamic, 1) num_threads(s->cmd.common.jobs)
    for (size_t i = 0; i < s->n_slots; i++) {
        struct slot *slot = &s->slots[i];
        if (!slot->given_up && !slot->err.code && !cmd_stopped(&s->cmd))
            make(s, slot, &slot->err);
    }
    for (size_t i = 0; i < s->n_slots; i++) {
        if (!cmd_stopped(&s->cmd))
            put(s, &s->slots[i]);
        empty(&s->slots[i]);
    }
    s->n_slots = 0;
    cmd_progress(&s->cmd, (uint64_t)s->shown, NULL);
}

static void end_slot(struct show *s)
{
    if (++s->n_slots == BLOCK)
        show_block(s);
}

static bool enough(const struct show *s)
{
    return cmd_stopped(&s->cmd) || (s->limit && s->shown + (int64_t)s->n_slots >= s->limit);
}

/* Draws for the slot's item. A picture that is made on the way does not stay at its full size: a block of
 * them would. */
static void use(struct show *s, struct slot *slot, const struct sd_item *item, int64_t epoch, int64_t batch,
                const struct sd_caption_context *context)
{
    slot->view.archives = &s->archives;
    slot->view.epoch = epoch;
    slot->view.batch = batch;
    slot->view.loss_weight = item->reg ? s->subset.prior_loss_weight : 1;
    if (!sd_view_draw(&slot->view, item, context, &s->random, &slot->err) && slot->view.made)
        make(s, slot, &slot->err);
}

/* ---- in the order of the input: each record with all its uses ---- */

static void copy_record(struct show *s, const struct sd_record *from, struct sd_record *to)
{
    struct sd_buf line = SD_BUF_INIT;
    struct sd_err err = {0};
    if (sd_record_write(from, &line))
        sd_err_memory(&err, line.len);
    else
        sd_record_parse_copy(to, line.data, line.len, &err);
    sd_buf_free(&line);
    if (err.code)
        cmd_die(&s->cmd, &err);
}

static void show_record(struct show *s, struct sd_record *r)
{
    for (int64_t epoch = 1; epoch <= s->epochs && !enough(s); epoch++) {
        struct slot *slot = &s->slots[s->n_slots];
        copy_record(s, r, &slot->record);
        slot->given_up = sd_record_failed(r);
        sd_dataset_init(&slot->alone, &s->data.options);
        if (!slot->given_up && !sd_dataset_add(&slot->alone, &slot->record, &slot->err))
            use(s, slot, slot->alone.items, epoch, 0,
                &(struct sd_caption_context){
                    .epoch = epoch, .step = epoch - 1, .max_train_steps = s->epochs});
        bool failed = slot->given_up || slot->err.code;
        end_slot(s);
        if (failed)
            return;
    }
}

static void show_input(struct show *s)
{
    struct sd_record r = SD_RECORD_INIT;
    uint64_t ticket;
    while (!enough(s) && cmd_next(&s->cmd, &r, &ticket)) {
        cmd_drop(&s->cmd, ticket);
        show_record(s, &r);
        if (!sd_stream_ready(s->cmd.stream)) {
            show_block(s);
            sd_stream_flush(s->cmd.stream);
        }
    }
    show_block(s);
    sd_record_free(&r);
}

/* ---- in the order of training ---- */

static int keep(struct show *s, struct sd_record *r, struct sd_err *err)
{
    uint64_t place = sd_spool_place(&s->records);
    if (sd_dataset_add(&s->data, r, err) || sd_spool_add(&s->records, r, err))
        return -1;
    if (s->data.n_items > s->cap_places) {
        uint64_t *more = realloc(s->places, s->data.cap_items * sizeof *more);
        if (!more)
            return sd_err_memory(err, s->data.cap_items * sizeof *more);
        s->places = more;
        s->cap_places = s->data.cap_items;
    }
    s->places[s->data.n_items - 1] = place;
    return 0;
}

/* Records that cannot be trained on go out at once, before the others. */
static void read_all(struct show *s)
{
    struct sd_record r = SD_RECORD_INIT;
    struct sd_err err;
    uint64_t ticket;
    while (cmd_next(&s->cmd, &r, &ticket)) {
        err = (struct sd_err){0};
        bool given_up = sd_record_failed(&r);
        if (!given_up && !keep(s, &r, &err)) {
            cmd_drop(&s->cmd, ticket);
            continue;
        }
        if (err.code == SD_ERR_MACHINE)
            cmd_die(&s->cmd, &err);
        if (!given_up)
            cmd_fail(&s->cmd, &r, &err);
        if (s->page && sd_page_add(s->page, &r, NULL, 0, &err))
            cmd_die(&s->cmd, &err);
        if (s->drawn)
            cmd_drop(&s->cmd, ticket);
        else
            cmd_put(&s->cmd, ticket, &r);
    }
    sd_record_free(&r);
}

static void fetch(struct show *s, size_t index, struct sd_record *r)
{
    struct sd_record borrowed = SD_RECORD_INIT;
    struct sd_err err = {0};
    if (sd_spool_seek(&s->records, s->places[index], &err) ||
        sd_spool_next(&s->records, &borrowed, &err) <= 0)
        cmd_die(&s->cmd, &err);
    copy_record(s, &borrowed, r);
    sd_record_free(&borrowed);
}

static void show_epoch(struct show *s, int64_t epoch)
{
    for (size_t b = 0; b < s->data.n_batches; b++) {
        const struct sd_batch_ref *ref = &s->data.batches[b];
        struct sd_caption_context context = {.epoch = epoch,
                                             .step = (epoch - 1) * (int64_t)s->data.n_batches + (int64_t)b,
                                             .max_train_steps = s->epochs * (int64_t)s->data.n_batches};
        for (size_t k = 0; k < ref->count && !enough(s); k++) {
            struct slot *slot = &s->slots[s->n_slots];
            const struct sd_item *item = sd_dataset_item(&s->data, ref, k);
            slot->index = (size_t)(item - s->data.items);
            fetch(s, slot->index, &slot->record);
            use(s, slot, item, epoch, (int64_t)b + 1, &context);
            end_slot(s);
        }
    }
}

static void show_training(struct show *s)
{
    struct sd_err err = {0};
    struct sd_rng loader;
    if (sd_spool_open(&s->records, &err))
        cmd_die(&s->cmd, &err);
    read_all(s);
    if (cmd_stopped(&s->cmd) || !s->data.n_items)
        return;
    if (!(s->failed = calloc(s->data.n_items, sizeof *s->failed)))
        sd_err_memory(&err, s->data.n_items);
    if (err.code || sd_dataset_finish(&s->data, &err))
        cmd_die(&s->cmd, &err);
    s->cmd.total = (uint64_t)(sd_dataset_pictures(&s->data, false) * s->epochs);
    if (s->limit && s->cmd.total > (uint64_t)s->limit)
        s->cmd.total = (uint64_t)s->limit;
    /* What sd-train draws before its first epoch. */
    sd_rng_seed(&loader, (uint64_t)s->seed);
    sd_pyrandom_getrandbits(&s->random, 32);
    int64_t seed = sd_pyrandom_randint(&s->random, 0, (int64_t)1 << 31);
    for (int64_t epoch = 1; epoch <= s->epochs && !enough(s); epoch++) {
        if (sd_dataset_epoch(&s->data, seed, epoch, &loader, &err))
            cmd_die(&s->cmd, &err);
        show_epoch(s, epoch);
    }
    show_block(s);
}

/* ---- results ---- */

static void begin(struct show *s)
{
    struct sd_err err = {0};
    if (s->terminal) {
        s->drawn = !strcmp(s->terminal, "kitty")   ? SD_TERMINAL_KITTY
                   : !strcmp(s->terminal, "sixel") ? SD_TERMINAL_SIXEL
                                                   : sd_terminal_guess();
        if (!s->drawn)
            cmd_usage(&s->cmd, "--terminal auto: nothing tells that this terminal can show pictures; "
                               "say kitty or sixel if it can");
    }
    s->sheet = (struct sd_sheet){
        .cell = (uint32_t)s->cell, .gap = 4, .columns = (uint32_t)s->columns, .lines = (uint32_t)s->lines};
    if (s->html && sd_page_open(&s->page, s->html, s->title, &err))
        cmd_die(&s->cmd, &err);
    if (s->seed < 0)
        s->seed = sd_clock_ns() & 0x7fffffff;
    sd_pyrandom_seed(&s->random, s->seed);
    sd_dataset_init(&s->data, &(struct sd_dataset_options){
                                  .batch_size = s->batch_size, .subset = s->subset.base, .look = true});
}

static void note(struct show *s, const struct sd_err *err)
{
    cmd_warn(&s->cmd, "%s", err->msg);
    cmd_status(&s->cmd, err->code);
}

static void save_sheet(struct show *s)
{
    struct sd_err err = {0};
    struct sd_image sheet;
    if (sd_sheet_draw(&s->sheet, &sheet, &err)) {
        sd_err_prefix(&err, "%s", s->sheet_path);
        note(s, &err);
        return;
    }
    if (sd_png_save(s->sheet_path, &sheet, NULL, 0, &err))
        note(s, &err);
    sd_image_free(&sheet);
}

static void save_page(struct show *s)
{
    struct sd_err err = {0};
    uint64_t bytes;
    if (sd_page_commit(&s->page, &bytes, &err))
        note(s, &err);
    else
        cmd_say(&s->cmd, "%s: %.1f MB", s->html, (double)bytes / 1e6);
}

static int end(struct show *s)
{
    if (!cmd_stopped(&s->cmd) && s->sheet_path)
        save_sheet(s);
    if (!cmd_stopped(&s->cmd) && s->page)
        save_page(s);
    sd_page_discard(&s->page);
    sd_sheet_free(&s->sheet);
    sd_archives_free(&s->archives);
    sd_dataset_free(&s->data);
    sd_spool_free(&s->records);
    free(s->places);
    free(s->failed);
    return cmd_finish(&s->cmd);
}

int main(int argc, char **argv)
{
    struct show s = {.subset = CMD_SUBSET_DEFAULTS,
                     .order = "epoch",
                     .epochs = 1,
                     .batch_size = 1,
                     .seed = -1,
                     .cell = 256,
                     .lines = 3};
    const struct sd_option options[] = {
        {SD_OPT_HEADING("What is shown")},
        {SD_OPT_CHOICE("order", 0, &s.order, "epoch|input",
                       "as training takes them, each as often as it repeats, or as they come in")},
        {SD_OPT_INT("epochs", 0, &s.epochs, "N", "epochs to go through"), .min = 1, .max = 1e6},
        {SD_OPT_INT("limit", 'n', &s.limit, "N", "end after N pictures; 0: never"), .max = 1e9},
        {SD_OPT_INT("train-batch-size", 'b', &s.batch_size, "N", "pictures in a batch"),
         .alias = "batch-size", .min = 1, .max = 4096},
        {SD_OPT_INT("seed", 0, &s.seed, "N", "random numbers to use; negative: by the clock"), .min = -1,
         .max = 9e15},
        {SD_OPT_HEADING("How")},
        {SD_OPT_STRING("html", 0, &s.html, "FILE", "write a page to search and filter in a browser")},
        {SD_OPT_STRING("title", 0, &s.title, "TEXT", "the page's title; the file's name when not given")},
        {SD_OPT_STRING("sheet", 0, &s.sheet_path, "FILE", "write a contact sheet, a PNG file")},
        {SD_OPT_INT("columns", 'c', &s.columns, "N",
                    "pictures in a row of the sheet; 0 makes it about square"),
         .max = 65536},
        {SD_OPT_INT("caption-lines", 0, &s.lines, "N",
                    "lines of the caption below each picture of the sheet"),
         .max = 100},
        {SD_OPT_CHOICE("terminal", 't', &s.terminal, "auto|kitty|sixel",
                       "draw pictures and captions on standard output in place of records")},
        {SD_OPT_INT("cell", 0, &s.cell, "N", "longest side of a picture in these, in pixels"), .min = 16,
         .max = 4096},
        {SD_OPT_HEADING("Captions and pictures")},
        CMD_SUBSET_OPTIONS(&s.subset),
        SD_OPT_END};
    s.cmd = (struct sd_cmd){.program = {.name = "sd-show",
                                        .args = "",
                                        .summary = "show what training will see of the records",
                                        .options = options},
                            .own_progress = true};
    cmd_start(&s.cmd, &argc, argv);
    cmd_subset_settle(&s.cmd, &s.subset);
    begin(&s);
    if (*s.order == 'i')
        show_input(&s);
    else
        show_training(&s);
    return end(&s);
}
