#include "train/groups.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Where a module belongs: 0 the text encoder, 1 the whole U-Net, 2 + block. */
static int place_of(const struct sd_lora_module *m, bool by_block)
{
    return m->target->kind == SD_TARGET_TEXT ? 0 : by_block ? 2 + sd_target_block(m->target) : 1;
}

/* The group of a place and a side (1: up matrices apart), made when its first variable comes; -1 at rate 0.
 */
static int find_group(struct sd_train_groups *g, int (*known)[2], int place, int side, double rate)
{
    static const char *const parts[] = {"textencoder", "unet"};
    int *at = &known[place][side];
    if (*at || rate == 0)
        return *at - 1;
    char *name = g->name[g->n];
    if (place < 2)
        snprintf(name, sizeof *g->name, "%s%s", parts[place], side ? " plus" : "");
    else
        snprintf(name, sizeof *g->name, "unet_block%d%s", place - 2, side ? " plus" : "");
    g->group[g->n] = (struct sd_optim_group){.name = name, .lr = rate};
    return (*at = ++g->n) - 1;
}

int sd_train_groups_make(struct sd_train_groups *g, struct sd_lora *lora, const struct sd_network_args *args,
                         double text_rate, double unet_rate, struct sd_err *err)
{
    int known[2 + SD_UNET_BLOCKS][2] = {0}; /* 1 + number of the group */
    bool by_block = args && args->by_rate;
    *g = (struct sd_train_groups){.vars = calloc(2 * lora->count + 1, sizeof *g->vars),
                                  .group_of = calloc(2 * lora->count + 1, sizeof *g->group_of)};
    if (!g->vars || !g->group_of)
        return sd_err_memory(err, 2 * lora->count * sizeof *g->vars);
    for (size_t i = 0; i < lora->count; i++) {
        struct sd_lora_module *m = &lora->modules[i];
        m->up.pointwise = sd_lora_is_conv(lora, m->target);
        m->down.pointwise = m->up.pointwise && m->target->kernel == 1;
        int place = place_of(m, by_block);
        double plus = !args ? NAN : place ? args->plus_unet : args->plus_text;
        double rate = place ? unet_rate : text_rate;
        if (place > 1)
            rate *= args->rate[place - 2];
        for (int up = 0; up < 2; up++) {
            bool apart = up && !isnan(plus);
            int group = find_group(g, known, place, apart, apart ? rate * plus : rate);
            if (group < 0)
                continue;
            g->vars[g->n_vars] = up ? &m->up : &m->down;
            g->group_of[g->n_vars++] = group;
        }
    }
    return 0;
}

void sd_train_groups_free(struct sd_train_groups *g)
{
    free(g->vars);
    free(g->group_of);
    *g = (struct sd_train_groups){0};
}
