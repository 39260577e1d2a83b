#include "networks.h"

void cmd_network(struct sd_cmd *c, const char *path, const struct sd_model_config *config, bool strict,
                 struct sd_network *network)
{
    struct sd_lora_report r;
    struct sd_err err = {0};
    if (sd_network_open(network, path, &err) || sd_network_relate(network, config, &r, &err))
        cmd_die(c, &err);
    if (!r.modules) {
        sd_err_set(&err, SD_ERR_DATA, "%s: no LoRA of this model (%zu keys that belong to no layer: %s)",
                   path, r.unmatched, r.first);
        cmd_die(c, &err);
    }
    if (r.unmatched)
        cmd_warn(c, "%s: %zu keys belong to no layer of this model: %s", path, r.unmatched, r.first);
    if (r.unmatched && strict)
        cmd_usage(c, "%s does not fit the model (--strict)", path);
}

struct sd_merged *cmd_merged(struct sd_cmd *c, struct sd_model_file *model, struct sd_merge_part *parts,
                             size_t n)
{
    struct sd_merged *m = NULL;
    struct sd_err err = {0};
    if (n && sd_merged_new(&m, sd_model_file_find, model, parts, n, &err))
        cmd_die(c, &err);
    for (size_t i = 0; i < n; i++)
        sd_network_close(&parts[i].network);
    if (m)
        cmd_say(c, "added networks to %zu layers, which take %zu MiB beside the model", sd_merged_count(m),
                sd_merged_bytes(m) >> 20);
    return m;
}
