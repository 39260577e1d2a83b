/* sd-tokenize: how many of CLIP's tokens a caption is, and what of it training would not see. */
#include "cmd.h"

#include "record/scan.h"
#include "text/caption.h"
#include "text/clip_bpe.h"
#include "text/str.h"

#include <stdlib.h>
#include <string.h>

enum { BODY = SD_CLIP_CONTEXT - 2 }; /* tokens of a chunk */

struct worker {
    struct sd_strings captions, tags;
    struct sd_buf text, counts, lost, ids; /* the last three: JSON, an element a caption */
    uint64_t texts, over, longest;
};

struct tokenize {
    struct sd_cmd cmd;
    const char *from, *separator;
    int64_t length; /* tokens that count */
    bool with_ids, padded, v2;
    struct sd_clip_bpe *bpe;
    struct worker *workers;
};

static int add_numbers(struct sd_buf *b, const int32_t *v, size_t n)
{
    int rc = sd_buf_addc(b, '[');
    for (size_t i = 0; i < n && !rc; i++)
        rc = sd_buf_addf(b, i ? ",%d" : "%d", v[i]);
    return rc || sd_buf_addc(b, ']');
}

/* The ids as the text encoder gets them: an array a chunk. */
static int add_chunks(struct tokenize *t, struct sd_buf *b, const int32_t *ids, size_t n, struct sd_err *err)
{
    int32_t chunks[3 * SD_CLIP_CONTEXT];
    int length = (int)t->length + 2;
    if (sd_clip_bpe_chunk_ids(t->bpe, ids, n, length, chunks, err))
        return -1;
    int rc = sd_buf_addc(b, '[');
    for (size_t k = 0; k < sd_clip_bpe_chunk_count(length) && !rc; k++)
        rc = (k && sd_buf_addc(b, ',')) || add_numbers(b, chunks + k * SD_CLIP_CONTEXT, SD_CLIP_CONTEXT);
    return rc || sd_buf_addc(b, ']') ? sd_err_memory(err, b->len) : 0;
}

/* What of w->text is behind the last token that counts, as a JSON string. */
static int add_lost(struct tokenize *t, struct worker *w, size_t tokens, struct sd_err *err)
{
    size_t fit = w->text.len;
    if (tokens > (size_t)t->length &&
        sd_clip_bpe_fit(t->bpe, w->text.data, w->text.len, (size_t)t->length, &fit, err))
        return -1;
    struct sd_str lost = sd_str_strip((struct sd_str){w->text.data + fit, w->text.len - fit});
    return sd_scan_quote(&w->lost, lost.data, lost.len) ? sd_err_memory(err, lost.len) : 0;
}

/* Counts w->text, caption number k of its record; *most is the longest of the record. */
static int add_text(struct tokenize *t, struct worker *w, size_t k, size_t *most, struct sd_err *err)
{
    int32_t *ids;
    size_t n;
    if (sd_clip_bpe_encode(t->bpe, w->text.data, w->text.len, &ids, &n, err))
        return -1;
    int rc = 0;
    if (k && (sd_buf_addc(&w->counts, ',') || sd_buf_addc(&w->lost, ',') || sd_buf_addc(&w->ids, ',')))
        rc = sd_err_memory(err, w->ids.len);
    if (!rc && sd_buf_addf(&w->counts, "%zu", n))
        rc = sd_err_memory(err, w->counts.len);
    if (!rc)
        rc = add_lost(t, w, n, err);
    if (!rc && t->padded)
        rc = add_chunks(t, &w->ids, ids, n, err);
    else if (!rc && t->with_ids && add_numbers(&w->ids, ids, n))
        rc = sd_err_memory(err, w->ids.len);
    free(ids);
    w->texts++;
    w->over += n > (size_t)t->length;
    w->longest = n > w->longest ? n : w->longest;
    *most = n > *most ? n : *most;
    return rc;
}

/* A member that is one value for a caption that is one text, and an array for an array. */
static int set_member(struct sd_record *r, const char *name, struct sd_buf *json, bool array)
{
    if (!array)
        return sd_record_set_raw(r, name, json->data, json->len);
    struct sd_buf whole = SD_BUF_INIT;
    int rc = sd_buf_addc(&whole, '[') || sd_buf_add(&whole, json->data, json->len) ||
             sd_buf_addc(&whole, ']') || sd_record_set_raw(r, name, whole.data, whole.len);
    sd_buf_free(&whole);
    return rc;
}

static int collect(struct tokenize *t, struct worker *w, struct sd_record *r, struct sd_err *err)
{
    const char *class_tokens = NULL;
    w->captions.n = w->tags.n = 0;
    if ((*t->from != 't' && sd_record_strings(r, "caption", &w->captions, err) < 0) ||
        (*t->from != 'c' && sd_record_strings(r, "tags", &w->tags, err) < 0))
        return -1;
    if (*t->from == 'b' && !w->captions.n && !w->tags.n) {
        if (sd_record_string(r, "class_tokens", &class_tokens, NULL, err) < 0)
            return -1;
        if (class_tokens && sd_strings_add(&w->captions, class_tokens))
            return sd_err_memory(err, strlen(class_tokens));
    }
    return 0;
}

