/* lib/store/npz and latents against files of numpy and sd-scripts (t/data/store, made by t/ref/store.py),
 * then archives that lie. SD_KEEP=DIR keeps what is written. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "base/filemap.h"
#include "store/archive.h"
#include "store/latents.h"
#include "store/npz.h"
#include "store/shard.h"
#include "tap.h"

static char folder[4096];

static const char *in_folder(const char *name)
{
    static char path[8192];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static float ramp(int i)
{
    return (float)(i % 97) / 8;
}

static int is_ramp(const float *v, int n)
{
    for (int i = 0; i < n; i++)
        if (v[i] != ramp(i))
            return 0;
    return 1;
}

/* Whether a cache holds the fixture's latents and sizes. */
static int is_fixture(const struct sd_latents *l)
{
    return l->channels == 4 && l->height == 3 && l->width == 2 && is_ramp(l->latents, 24) &&
           l->original_size[0] == 512 && l->original_size[1] == 384;
}

static int has_crop(const struct sd_latents *l, double a, double b, double c, double d)
{
    return l->crop_ltrb[0] == a && l->crop_ltrb[1] == b && l->crop_ltrb[2] == c && l->crop_ltrb[3] == d;
}

/* What a cache of the fixture's size says of itself. */
static int has_shape(const struct sd_latents_info *info, enum sd_latents_format format, int mask_h,
                     int mask_w)
{
    return info->format == format && info->channels == 4 && info->height == 3 && info->width == 2 &&
           info->mask_height == mask_h && info->mask_width == mask_w;
}

static void test_read(void)
{
    struct sd_arena a = SD_ARENA_INIT;
    struct sd_latents l;
    struct sd_err err = {0};
    ok(!sd_latents_read(&l, NULL, "t/data/store/full.npz", &a, &err) && is_fixture(&l) &&
           has_crop(&l, 0, 0.5, 16, 23.5),
       "sd-scripts' cache");
    ok(l.flipped && l.flipped[0] == ramp(1) && l.flipped[1] == ramp(0) && l.flipped[22] == ramp(23),
       "flipped latents");
    ok(l.alpha_mask && l.mask_height == 24 && l.mask_width == 16 && is_ramp(l.alpha_mask, 384), "alpha mask");
    ok(!sd_latents_read(&l, NULL, "t/data/store/plain.npz", &a, &err) && is_fixture(&l) &&
           has_crop(&l, 0, 0, 16, 24) && !l.flipped && !l.alpha_mask,
       "whole numbers as crop, neither flipped nor mask");
    ok(!sd_latents_read(&l, NULL, "t/data/store/deflated.npz", &a, &err) && is_fixture(&l),
       "np.savez_compressed");
    ok(!sd_latents_read(&l, NULL, "t/data/store/half.npz", &a, &err) && is_fixture(&l), "half floats");
    float v[24];
    ok(!sd_latents_load(NULL, "t/data/store/full.npz", 4, 3, 2, false, v, &err) && is_ramp(v, 24),
       "only the latents");
    ok(!sd_latents_load(NULL, "t/data/store/full.npz", 4, 3, 2, true, v, &err) && v[0] == ramp(1),
       "only the flipped ones");
    ok(!sd_latents_load(NULL, "t/data/store/half.npz", 4, 3, 2, false, v, &err) && is_ramp(v, 24),
       "only half floats");
    ok(sd_latents_load(NULL, "t/data/store/full.npz", 4, 2, 3, false, v, &err) &&
           strstr(err.msg, "full.npz: array \"latents\" is [4,3,2], expected [4,2,3]"),
       "latents of another bucket");
    sd_arena_free(&a);
}

