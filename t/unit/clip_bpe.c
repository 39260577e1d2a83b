/* The CLIP tokenizer against transformers' own: thousands of texts (t/data/text/clip.tsv) and every code
 * point there is (clip-code-points.tsv), both made by t/ref/text.py; then its limits and errors. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zlib.h>

#include "base/buf.h"
#include "fields.h"
#include "tap.h"
#include "text/clip_bpe.h"
#include "text/unicode.h"

static struct sd_clip_bpe *sd1, *sd2;
static struct sd_err err;

static unsigned long crc_ids(const int32_t *ids, size_t n)
{
    return crc32_z(0, (const unsigned char *)ids, n * sizeof *ids);
}

static int same_ids(const struct sd_clip_bpe *bpe, const struct sd_buf *text, const char *count,
                    const char *sum)
{
    int32_t *ids;
    size_t n;
    if (sd_clip_bpe_encode(bpe, text->data, text->len, &ids, &n, &err)) {
        printf("# %s\n", err.msg);
        return 0;
    }
    int good = n == strtoul(count, NULL, 10) && crc_ids(ids, n) == strtoul(sum, NULL, 16);
    if (!good) {
        printf("# got %zu ids:", n);
        for (size_t i = 0; i < n && i < 40; i++)
            printf(" %d", ids[i]);
        printf("\n");
    }
    free(ids);
    return good;
}

/* Ids of the first len bytes, or -1 where they are no beginning of ids[n]. */
static long ids_of_beginning(const struct sd_clip_bpe *bpe, const char *text, size_t len, const int32_t *ids,
                             size_t n)
{
    int32_t *some = NULL;
    size_t count = 0;
    int good = !sd_clip_bpe_encode(bpe, text, len, &some, &count, &err) && count <= n &&
               !memcmp(some, ids, count * sizeof *ids);
    free(some);
    return good ? (long)count : -1;
}

/* sd_clip_bpe_fit for every number of ids, against trying all beginnings. */
static int fits(const struct sd_clip_bpe *bpe, const struct sd_buf *text)
{
    int32_t *ids = NULL;
    size_t n = 0, fit;
    long counts[100];
    int good = text->len < 100 && !sd_clip_bpe_encode(bpe, text->data, text->len, &ids, &n, &err);
    for (size_t c = 0, next = 0; c <= text->len && good; c++) {
        uint32_t cp;
        counts[c] = c < next ? -1 : ids_of_beginning(bpe, text->data, c, ids, n);
        if (c == next && c < text->len)
            next += sd_unicode_next(text->data + c, text->len - c, &cp);
    }
    for (size_t room = 0; room <= n + 1 && good; room++) {
        long best = 0;
        for (size_t c = 0; c <= text->len; c++)
            if (counts[c] > best && counts[c] <= (long)room)
                best = counts[c];
        good = !sd_clip_bpe_fit(bpe, text->data, text->len, room, &fit, &err) && fit <= text->len &&
               counts[fit] == best && (room < n || fit == text->len);
        if (!good)
            printf("# \"%.*s\": %zu bytes fit %zu ids, where %ld ids are whole\n", (int)text->len, text->data,
                   fit, room, best);
    }
    free(ids);
    return good;
}

static int same_decode(const struct sd_clip_bpe *bpe, char *numbers, const struct sd_buf *want)
{
    int32_t ids[1000];
    size_t n = 0, len;
    char *text;
    for (char *w = strtok(numbers, " "); w && n < 1000; w = strtok(NULL, " "))
        ids[n++] = atoi(w);
    if (sd_clip_bpe_decode(bpe, ids, n, &text, &len, &err))
        return 0;
    int good = len == want->len && !memcmp(text, want->data, len);
    if (!good)
        printf("# got \"%s\"\n", text);
    free(text);
    return good;
}

/* added <tab> tokens, " | " between them <tab> text <tab> count <tab> crc <tab> decoded */
static int same_added(char **field, struct sd_buf *buf)
{
    struct sd_clip_bpe *bpe;
    if (sd_clip_bpe_new(SD_CLIP_SD1, &bpe, &err))
        return 0;
    int good = 1;
    int32_t id, want = SD_CLIP_VOCAB;
    unescape(field[1], buf);
    for (char *s = buf->data, *end; s && good; s = end ? end + 3 : NULL) {
        end = strstr(s, " | ");
        good = !sd_clip_bpe_add_token(bpe, s, end ? (size_t)(end - s) : strlen(s), &id, &err) && id == want++;
    }
    unescape(field[2], buf);
    good = good && same_ids(bpe, buf, field[3], field[4]);
    int32_t *ids = NULL;
    size_t n = 0, len = 0;
    char *text = NULL;
    good = good && !sd_clip_bpe_encode(bpe, buf->data, buf->len, &ids, &n, &err) &&
           !sd_clip_bpe_decode(bpe, ids, n, &text, &len, &err);
    unescape(field[5], buf);
    if (good && (len != buf->len || memcmp(text, buf->data, len))) {
        printf("# decoded \"%s\"\n", text);
        good = 0;
    }
    free(ids);
    free(text);
    sd_clip_bpe_free(bpe);
    return good;
}

