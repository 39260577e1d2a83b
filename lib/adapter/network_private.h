/* What network.c and network_product.c share. */
#ifndef SD_ADAPTER_NETWORK_PRIVATE_H
#define SD_ADAPTER_NETWORK_PRIVATE_H

#include "adapter/network.h"

/* A matrix in a module: whole, or a [rows,rank] times b [rank,cols]; with a core [rank,rank,k,k], where a is
 * [rank,rows] if turned. SD_ROLE_NONE stands for what there is none of. */
struct sd_network_factor {
    enum sd_network_role whole, a, b, core;
    bool turned;
};

/* The one or two that a product is of. Indexed by types that have
 * a product. */
extern const struct sd_network_factor sd_network_factors[SD_NETWORK_DIFF + 1][2];

/* Whether the type has a second matrix. */
static inline bool sd_network_has_two(enum sd_network_type t)
{
    return t == SD_NETWORK_LOHA || t == SD_NETWORK_LOKR;
}

#endif
