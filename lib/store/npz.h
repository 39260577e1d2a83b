/* NumPy's .npz archives: a zip of .npy arrays, stored (np.savez) or deflated (np.savez_compressed). */
#ifndef SD_STORE_NPZ_H
#define SD_STORE_NPZ_H

#include "base/buf.h"
#include "store/dtype.h"
#include "store/safetensors_write.h"

struct sd_npz;

/* Reads the directory and the arrays' headers, not their data. Arrays of objects, structures, big-endian
 * numbers and Fortran order are refused. On failure *z is NULL. sd_npz_parse borrows the bytes. */
int sd_npz_open(struct sd_npz **z, const char *path, struct sd_err *err);
int sd_npz_parse(struct sd_npz **z, const void *bytes, size_t size, const char *name, struct sd_err *err);
void sd_npz_close(struct sd_npz *z); /* takes NULL */

size_t sd_npz_count(const struct sd_npz *z);
/* Named without ".npy"; data is NULL where it is deflated, else in the mapped file and not yet checked. */
const struct sd_store_entry *sd_npz_entry(const struct sd_npz *z, size_t i);
const struct sd_store_entry *sd_npz_find(const struct sd_npz *z, const char *name); /* or NULL */

/* Copies an array's e->bytes bytes to out, unpacked, its CRC checked. e is an entry of z. */
int sd_npz_read(const struct sd_npz *z, const struct sd_store_entry *e, void *out, struct sd_err *err);

/* CRC-32 of an array's member, its header and data, as the archive tells it. */
uint32_t sd_npz_crc(const struct sd_npz *z, const struct sd_store_entry *e);

/* Appends the archive that np.savez would write, byte for byte (NumPy 1.26), to an empty buffer. The arrays
 * need data, not fill. */
int sd_npz_format(struct sd_buf *out, const struct sd_store_tensor *arrays, size_t count, struct sd_err *err);

/* The same as a file, whole or not at all. */
int sd_npz_write(const char *path, const struct sd_store_tensor *arrays, size_t count, struct sd_err *err);

#endif
