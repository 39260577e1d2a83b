#include "data/view.h"

/* Cached latents can only be mirrored. */
static bool augmented(const struct sd_item *item)
{
    const struct sd_augment *a = &item->subset->augment;
    return !item->latents && (sd_augment_varies(a) || (a->face_crop && !item->subset->bucketed));
}

static int make(struct sd_view *v, struct sd_pyrandom *random, struct sd_err *err)
{
    const struct sd_item *item = v->item;
    struct sd_augment plain = {.filter = item->subset->augment.filter};
    struct sd_image picture;
    if (sd_picture_load(v->archives, item->path, 3, 0, &picture, err))
        return -1;
    struct sd_augment_target target = {.bucket = item->bucket,
                                       .resize = item->resize,
                                       .crop_x = item->crop[0],
                                       .crop_y = item->crop[1],
                                       .bucketed = item->subset->bucketed,
                                       .path = item->path};
    if (!item->bucket.w) /* whole */
        target.bucket = target.resize = (struct sd_size){picture.width, picture.height};
    if (sd_augment(augmented(item) ? &item->subset->augment : &plain, &target, &picture, v->mirrored, random,
                   &v->cut, err))
        return sd_err_prefix(err, "%s", item->path);
    v->size = (struct sd_size){v->cut.picture.width, v->cut.picture.height};
    v->made = true;
    return 0;
}

int sd_view_draw(struct sd_view *v, const struct sd_item *item, const struct sd_caption_context *context,
                 struct sd_pyrandom *random, struct sd_err *err)
{
    v->item = item;
    v->mirrored = sd_augment_mirrors(&item->subset->augment, random);
    v->made = false;
    if (augmented(item) && make(v, random, err))
        return -1;
    sd_buf_clear(&v->caption);
    return sd_caption_process(&item->subset->caption, context, random, item->caption, item->caption_len,
                              &v->caption, err);
}

int sd_view_picture(struct sd_view *v, struct sd_err *err)
{
    return v->made ? 0 : make(v, NULL, err);
}

int sd_view_tell(const struct sd_view *v, struct sd_record *r)
{
    const struct sd_item *item = v->item;
    int64_t size[2] = {item->bucket.w, item->bucket.h}, crop[2] = {item->crop[0], item->crop[1]};
    struct sd_record seen = SD_RECORD_INIT;
    struct sd_buf text = SD_BUF_INIT;
    if (v->made) {
        size[0] = v->size.w;
        size[1] = v->size.h;
        crop[0] = v->cut.crop_x;
        crop[1] = v->cut.crop_y;
    }
    sd_record_reset(&seen);
    int bad = sd_record_set_int(&seen, "epoch", v->epoch) ||
              (v->batch && sd_record_set_int(&seen, "batch", v->batch)) ||
              sd_record_set_bytes(&seen, "caption", v->caption.data ? v->caption.data : "", v->caption.len) ||
              sd_record_set_ints(&seen, "size", size, 2) || sd_record_set_ints(&seen, "crop", crop, 2) ||
              sd_record_set_bool(&seen, "flipped", v->mirrored) ||
              sd_record_set_double(&seen, "loss_weight", v->loss_weight) || sd_record_write(&seen, &text) ||
              sd_record_set_raw(r, "seen", text.data, text.len);
    sd_buf_free(&text);
    sd_record_free(&seen);
    return -bad;
}

void sd_view_free(struct sd_view *v)
{
    sd_image_free(&v->cut.picture);
    sd_buf_free(&v->caption);
    *v = SD_VIEW_INIT;
}
