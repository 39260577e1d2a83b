/* lib/store/safetensors against files of the safetensors library (t/data/store, made by t/ref/store.py):
 * bytes, values, hashes; then every way in which a header can lie. SD_KEEP=DIR keeps what is written. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/filemap.h"
#include "store/safetensors_write.h"
#include "tap.h"

static char folder[4096];

static const char *in_folder(const char *name)
{
    static char path[8192];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static int same_files(const char *a, const char *b)
{
    struct sd_filemap x, y;
    struct sd_err err;
    if (sd_filemap_open(&x, a, &err) || sd_filemap_open(&y, b, &err)) {
        printf("# %s\n", err.msg);
        return 0;
    }
    int same = x.size == y.size && !memcmp(x.data, y.data, x.size);
    sd_filemap_close(&x);
    sd_filemap_close(&y);
    return same;
}

/* --- the fixtures' tensors, by the formulas of t/ref/store.py --- */

static float ramp(uint64_t i)
{
    return (float)(i % 97) / 8;
}

/* Produces a ramp in pieces, as a conversion of a model on its way to the disk would. */
static int fill_ramp(void *ctx, uint64_t offset, void *dst, size_t bytes, struct sd_err *err)
{
    enum sd_store_dtype d = *(enum sd_store_dtype *)ctx;
    size_t width = sd_store_dtype_bytes(d);
    for (size_t i = 0; i < bytes / width; i++) {
        float v = ramp(offset / width + i);
        if (sd_store_from_f32(d, &v, 1, (char *)dst + i * width))
            return sd_err_set(err, SD_ERR_USAGE, "type");
    }
    return 0;
}

static enum sd_store_dtype f64 = SD_STORE_F64, f32 = SD_STORE_F32, f16 = SD_STORE_F16, bf16 = SD_STORE_BF16;
static const int64_t s23[] = {2, 3}, s03[] = {0, 3}, s1[] = {1}, s2[] = {2}, s3[] = {3}, s4[] = {4},
                     s5[] = {5};
static const char odd[] = "odd \"name\"\\\n\x01/\x7f \xc3\xa9";

static void test_bytes(void)
{
    static const int64_t ids[] = {0, 1, 2, 3, 4};
    static const int32_t steps[] = {0, 1, 2};
    static const int16_t small[] = {0, 1, 2};
    static const float one = 1.5f;
    static const unsigned char e4m3[] = {0x00, 0x20, 0x28, 0x2c, 0x30, 0x32},
                               e5m2[] = {0, 0x30, 0x34, 0x36, 0x38, 0x39};
    const struct sd_store_tensor t[] = {
        {"b.weight", SD_STORE_F16, 2, s23, NULL, fill_ramp, &f16},
        {"a.weight", SD_STORE_F32, 2, s23, NULL, fill_ramp, &f32},
        {"a.bias", SD_STORE_BF16, 2, s23, NULL, fill_ramp, &bf16},
        {"none", SD_STORE_F32, 2, s03, NULL, NULL, NULL},
        {"one", SD_STORE_F32, 0, NULL, &one, NULL, NULL},
        {"ids", SD_STORE_I64, 1, s5, ids, NULL, NULL},
        {"steps", SD_STORE_I32, 1, s3, steps, NULL, NULL},
        {"short", SD_STORE_I16, 1, s3, small, NULL, NULL},
        {"bytes", SD_STORE_U8, 1, s4, "\0\1\2\3", NULL, NULL},
        {"signed", SD_STORE_I8, 1, s4, "\xfe\xff\0\1", NULL, NULL},
        {"flags", SD_STORE_BOOL, 1, s2, "\1\0", NULL, NULL},
        {"double", SD_STORE_F64, 1, s2, NULL, fill_ramp, &f64},
        {"e4m3", SD_STORE_F8_E4M3, 2, s23, e4m3, NULL, NULL},
        {"e5m2", SD_STORE_F8_E5M2, 2, s23, e5m2, NULL, NULL},
        {odd, SD_STORE_F32, 1, s1, NULL, fill_ramp, &f32},
    };
    const struct sd_store_meta meta[] = {{"format", "p\"t\n \xc3\xa9"}};
    const struct sd_store_tensor x = {"x", SD_STORE_F32, 1, s2, NULL, fill_ramp, &f32};
    struct sd_err err = {0};
    ok(!sd_store_write(in_folder("types.safetensors"), t, sizeof t / sizeof *t, meta, 1, &err) &&
           same_files(in_folder("types.safetensors"), "t/data/store/types.safetensors"),
       "every type, odd names and metadata: the library's bytes");
    ok(!sd_store_write(in_folder("plain.safetensors"), &x, 1, NULL, 0, &err) &&
           same_files(in_folder("plain.safetensors"), "t/data/store/plain.safetensors"),
       "no metadata: the library's bytes");
}