static void test_versions(void)
{
    struct sd_npz *z;
    struct sd_err err = {0};
    int good = !sd_npz_open(&z, "t/data/store/versions.npz", &err);
    ok(good && sd_npz_count(z) == 3, "members that are no arrays are left alone");
    for (int i = 0; good && i < 3; i++) {
        const char *const names[] = {"v1", "v2", "v3"};
        const struct sd_store_entry *e = sd_npz_find(z, names[i]);
        float v[24];
        ok(e && e->bytes == sizeof v && !sd_npz_read(z, e, v, &err) && is_ramp(v, 24), "%s", names[i]);
    }
    if (good)
        sd_npz_close(z);
}

static int same_files(const char *a, const char *b)
{
    struct sd_filemap x = {0}, y = {0};
    int same = !sd_filemap_open(&x, a, NULL) && !sd_filemap_open(&y, b, NULL) && x.size == y.size &&
               !memcmp(x.data, y.data, x.size);
    sd_filemap_close(&x);
    sd_filemap_close(&y);
    return same;
}

static void test_write(void)
{
    float v[24], flipped[24], mask[384];
    for (int i = 0; i < 384; i++) {
        mask[i] = ramp(i);
        if (i < 24) {
            v[i] = ramp(i);
            flipped[i ^ 1] = ramp(i);
        }
    }
    struct sd_latents l = {.format = SD_LATENTS_NPZ3,
                           .channels = 4,
                           .height = 3,
                           .width = 2,
                           .latents = v,
                           .flipped = flipped,
                           .alpha_mask = mask,
                           .mask_height = 24,
                           .mask_width = 16,
                           .original_size = {512, 384},
                           .crop_ltrb = {0, 0.5, 16, 23.5}};
    struct sd_err err = {0};
    ok(!sd_latents_write(in_folder("full.npz"), &l, &err) &&
           same_files(in_folder("full.npz"), "t/data/store/full.npz"),
       "sd-scripts' bytes");
    struct sd_arena a = SD_ARENA_INIT;
    struct sd_latents_info info;
    l.source = "made of this";
    ok(!sd_latents_write(in_folder("told.npz"), &l, &err) &&
           !sd_latents_inspect(&info, NULL, in_folder("told.npz"), &a, &err) && info.source &&
           !strcmp(info.source, "made of this") && has_shape(&info, SD_LATENTS_NPZ3, 24, 16) && info.flipped,
       "a cache that says what it was made from");
    struct sd_npz *z = NULL;
    char text[64] = "";
    struct sd_store_tensor parts[] = {{.name = "latents", .dtype = SD_STORE_F32, .ndim = 3, .data = flipped},
                                      {.name = "sd_source", .dtype = SD_STORE_U8, .ndim = 1, .data = text}};
    bool kept = !sd_npz_open(&z, in_folder("told.npz"), &err);
    const struct sd_store_entry *e = kept ? sd_npz_find(z, "sd_source") : NULL;
    kept = e && e->bytes < sizeof text && !sd_npz_read(z, e, text, &err);
    parts[0].shape = kept ? sd_npz_find(z, "latents")->shape : NULL;
    parts[1].shape = kept ? e->shape : NULL;
    ok(kept && !sd_npz_write(in_folder("other.npz"), parts, 2, &err) &&
           !sd_latents_inspect(&info, NULL, in_folder("other.npz"), &a, &err) && !info.source,
       "whose latents another program replaced: it says nothing then");
    sd_npz_close(z);
    unlink(in_folder("other.npz"));
    unlink(in_folder("told.npz"));
    sd_arena_free(&a);
    ok(sd_latents_write("/dev/full", &l, &err) && err.code == SD_ERR_MACHINE, "a full disk");
    const int64_t none[] = {0}, many[] = {2, 1, 1, 1, 1, 1, 1, 1, 1, 12345};
    const struct sd_store_tensor odd[] = {
        {.name = "scalar", .dtype = SD_STORE_F64, .data = "\0\0\0\0\0\0\0\0"},
        {.name = "empty", .dtype = SD_STORE_U8, .ndim = 1, .shape = none},
        {.name = "bf16", .dtype = SD_STORE_BF16, .ndim = 1, .shape = none}};
    void *zeros = calloc(2, 12345);
    const struct sd_store_tensor long_shape = {
        .name = "x", .dtype = SD_STORE_BOOL, .ndim = 10, .shape = many, .data = zeros};
    z = NULL;
    ok(!sd_npz_write(in_folder("odd.npz"), odd, 2, &err) && !sd_npz_open(&z, in_folder("odd.npz"), &err) &&
           sd_npz_count(z) == 2 && sd_npz_entry(z, 0)->ndim == 0 && sd_npz_entry(z, 1)->bytes == 0,
       "a single number and an empty array");
    sd_npz_close(z);
    ok(zeros && !sd_npz_write(in_folder("odd.npz"), &long_shape, 1, &err) &&
           !sd_npz_open(&z, in_folder("odd.npz"), &err) && sd_npz_entry(z, 0)->ndim == 10,
       "ten dimensions");
    sd_npz_close(z);
    ok(sd_npz_write(in_folder("odd.npz"), odd + 2, 1, &err) && strstr(err.msg, "bf16"), "a type numpy lacks");
    ok(!sd_npz_write(in_folder("odd.npz"), NULL, 0, &err) && !sd_npz_open(&z, in_folder("odd.npz"), &err) &&
           sd_npz_count(z) == 0,
       "no arrays");
    sd_npz_close(z);
    free(zeros);
    unlink(in_folder("odd.npz"));
}

