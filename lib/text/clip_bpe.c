/* CLIP's byte-pair encoding (Radford et al. 2021), text cleaning as in BERT's basic tokenizer.
 *
 * A merge's rank is its place in clip_bpe.bin and its result the id 512 + rank. Every symbol of a merge is
 * older than its result, so taking the lowest rank first, leftmost first, is the whole rule, and a heap over
 * a linked list of symbols does it in n log n however long a word is. */
#include "text/clip_bpe.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "text/clip_bpe_private.h"
#include "text/unicode.h"

enum { MERGES = SD_CLIP_MERGES, FIRST_MERGE = SD_CLIP_FIRST_MERGE };
enum { END_OF_WORD = 256, SLOTS = 1 << 17, NONE = 0xffff };

__asm__(".pushsection .rodata\n"
        ".global sd_clip_bpe_merges\n"
        ".hidden sd_clip_bpe_merges\n"
        ".balign 4\n"
        "sd_clip_bpe_merges:\n"
        ".incbin \"lib/text/clip_bpe.bin\"\n"
        ".popsection\n");

struct added {
    uint32_t *cp; /* owned */
    size_t len;
    int32_t id;
};

struct sd_clip_bpe {
    int32_t pad;
    int32_t size;
    struct added *added; /* sorted by code points: a trie is a range of this row and a depth */
    size_t added_len;
    uint16_t byte_id[256];
    unsigned char id_byte[256];
    uint16_t rank[SLOTS]; /* open addressing by pair; NONE is empty */
};

static uint32_t merge_left(uint32_t rank)
{
    return sd_clip_bpe_merges[rank][0] | (uint32_t)sd_clip_bpe_merges[rank][1] << 8;
}

static uint32_t merge_right(uint32_t rank)
{
    return sd_clip_bpe_merges[rank][2] | (uint32_t)sd_clip_bpe_merges[rank][3] << 8;
}

static uint32_t slot_of(uint32_t left, uint32_t right)
{
    return (left << 16 | right) * 0x9e3779b1u >> 15;
}

/* The rank of the merge of two symbols, or NONE. */
static uint32_t find_merge(const struct sd_clip_bpe *bpe, uint32_t left, uint32_t right)
{
    for (uint32_t slot = slot_of(left, right);; slot = (slot + 1) % SLOTS) {
        uint32_t rank = bpe->rank[slot];
        if (rank == NONE || (merge_left(rank) == left && merge_right(rank) == right))
            return rank;
    }
}

/* -- added tokens --------------------------------------------------------------------------------------- */

static int compare_added(const void *a, const void *b)
{
    const struct added *x = a, *y = b;
    for (size_t i = 0; i < x->len && i < y->len; i++)
        if (x->cp[i] != y->cp[i])
            return x->cp[i] < y->cp[i] ? -1 : 1;
    return (x->len > y->len) - (x->len < y->len);
}

static int insert_added(struct sd_clip_bpe *bpe, const char *token, size_t len, int32_t id,
                        struct sd_err *err)
{
    struct sd_unicode u = {0};
    struct added *row = realloc(bpe->added, (bpe->added_len + 1) * sizeof *row);
    if (!row)
        return sd_err_memory(err, (bpe->added_len + 1) * sizeof *row);
    bpe->added = row;
    if (sd_unicode_decode(token, len, &u, err)) {
        sd_unicode_release(&u);
        return -1;
    }
    row[bpe->added_len++] = (struct added){.cp = u.cp, .len = u.len, .id = id};
    qsort(row, bpe->added_len, sizeof *row, compare_added);
    return 0;
}

/* A node of the trie: the tokens [low, high) that share their first `depth` code points. */
struct node {
    size_t low, high, depth;
};

static int is_complete(const struct sd_clip_bpe *bpe, struct node t)
{
    return bpe->added[t.low].len == t.depth;
}

static int descend(const struct sd_clip_bpe *bpe, struct node *t, uint32_t cp)
{
    struct node child = {.depth = t->depth + 1};
    size_t i = t->low;
    while (i < t->high && (bpe->added[i].len <= t->depth || bpe->added[i].cp[t->depth] < cp))
        i++;
    child.low = i;
    while (i < t->high && bpe->added[i].cp[t->depth] == cp)
        i++;
    child.high = i;
    if (child.low == child.high)
        return 0;
    *t = child;
    return 1;
}

