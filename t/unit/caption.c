/* Caption processing and prompt lines against sd-scripts' own functions (t/data/text/caption.tsv, prompt.tsv,
 * made by t/ref/text.py), random draws included. */
#include <stdint.h>

#include "base/pyrandom.h"
#include "fields.h"
#include "tap.h"
#include "text/caption.h"
#include "text/prompt.h"

static struct sd_err err;

static int same(const struct sd_buf *got, const struct sd_buf *want)
{
    if (got->len == want->len && (want->len == 0 || !memcmp(got->data, want->data, want->len)))
        return 1;
    printf("# got  \"%s\"\n# want \"%s\"\n", got->data ? got->data : "", want->data);
    return 0;
}

/* from US kind US to US to..., RS between the replacements; cuts text up. */
static size_t read_replacements(char *text, struct sd_caption_replacement *r, const char *(*to)[8])
{
    size_t n = 0;
    for (char *s = text, *end; s && *s; s = end, n++) {
        if ((end = strchr(s, '\x1e')))
            *end++ = 0;
        char *kind = strchr(s, '\x1f');
        *kind++ = 0;
        r[n] = (struct sd_caption_replacement){.from = s, .to = to[n], .is_list = *kind == 'L'};
        for (char *t = kind + 2, *next; t; t = next) {
            if ((next = strchr(t, '\x1f')))
                *next++ = 0;
            to[n][r[n].to_len++] = t;
        }
    }
    return n;
}

static int check_caption(char **field, int n)
{
    enum { TEXTS = 6, FIRST_TEXT = 12, CAPTION = FIRST_TEXT + TEXTS };
    if (n != CAPTION + 4)
        return 0;
    struct sd_buf text[TEXTS] = {0}, caption = SD_BUF_INIT, want = SD_BUF_INIT, got = SD_BUF_INIT;
    struct sd_caption_replacement replacement[4];
    const char *to[4][8];
    for (int i = 0; i < TEXTS; i++)
        unescape(field[FIRST_TEXT + i], &text[i]);
    unescape(field[CAPTION], &caption);
    struct sd_caption_options o = {
        .dropout_rate = atof(field[4]),
        .dropout_every_n_epochs = atoi(field[5]),
        .tag_dropout_rate = atof(field[6]),
        .enable_wildcard = atoi(field[7]),
        .shuffle = atoi(field[8]),
        .keep_tokens = atoi(field[9]),
        .token_warmup_min = atoi(field[10]),
        .token_warmup_step = atof(field[11]),
        .prefix = text[0].data,
        .suffix = text[1].data,
        .separator = text[2].data,
        .secondary_separator = text[3].data,
        .keep_tokens_separator = text[4].data,
    };
    struct sd_caption_context context = {.epoch = atoi(field[1]),
                                         .step = atoi(field[2]),
                                         .max_train_steps = atoi(field[3]),
                                         .replacements = replacement,
                                         .replacements_len =
                                             read_replacements(text[5].data, replacement, to)};
    struct sd_pyrandom random;
    sd_pyrandom_seed(&random, atoi(field[0]));
    int good = 1;
    for (int i = 0; i < 2; i++) {
        sd_buf_clear(&got);
        unescape(field[CAPTION + 1 + i], &want);
        good &= !sd_caption_process(&o, &context, &random, caption.data, caption.len, &got, &err) &&
                same(&got, &want);
    }
    good &= sd_pyrandom_getrandbits(&random, 32) == strtoull(field[CAPTION + 3], NULL, 10);
    for (int i = 0; i < TEXTS; i++)
        sd_buf_free(&text[i]);
    sd_buf_free(&caption);
    sd_buf_free(&want);
    sd_buf_free(&got);
    return good;
}

static int same_text(const char *field, struct sd_str got, struct sd_buf *buf)
{
    unescape(field, buf);
    return got.len == buf->len && !memcmp(got.data, buf->data, buf->len);
}

