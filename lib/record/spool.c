#include "record/spool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Whatever befalls the temporary file is this machine's fault. */
static int failed(struct sd_err *err, const char *what)
{
    sd_err_errno(err, what);
    if (err)
        err->code = SD_ERR_MACHINE;
    return -1;
}

int sd_spool_open(struct sd_spool *s, struct sd_err *err)
{
    const char *folder = getenv("TMPDIR");
    struct sd_buf name = SD_BUF_INIT;
    *s = SD_SPOOL_INIT;
    if (sd_buf_addf(&name, "%s/sd-spool.XXXXXX", folder && *folder ? folder : "/tmp"))
        return sd_err_memory(err, 0);
    int fd = mkstemp(name.data), bad = 0;
    if (fd < 0)
        bad = failed(err, "cannot make a temporary file");
    else if (unlink(name.data) || !(s->file = fdopen(fd, "w+")))
        bad = failed(err, "a temporary file");
    if (bad && fd >= 0)
        close(fd);
    if (fd < 0)
        sd_err_prefix(err, "%s", folder && *folder ? folder : "/tmp");
    sd_buf_free(&name);
    return bad;
}

int sd_spool_add(struct sd_spool *s, const struct sd_record *r, struct sd_err *err)
{
    sd_buf_clear(&s->text);
    if (sd_record_write(r, &s->text) || sd_buf_addc(&s->text, '\n'))
        return sd_err_memory(err, s->text.len);
    if (fwrite(s->text.data, 1, s->text.len, s->file) != s->text.len)
        return failed(err, "cannot write the temporary file");
    return 0;
}

int sd_spool_rewind(struct sd_spool *s, struct sd_err *err)
{
    return fflush(s->file) || fseeko(s->file, 0, SEEK_SET) ? failed(err, "cannot write the temporary file")
                                                           : 0;
}

int sd_spool_next(struct sd_spool *s, struct sd_record *r, struct sd_err *err)
{
    errno = 0;
    ssize_t len = getline(&s->line, &s->line_cap, s->file);
    if (len < 0 && feof(s->file) && !errno)
        return 0;
    if (len < 0)
        return failed(err, "cannot read the temporary file");
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
