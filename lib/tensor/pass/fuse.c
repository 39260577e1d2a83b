/* Fusion: add(p, r), where p is a matmul or conv2d whose result only this add uses, becomes p with r as its
 * acc input: residuals, LoRA branches and sums of gradients then cost no pass over memory of their own. */
#include "tensor/op.h"
#include "tensor/pass.h"

struct uses {
    int *count;   /* consumers, by tensor id */
    int *made_at; /* index of the producing node, by tensor id */
};

static int count_uses(struct sd_graph *g, struct uses *u)
{
    u->count = sd_graph_alloc(g, (size_t)g->n_tensors, sizeof *u->count);
    u->made_at = sd_graph_alloc(g, (size_t)g->n_tensors, sizeof *u->made_at);
    if (!u->count || !u->made_at)
        return -1;
    for (int i = 0; i < g->n_nodes; i++) {
        const struct sd_node *n = g->nodes[i];
        for (int k = 0; k < n->n_in; k++)
            if (n->in[k])
                u->count[n->in[k]->id]++;
        for (int k = 0; k < n->n_out; k++)
            if (n->out[k])
                u->made_at[n->out[k]->id] = i;
    }
    return 0;
}

/* The node whose result t is, if only one consumer sees it, looking through reshapes of the same kind. */
static struct sd_node *sole_maker(const struct uses *u, const struct sd_tensor *t)
{
    while (!t->output && u->count[t->id] == 1 && t->node->op == SD_OP_reshape)
        t = t->node->in[0];
    return t->output || u->count[t->id] != 1 ? NULL : t->node;
}

/* The product under t that may take acc: itself, or, when its acc is taken, the one below in the chain of
 * accs. acc must be made before it, since nodes are not moved. */
static struct sd_node *product(const struct uses *u, const struct sd_tensor *t, const struct sd_tensor *acc)
{
    struct sd_node *n = sole_maker(u, t);
    while (n && (n->op == SD_OP_matmul || n->op == SD_OP_conv2d)) {
        const struct sd_tensor *y = n->out[0];
        if (y->dtype != acc->dtype || u->made_at[acc->id] >= u->made_at[y->id])
            return NULL;
        if (!n->in[3])
            return n;
        n = sole_maker(u, n->in[3]);
    }
    return NULL;
}

static void fuse_add(const struct uses *u, struct sd_node *add)
{
    struct sd_tensor *a = add->in[0], *b = add->in[1];
    if (add->attr.scale != 1 || sd_tensor_count(a) != sd_tensor_count(b) || a == b)
        return;
    for (int side = 0; side < 2; side++) {
        struct sd_tensor *t = add->in[side], *acc = add->in[1 - side];
        struct sd_node *p = product(u, t, acc);
        if (!p)
            continue;
        p->in[3] = acc;
        add->op = SD_OP_reshape; /* of the product: free, and everyone who used the sum still does */
        add->n_in = 1;
        add->in[0] = t;
        return;
    }
}

int sd_graph_fuse(struct sd_graph *g)
{
    struct uses u;
    if (g->err.code || count_uses(g, &u))
        return -1;
    for (int i = 0; i < g->n_nodes; i++)
        if (g->nodes[i]->op == SD_OP_add)
            fuse_add(&u, g->nodes[i]);
    return 0;
}
