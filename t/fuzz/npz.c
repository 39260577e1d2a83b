/* Any bytes as an .npz archive: what is accepted can be read, or is refused when its data is damaged. */
#include <stdint.h>
#include <stdlib.h>

#include "store/npz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sd_npz *z;
    struct sd_err err = {0};
    if (sd_npz_parse(&z, data, size, "fuzz", &err)) {
        if (!*err.msg || z)
            abort();
        return 0;
    }
    for (size_t i = 0; i < sd_npz_count(z); i++) {
        const struct sd_store_entry *e = sd_npz_entry(z, i);
        if (e->bytes > 1032 * size || !sd_npz_find(z, e->name))
            abort();
        void *out = malloc(e->bytes + 1);
        if (out)
            sd_npz_read(z, e, out, &err);
        free(out);
    }
    sd_npz_close(z);
    return 0;
}
