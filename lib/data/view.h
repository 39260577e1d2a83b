/* One use of a picture in training, to look at: what is drawn for it, in the trainer's order, and the picture
 * that comes of it.
 *
 *     sd_view_draw(&v, item, &context, &random, err);   // in the order of the uses
 *     sd_view_picture(&v, err);                         // where it is to be seen; any thread
 *     sd_view_tell(&v, &record);                        // the member "seen" of sd-record(5)
 *     sd_view_free(&v);
 */
#ifndef SD_DATA_VIEW_H
#define SD_DATA_VIEW_H

#include "data/dataset.h"
#include "data/picture.h"

struct sd_view {
    /* set by the caller */
    struct sd_archives *archives; /* borrowed; where the picture may lie */
    int64_t epoch, batch;         /* from 1; batch 0: in none */
    double loss_weight;
    /* filled here */
    const struct sd_item *item; /* borrowed */
    bool mirrored, made;        /* made: cut and size are set */
    struct sd_augmented cut;    /* owned; its picture may be freed when it was used */
    struct sd_size size;        /* of that picture */
    struct sd_buf caption;      /* owned */
};

#define SD_VIEW_INIT ((struct sd_view){0})

/* Draws mirroring, augmentation and caption. The picture is read here only where the draws depend on it. */
int sd_view_draw(struct sd_view *v, const struct sd_item *item, const struct sd_caption_context *context,
                 struct sd_pyrandom *random, struct sd_err *err);

/* Makes v->cut where it is not made yet. */
int sd_view_picture(struct sd_view *v, struct sd_err *err);

/* Sets "seen". Without the picture it tells what the record tells. 0, or -1 when memory is out. */
int sd_view_tell(const struct sd_view *v, struct sd_record *r);

/* Empties it, for the next use. */
void sd_view_free(struct sd_view *v);

#endif