static int has(const struct sd_tensor_file *tf, const char *name, size_t n, const float *want)
{
    const struct sd_store_entry *e = sd_tensor_file_find(tf, name);
    float got[8] = {0};
    if (!e || e->bytes != n * sd_store_dtype_bytes(e->dtype))
        return 0;
    sd_store_to_f32(e->dtype, e->data, n, got);
    for (size_t i = 0; i < n; i++)
        if (got[i] != want[i]) {
            printf("# %s[%zu] is %g, expected %g\n", name, i, got[i], want[i]);
            return 0;
        }
    return 1;
}

static void test_values(void)
{
    struct sd_tensor_file *tf;
    struct sd_err err = {0};
    const float r[] = {0, 0.125f, 0.25f, 0.375f, 0.5f, 0.625f}, count[] = {0, 1, 2, 3, 4},
                below[] = {-2, -1, 0, 1};
    const float one = 1.5f, flags[] = {1, 0};
    ok(!sd_tensor_file_open(&tf, "t/data/store/types.safetensors", &err), "the library's file opens");
    ok(sd_tensor_file_count(tf) == 15, "all tensors are there");
    ok(has(tf, "b.weight", 6, r) && has(tf, "a.weight", 6, r) && has(tf, "a.bias", 6, r) &&
           has(tf, "double", 2, r) && has(tf, "e4m3", 6, r) &&
           has(tf, "e5m2", 6, (float[]){0, 0.125f, 0.25f, 0.375f, 0.5f, 0.625f}) && has(tf, odd, 1, r),
       "floats of every width");
    ok(has(tf, "ids", 5, count) && has(tf, "steps", 3, count) && has(tf, "short", 3, count) &&
           has(tf, "bytes", 4, count) && has(tf, "signed", 4, below) && has(tf, "flags", 2, flags),
       "whole numbers of every width");
    ok(has(tf, "one", 1, &one) && has(tf, "none", 0, NULL), "a single number and an empty tensor");
    ok(!sd_tensor_file_find(tf, "a.weigh") && !sd_tensor_file_find(tf, ""), "a name that is not there");
    const char *format = sd_tensor_file_meta(tf, "format");
    ok(format && !strcmp(format, "p\"t\n \xc3\xa9") && !sd_tensor_file_meta(tf, "x"), "metadata");
    sd_tensor_file_close(tf);
}

static void test_hashes(void)
{
    const int64_t down[] = {16, 24576}, up[] = {24576, 16};
    const float alpha = 8;
    const struct sd_store_tensor t[] = {
        {"lora_unet_x.lora_down.weight", SD_STORE_F16, 2, down, NULL, fill_ramp, &f16},
        {"lora_unet_x.lora_up.weight", SD_STORE_F16, 2, up, NULL, fill_ramp, &f16},
        {"lora_unet_x.alpha", SD_STORE_F32, 0, NULL, &alpha, NULL, NULL},
    };
    const struct sd_store_meta meta[] = {{"ss_network_dim", "16"}, {"modelspec.title", "x"}};
    char want[4][80] = {"", "", "", ""}, model[65], legacy[9];
    struct sd_err err = {0};
    FILE *f = fopen("t/data/store/hashes.txt", "r");
    int read = f && fscanf(f, "%79s %79s %79s %79s", want[0], want[1], want[2], want[3]) == 4;
    if (f)
        fclose(f);
    ok(read && !sd_store_hash(t, 3, meta, 2, model, legacy, &err) && !strcmp(model, want[0]) &&
           !strcmp(legacy, want[1]),
       "sshs hashes, of which only ss_ metadata is part");
    ok(read && !sd_store_hash(t, 3, NULL, 0, model, legacy, &err) && !strcmp(model, want[2]) &&
           !strcmp(legacy, want[3]),
       "sshs hashes without metadata");
}

