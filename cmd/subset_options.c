#include "caption_options.h"

void cmd_caption_settle(struct cmd_caption *c)
{
    c->options.shuffle = c->shuffle;
    c->options.enable_wildcard = c->wildcard;
}