static int tokenize(void *ctx, int worker, struct sd_record *r, struct sd_err *err)
{
    struct tokenize *t = ctx;
    struct worker *w = &t->workers[worker];
    size_t most = 0;
    uint64_t over = w->over;
    if (collect(t, w, r, err))
        return -1;
    const struct sd_member *caption = *t->from == 't' ? NULL : sd_record_find(r, "caption");
    bool array = caption && *caption->value == '[' && w->captions.n;
    sd_buf_clear(&w->counts);
    sd_buf_clear(&w->lost);
    sd_buf_clear(&w->ids);
    size_t n = w->captions.n ? w->captions.n : 1;
    for (size_t k = 0; k < n; k++) {
        sd_buf_clear(&w->text);
        if (sd_buf_reserve(&w->text, 0) || sd_caption_join(w->captions.n ? w->captions.v[k] : NULL, w->tags.v,
                                                           w->tags.n, t->separator, &w->text))
            return sd_err_memory(err, w->text.len);
        if (add_text(t, w, k, &most, err))
            return -1;
    }
    size_t chunks = most ? (most - 1) / BODY + 1 : 1;
    int rc = set_member(r, "tokens", &w->counts, array) || sd_record_set_int(r, "chunks", (int64_t)chunks);
    rc = rc || (w->over > over ? set_member(r, "lost", &w->lost, array) : sd_record_remove(r, "lost"));
    rc = rc || (t->with_ids && set_member(r, "ids", &w->ids, array));
    return rc ? sd_err_memory(err, w->ids.len) : SD_RECORD_KEEP;
}

static void finish(struct tokenize *t)
{
    struct worker all = {0};
    for (int i = 0; i < t->cmd.common.jobs; i++) {
        struct worker *w = &t->workers[i];
        all.texts += w->texts;
        all.over += w->over;
        all.longest = w->longest > all.longest ? w->longest : all.longest;
        sd_strings_free(&w->captions);
        sd_strings_free(&w->tags);
        sd_buf_free(&w->text);
        sd_buf_free(&w->counts);
        sd_buf_free(&w->lost);
        sd_buf_free(&w->ids);
    }
    free(t->workers);
    sd_clip_bpe_free(t->bpe);
    if (t->cmd.common.verbose)
        cmd_say(&t->cmd, "captions: %llu, the longest of %llu tokens; %llu lose text behind token %lld",
                (unsigned long long)all.texts, (unsigned long long)all.longest, (unsigned long long)all.over,
                (long long)t->length);
}

int main(int argc, char **argv)
{
    struct tokenize t = {.from = "both", .separator = ",", .length = 75};
    struct sd_err err = {0};
    const struct sd_option options[] = {
        {SD_OPT_CHOICE("from", 0, &t.from, "caption|tags|both", "the text that is counted")},
        {SD_OPT_STRING("caption-separator", 0, &t.separator, "TEXT", "what parts caption and tags")},
        {SD_OPT_INT("max-token-length", 0, &t.length, "75|150|225", "tokens of a caption that count")},
        {SD_OPT_BOOL("v2", 0, &t.v2, "count and pad as Stable Diffusion 2 does")},
        {SD_OPT_BOOL("ids", 0, &t.with_ids, "add the tokens' ids")},
        {SD_OPT_BOOL(
            "padded", 0, &t.padded,
            "add the ids as the text encoder gets them: cut, begun, ended, padded, in chunks of 77")},
        SD_OPT_END,
    };
    t.cmd.program = (struct sd_program){
        .name = "sd-tokenize",
        .summary = "Count the tokens of captions, and show what training would cut off",
        .options = options,
    };
    cmd_start(&t.cmd, &argc, argv);
    if (t.length != 75 && t.length != 150 && t.length != 225)
        cmd_usage(&t.cmd, "--max-token-length is 75, 150 or 225");
    t.with_ids |= t.padded;
    size_t jobs = (size_t)t.cmd.common.jobs;
    t.workers = calloc(jobs, sizeof *t.workers);
    if (!t.workers) {
        sd_err_memory(&err, jobs * sizeof *t.workers);
        cmd_die(&t.cmd, &err);
    }
    if (sd_clip_bpe_new(t.v2 ? SD_CLIP_SD2 : SD_CLIP_SD1, &t.bpe, &err))
        cmd_die(&t.cmd, &err);
    cmd_each(&t.cmd, tokenize, &t);
    finish(&t);
    return cmd_finish(&t.cmd);
}