static int run_line(char **field, int fields)
{
    struct sd_buf text = SD_BUF_INIT, whole = SD_BUF_INIT;
    int good = 0;
    if (fields == 6 && !strcmp(field[0], "added")) {
        good = same_added(field, &text);
    } else if (fields >= 4) {
        const struct sd_clip_bpe *bpe = field[1][0] == '2' ? sd2 : sd1;
        unescape(field[!strcmp(field[0], "decode") ? 3 : 2], &text);
        if (!strcmp(field[0], "encode")) {
            good = same_ids(bpe, &text, field[3], field[4]) && (text.len >= 100 || fits(bpe, &text));
        } else if (!strcmp(field[0], "repeat")) {
            for (long i = atol(field[3]); i > 0; i--)
                sd_buf_add(&whole, text.data, text.len);
            good = same_ids(bpe, &whole, field[4], field[5]);
        } else if (!strcmp(field[0], "chunks")) {
            int32_t chunks[3 * 77];
            size_t n = sd_clip_bpe_chunk_count(atoi(field[3])) * 77;
            good = !sd_clip_bpe_chunks(bpe, text.data, text.len, atoi(field[3]), chunks, &err) &&
                   crc_ids(chunks, n) == strtoul(field[4], NULL, 16);
        } else if (!strcmp(field[0], "decode")) {
            good = same_decode(bpe, field[2], &text);
        }
    }
    sd_buf_free(&text);
    sd_buf_free(&whole);
    return good;
}

static void add_code_point(struct sd_buf *b, uint32_t cp)
{
    char utf8[4];
    sd_buf_add(b, utf8, sd_unicode_encode(cp, utf8));
}

/* Checks the ids of 4096 code points, each alone or amid a word. */
static int same_block(uint32_t block, int alone, unsigned long want)
{
    struct sd_buf text = SD_BUF_INIT, all = SD_BUF_INIT;
    for (uint32_t cp = block; cp < block + 4096; cp++) {
        sd_buf_clear(&text);
        if (!alone)
            sd_buf_adds(&text, "x");
        add_code_point(&text, cp);
        if (!alone) {
            sd_buf_adds(&text, "Σ");
            add_code_point(&text, cp);
            sd_buf_adds(&text, "'s1 ");
            add_code_point(&text, cp);
            add_code_point(&text, cp);
        }
        int32_t *ids;
        size_t n;
        if (sd_clip_bpe_encode(sd1, text.data, text.len, &ids, &n, &err))
            break;
        int32_t count = (int32_t)n;
        sd_buf_add(&all, &count, sizeof count);
        sd_buf_add(&all, ids, n * sizeof *ids);
        free(ids);
    }
    unsigned long sum = crc32_z(0, (unsigned char *)all.data, all.len);
    sd_buf_free(&text);
    sd_buf_free(&all);
    return sum == want;
}

static void test_code_points(void)
{
    FILE *in = fopen("t/data/text/clip-code-points.tsv", "r");
    unsigned block;
    unsigned long alone, amid;
    int blocks = 0, bad = 0;
    while (in && fscanf(in, "%x %lx %lx", &block, &alone, &amid) == 3) {
        blocks++;
        if (!same_block(block, 1, alone) || !same_block(block, 0, amid)) {
            bad++;
            printf("# code points %x to %x differ\n", block, block + 4095);
        }
    }
    ok(blocks == 272 && bad == 0, "every code point gives the reference's ids, alone and in a word");
    if (in)
        fclose(in);
}

static void test_limits(void)
{
    int32_t *ids, id, chunks[77];
    size_t n, len;
    char *text;
    ok(!sd_clip_bpe_encode(sd1, "", 0, &ids, &n, &err) && n == 0 && ids, "empty text gives no ids, not NULL");
    free(ids);
    ok(sd_clip_bpe_chunks(sd1, "a", 1, 100, chunks, &err) == -1 && strstr(err.msg, "100"),
       "length 100 is refused");
    ok(sd_clip_bpe_pad(sd1) == 49407 && sd_clip_bpe_pad(sd2) == 0, "padding of both kinds");
    ok(sd_clip_bpe_add_token(sd1, "cat", 3, &id, &err) == -1, "a token of the vocabulary is not added");
    ok(sd_clip_bpe_add_token(sd1, "", 0, &id, &err) == -1, "an empty token is not added");
    ok(sd_clip_bpe_add_token(sd1, "<|endoftext|>", 13, &id, &err) == -1, "a special token is not added");
    id = 49408;
    ok(sd_clip_bpe_decode(sd1, &id, 1, &text, &len, &err) == -1 && !text, "an unknown id is refused");
    ok(!sd_clip_bpe_add_token(sd1, "sks-1", 5, &id, &err) && id == 49408 && sd_clip_bpe_size(sd1) == 49409,
       "a new token takes the next id");
    ok(sd_clip_bpe_add_token(sd1, "sks-1", 5, &id, &err) == -1, "and is not added twice");

    size_t big = 1 << 20;
    char *word = malloc(big);
    for (size_t i = 0; word && i < big; i++)
        word[i] = "etaoinshrdlu"[(i * i / 7 + i * 31 + (i >> 5)) % 12];
    clock_t start = clock();
    ok(word && !sd_clip_bpe_encode(sd1, word, big, &ids, &n, &err) && n > big / 16,
       "a word of a million letters");
    printf("# %.2f s, %zu ids\n", (double)(clock() - start) / CLOCKS_PER_SEC, n);
    free(word);
    free(ids);
}

int main(void)
{
    clock_t start = clock();
    if (sd_clip_bpe_new(SD_CLIP_SD1, &sd1, &err) || sd_clip_bpe_new(SD_CLIP_SD2, &sd2, &err)) {
        printf("Bail out! %s\n", err.msg);
        return 1;
    }
    printf("# %.2f ms to make a tokenizer\n", (double)(clock() - start) / CLOCKS_PER_SEC * 500);
    ok(check_lines("t/data/text/clip.tsv", run_line) > 2500, "texts give the reference's ids");
    test_code_points();
    test_limits();
    sd_clip_bpe_free(sd1);
    sd_clip_bpe_free(sd2);
    return tap_end();
}
