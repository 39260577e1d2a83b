/* One line of a sample-prompt file: `a photo of sks cat --n blurry --w 512 --h 768 --d 1 --s 30 --l 7.5`,
 * read as line_to_prompt_dict of kohya-ss/sd-scripts reads it. */
#ifndef SD_TEXT_PROMPT_H
#define SD_TEXT_PROMPT_H

#include <stddef.h>
#include <stdint.h>

#include "text/str.h"

/* Which members of struct sd_prompt the line has set. */
enum {
    SD_PROMPT_WIDTH = 1 << 0,
    SD_PROMPT_HEIGHT = 1 << 1,
    SD_PROMPT_SEED = 1 << 2,
    SD_PROMPT_STEPS = 1 << 3,
    SD_PROMPT_SCALE = 1 << 4,
    SD_PROMPT_GUIDANCE = 1 << 5,
    SD_PROMPT_NEGATIVE = 1 << 6,
    SD_PROMPT_SAMPLER = 1 << 7,
    SD_PROMPT_CONTROLNET = 1 << 8,
    SD_PROMPT_CFG_TRUNC = 1 << 9,
    SD_PROMPT_RENORM_CFG = 1 << 10,
    SD_PROMPT_FLOW_SHIFT = 1 << 11,
};

/* Strings are views of the line. Numbers too big for their type are the largest it holds. */
struct sd_prompt {
    unsigned set;                   /* SD_PROMPT_... */
    struct sd_str prompt;           /* always there */
    int64_t width, height;          /* w N, h N: pixels, as written */
    uint64_t seed;                  /* d N */
    int steps;                      /* s N: 1..1000 */
    double scale;                   /* l X: classifier-free guidance */
    double guidance_scale;          /* g X */
    struct sd_str negative_prompt;  /* n TEXT */
    struct sd_str sample_sampler;   /* ss NAME */
    struct sd_str controlnet_image; /* cn PATH */
    double cfg_trunc_ratio;         /* ctr X */
    double renorm_cfg;              /* rcfg X */
    struct sd_str flow_shift;       /* fs TEXT */
    struct sd_str bad; /* the first part whose number could not be read; its member stays unset */
};

/* Whether the line of a .txt prompt file holds a prompt, that is, is neither blank nor a comment; *line
 * becomes its stripped text. */
int sd_prompt_is_line(struct sd_str *line);

/* Reads a line, which is cut at every " --". Never fails: parts nobody knows are left out, of a part that
 * comes twice the last counts, and the first part, the prompt, is read as an option too if it looks like one.
 */
void sd_prompt_parse(struct sd_str line, struct sd_prompt *out);

#endif
