#include "record/spool.h"

#include "base/temp.h"

#include <errno.h>
#include <stdlib.h>

int sd_spool_open(struct sd_spool *s, struct sd_err *err)
{
    *s = SD_SPOOL_INIT;
    return (s->file = sd_temp_stream(err)) ? 0 : -1;
}

int sd_spool_add_lines(struct sd_spool *s, const char *lines, size_t len, struct sd_err *err)
{
    if (fwrite(lines, 1, len, s->file) != len)
        return sd_temp_failed(err, "cannot write the temporary file");
    s->bytes += len;
    return 0;
}

int sd_spool_add(struct sd_spool *s, const struct sd_record *r, struct sd_err *err)
{
    sd_buf_clear(&s->text);
    if (sd_record_write(r, &s->text) || sd_buf_addc(&s->text, '\n'))
        return sd_err_memory(err, s->text.len);
    return sd_spool_add_lines(s, s->text.data, s->text.len, err);
}

uint64_t sd_spool_place(const struct sd_spool *s)
{
    return s->bytes;
}

int sd_spool_rewind(struct sd_spool *s, struct sd_err *err)
{
    return sd_spool_seek(s, 0, err);
}

int sd_spool_seek(struct sd_spool *s, uint64_t place, struct sd_err *err)
{
    return fflush(s->file) || fseeko(s->file, (off_t)place, SEEK_SET)
               ? sd_temp_failed(err, "cannot write the temporary file")
               : 0;
}

int sd_spool_next(struct sd_spool *s, struct sd_record *r, struct sd_err *err)
{
    errno = 0;
    ssize_t len = getline(&s->line, &s->line_cap, s->file);
    if (len < 0 && feof(s->file) && !errno)
        return 0;
    if (len < 0)
        return sd_temp_failed(err, "cannot read the temporary file");
    return sd_record_parse(r, s->line, (size_t)len - (s->line[len - 1] == '\n'), err) ? -1 : 1;
}

void sd_spool_free(struct sd_spool *s)
{
    if (s->file)
        fclose(s->file);
    sd_buf_free(&s->text);
    free(s->line);
    *s = SD_SPOOL_INIT;
}