static void test_inspect(void)
{
    struct sd_arena a = SD_ARENA_INIT;
    struct sd_latents_info info;
    struct sd_err err = {0};
    ok(!sd_latents_inspect(&info, NULL, "t/data/store/full.npz", &a, &err) &&
           has_shape(&info, SD_LATENTS_NPZ3, 24, 16) && info.flipped && !info.source,
       "npz3 with all it can have");
    ok(!sd_latents_inspect(&info, NULL, "t/data/store/plain.npz", &a, &err) &&
           has_shape(&info, SD_LATENTS_NPZ3, 0, 0) && !info.flipped && info.original_size[0] == 512,
       "npz3 with what it must have");
    ok(!sd_latents_inspect(&info, NULL, "t/data/store/old.npz", &a, &err) &&
           has_shape(&info, SD_LATENTS_NPZ1, 0, 0) && !info.original_size[0],
       "npz1");
    ok(!sd_latents_inspect(&info, NULL, "t/data/store/npz2.npz", &a, &err) &&
           has_shape(&info, SD_LATENTS_NPZ2, 0, 0) && info.original_size[0] == 512,
       "npz2");
    ok(sd_latents_inspect(&info, NULL, "t/data/nothing", &a, &err) &&
           sd_latents_inspect(&info, NULL, "t/data/store/plain.safetensors", &a, &err) &&
           sd_latents_inspect(&info, NULL, "t/data/store/versions.npz", &a, &err),
       "absent and other files");
    sd_arena_free(&a);
}

