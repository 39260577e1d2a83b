#include "tensor/op.h"

/* Ops without a gradient rule: leaves, backward ops and effects. The rest name theirs by being absent here.
 */
#define sd_grad_input NULL
#define sd_grad_var NULL
#define sd_grad_fill NULL
#define sd_grad_upsample_bwd NULL
#define sd_grad_act_bwd NULL
#define sd_grad_geglu_bwd NULL
#define sd_grad_conv2d_dx NULL
#define sd_grad_conv2d_dw NULL
#define sd_grad_group_norm_bwd NULL
#define sd_grad_layer_norm_bwd NULL
#define sd_grad_attention_bwd NULL
#define sd_grad_embedding_bwd NULL
#define sd_grad_timestep_embedding NULL
#define sd_grad_randn NULL
#define sd_grad_noise_offset NULL
#define sd_grad_noise_levels NULL
#define sd_grad_mix NULL
#define sd_grad_combine NULL
#define sd_grad_loss_bwd NULL
#define sd_grad_assign NULL
#define sd_grad_accumulate NULL
#define sd_grad_clip NULL
#define sd_grad_step NULL
#define sd_grad_adafactor NULL
#define sd_grad_adapt_step NULL
#define sd_grad_adapt NULL
#define sd_grad_loss_scale NULL
#define sd_grad_ema NULL

const struct sd_op_info sd_op_info[SD_OP_COUNT] = {
#define OP(name, inplace, formula) {#name, formula, inplace, sd_grad_##name},
#include "tensor/ops.def"
#undef OP
};

/* Aligns b's dimensions with a's from the right; those where b has 1 (or none) must be neighbours. */
int sd_op_broadcast(const struct sd_tensor *a, const struct sd_tensor *b, int64_t *outer, int64_t *mid,
                    int64_t *inner)
{
    *outer = *mid = *inner = 1;
    if (b->ndim > a->ndim)
        return -1;
    for (int i = 0; i < a->ndim; i++) {
        int j = i - (a->ndim - b->ndim);
        int64_t da = a->dim[i], db = j < 0 ? 1 : b->dim[j];
        if (da != db && db != 1)
            return -1;
        if (da == 1)
            continue;
        if (db == 1) {
            if (*inner != 1)
                return -1; /* a second block */
            *mid *= da;
        } else if (*mid == 1) {
            *outer *= da;
        } else {
            *inner *= da;
        }
    }
    return 0;
}