/* The longest token at u[i], or NULL. */
static const struct added *longest_at(const struct sd_clip_bpe *bpe, const struct sd_unicode *u, size_t i)
{
    struct node t = {.high = bpe->added_len};
    const struct added *best = NULL;
    while (i < u->len && descend(bpe, &t, u->cp[i++]))
        if (is_complete(bpe, t))
            best = &bpe->added[t.low];
    return best;
}

/* The first added token in u from `from` on: the one that is complete first, unless one that began earlier
 * also gets complete; of those at one place the longest. Returns NULL when there is none. */
static const struct added *find_added(const struct sd_clip_bpe *bpe, const struct sd_unicode *u, size_t from,
                                      size_t *at)
{
    const struct added *found = NULL;
    size_t shortest_end = SIZE_MAX;
    for (size_t i = from; i < u->len && i < shortest_end; i++) {
        struct node t = {.high = bpe->added_len};
        size_t end = i;
        while (end < u->len && end < shortest_end && descend(bpe, &t, u->cp[end])) {
            end++;
            if (is_complete(bpe, t)) {
                shortest_end = end;
                break;
            }
        }
    }
    for (size_t i = from; shortest_end != SIZE_MAX && !found; i++)
        if ((found = longest_at(bpe, u, i)))
            *at = i;
    return found;
}

/* -- making and freeing ------------------------------------------------------------------------------------
 */

void sd_clip_bpe_free(struct sd_clip_bpe *bpe)
{
    if (!bpe)
        return;
    for (size_t i = 0; i < bpe->added_len; i++)
        free(bpe->added[i].cp);
    free(bpe->added);
    free(bpe);
}

/* Bytes that print (in Latin-1) come first in the vocabulary, the others after them. */
static void number_bytes(struct sd_clip_bpe *bpe)
{
    uint16_t id = 0;
    for (int printing = 1; printing >= 0; printing--)
        for (int b = 0; b < 256; b++)
            if (printing == ((b > 32 && b < 127) || (b > 160 && b != 173))) {
                bpe->byte_id[b] = id;
                bpe->id_byte[id++] = (unsigned char)b;
            }
}

int sd_clip_bpe_new(enum sd_clip_kind kind, struct sd_clip_bpe **out, struct sd_err *err)
{
    *out = NULL;
    struct sd_clip_bpe *bpe = calloc(1, sizeof *bpe);
    if (!bpe)
        return sd_err_memory(err, sizeof *bpe);
    bpe->pad = kind == SD_CLIP_SD2 ? 0 : SD_CLIP_EOS;
    bpe->size = SD_CLIP_VOCAB;
    number_bytes(bpe);
    memset(bpe->rank, 0xff, sizeof bpe->rank);
    for (uint32_t rank = 0; rank < MERGES; rank++) {
        uint32_t slot = slot_of(merge_left(rank), merge_right(rank));
        while (bpe->rank[slot] != NONE)
            slot = (slot + 1) % SLOTS;
        bpe->rank[slot] = (uint16_t)rank;
    }
    if (insert_added(bpe, "<|startoftext|>", 15, SD_CLIP_BOS, err) ||
        insert_added(bpe, "<|endoftext|>", 13, SD_CLIP_EOS, err) ||
        (kind == SD_CLIP_SD2 && insert_added(bpe, "!", 1, 0, err))) {
        sd_clip_bpe_free(bpe);
        return -1;
    }
    *out = bpe;
    return 0;
}

int32_t sd_clip_bpe_size(const struct sd_clip_bpe *bpe)
{
    return bpe->size;
}

int32_t sd_clip_bpe_pad(const struct sd_clip_bpe *bpe)
{
    return bpe->pad;
}

/* -- merging ------------------------------------------------------------------------------------------- */

struct candidate {
    uint32_t rank;
    size_t at; /* left symbol */
};

/* Working memory of one encode call. */
struct scratch {
    struct sd_unicode text, clean, lower;
    uint32_t *symbol; /* [cap] of the current piece; NONE once merged into its left neighbour */
    size_t *prev, *next;
    struct candidate *heap; /* [2 cap] */
    size_t cap, heap_len;
    int32_t *ids;
    size_t ids_len, ids_cap;
};

static void scratch_release(struct scratch *s)
{
    sd_unicode_release(&s->text);
    sd_unicode_release(&s->clean);
    sd_unicode_release(&s->lower);
    free(s->symbol);
    free(s->prev);
    free(s->next);
    free(s->heap);
}

