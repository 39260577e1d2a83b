#include "text/clip_files.h"

#include "base/json.h"
#include "text/clip_bpe_private.h"

enum { BYTES = 256 };

/* The symbols' spellings, one behind the other: at[id] .. at[id+1]. */
struct spellings {
    struct sd_buf text;
    uint32_t at[SD_CLIP_BOS + 1];
};

/* GPT-2's way to write a byte as a letter that prints: itself, or one from U+0100 on. Ids 0..255 are the
 * bytes that print, then the others. */
static int add_byte(struct sd_buf *b, int id)
{
    int printing = 0, cp = 0x100 + id - 188;
    for (int byte = 33; byte < BYTES && id < 188; byte++) {
        if ((byte >= 127 && byte <= 160) || byte == 173)
            continue;
        if (printing++ == id) {
            cp = byte;
            break;
        }
    }
    if (cp < 0x80)
        return sd_buf_addc(b, (char)cp);
    return sd_buf_addc(b, (char)(0xc0 | cp >> 6)) || sd_buf_addc(b, (char)(0x80 | (cp & 0x3f))) ? -1 : 0;
}

static int add_symbol(struct sd_buf *out, const struct spellings *s, unsigned id)
{
    return sd_buf_add(out, s->text.data + s->at[id], s->at[id + 1] - s->at[id]);
}

static unsigned side(int rank, int which)
{
    const unsigned char *p = sd_clip_bpe_merges[rank] + 2 * which;
    return p[0] | (unsigned)p[1] << 8;
}

static int spell(struct spellings *s)
{
    int bad = 0;
    for (int id = 0; id < SD_CLIP_FIRST_MERGE && !bad; id++) {
        s->at[id] = (uint32_t)s->text.len;
        bad = add_byte(&s->text, id % BYTES) || (id >= BYTES && sd_buf_adds(&s->text, "</w>"));
    }
    s->at[SD_CLIP_FIRST_MERGE] = (uint32_t)s->text.len;
    for (int rank = 0; rank < SD_CLIP_MERGES && !bad; rank++) {
        for (int which = 0; which < 2 && !bad; which++) {
            unsigned id = side(rank, which);
            size_t n = s->at[id + 1] - s->at[id];
            bad = sd_buf_reserve(&s->text, n) || add_symbol(&s->text, s, id);
        }
        s->at[SD_CLIP_FIRST_MERGE + rank + 1] = (uint32_t)s->text.len;
    }
    return bad;
}

int sd_clip_vocab_json(struct sd_buf *out)
{
    struct spellings s = {.text = SD_BUF_INIT};
    int bad = spell(&s) || sd_buf_addc(out, '{');
    for (unsigned id = 0; id < SD_CLIP_BOS && !bad; id++)
        bad = sd_json_add_string(out, s.text.data + s.at[id], s.at[id + 1] - s.at[id]) ||
              sd_buf_addf(out, ":%u,", id);
    bad = bad || sd_buf_addf(out, "\"<|startoftext|>\":%d,\"<|endoftext|>\":%d}", SD_CLIP_BOS, SD_CLIP_EOS);
    sd_buf_free(&s.text);
    return bad ? -1 : 0;
}

int sd_clip_merges_txt(struct sd_buf *out)
{
    struct spellings s = {.text = SD_BUF_INIT};
    int bad = spell(&s) || sd_buf_adds(out, "#version: 0.2\n");
    for (int rank = 0; rank < SD_CLIP_MERGES && !bad; rank++)
        bad = add_symbol(out, &s, side(rank, 0)) || sd_buf_addc(out, ' ') ||
              add_symbol(out, &s, side(rank, 1)) || sd_buf_addc(out, '\n');
    sd_buf_free(&s.text);
    return bad ? -1 : 0;
}

static const char *pad_token(enum sd_clip_kind kind)
{
    return kind == SD_CLIP_SD2 ? "!" : "<|endoftext|>";
}

#define TOKEN \
    "{\"content\":\"%s\",\"lstrip\":false,\"normalized\":true,\"rstrip\":false,\"single_word\":false"

static int add_tokens(struct sd_buf *out, const char *end, enum sd_clip_kind kind)
{
    return sd_buf_addf(out, "\"bos_token\":" TOKEN "%s},", "<|startoftext|>", end) ||
                   sd_buf_addf(out, "\"eos_token\":" TOKEN "%s},", "<|endoftext|>", end) ||
                   sd_buf_addf(out, "\"unk_token\":" TOKEN "%s},", "<|endoftext|>", end) ||
                   sd_buf_addf(out, "\"pad_token\":\"%s\"", pad_token(kind))
               ? -1
               : 0;
}

int sd_clip_tokenizer_config(struct sd_buf *out, enum sd_clip_kind kind)
{
    return sd_buf_adds(out, "{\"tokenizer_class\":\"CLIPTokenizer\",\"model_max_length\":77,"
                            "\"add_prefix_space\":false,\"do_lower_case\":true,\"errors\":\"replace\",") ||
                   add_tokens(out, ",\"__type\":\"AddedToken\"", kind) || sd_buf_addc(out, '}')
               ? -1
               : 0;
}

int sd_clip_special_tokens(struct sd_buf *out, enum sd_clip_kind kind)
{
    return sd_buf_addc(out, '{') || add_tokens(out, "", kind) || sd_buf_addc(out, '}') ? -1 : 0;
}
