/* The metadata JSON of sd-scripts' fine-tuning data sets: one object whose names are pictures and whose
 * values are entries with caption and tags (texts), train_resolution and image_size ([width, height]); and
 * records, which it becomes and comes from (library/train_util.py FineTuningDataset,
 * finetune/merge_captions_to_metadata.py and its neighbours).
 *
 *     entry               record
 *     its name            path
 *     caption             caption: a string, or an array when the text has several lines
 *     tags "a, b"         tags ["a","b"]
 *     train_resolution    bucket
 *     image_size          width, height
 *     all others          the same, byte for byte (line breaks between tokens go)
 *
 * Where the text is not what its parts would be joined to ("a,b", blanks at the ends of lines), it stays in a
 * member metadata_caption or metadata_tags, and counts on the way back as long as the parts are the same. */
#ifndef SD_DATA_METADATA_H
#define SD_DATA_METADATA_H

#include "base/buf.h"
#include "base/err.h"
#include "record/record.h"

/* ---- texts ---- */

/* Sets caption: text cut at line ends, one line as a string and several as an array; or tags: text cut at
 * commas and line ends, as an array. Blanks around the parts, and empty parts, go. text[len] must be
 * writable; parts is scratch and holds the parts afterwards. 0 or -1. */
int sd_caption_set(struct sd_record *r, char *text, size_t len, struct sd_strings *parts, struct sd_err *err);
int sd_tags_set(struct sd_record *r, char *text, size_t len, struct sd_strings *parts, struct sd_err *err);

enum sd_text_kind { SD_TEXT_CAPTION, SD_TEXT_TAGS };

/* ---- entries ---- */

struct sd_metadata { /* scratch of the functions below; all zero at first */
    struct sd_record entry;
    struct sd_buf line, text, copy;
    struct sd_strings parts, again;
};

void sd_metadata_free(struct sd_metadata *m);

/* Sets caption or tags as above, of a file's text as sd-scripts' merge scripts read it: blanks at both ends
 * go, line ends become newlines, and what the parts do not tell is kept. 0 or -1. */
int sd_metadata_set_text(struct sd_metadata *m, struct sd_record *r, enum sd_text_kind kind, const char *text,
                         size_t len, struct sd_err *err);

/* Appends the parts of caption or tags as they stand in a file beside the picture: lines, or tags between
 * commas; with a newline at the end. Parts that would be read as others, with a comma or a line end in them,
 * are an error. 1, 0 when there is no such member, -1. m->parts holds the parts. */
int sd_metadata_file_text(struct sd_metadata *m, struct sd_record *r, enum sd_text_kind kind,
                          struct sd_buf *out, struct sd_err *err);

/* Makes r of the entry's JSON text. r lives until m is used again. On failure r still has path and what else
 * there is, to carry the error. */
int sd_metadata_to_record(struct sd_metadata *m, const char *entry, size_t len, const char *path,
                          size_t path_len, struct sd_record *r, struct sd_err *err);

/* Appends the entry's JSON text. *inexact is set when a caption or tag holds what stands between them there,
 * so that it will be read as other ones. */
int sd_metadata_from_record(struct sd_metadata *m, struct sd_record *r, struct sd_buf *out, bool *inexact,
                            struct sd_err *err);

/* ---- names of entries ---- */

/* The picture an entry's name stands for, as sd-scripts finds it: the name below image_dir (NULL: none), the
 * name as it is, or the first of both with an ending of a picture. path receives it; when there is no such
 * file, the name below image_dir, and -1 with err. */
int sd_metadata_find(const char *name, const char *image_dir, struct sd_buf *path, struct sd_err *err);

/* path = the name below image_dir, or as it is when that is NULL or the name begins with a slash. */
int sd_metadata_join(const char *name, const char *image_dir, struct sd_buf *path, struct sd_err *err);

/* The name of a picture's entry: its path; with image_dir, what follows that folder in it; with stem, only
 * the file's name without its ending, in which case the picture must lie directly in image_dir. */
int sd_metadata_name(const char *path, const char *image_dir, bool stem, struct sd_buf *name,
                     struct sd_err *err);

#endif