static void test_refused_writes(void)
{
    const int64_t huge[] = {INT64_C(1) << 40, INT64_C(1) << 40};
    const struct sd_store_tensor twice[] = {{"x", SD_STORE_U8, 1, s2, "ab", NULL, NULL},
                                            {"x", SD_STORE_F32, 1, s1, "abcd", NULL, NULL}};
    const struct sd_store_tensor latin = {"\xe9", SD_STORE_U8, 1, s2, "ab", NULL, NULL};
    const struct sd_store_tensor reserved = {"__metadata__", SD_STORE_U8, 1, s2, "ab", NULL, NULL};
    const struct sd_store_tensor large = {"x", SD_STORE_U8, 2, huge, "ab", NULL, NULL};
    struct sd_err err = {0};
    const char *path = in_folder("refused.safetensors");
    ok(sd_store_write(path, &twice[0], 1, NULL, 0, &err) == 0 &&
           sd_store_write(path, &latin, 1, NULL, 0, &err) &&
           sd_store_write(path, &reserved, 1, NULL, 0, &err) &&
           sd_store_write(path, &large, 1, NULL, 0, &err),
       "names that are not UTF-8 or reserved, and impossible shapes, are refused");
    struct sd_tensor_file *tf;
    ok(!sd_tensor_file_open(&tf, path, &err) && sd_tensor_file_count(tf) == 1,
       "the file before stays as it was");
    sd_tensor_file_close(tf);
    unlink(path);
    ok(sd_store_write("/dev/full", twice, 1, NULL, 0, &err) && err.code == SD_ERR_MACHINE &&
           strstr(err.msg, "/dev/full: No space left on device"),
       "a full disk");
}

/* --- headers that lie --- */

static int refused(const char *header, size_t data, const char *expect)
{
    static unsigned char file[4096];
    size_t n = strlen(header);
    struct sd_tensor_file *tf;
    struct sd_err err = {0};
    memset(file, 0, sizeof file);
    file[0] = (unsigned char)n;
    file[1] = (unsigned char)(n >> 8);
    memcpy(file + 8, header, n);
    int rc = sd_tensor_file_parse(&tf, file, 8 + n + data, "x.safetensors", &err);
    int good =
        expect ? rc && !tf && !strncmp(err.msg, "x.safetensors: ", 15) && strstr(err.msg, expect) : !rc;
    if (!good)
        printf("# %s: %s\n", header, rc ? err.msg : "accepted");
    sd_tensor_file_close(tf);
    return good;
}