static int scratch_reserve(struct scratch *s, size_t symbols, struct sd_err *err)
{
    if (symbols <= s->cap)
        return 0;
    size_t cap = symbols + symbols / 2 + 64;
    if (cap > SIZE_MAX / (2 * sizeof *s->heap))
        return sd_err_memory(err, SIZE_MAX);
    free(s->symbol);
    free(s->prev);
    free(s->next);
    free(s->heap);
    s->symbol = malloc(cap * sizeof *s->symbol);
    s->prev = malloc(cap * sizeof *s->prev);
    s->next = malloc(cap * sizeof *s->next);
    s->heap = malloc(2 * cap * sizeof *s->heap);
    s->cap = s->symbol && s->prev && s->next && s->heap ? cap : 0;
    return s->cap ? 0
                  : sd_err_memory(err, cap * (sizeof *s->symbol + 2 * sizeof *s->prev + 2 * sizeof *s->heap));
}

static int emit(struct scratch *s, int32_t id, struct sd_err *err)
{
    if (s->ids_len == s->ids_cap) {
        size_t cap = s->ids_cap * 2 + 64;
        int32_t *ids = realloc(s->ids, cap * sizeof *ids);
        if (!ids)
            return sd_err_memory(err, cap * sizeof *ids);
        s->ids = ids;
        s->ids_cap = cap;
    }
    s->ids[s->ids_len++] = id;
    return 0;
}

static int before(struct candidate a, struct candidate b)
{
    return a.rank != b.rank ? a.rank < b.rank : a.at < b.at;
}

static void heap_push(struct scratch *s, struct candidate c)
{
    size_t i = s->heap_len++;
    for (; i > 0 && before(c, s->heap[(i - 1) / 2]); i = (i - 1) / 2)
        s->heap[i] = s->heap[(i - 1) / 2];
    s->heap[i] = c;
}

static struct candidate heap_pop(struct scratch *s)
{
    struct candidate top = s->heap[0], last = s->heap[--s->heap_len];
    size_t i = 0, child;
    while ((child = 2 * i + 1) < s->heap_len) {
        if (child + 1 < s->heap_len && before(s->heap[child + 1], s->heap[child]))
            child++;
        if (!before(s->heap[child], last))
            break;
        s->heap[i] = s->heap[child];
        i = child;
    }
    s->heap[i] = last;
    return top;
}

static void consider(const struct sd_clip_bpe *bpe, struct scratch *s, size_t at, size_t n)
{
    if (at >= n || s->next[at] >= n)
        return;
    uint32_t rank = find_merge(bpe, s->symbol[at], s->symbol[s->next[at]]);
    if (rank != NONE)
        heap_push(s, (struct candidate){.rank = rank, .at = at});
}

/* Merges symbol[n] and emits what is left. A candidate is stale once either of its symbols has changed. */
static int merge_symbols(const struct sd_clip_bpe *bpe, struct scratch *s, size_t n, struct sd_err *err)
{
    s->heap_len = 0;
    for (size_t i = 0; i < n; i++) {
        s->prev[i] = i ? i - 1 : n;
        s->next[i] = i + 1;
    }
    for (size_t i = 0; i + 1 < n; i++)
        consider(bpe, s, i, n);
    while (s->heap_len > 0) {
        struct candidate c = heap_pop(s);
        size_t right = s->next[c.at];
        if (s->symbol[c.at] != merge_left(c.rank) || right >= n || s->symbol[right] != merge_right(c.rank))
            continue;
        s->symbol[c.at] = FIRST_MERGE + c.rank;
        s->symbol[right] = NONE;
        s->next[c.at] = s->next[right];
        if (s->next[right] < n)
            s->prev[s->next[right]] = c.at;
        consider(bpe, s, s->prev[c.at], n);
        consider(bpe, s, c.at, n);
    }
    for (size_t i = 0; i < n; i = s->next[i])
        if (emit(s, (int32_t)s->symbol[i], err))
            return -1;
    return 0;
}