/* The first two layouts, with a file of their own for the mirrored picture. */
static void test_old(enum sd_latents_format format)
{
    float v[24], mirrored[24], out[24];
    for (int i = 0; i < 24; i++)
        v[i] = mirrored[i ^ 1] = ramp(i);
    struct sd_latents l = {.format = format,
                           .channels = 4,
                           .height = 3,
                           .width = 2,
                           .latents = v,
                           .flipped = mirrored,
                           .original_size = {512, 384},
                           .crop_ltrb = {7, 9, 0, 0}};
    struct sd_arena a = SD_ARENA_INIT;
    struct sd_latents_info info;
    struct sd_latents got;
    struct sd_err err = {0};
    const char *path = in_folder("old.npz");
    bool npz2 = format == SD_LATENTS_NPZ2;
    ok(!sd_latents_write(path, &l, &err) && !sd_latents_read(&got, NULL, path, &a, &err) &&
           got.format == format && is_ramp(got.latents, 24) && got.flipped && got.flipped[0] == ramp(1),
       "npz%d: written and read, the mirrored ones from the file beside", format);
    ok(got.original_size[0] == (npz2 ? 512 : 0) && has_crop(&got, npz2 ? 7 : 0, npz2 ? 9 : 0, 0, 0),
       "npz%d: sizes, where it has them", format);
    ok(!sd_latents_load(NULL, path, 4, 3, 2, true, out, &err) && out[0] == ramp(1) &&
           !sd_latents_load(NULL, path, 4, 3, 2, false, out, &err) && is_ramp(out, 24),
       "npz%d: for training", format);
    const char *theirs = npz2 ? "t/data/store/npz2.npz" : "t/data/store/old.npz";
    ok(same_files(path, theirs), "npz%d: numpy's bytes", format);
    if (getenv("SD_KEEP")) {
        struct sd_latents keep = l;
        keep.flipped = NULL;
        ok(!sd_latents_write(in_folder(npz2 ? "npz2.npz" : "npz1.npz"), &keep, &err), "kept");
    }
    path = in_folder("old.npz");
    l.source = "another";
    struct sd_latents alone = l;
    alone.flipped = NULL;
    ok(!sd_latents_write(in_folder("old.npz"), &alone, &err) &&
           !sd_latents_inspect(&info, NULL, in_folder("old.npz"), &a, &err) &&
           has_shape(&info, format, 0, 0) && !info.flipped &&
           sd_latents_load(NULL, in_folder("old.npz"), 4, 3, 2, true, out, &err) &&
           strstr(err.msg, "another shape or source"),
       "npz%d: mirrored ones of another source are not taken", format);
    unlink(in_folder("old_flip.npz"));
    ok(sd_latents_load(NULL, in_folder("old.npz"), 4, 3, 2, true, out, &err) &&
           strstr(err.msg, "no file with the mirrored"),
       "npz%d: nor any without their file", format);
    unlink(in_folder("old.npz"));
    sd_arena_free(&a);
}

/* Caches as members of an archive. */
static void test_shard(void)
{
    float v[24], out[24];
    for (int i = 0; i < 24; i++)
        v[i] = ramp(i);
    struct sd_latents l = {.format = SD_LATENTS_NPZ3, .channels = 4, .height = 3, .width = 2, .latents = v};
    struct sd_buf bytes = SD_BUF_INIT, one = SD_BUF_INIT;
    struct sd_archives shards = {0};
    struct sd_shard *s;
    struct sd_err err = {0};
    struct stat before, after;
    char path[8192];
    snprintf(path, sizeof path, "%s", in_folder("s.zip"));
    sd_buf_addf(&one, "%s!/a.npz", path);
    ok(!sd_latents_format(&bytes, &l, false, &err) && !sd_shard_open(&s, path, &err) &&
           !sd_shard_add(s, "a.npz", bytes.data, bytes.len, &err) && access(path, F_OK) &&
           !sd_shard_commit(&s, &err),
       "a shard appears when it is whole");
    ok(!sd_latents_load(&shards, one.data, 4, 3, 2, false, out, &err) && is_ramp(out, 24), "its member");
    ok(!stat(path, &before) && !sd_shard_open(&s, path, &err) && !sd_shard_commit(&s, &err) &&
           !stat(path, &after) && before.st_ino == after.st_ino,
       "nothing new: the file stays");
    ok(!sd_shard_open(&s, path, &err) && !sd_shard_add(s, "b.npz", bytes.data, bytes.len, &err) &&
           !sd_shard_add(s, "b.npz", "other", 5, &err) && !sd_shard_commit(&s, &err) &&
           !sd_latents_load(&shards, one.data, 4, 3, 2, false, out, &err),
       "a new member: the others are kept, the same name comes once");
    one.data[one.len - 5] = 'c';
    ok(sd_latents_load(&shards, one.data, 4, 3, 2, false, out, &err) && strstr(err.msg, "no such member") &&
           sd_latents_load(NULL, one.data, 4, 3, 2, false, out, &err) && strstr(err.msg, "expected a file"),
       "members that are not there");
    sd_archives_free(&shards);
    FILE *f = fopen(path, "r+");
    ok(f && !ftruncate(fileno(f), 300) && !fclose(f) && sd_shard_open(&s, path, &err) && !s,
       "a damaged shard is not overwritten");
    ok(sd_shard_open(&s, in_folder("s.7z"), &err) && strstr(err.msg, ".zip"), "another kind of archive");
    unlink(path);
    sd_buf_free(&bytes);
    sd_buf_free(&one);
}

