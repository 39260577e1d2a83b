/* The work of sd-encode-latents: records from the stream, their pictures through the VAE, caches, records
 * back to the stream.
 *
 * Loader threads read records and pictures ahead of the encoder, and a writer thread writes caches and
 * records behind it, so that the encoder, which keeps all processors busy, waits for neither. Jobs reach the
 * encoder in the order of the records whatever loader did them: batches, and with them all else, do not hang
 * on time. Memory holds a batch for each bucket in use, and a few pictures more. */
#ifndef CMD_ENCODE_H
#define CMD_ENCODE_H

#include "cmd.h"

#include "data/cache.h"
#include "sample/autoencoder.h"
#include "store/shard.h"

struct encode {
    struct sd_cmd *cmd;
    struct sd_autoencoder *vae;
    struct sd_subset defaults;           /* for records that do not say otherwise */
    struct sd_cache_place place, before; /* where caches go, and where older ones may lie in another layout */
    bool has_before;
    struct sd_cache_want want;
    bool skip_existing, mean;
    int64_t batch_size, seed;
    const char *shard_path; /* the archive that caches go to, or NULL */
    struct sd_shard *shard;
    /* what it took */
    int64_t pictures, encoding_ns, waiting_ns;
};

/* In this thread and those it starts; with -j 1 in this thread alone. */
void encode_run(struct encode *e);

#endif
