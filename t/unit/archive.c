/* lib/store/archive against archives of Python (t/data/archive, made by t/ref/archive.py), then archives that
 * lie, and what lib/store/archive_write wrote. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/filemap.h"
#include "data/picture.h"
#include "store/archive_write.h"
#include "store/tar.h"
#include "tap.h"

#define DIR "t/data/archive/"

static char folder[64];

static const char *in_folder(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void fill(const char *name, const void *bytes, size_t len)
{
    FILE *f = fopen(in_folder(name), "wb");
    if (!f || fwrite(bytes, 1, len, f) != len || fclose(f))
        perror(name);
}

/* ---- names ---- */

static void test_split(void)
{
    static const struct {
        const char *path, *archive, *member;
    } cases[] = {
        {"a.zip!/b.png", "a.zip", "b.png"},
        {"x/a.TAR!/b/c.png", "x/a.TAR", "b/c.png"},
        {"a.tar.gz!/b", "a.tar.gz", "b"},
        {"odd!/a.zip!/b.png", "odd!/a.zip", "b.png"},
        {"a.zip!/b.tar!/c.png", "a.zip", "b.tar!/c.png"},
        {"a.zip/b.png", "", ""},
        {"folder!/b.png", "", ""},
        {".zip!/b.png", "", ""},
        {"x/.zip!/b.png", "", ""},
        {"a.zip", "", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *member = "";
        size_t n = sd_archive_split(cases[i].path, &member);
        ok(n == strlen(cases[i].archive) && !strncmp(cases[i].path, cases[i].archive, n) &&
               !strcmp(member, cases[i].member),
           "the parts of %s", cases[i].path);
    }
}

/* ---- reading ---- */

static int member_is(const struct sd_archive *a, const char *name, const char *file)
{
    struct sd_archive_member m = {0};
    struct sd_buf scratch = SD_BUF_INIT;
    struct sd_filemap want;
    struct sd_err err = {0};
    const void *bytes, *first;
    if (sd_filemap_open(&want, file, &err))
        return 0;
    int good = sd_archive_find(a, name, &m, &err) == 1 && m.size == want.size &&
               !sd_archive_view(a, &m, want.size, &scratch, &bytes, &err) &&
               !memcmp(bytes, want.data, want.size);
    good =
        good && sd_archive_peek(a, &m, 100, &scratch, &first, &err) == 100 && !memcmp(first, want.data, 100);
    good = good && sd_archive_view(a, &m, want.size - 1, &scratch, &bytes, &err) &&
           strstr(err.msg, "more than the");
    if (!good)
        printf("# %s: %s\n", name, err.msg);
    sd_filemap_close(&want);
    sd_buf_free(&scratch);
    sd_buf_free(&m.name);
    return good;
}

static void test_read(void)
{
    static const char *const archives[] = {"ustar.tar", "gnu.tar", "pax.tar", "stored.zip", "deflated.zip"};
    char long_name[512] = "";
    for (int i = 0; i < 40; i++)
        strcat(long_name, "long/");
    for (int i = 0; i < 60; i++)
        strcat(long_name, "\xc3\xa9");
    strcat(long_name, ".png");
    for (size_t i = 0; i < sizeof archives / sizeof *archives; i++) {
        char path[64];
        struct sd_archive *a;
        struct sd_archive_member m = {0};
        struct sd_err err = {0};
        snprintf(path, sizeof path, DIR "%s", archives[i]);
        if (!ok(!sd_archive_open(&a, path, &err), "%s", archives[i])) {
            printf("# %s\n", err.msg);
            continue;
        }
        ok(!sd_archive_damage(a)->code && sd_archive_count(a) == (i ? 5 : 4), "its members");
        ok(!sd_archive_member(a, 0, &m, &err) && m.folder && !strcmp(m.name.data, "sub/"), "a folder, first");
        ok(!sd_archive_member(a, 1, &m, &err) && !m.folder && !strcmp(m.name.data, "a.png"),
           "the archive's order");
        ok(member_is(a, "a.png", "t/data/image/rgb.png") && member_is(a, "sub/b.jpg", "t/data/image/420.jpg"),
           "members by name");
        ok(!sd_archive_find(a, "b.jpg", &m, &err) && !sd_archive_find(a, "", &m, &err) &&
               !sd_archive_find(a, "sub/b.jp", &m, &err),
           "names that are not there");
        if (i == 1 || i == 2)
            ok(member_is(a, long_name, "t/data/image/lossy.webp"), "a long name");
        sd_buf_free(&m.name);
        sd_archive_close(a);
    }
}

/* ---- what is refused ---- */

static void test_odd(const char *path, const char *const *expect)
{
    struct sd_archive *a;
    struct sd_archive_member m = {0};
    struct sd_err err = {0};
    if (!ok(!sd_archive_open(&a, path, &err), "%s", path))
        return;
    for (size_t i = 0; i < sd_archive_count(a); i++, expect++) {
        int bad = sd_archive_member(a, i, &m, &err);
        ok(**expect ? bad && strstr(err.msg, *expect) : !bad, "%s: %s", m.name.data,
           **expect ? *expect : "good");
        if (**expect && strcmp(*expect, "occurs before") && *m.name.data)
            ok(sd_archive_find(a, m.name.data, &m, &err) == -1, "nor by its name");
    }
    sd_buf_free(&m.name);
    sd_archive_close(a);
}

/* Everything an archive has, read. The number of members that could be. */
static int read_all(const unsigned char *bytes, size_t size)
{
    struct sd_archive *a;
    struct sd_archive_member m = {0};
    struct sd_buf scratch = SD_BUF_INIT;
    struct sd_err err = {0};
    const void *p;
    int good = 0;
    if (sd_archive_parse(&a, bytes, size, "x", &err))
        return 0;
    for (size_t i = 0; i < sd_archive_count(a); i++)
        good += !sd_archive_member(a, i, &m, &err) && !m.folder &&
                !sd_archive_view(a, &m, 1 << 20, &scratch, &p, &err);
    sd_buf_free(&m.name);
    sd_buf_free(&scratch);
    sd_archive_close(a);
    return good;
}

static void test_damage(const char *path, int members)
{
    struct sd_filemap f;
    struct sd_err err = {0};
    int most = 0, last = 0, falls = 0;
    if (sd_filemap_open(&f, path, &err))
        return;
    unsigned char *copy = malloc(f.size);
    for (size_t n = 0; n <= f.size; n++) {
        memcpy(copy, f.data, n);
        int got = read_all(copy, n);
        falls += got < last;
        last = got;
    }
    ok(last == members && !falls, "%s: cut short at every byte", path);
    for (size_t i = 0; i < f.size; i++) {
        memcpy(copy, f.data, f.size);
        copy[i] ^= 0xff;
        int got = read_all(copy, f.size);
        most = got > most ? got : most;
    }
    ok(most == members, "%s: each byte damaged", path);
    free(copy);
    sd_filemap_close(&f);
}

static void put(unsigned char *header, const char *name, const char *size, char type)
{
    unsigned sum = 8 * ' ';
    memset(header, 0, 512);
    memcpy(header, name, strlen(name));
    memcpy(header + 124, size, 12);
    header[156] = (unsigned char)type;
    memcpy(header + 257,
           "ustar\0"
           "00",
           8);
    for (int i = 0; i < 512; i++)
        sum += i < 148 || i >= 156 ? header[i] : 0;
    snprintf((char *)header + 148, 8, "%06o", sum);
}

static void test_tar_lies(void)
{
    static const struct {
        const char *what, *size, *expect;
        char type;
        const char *data;
    } cases[] = {
        {"a size in base 256", "\x80\0\0\0\0\0\0\0\0\0\0\5", "", '0', "hello"},
        {"a size beyond the file", "00000010000", "cut short", '0', ""},
        {"a negative size", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "wrong size", '0', ""},
        {"a huge size", "\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "wrong size", '0', ""},
        {"the largest size", "\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", "cut short", '0', ""},
        {"a size that is no number", "0000x000005", "wrong size", '0', ""},
        {"a pax header that lies about its length", "00000000007", "extended", 'x', "99 a=b\n"},
        {"a pax record without a key", "00000000005", "extended", 'x', "5 ab\n"},
        {"a pax record of length 0", "00000000005", "extended", 'x', "0 a=\n"},
        {"a pax size that is no number", "00000000012", "extended", 'x', "10 size=-\n"},
        {"a name header of 2 MiB", "00010000000", "extended", 'L', ""},
        {"extended headers and nothing behind", "00000000006", "wrong checksum", 'x', "6 a=b\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        unsigned char tar[2048] = {0};
        struct sd_archive *a;
        struct sd_err err = {0};
        put(tar, "a.txt", cases[i].size, cases[i].type);
        memcpy(tar + 512, cases[i].data, strlen(cases[i].data));
        int bad = sd_archive_parse(&a, tar, sizeof tar, "x.tar", &err);
        const char *damage = bad ? err.msg : sd_archive_damage(a)->msg;
        if (!ok(*cases[i].expect ? !bad && strstr(damage, cases[i].expect) && !sd_archive_count(a)
                                 : !bad && !*damage && sd_archive_count(a) == 1,
                "%s", cases[i].what))
            printf("# %s\n", damage);
        if (!bad)
            sd_archive_close(a);
    }
}

/* Two directory entries for the same bytes, as bombs have them. */
static void test_overlap(void)
{
    static unsigned char zip[1024];
    unsigned char *p = zip;
    struct sd_archive *a;
    struct sd_err err = {0};
    memcpy(p, "PK\3\4", 4);
    p[18] = p[22] = 50;
    p[26] = 1;
    p[30] = 'a';
    p += 31 + 50;
    unsigned char *directory = p;
    for (int i = 0; i < 2; i++, p += 47) {
        memcpy(p, "PK\1\2", 4);
        p[20] = p[24] = 50;
        p[28] = 1;
        p[46] = 'a';
    }
    memcpy(p, "PK\5\6", 4);
    p[8] = p[10] = 2;
    p[12] = 94;
    p[16] = (unsigned char)(directory - zip);
    ok(sd_archive_parse(&a, zip, (size_t)(p + 22 - zip), "x.zip", &err) && strstr(err.msg, "overlap"),
       "members that overlap");
}

static void test_kinds(void)
{
    static const struct {
        const char *bytes, *expect;
    } cases[] = {{"\x1f\x8b\x08 and more", "gunzip"},
                 {"\x28\xb5\x2f\xfd and more", "unzstd"},
                 {"\xfd"
                  "7zXZ and more",
                  "unxz"},
                 {"BZh9 and more", "bunzip2"},
                 {"", "neither"},
                 {"text", "neither"},
                 {"PK\3\4 and no more", "zip"}};
    struct sd_archive *a;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sd_err err = {0};
        int bad = sd_archive_parse(&a, cases[i].bytes, strlen(cases[i].bytes), "x", &err);
        ok(bad && !a && strstr(err.msg, cases[i].expect), "not an archive: %s", cases[i].expect);
    }
    struct sd_err err = {0};
    ok(sd_archive_open(&a, "t", &err) && strstr(err.msg, "is a folder"), "a folder");
    ok(sd_archive_open(&a, "t/nothing.tar", &err) && strstr(err.msg, "No such file"), "no such file");
}

/* ---- writing ---- */

static int write_archive(const char *name, size_t members)
{
    struct sd_archive_writer *w;
    struct sd_err err = {0};
    char member[600], text[32];
    int bad = sd_archive_writer_open(&w, in_folder(name), &err);
    for (size_t i = 0; i < members && !bad; i++) {
        snprintf(member, sizeof member, "%0*zu/x", i < 5 ? (int)(95 + i * 79) : 6, i);
        int n = snprintf(text, sizeof text, "%zu", i);
        uint64_t before = sd_archive_writer_size(w), more = sd_archive_writer_more(member, (uint64_t)n);
        bad = sd_archive_writer_add(w, member, text, (size_t)n, &err);
        if (sd_archive_writer_size(w) > before + more)
            bad = sd_err_set(&err, SD_ERR_DATA, "a member took more than was said");
    }
    if (!bad)
        bad = sd_archive_writer_commit(&w, &err);
    sd_archive_writer_discard(&w);
    if (bad)
        printf("# %s\n", err.msg);
    return bad;
}

static int read_back(const char *name, size_t members)
{
    struct sd_archive *a;
    struct sd_archive_member m = {0};
    struct sd_buf scratch = SD_BUF_INIT;
    struct sd_err err = {0};
    char member[600], text[32];
    const void *bytes;
    if (sd_archive_open(&a, in_folder(name), &err))
        return -1;
    int bad = sd_archive_count(a) != members || sd_archive_damage(a)->code;
    for (size_t i = 0; i < members && !bad; i++) {
        snprintf(member, sizeof member, "%0*zu/x", i < 5 ? (int)(95 + i * 79) : 6, i);
        size_t n = (size_t)snprintf(text, sizeof text, "%zu", i);
        bad = sd_archive_find(a, member, &m, &err) != 1 || m.size != n ||
              sd_archive_view(a, &m, 100, &scratch, &bytes, &err) || memcmp(bytes, text, n);
    }
    sd_buf_free(&m.name);
    sd_buf_free(&scratch);
    sd_archive_close(a);
    return bad;
}

static void test_write(void)
{
    struct sd_archive_writer *w;
    struct sd_err err = {0};
    ok(!write_archive("few.tar", 100) && !read_back("few.tar", 100), "a tar, with names of all lengths");
    ok(!write_archive("many.zip", 70000) && !read_back("many.zip", 70000), "a zip of 70000 members");
    ok(!write_archive("none.tar", 0) && !read_back("none.tar", 0), "an empty tar");
    ok(!write_archive("none.zip", 0) && !read_back("none.zip", 0), "an empty zip");
    ok(sd_archive_writer_open(&w, in_folder("x.tar.gz"), &err) && !w && strstr(err.msg, ".tar or .zip"),
       "another ending");
}

/* A file with a hole, so that it takes no room. */
static void test_large(void)
{
    struct sd_buf head = SD_BUF_INIT, next = SD_BUF_INIT;
    struct sd_archive *a;
    struct sd_archive_member m = {0};
    struct sd_err err = {0};
    const uint64_t size = (UINT64_C(9) << 30) + 512;
    int fd = open(in_folder("large.tar"), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    int bad = sd_tar_header(&head, "large.bin", size) || sd_tar_header(&next, "after.png", 0) ||
              pwrite(fd, head.data, head.len, 0) != (ssize_t)head.len ||
              pwrite(fd, next.data, next.len, (off_t)(head.len + size)) != (ssize_t)next.len ||
              ftruncate(fd, (off_t)(head.len + size + next.len + 1024));
    close(fd);
    ok(!bad && !sd_archive_open(&a, in_folder("large.tar"), &err) && sd_archive_count(a) == 2 &&
           sd_archive_find(a, "large.bin", &m, &err) == 1 && m.size == size &&
           sd_archive_find(a, "after.png", &m, &err) == 1 && m.offset > size,
       "a member of 9 GiB");
    sd_archive_close(a);
    unlink(in_folder("large.tar"));
    sd_buf_free(&m.name);
    sd_buf_free(&head);
    sd_buf_free(&next);
}

/* ---- pictures ---- */

static void test_pictures(void)
{
    struct sd_archives all = {0};
    struct sd_image_info info;
    struct sd_image file, member;
    struct sd_picture_stat st;
    struct sd_filemap f;
    struct sd_err err = {0};
    int good = !sd_picture_load(&all, "t/data/image/420.jpg", 3, 0, &file, &err) &&
               !sd_picture_load(&all, DIR "deflated.zip!/sub/b.jpg", 3, 0, &member, &err);
    ok(good && file.width == member.width && file.height == member.height &&
           !memcmp(file.data, member.data, (size_t)file.width * file.height * 3),
       "the same picture from a file and an archive");
    ok(!sd_picture_probe(&all, DIR "deflated.zip!/sub/b.jpg", &info, &err) && info.width == file.width &&
           info.bytes == 998,
       "its header");
    sd_image_free(&file);
    sd_image_free(&member);
    if (sd_filemap_open(&f, DIR "ustar.tar", &err))
        return;
    fill("x.tar", f.data, f.size);
    sd_filemap_close(&f);
    char path[256];
    snprintf(path, sizeof path, "%s/x.tar!/a.png", folder);
    ok(!sd_picture_stat(&all, path, &st, &err) && st.bytes == 136, "size and time");
    fill("x.tar", "text", 4);
    ok(sd_picture_stat(&all, path, &st, &err) && strstr(err.msg, "neither a zip"),
       "an archive that changed is read again");
    sd_archives_free(&all);
}

int main(void)
{
    static const char *const odd_tar[] = {"",       "leads out",     "leads out", "absolute",
                                          "a link", "a link",        "a device",  "a device",
                                          "sparse", "occurs before", "",          ""};
    static const char *const odd_zip[] = {"",          "leads out", "absolute", "NUL",   "encrypted",
                                          "method 99", "",          "",         "a link"};
    snprintf(folder, sizeof folder, "/tmp/sd-archive.XXXXXX");
    if (!mkdtemp(folder))
        return 1;
    test_split();
    test_read();
    test_odd(DIR "odd.tar", odd_tar);
    test_odd(DIR "odd.zip", odd_zip);
    test_damage(DIR "gnu.tar", 4);
    test_damage(DIR "pax.tar", 4);
    test_damage(DIR "stored.zip", 4);
    test_damage(DIR "deflated.zip", 4);
    test_tar_lies();
    test_overlap();
    test_kinds();
    test_write();
    test_large();
    test_pictures();
    static const char *const made[] = {"few.tar", "many.zip", "none.tar", "none.zip", "x.tar"};
    for (size_t i = 0; i < sizeof made / sizeof *made; i++)
        unlink(in_folder(made[i]));
    rmdir(folder);
    return tap_end();
}