static void test_refused(void)
{
    static const struct {
        const char *file, *expect;
    } cases[] = {
        {"t/data/store/fortran.npz", "Fortran order"},
        {"t/data/store/bigendian.npz", "big-endian"},
        {"t/data/store/object.npz", "Python objects"},
        {"t/data/store/versions.npz", "no array \"latents\""},
        {"t/data/store/plain.safetensors", "not a zip archive"},
        {"t/data/nothing.npz", "No such file"},
    };
    struct sd_arena a = SD_ARENA_INIT;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sd_latents l;
        struct sd_err err = {0};
        int rc = sd_latents_read(&l, NULL, cases[i].file, &a, &err);
        ok(rc && !strncmp(err.msg, cases[i].file, strlen(cases[i].file)) && strstr(err.msg, cases[i].expect),
           "%s", cases[i].expect);
        if (!strstr(err.msg, cases[i].expect))
            printf("# %s\n", err.msg);
    }
    sd_arena_free(&a);
}

/* Every array of the bytes, read. 0 when all is well. */
static int read_all(const unsigned char *bytes, size_t size, struct sd_err *err)
{
    struct sd_npz *z;
    if (sd_npz_parse(&z, bytes, size, "x.npz", err))
        return -1;
    int rc = 0;
    for (size_t i = 0; i < sd_npz_count(z) && !rc; i++) {
        void *out = malloc(sd_npz_entry(z, i)->bytes + 1);
        rc = out ? sd_npz_read(z, sd_npz_entry(z, i), out, err) : -1;
        free(out);
    }
    sd_npz_close(z);
    return rc;
}

/* Flips each byte in turn: what is accepted then must be what the zip format does not protect. */
static void test_damage(const char *path, int max_accepted)
{
    struct sd_filemap m;
    struct sd_err err = {0};
    if (sd_filemap_open(&m, path, &err))
        return;
    unsigned char *copy = malloc(m.size);
    int cut = 0, accepted = 0;
    for (size_t n = 0; copy && n < m.size; n++)
        cut += !read_all(m.data, n, &err);
    ok(copy && !cut, "cut short at every byte");
    for (size_t i = 0; copy && i < m.size; i++) {
        memcpy(copy, m.data, m.size);
        copy[i] ^= 0xff;
        accepted += !read_all(copy, m.size, &err);
    }
    printf("# %s: %d of %zu bytes may be anything (dates, attributes, local headers)\n", path, accepted,
           m.size);
    ok(copy && accepted <= max_accepted, "each byte damaged");
    free(copy);
    sd_filemap_close(&m);
}

