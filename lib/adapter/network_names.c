#include "adapter/network_names.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Whether *text begins with prefix, which is skipped then. */
static bool skip(const char **text, const char *prefix)
{
    size_t n = strlen(prefix);
    bool found = !strncmp(*text, prefix, n);
    *text += found ? n : 0;
    return found;
}

int sd_network_place(const char *name, struct sd_buf *out)
{
    static const struct {
        const char *theirs, *ours;
        bool sd; /* of SD 1 and 2 */
    } prefixes[] = {{"unet.", "lora_unet_", true},
                    {"text_encoder.", "lora_te_", true},
                    {"text_encoder_2.", "lora_te2_", false},
                    {"transformer.", "lora_unet_", false}};
    static const char processor[] = ".processor.", half[] = "_to_out";
    bool sd = false;
    int bad = 0;
    sd_buf_clear(out);
    skip(&name, "base_model.model.");
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (skip(&name, prefixes[i].theirs)) {
            bad = sd_buf_adds(out, prefixes[i].ours);
            sd = prefixes[i].sd;
            break;
        }
    const char *middle = strstr(name, processor);
    for (const char *p = name; *p && !bad; p++) {
        if (p == middle)
            p += sizeof processor - 2;
        bad = sd_buf_addc(out, *p == '.' ? '_' : *p);
    }
    size_t n = sizeof half - 1;
    if (middle && !bad && out->len >= n && !strcmp(out->data + out->len - n, half))
        bad = sd_buf_adds(out, "_0"); /* the processor's to_out is the layer's first half */
    return bad || sd_buf_adds(out, "") ? -1 : sd;
}

/* Parts of paths; no part is the beginning of two readings of one name. */
static const char *const parts[] = {
    "down_blocks",
    "up_blocks",
    "mid_block",
    "attentions",
    "resnets",
    "downsamplers",
    "upsamplers",
    "proj_in",
    "proj_out",
    "to_q",
    "to_k",
    "to_v",
    "transformer_blocks",
    "to_out",
    "attn1",
    "attn2",
    "ff",
    "net",
    "proj",
    "conv1",
    "conv2",
    "conv",
    "time_emb_proj",
    "mlp",
    "text_model",
    "encoder",
    "layers",
    "self_attn",
    "q_proj",
    "k_proj",
    "v_proj",
    "out_proj",
    "fc1",
    "fc2",
    "conv_shortcut",
};

/* The length of the longest part, or of the number, that name begins with and that ends there or at "_". */
static size_t part_at(const char *name)
{
    size_t longest = strspn(name, "0123456789");
    if (longest > 4 || (name[longest] && name[longest] != '_'))
        longest = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        size_t n = strlen(parts[i]);
        if (n > longest && !strncmp(name, parts[i], n) && (!name[n] || name[n] == '_'))
            longest = n;
    }
    return longest;
}

int sd_network_path(const char *place, struct sd_buf *out)
{
    int bad;
    sd_buf_clear(out);
    if (skip(&place, "lora_unet_"))
        bad = sd_buf_adds(out, "unet");
    else if (skip(&place, "lora_te_"))
        bad = sd_buf_adds(out, "text_encoder");
    else
        return 0;
    while (!bad) {
        size_t n = part_at(place);
        if (!n)
            return 0;
        bad = sd_buf_addc(out, '.') || sd_buf_add(out, place, n);
        if (!bad && !place[n])
            return 1;
        place += n + 1;
    }
    return -1;
}

/* ---- blocks ---- */

/* The number behind the first word in text; -1 where there is none. */
static int number_after(const char *text, const char *word)
{
    int number;
    const char *at = strstr(text, word);
    return at && sscanf(at + strlen(word), "%4d", &number) == 1 && number >= 0 ? number : -1;
}

static int layer_of(const char *block)
{
    int layer = number_after(block, "_attentions_");
    layer = layer < 0 ? number_after(block, "_resnets_") : layer;
    return layer < 0 && number_after(block, "samplers_") >= 0 ? 2 : layer;
}

static void text_block_of(const char *place, struct sd_network_block *b)
{
    int index = number_after(place, "_layers_");
    if (index < 0)
        return;
    b->index = index;
    b->stage = SD_STAGE_TEXT;
    snprintf(b->name, sizeof b->name, "layers_%d", index);
}

void sd_network_block_of(const char *place, struct sd_network_block *b)
{
    static const struct {
        const char *prefix, *part;
    } parts[] = {{"lora_te2_", "text_encoder_2"},
                 {"lora_te3_", "text_encoder_3"},
                 {"lora_te", "text_encoder"},
                 {"oft_te", "text_encoder"}};
    static const struct {
        const char *word;
        enum sd_network_stage stage;
    } stages[] = {{"down_blocks_", SD_STAGE_DOWN},   {"input_blocks_", SD_STAGE_DOWN},
                  {"double_blocks_", SD_STAGE_DOWN}, {"joint_blocks_", SD_STAGE_DOWN},
                  {"up_blocks_", SD_STAGE_UP},       {"output_blocks_", SD_STAGE_UP},
                  {"single_blocks_", SD_STAGE_UP}};
    const char *at;
    *b = (struct sd_network_block){.part = "unet", .name = "other", .stage = SD_STAGE_OTHER, .layer = -1};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!strncmp(place, parts[i].prefix, strlen(parts[i].prefix))) {
            b->part = parts[i].part;
            text_block_of(place, b);
            return;
        }
    if ((at = strstr(place, "mid_block")) || (at = strstr(place, "middle_block"))) {
        b->stage = SD_STAGE_MID;
        snprintf(b->name, sizeof b->name, at[3] == '_' ? "mid_block" : "middle_block");
        return;
    }
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++) {
        int index = number_after(place, stages[i].word);
        if (index < 0)
            continue;
        b->stage = stages[i].stage;
        b->index = index;
        b->layer = layer_of(strstr(place, stages[i].word));
        snprintf(b->name, sizeof b->name, "%s%d", stages[i].word, index);
        return;
    }
}