static int encode_piece(const struct sd_clip_bpe *bpe, struct scratch *s, const uint32_t *cp, size_t n,
                        struct sd_err *err)
{
    if (n > SIZE_MAX / 8)
        return sd_err_memory(err, SIZE_MAX);
    if (scratch_reserve(s, n * 4, err))
        return -1;
    size_t len = 0;
    for (size_t i = 0; i < n; i++) {
        char utf8[4];
        size_t bytes = sd_unicode_encode(cp[i], utf8);
        for (size_t k = 0; k < bytes; k++)
            s->symbol[len++] = bpe->byte_id[(unsigned char)utf8[k]];
    }
    s->symbol[len - 1] += END_OF_WORD;
    return merge_symbols(bpe, s, len, err);
}

/* -- cutting words into pieces --------------------------------------------------------------------------- */

/* Whether cp[n] starts with the lower-case pattern, where s also stands for the long s, which folds to it. */
static size_t starts_with(const uint32_t *cp, size_t n, const char *pattern)
{
    size_t i = 0;
    for (; pattern[i]; i++)
        if (i >= n || (cp[i] != (unsigned char)pattern[i] && !(pattern[i] == 's' && cp[i] == 0x17f)))
            return 0;
    return i;
}

/* What a piece is made of. U+0345 folds to the letter iota: it is no letter itself, but a case-insensitive
 * "anything but letters" refuses it too, so no piece takes it. */
static enum sd_unicode_class piece_class(uint32_t cp)
{
    return cp == 0x345 ? SD_UNICODE_CONTROL : sd_unicode_class(cp);
}

