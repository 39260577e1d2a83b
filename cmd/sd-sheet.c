/* sd-sheet: records with path in, the same out, and all their pictures on one contact sheet. */
#include "cmd.h"

#include "data/picture.h"
#include "image/png.h"
#include "image/sheet.h"

/* The record's picture goes into the next cell; a cell stays empty where there is none. */
static int add(struct sd_sheet *sheet, struct sd_archives *archives, struct sd_record *r, struct sd_err *err)
{
    const char *path;
    struct sd_image im = SD_IMAGE_INIT;
    struct sd_err ignored;
    if (sd_record_failed(r))
        return sd_sheet_add(sheet, NULL, err);
    if (sd_record_need_string(r, "path", &path, err) || sd_picture_load(archives, path, 3, 0, &im, err)) {
        sd_sheet_add(sheet, NULL, &ignored);
        return -1;
    }
    int rc = sd_sheet_add(sheet, &im, err);
    sd_image_free(&im);
    return rc;
}

static void each_record(struct sd_cmd *c, struct sd_sheet *sheet)
{
    struct sd_record r = SD_RECORD_INIT;
    struct sd_archives archives = {0};
    uint64_t ticket;
    while (cmd_next(c, &r, &ticket)) {
        struct sd_err err = {0};
        if (add(sheet, &archives, &r, &err))
            cmd_fail(c, &r, &err);
        cmd_put(c, ticket, &r);
    }
    sd_record_free(&r);
    sd_archives_free(&archives);
}

static int save(const struct sd_sheet *sheet, const char *path, struct sd_err *err)
{
    struct sd_image out;
    if (sd_sheet_draw(sheet, &out, err))
        return sd_err_prefix(err, "%s", path);
    int rc = sd_png_save(path, &out, NULL, 0, err);
    sd_image_free(&out);
    return rc;
}

int main(int argc, char **argv)
{
    const char *output = NULL;
    int64_t columns = 0, cell = 256, gap = 4;
    const struct sd_option options[] = {
        {SD_OPT_STRING("output", 'o', &output, "FILE", "the sheet, a PNG file")},
        {SD_OPT_INT("columns", 'c', &columns, "N", "pictures in a row; 0 makes the sheet about square"),
         .min = 0, .max = 65536},
        {SD_OPT_INT("cell", 0, &cell, "N", "side of the square a picture is fitted into, in pixels"),
         .min = 1, .max = 16384},
        {SD_OPT_INT("gap", 0, &gap, "N", "grey pixels between and around them"), .min = 0, .max = 1024},
        SD_OPT_END};
    struct sd_cmd c = {.program = {.name = "sd-sheet",
                                   .args = "",
                                   .summary = "lay the records' pictures out on one contact sheet",
                                   .options = options}};
    cmd_start(&c, &argc, argv);
    if (!output)
        cmd_usage(&c, "no sheet to write: --output FILE");
    struct sd_sheet sheet = {.cell = (uint32_t)cell, .gap = (uint32_t)gap, .columns = (uint32_t)columns};
    struct sd_err err = {0};
    each_record(&c, &sheet);
    if (!cmd_stopped(&c) && save(&sheet, output, &err)) {
        cmd_warn(&c, "%s", err.msg);
        cmd_status(&c, err.code);
    }
    sd_sheet_free(&sheet);
    return cmd_finish(&c);
}