static int same_double(const char *field, double got)
{
    uint64_t bits, want = strtoull(field, NULL, 16);
    memcpy(&bits, &got, sizeof bits);
    return bits == want;
}

static int check_prompt(char **field, int n)
{
    if (n != 14)
        return 0;
    struct sd_buf line = SD_BUF_INIT, buf = SD_BUF_INIT;
    struct sd_prompt p;
    unescape(field[0], &line);
    sd_prompt_parse((struct sd_str){.data = line.data, .len = line.len}, &p);
    int good = same_text(field[1], p.prompt, &buf);
    for (int i = 0; i < 12; i++) {
        const char *want = field[2 + i] + 1;
        if ((field[2 + i][0] == '=') != (p.set >> i & 1)) {
            good = 0;
            continue;
        }
        if (field[2 + i][0] != '=')
            continue;
        switch (1 << i) {
        case SD_PROMPT_WIDTH:
            good &= p.width == atoll(want);
            break;
        case SD_PROMPT_HEIGHT:
            good &= p.height == atoll(want);
            break;
        case SD_PROMPT_SEED:
            good &= p.seed == strtoull(want, NULL, 10);
            break;
        case SD_PROMPT_STEPS:
            good &= p.steps == atoi(want);
            break;
        case SD_PROMPT_SCALE:
            good &= same_double(want, p.scale);
            break;
        case SD_PROMPT_GUIDANCE:
            good &= same_double(want, p.guidance_scale);
            break;
        case SD_PROMPT_NEGATIVE:
            good &= same_text(want, p.negative_prompt, &buf);
            break;
        case SD_PROMPT_SAMPLER:
            good &= same_text(want, p.sample_sampler, &buf);
            break;
        case SD_PROMPT_CONTROLNET:
            good &= same_text(want, p.controlnet_image, &buf);
            break;
        case SD_PROMPT_CFG_TRUNC:
            good &= same_double(want, p.cfg_trunc_ratio);
            break;
        case SD_PROMPT_RENORM_CFG:
            good &= same_double(want, p.renorm_cfg);
            break;
        case SD_PROMPT_FLOW_SHIFT:
            good &= same_text(want, p.flow_shift, &buf);
            break;
        }
    }
    sd_buf_free(&line);
    sd_buf_free(&buf);
    return good;
}

static int is_line(const char *text, const char *want)
{
    struct sd_str line = sd_str_of(text);
    if (!sd_prompt_is_line(&line))
        return !want;
    return want && line.len == strlen(want) && !memcmp(line.data, want, line.len);
}

int main(void)
{
    ok(check_lines("t/data/text/caption.tsv", check_caption) > 300,
       "captions become what sd-scripts makes of them");
    ok(check_lines("t/data/text/prompt.tsv", check_prompt) > 200,
       "prompt lines read as sd-scripts reads them");

    struct sd_caption_options o = {.separator = ""};
    struct sd_caption_context context = {.epoch = 1};
    struct sd_pyrandom random;
    struct sd_buf out = SD_BUF_INIT;
    sd_pyrandom_seed(&random, 1);
    ok(sd_caption_process(&o, &context, &random, "a", 1, &out, &err) == -1, "an empty separator is refused");
    o.separator = NULL;
    o.shuffle = 1;
    ok(!sd_caption_process(&o, &context, &random, "", 0, &out, &err) && out.len == 0,
       "an empty caption stays empty");
    sd_buf_free(&out);

    struct sd_prompt p;
    sd_prompt_parse(sd_str_of("cat --l 1.2.3 --s 4"), &p);
    ok(p.set == SD_PROMPT_STEPS && p.bad.len == 7 && !memcmp(p.bad.data, "l 1.2.3", 7),
       "a bad number is told");
    ok(is_line(" a cat \n", "a cat") && is_line("# a", NULL) && is_line(" # a", "# a") &&
           is_line(" \t\n", NULL) && is_line("", NULL),
       "blank lines and comments hold no prompt");
    return tap_end();
}