/* Length of the piece at cp[0] of n > 0 code points, none of them blank; 0 for one no piece takes. */
static size_t piece_length(const uint32_t *cp, size_t n)
{
    static const char *const fixed[] = {
        "<|startoftext|>", "<|endoftext|>", "'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
    if (cp[0] == '<' || cp[0] == '\'')
        for (size_t k = 0; k < sizeof fixed / sizeof *fixed; k++) {
            size_t len = starts_with(cp, n, fixed[k]);
            if (len > 0)
                return len;
        }
    enum sd_unicode_class class = piece_class(cp[0]);
    if (class == SD_UNICODE_CONTROL)
        return 0;
    size_t len = 1;
    if (class != SD_UNICODE_NUMBER)
        while (len < n && piece_class(cp[len]) == class)
            len++;
    return len;
}

static int32_t special_id(const uint32_t *cp, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (cp[i] == 0x17f)
            return -1;
    return starts_with(cp, n, "<|startoftext|>") == n ? SD_CLIP_BOS
           : starts_with(cp, n, "<|endoftext|>") == n ? SD_CLIP_EOS
                                                      : -1;
}

static int encode_word(const struct sd_clip_bpe *bpe, struct scratch *s, const uint32_t *cp, size_t n,
                       struct sd_err *err)
{
    s->lower.len = 0;
    if (sd_unicode_lower(cp, n, &s->lower, err))
        return -1;
    for (size_t i = 0; i < s->lower.len;) {
        const uint32_t *piece = s->lower.cp + i;
        size_t len = piece_length(piece, s->lower.len - i);
        if (len == 0) {
            i++;
            continue;
        }
        int32_t special = piece[0] == '<' ? special_id(piece, len) : -1;
        if (special >= 0 ? emit(s, special, err) : encode_piece(bpe, s, piece, len, err))
            return -1;
        i += len;
    }
    return 0;
}

static int is_cjk(uint32_t cp)
{
    return (cp >= 0x4e00 && cp <= 0x9fff) || (cp >= 0x3400 && cp <= 0x4dbf) ||
           (cp >= 0x20000 && cp <= 0x2a6df) || (cp >= 0x2a700 && cp <= 0x2ceaf) ||
           (cp >= 0xf900 && cp <= 0xfaff) || (cp >= 0x2f800 && cp <= 0x2fa1f);
}

/* Text between added tokens. */
static int encode_span(const struct sd_clip_bpe *bpe, struct scratch *s, const uint32_t *cp, size_t n,
                       struct sd_err *err)
{
    struct sd_unicode *clean = &s->clean;
    clean->len = 0;
    int rc = 0;
    for (size_t i = 0; i < n && rc == 0; i++) {
        uint32_t c = cp[i];
        if (c == '\t' || c == '\n' || c == '\r' || sd_unicode_is_separator(c))
            rc = sd_unicode_push(clean, ' ', err);
        else if (is_cjk(c) && sd_unicode_class(c) != SD_UNICODE_CONTROL)
            rc = sd_unicode_push(clean, ' ', err) || sd_unicode_push(clean, c, err) ||
                 sd_unicode_push(clean, ' ', err);
        else if (c != 0xfffd && sd_unicode_class(c) != SD_UNICODE_CONTROL)
            rc = sd_unicode_push(clean, c, err);
    }
    if (rc || sd_unicode_nfc(clean, err))
        return -1;
    for (size_t i = 0; i < clean->len;) {
        size_t end = i;
        while (end < clean->len && !sd_unicode_is_space(clean->cp[end]))
            end++;
        if (end > i && encode_word(bpe, s, clean->cp + i, end - i, err))
            return -1;
        i = end + 1;
    }
    return 0;
}

int sd_clip_bpe_encode(const struct sd_clip_bpe *bpe, const char *text, size_t len, int32_t **ids, size_t *n,
                       struct sd_err *err)
{
    struct scratch s = {0};
    *ids = NULL;
    *n = 0;
    if (sd_unicode_decode(text, len, &s.text, err) || emit(&s, 0, err)) /* so that ids is never NULL */
        goto fail;
    s.ids_len = 0;
    for (size_t i = 0;;) {
        size_t at = s.text.len;
        const struct added *token = find_added(bpe, &s.text, i, &at);
        if (encode_span(bpe, &s, s.text.cp + i, at - i, err))
            goto fail;
        if (!token)
            break;
        if (emit(&s, token->id, err))
            goto fail;
        i = at + token->len;
    }
    *ids = s.ids;
    *n = s.ids_len;
    scratch_release(&s);
    return 0;
fail:
    free(s.ids);
    scratch_release(&s);
    return -1;
}

/* Whether a piece ends with this id. */
static int ends_piece(uint32_t id)
{
    while (id >= FIRST_MERGE && id != SD_CLIP_BOS && id != SD_CLIP_EOS)
        id = merge_right(id - FIRST_MERGE);
    return id >= END_OF_WORD;
}

/* Code points of the span cp[n] that its first ids up to ids[keep] come from: the shortest beginning that has
 * them. A longer one never has fewer, for a piece depends on nothing behind it; all but a capital sigma, and
 * where that misleads, a piece less is kept. */
static int fit_span(const struct sd_clip_bpe *bpe, struct scratch *s, const uint32_t *cp, size_t n,
                    const int32_t *ids, size_t keep, size_t *fit, struct sd_err *err)
{
    for (;; keep--) {
        while (keep > 0 && !ends_piece((uint32_t)ids[keep - 1]))
            keep--;
        size_t low = 0, high = n, found = SIZE_MAX;
        while (low < high) {
            size_t mid = low + (high - low) / 2;
            s->ids_len = 0;
            if (encode_span(bpe, s, cp, mid, err))
                return -1;
            if (s->ids_len >= keep && (keep == 0 || !memcmp(s->ids, ids, keep * sizeof *ids))) {
                high = mid;
                found = s->ids_len;
            } else {
                low = mid + 1;
            }
        }
        *fit = low;
        if (keep == 0 || found == keep)
            return 0;
    }
}

int sd_clip_bpe_fit(const struct sd_clip_bpe *bpe, const char *text, size_t len, size_t room, size_t *fit,
                    struct sd_err *err)
{
    struct scratch s = {0}, again = {0};
    size_t i = 0, seen = 0; /* code points, and their ids */
    int rc = sd_unicode_decode(text, len, &s.text, err), over = 0;
    while (!rc && !over) {
        size_t at = s.text.len;
        const struct added *token = find_added(bpe, &s.text, i, &at);
        s.ids_len = 0;
        if ((rc = encode_span(bpe, &s, s.text.cp + i, at - i, err)))
            break;
        if ((over = s.ids_len > room - seen)) {
            size_t inside = 0;
            rc = fit_span(bpe, &again, s.text.cp + i, at - i, s.ids, room - seen, &inside, err);
            i += inside;
        } else {
            seen += s.ids_len;
            i = at;
            over = token && seen == room;
            if (!token)
                break;
            i += over ? 0 : token->len;
            seen += !over;
        }
    }
    *fit = 0;
    for (size_t k = 0; k < i && !rc; k++) {
        uint32_t cp;
        *fit += sd_unicode_next(text + *fit, len - *fit, &cp);
    }
    scratch_release(&s);
    scratch_release(&again);
    free(s.ids);
    free(again.ids);
    return rc;
}

/* -- model input -------------------------------------------------------------------------------------------
 */

size_t sd_clip_bpe_chunk_count(int length)
{
    return length < SD_CLIP_CONTEXT ? 0 : (size_t)(length - 2) / (SD_CLIP_CONTEXT - 2);
}

int sd_clip_bpe_chunk_ids(const struct sd_clip_bpe *bpe, const int32_t *ids, size_t n, int length,
                          int32_t *chunks, struct sd_err *err)
{
    const size_t body = SD_CLIP_CONTEXT - 2;
    size_t count = sd_clip_bpe_chunk_count(length), room = count * body;
    if (count == 0 || room + 2 != (size_t)length)
        return sd_err_set(err, SD_ERR_USAGE, "token length %d is not 75 times a number, plus 2", length);
    if (n > room)
        n = room;
    int32_t last = n == room ? SD_CLIP_EOS : bpe->pad;
    for (size_t k = 0; k < count; k++) {
        int32_t *chunk = chunks + k * SD_CLIP_CONTEXT;
        chunk[0] = SD_CLIP_BOS;
        for (size_t i = 0; i < body; i++) {
            size_t j = k * body + i;
            chunk[i + 1] = j < n ? ids[j] : j == n ? SD_CLIP_EOS : bpe->pad;
        }
        chunk[body + 1] = last;
        if (count > 1 && bpe->pad != SD_CLIP_EOS) {
            if (chunk[body] != SD_CLIP_EOS && chunk[body] != bpe->pad)
                chunk[body + 1] = SD_CLIP_EOS;
            if (chunk[1] == bpe->pad)
                chunk[1] = SD_CLIP_EOS;
        }
    }
    return 0;
}

int sd_clip_bpe_chunks(const struct sd_clip_bpe *bpe, const char *text, size_t len, int length,
                       int32_t *chunks, struct sd_err *err)
{
    int32_t *ids;
    size_t n;
    if (sd_clip_bpe_encode(bpe, text, len, &ids, &n, err))
        return -1;
    int rc = sd_clip_bpe_chunk_ids(bpe, ids, n, length, chunks, err);
    free(ids);
    return rc;
}

/* -- back to text -----------------------------------------------------------------------------------------
 */

/* Appends the bytes an id of the vocabulary stands for; the end of a word is spelled "</w>". */
static int spell(const struct sd_clip_bpe *bpe, uint32_t id, struct sd_buf *out)
{
    if (id == SD_CLIP_BOS)
        return sd_buf_adds(out, "<|startoftext|>");
    if (id == SD_CLIP_EOS)
        return sd_buf_adds(out, "<|endoftext|>");
    if (id >= FIRST_MERGE)
        return spell(bpe, merge_left(id - FIRST_MERGE), out) ||
               spell(bpe, merge_right(id - FIRST_MERGE), out);
    return sd_buf_addc(out, (char)bpe->id_byte[id % END_OF_WORD]) ||
           (id >= END_OF_WORD && sd_buf_adds(out, "</w>"));
}

/* Writes raw bytes as text: malformed UTF-8 replaced, "</w>" a blank, no blanks at either end. Returns
 * whether anything was left, or -1. */
static int tidy(const struct sd_buf *raw, struct sd_buf *out)
{
    struct sd_buf text = SD_BUF_INIT;
    int rc = 0;
    for (size_t i = 0; i < raw->len && rc == 0;) {
        if (raw->len - i >= 4 && !memcmp(raw->data + i, "</w>", 4)) {
            rc = sd_buf_addc(&text, ' ');
            i += 4;
            continue;
        }
        uint32_t cp;
        char utf8[4];
        i += sd_unicode_next(raw->data + i, raw->len - i, &cp);
        rc = sd_buf_add(&text, utf8, sd_unicode_encode(cp, utf8));
    }
    size_t start = 0, end = 0;
    for (size_t i = 0; i < text.len && rc == 0;) {
        uint32_t cp;
        size_t bytes = sd_unicode_next(text.data + i, text.len - i, &cp);
        if (!sd_unicode_is_space(cp))
            end = i + bytes;
        else if (end == 0)
            start = i + bytes;
        i += bytes;
    }
    if (rc == 0 && end > start)
        rc = sd_buf_add(out, text.data + start, end - start) ? -1 : 1;
    sd_buf_free(&text);
    return rc;
}

static const struct added *added_by_id(const struct sd_clip_bpe *bpe, int32_t id)
{
    for (size_t i = 0; i < bpe->added_len; i++)
        if (bpe->added[i].id == id)
            return &bpe->added[i];
    return NULL;
}

int sd_clip_bpe_decode(const struct sd_clip_bpe *bpe, const int32_t *ids, size_t n, char **text, size_t *len,
                       struct sd_err *err)
{
    struct sd_buf out = SD_BUF_INIT, raw = SD_BUF_INIT;
    int parts = 0, rc = sd_buf_reserve(&out, 1);
    *text = NULL;
    *len = 0;
    for (size_t i = 0; i <= n && rc == 0; i++) {
        if (i < n && (ids[i] < 0 || ids[i] >= bpe->size)) {
            sd_err_set(err, SD_ERR_DATA, "token id %d is outside the vocabulary of %d", ids[i], bpe->size);
            goto fail;
        }
        if (i < n && ids[i] < SD_CLIP_VOCAB) {
            rc = spell(bpe, (uint32_t)ids[i], &raw);
            continue;
        }
        /* an added token, or the end: first what came before it */
        if (raw.len > 0) {
            size_t mark = out.len;
            if (parts > 0 && (rc = sd_buf_addc(&out, ' ')))
                break;
            int some = tidy(&raw, &out);
            rc = some < 0;
            if (some == 0 && i < n)
                out.len = mark; /* an empty stretch leaves nothing, except at the very end */
            parts += some == 1;
            sd_buf_clear(&raw);
        }
        if (i < n && rc == 0) {
            const struct added *token = added_by_id(bpe, ids[i]);
            rc = parts++ > 0 && sd_buf_addc(&out, ' ');
            for (size_t k = 0; k < token->len && rc == 0; k++) {
                char utf8[4];
                rc = sd_buf_add(&out, utf8, sd_unicode_encode(token->cp[k], utf8));
            }
        }
    }
    if (rc || sd_buf_reserve(&out, 1)) {
        sd_err_memory(err, out.len + raw.len);
        goto fail;
    }
    out.data[out.len] = 0;
    sd_buf_free(&raw);
    *text = out.data;
    *len = out.len;
    return 0;
fail:
    sd_buf_free(&out);
    sd_buf_free(&raw);
    return -1;
}

/* The vocabulary's own spelling of an id is not its bytes: bytes that do not print are written U+0100 on. */
static int is_in_vocabulary(const struct sd_clip_bpe *bpe, const char *token, size_t len, struct sd_err *err)
{
    struct sd_buf want = SD_BUF_INIT, have = SD_BUF_INIT;
    int known = 1, rc = 0;
    for (size_t i = 0; i < len && known && rc == 0;) {
        uint32_t cp;
        i += sd_unicode_next(token + i, len - i, &cp);
        known = cp < 256 ? bpe->byte_id[cp] < 188 : cp < 256 + 68;
        if (known)
            rc = sd_buf_addc(&want, cp < 256 ? (char)cp : (char)bpe->id_byte[188 + cp - 256]);
    }
    int found = 0;
    for (uint32_t id = 0; id < SD_CLIP_VOCAB && known && !found && rc == 0; id++) {
        sd_buf_clear(&have);
        rc = spell(bpe, id, &have);
        found = rc == 0 && have.len == want.len && !memcmp(have.data, want.data, want.len);
    }
    if (rc)
        sd_err_memory(err, want.len + have.len);
    sd_buf_free(&want);
    sd_buf_free(&have);
    return rc ? -1 : found;
}

int sd_clip_bpe_add_token(struct sd_clip_bpe *bpe, const char *token, size_t len, int32_t *id,
                          struct sd_err *err)
{
    int shown = len < 100 ? (int)len : 100;
    if (len == 0)
        return sd_err_set(err, SD_ERR_USAGE, "a token to add is empty");
    int found = is_in_vocabulary(bpe, token, len, err);
    if (found < 0)
        return -1;
    struct sd_unicode u = {0};
    if (!found) {
        if (sd_unicode_decode(token, len, &u, err)) {
            sd_unicode_release(&u);
            return -1;
        }
        const struct added *longest = longest_at(bpe, &u, 0);
        found = longest && longest->len == u.len;
        sd_unicode_release(&u);
    }
    if (found)
        return sd_err_set(err, SD_ERR_USAGE, "token \"%.*s\" is already in the vocabulary", shown, token);
    if (insert_added(bpe, token, len, bpe->size, err))
        return -1;
    *id = bpe->size++;
    return 0;
}