#define T(name, dtype, shape, offsets) \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static void test_faults(void)
{
    static const struct {
        const char *what, *header;
        size_t data;
        const char *expect;
    } cases[] = {
        {"a good header", "{" T("a", "F32", "[2]", "[0,8]") "," T("b", "U8", "[1]", "[8,9]") "}", 9, NULL},
        {"tensors in any order", "{" T("b", "U8", "[1]", "[8,9]") "," T("a", "F32", "[2]", "[0,8]") "}", 9,
         NULL},
        {"no tensors", "{}  ", 0, NULL},
        {"unknown members", "{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1],\"more\":{}}}", 1,
         NULL},
        {"a header that is no JSON", "{\"a\":", 0, "not valid JSON"},
        {"a header that is no object", "[1,2]", 0, "not a JSON object"},
        {"text after the header's object", "{} x", 0, "more text after the end"},
        {"an entry that is no object", "{\"a\":3}", 0, "\"a\": its entry is not a JSON object"},
        {"a NUL in a name", "{" T("a\\u0000b", "U8", "[1]", "[0,1]") "}", 1, "NUL character"},
        {"a name twice", "{" T("a", "U8", "[1]", "[0,1]") "," T("a", "U8", "[1]", "[1,2]") "}", 2,
         "tensor \"a\" appears twice"},
        {"a member twice", "{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}",
         1, "dtype"},
        {"an unknown dtype", "{" T("a", "F99", "[1]", "[0,1]") "}", 1, "\"a\": unknown dtype \"F99\""},
        {"no shape", "{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, "\"a\": shape is missing"},
        {"a negative dimension", "{" T("a", "U8", "[-1]", "[0,1]") "}", 1, "whole numbers from 0 up"},
        {"a dimension with a fraction", "{" T("a", "U8", "[1.5]", "[0,1]") "}", 1, "whole numbers from 0 up"},
        {"a dimension that is a string", "{" T("a", "U8", "[\"1\"]", "[0,1]") "}", 1,
         "whole numbers from 0 up"},
        {"a product beyond 2^62", "{" T("a", "F32", "[4294967296,4294967296]", "[0,8]") "}", 8,
         "is too large"},
        {"a dimension beyond 2^53", "{" T("a", "U8", "[99999999999999999999]", "[0,1]") "}", 1,
         "whole numbers"},
        {"an overflow beside a 0", "{" T("a", "F32", "[4294967296,4294967296,0]", "[0,0]") "}", 0,
         "is too large"},
        {"65 dimensions",
         "{" T("a", "U8",
               "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,"
               "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]",
               "[0,1]") "}",
         1, "65 dimensions, expected at most 64"},
        {"one offset", "{" T("a", "U8", "[1]", "[0]") "}", 1, "data_offsets is not a pair"},
        {"a negative offset", "{" T("a", "U8", "[1]", "[-1,0]") "}", 1, "data_offsets is not a pair"},
        {"offsets out of order", "{" T("a", "U8", "[1]", "[1,0]") "}", 1, "reach outside the 1 bytes"},
        {"an offset beyond the end", "{" T("a", "F32", "[2]", "[0,8]") "}", 7,
         "[0,8] reach outside the 7 bytes"},
        {"an offset of 2^53", "{" T("a", "U8", "[1]", "[9007199254740991,9007199254740992]") "}", 1,
         "reach outside"},
        {"offsets that do not fit the shape", "{" T("a", "F32", "[2]", "[0,4]") "}", 4,
         "span 4 bytes, but F32 of shape [2] takes 8"},
        {"overlapping tensors", "{" T("a", "F32", "[2]", "[0,8]") "," T("b", "F32", "[1]", "[4,8]") "}", 8,
         "\"b\": its data starts at 4, expected 8 (it overlaps"},
        {"a gap", "{" T("a", "U8", "[1]", "[0,1]") "," T("b", "U8", "[1]", "[2,3]") "}", 3,
         "a gap before it"},
        {"data that no tensor covers", "{" T("a", "U8", "[1]", "[0,1]") "}", 5,
         "take 1 bytes, but the file holds 5"},
        {"metadata that is no object", "{\"__metadata__\":[]}", 0, "__metadata__ is not a JSON object"},
        {"metadata that is no string", "{\"__metadata__\":{\"a\":1}}", 0, "metadata \"a\" is not a string"},
        {"metadata twice", "{\"__metadata__\":{},\"__metadata__\":{}}", 0, "__metadata__ appears twice"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ok(refused(cases[i].header, cases[i].data, cases[i].expect), "%s", cases[i].what);
}

static void test_lengths(void)
{
    unsigned char file[16] = {0, 0, 0, 0, 0, 0, 0, 0x80};
    struct sd_tensor_file *tf;
    struct sd_err err = {0};
    ok(sd_tensor_file_parse(&tf, file, 16, "x", &err) &&
           strstr(err.msg, "length 9223372036854775808 goes beyond"),
       "a header length of 2^63");
    memset(file, 0xff, 8);
    ok(sd_tensor_file_parse(&tf, file, 16, "x", &err) && strstr(err.msg, "goes beyond"),
       "a header length of 2^64-1");
    ok(sd_tensor_file_parse(&tf, file, 7, "x", &err) && strstr(err.msg, "7 bytes, too short"), "seven bytes");
    ok(sd_tensor_file_parse(&tf, file, 0, "x", &err) && strstr(err.msg, "0 bytes, too short"), "no bytes");
    struct sd_filemap m;
    int bad = sd_filemap_open(&m, "t/data/store/types.safetensors", &err), accepted = 0;
    for (size_t n = 0; !bad && n < m.size; n++)
        if (!sd_tensor_file_parse(&tf, m.data, n, "x", &err)) {
            accepted++;
            sd_tensor_file_close(tf);
        }
    ok(!bad && !accepted, "cut short at every byte");
    sd_filemap_close(&m);
    ok(sd_tensor_file_open(&tf, "t/data/store", &err) && strstr(err.msg, "is a folder"), "a folder");
    ok(sd_tensor_file_open(&tf, "t/data/nothing", &err) && strstr(err.msg, "No such file"), "no file");
}

/* 2000 arrays in arrays: parsers must not run out of stack. */
static void test_depth(void)
{
    static char header[8 + 4000];
    struct sd_tensor_file *tf;
    struct sd_err err = {0};
    memset(header + 8, '[', 4000);
    header[0] = (char)(4000 & 255);
    header[1] = 4000 >> 8;
    ok(sd_tensor_file_parse(&tf, header, sizeof header, "x", &err) && strstr(err.msg, "not valid JSON"),
       "a header of brackets only");
}

int main(void)
{
    const char *keep = getenv("SD_KEEP"), *tmp = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s%s",
             keep  ? keep
             : tmp ? tmp
                   : "/tmp",
             keep ? "" : "/sd-safetensors-XXXXXX");
    if (!keep && !mkdtemp(folder)) {
        perror(folder);
        return 1;
    }
    test_bytes();
    test_values();
    test_hashes();
    test_refused_writes();
    test_faults();
    test_lengths();
    test_depth();
    if (!keep) {
        unlink(in_folder("types.safetensors"));
        unlink(in_folder("plain.safetensors"));
        ok(!rmdir(folder), "nothing else was left behind");
    }
    return tap_end();
}
