/* Pictures and their captions as one HTML page that needs nothing else: records as JSON, small pictures as
 * data: addresses, and a script that searches them and makes cards of those in sight. page.html is the page.
 *
 * Nothing from a record can become markup or script: it is text in a JSON block in which no "<" is left, and
 * the page's policy runs no script but its own. What is added goes to temporary files, so memory does not
 * grow with the pictures. */
#ifndef SD_DATA_PAGE_H
#define SD_DATA_PAGE_H

#include "record/record.h"

struct sd_page;

/* Starts a page that is to become the file. title NULL: the file's name without its ending. On failure *p is
 * NULL. */
int sd_page_open(struct sd_page **p, const char *path, const char *title, struct sd_err *err);

/* Adds a record: one with the member "seen" (sd-record(5)) and its picture as the bytes of a PNG or JPEG
 * file, or one that carries an error, without a picture (len 0). */
int sd_page_add(struct sd_page *p, const struct sd_record *r, const void *picture, size_t len,
                struct sd_err *err);

/* Writes the file, whole or not at all, and frees *p in every case. *bytes is its size. */
int sd_page_commit(struct sd_page **p, uint64_t *bytes, struct sd_err *err);

void sd_page_discard(struct sd_page **p); /* takes a pointer to NULL */

#endif