/* An archive of one member with a given .npy text, made here so that CRC and sizes are right. */
static int refused_header(const char *dict, size_t data, const char *expect)
{
    static unsigned char zip[2048];
    unsigned char *p = zip;
    size_t n = strlen(dict), size = 10 + n + data;
    memset(zip, 0, sizeof zip);
    memcpy(p, "PK\3\4", 4);
    p[26] = 5;
    memcpy(p + 30, "x.npy", 5);
    unsigned char *member = p + 35;
    memcpy(member, "\x93NUMPY\1\0", 8);
    member[8] = (unsigned char)n;
    memcpy(member + 10, dict, n);
    uint32_t crc = (uint32_t)crc32(0, member, (uInt)size);
    p = member + size;
    unsigned char *directory = p;
    memcpy(p, "PK\1\2", 4);
    for (int i = 0; i < 4; i++) {
        p[16 + i] = (unsigned char)(crc >> 8 * i);
        p[20 + i] = p[24 + i] = (unsigned char)(size >> 8 * i);
    }
    p[28] = 5;
    memcpy(p + 46, "x.npy", 5);
    p += 51;
    memcpy(p, "PK\5\6", 4);
    p[10] = 1;
    p[12] = 51;
    p[16] = (unsigned char)(directory - zip);
    p[17] = (unsigned char)((directory - zip) >> 8);
    struct sd_err err = {0};
    int rc = read_all(zip, (size_t)(p + 22 - zip), &err);
    int good = expect ? rc && strstr(err.msg, expect) : !rc;
    if (!good)
        printf("# %s: %s\n", dict, rc ? err.msg : "accepted");
    return good;
}

#define HEAD(descr, order, shape) "{'descr': " descr ", 'fortran_order': " order ", 'shape': " shape ", }"

static void test_headers(void)
{
    static const struct {
        const char *what, *dict;
        size_t data;
        const char *expect;
    } cases[] = {
        {"a good header", HEAD("'<f4'", "False", "(2,)"), 8, NULL},
        {"no spaces, other quotes, other order", "{\"shape\":(2,),\"descr\":\"<f4\",\"fortran_order\":False}",
         8, NULL},
        {"Python 2's long numbers", HEAD("'<f4'", "False", "(2L, 1L)"), 8, NULL},
        {"no dimensions", HEAD("'<f4'", "False", "()"), 4, NULL},
        {"no dictionary", "[]", 0, "no dictionary"},
        {"an unfinished dictionary", "{'descr': '<f4'", 0, "cannot be read"},
        {"a missing member", "{'descr': '<f4', 'shape': (2,)}", 8, "lacks"},
        {"a member twice", "{'descr': '<f4', 'descr': '<f4'}", 8, "unexpected 'descr'"},
        {"an unknown member", "{'x': 1}", 8, "unexpected 'x'"},
        {"a structure", HEAD("[('a', '<f4')]", "False", "(2,)"), 8, "structures"},
        {"text", HEAD("'<U4'", "False", "(2,)"), 32, "'<U4' is not supported"},
        {"Fortran order", HEAD("'<f4'", "True", "(2,)"), 8, "Fortran"},
        {"a negative size", HEAD("'<f4'", "False", "(-2,)"), 8, "shape cannot be read"},
        {"a size that overflows", HEAD("'<f4'", "False", "(99999999999999999999,)"), 8,
         "shape cannot be read"},
        {"a product that overflows", HEAD("'<f4'", "False", "(4294967296, 4294967296)"), 8, "too large"},
        {"less data than the shape takes", HEAD("'<f4'", "False", "(3,)"), 8, "holds 8 bytes of data"},
        {"a bomb of a shape", HEAD("'<f4'", "False", "(1000000000000,)"), 8, "holds 8 bytes of data"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ok(refused_header(cases[i].dict, cases[i].data, cases[i].expect), "%s", cases[i].what);
}

int main(void)
{
    const char *keep = getenv("SD_KEEP"), *tmp = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s%s", keep ? keep : tmp ? tmp : "/tmp", keep ? "" : "/sd-npz-XXXXXX");
    if (!keep && !mkdtemp(folder)) {
        perror(folder);
        return 1;
    }
    test_read();
    test_versions();
    test_write();
    test_inspect();
    test_old(SD_LATENTS_NPZ1);
    test_old(SD_LATENTS_NPZ2);
    test_shard();
    test_refused();
    test_damage("t/data/store/plain.npz", 190);
    test_damage("t/data/store/deflated.npz", 190);
    test_headers();
    if (!keep) {
        unlink(in_folder("full.npz"));
        ok(!rmdir(folder), "nothing else was left behind");
    }
    return tap_end();
}
