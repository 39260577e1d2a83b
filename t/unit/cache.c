/* lib/data/cache: names of caches, whose they are, what they tell of their source. */
#include <string.h>

#include "data/cache.h"
#include "tap.h"

static int is_name(struct sd_cache_place place, const char *path, const char *want)
{
    struct sd_cut cut = {.path = path, .width = 512, .height = 12345};
    struct sd_buf name = SD_BUF_INIT;
    struct sd_err err = {0};
    int good = !sd_cache_name(&name, &place, &cut, &err) && !strcmp(name.data, want);
    if (!good)
        printf("# %s instead of %s\n", name.data ? name.data : err.msg, want);
    sd_buf_free(&name);
    return good;
}

static void test_names(void)
{
    struct sd_cache_place beside = {.layout = SD_CACHE_BESIDE};
    struct sd_cache_place tree = {.layout = SD_CACHE_TREE, .folder = "c"};
    struct sd_cache_place flat = {.layout = SD_CACHE_FLAT, .folder = "c/"};
    struct sd_cache_place stem = {.layout = SD_CACHE_STEM, .folder = "c"};
    struct sd_cache_place member = {.layout = SD_CACHE_FLAT, .folder = ""};
    ok(is_name(beside, "p/a.b.png", "p/a.b.npz") && is_name(beside, "p.x/a", "p.x/a.npz"), "beside");
    ok(is_name(tree, "p/a.png", "c/4c/c7/a-4cc72ee442431d12.npz"), "in a tree of folders");
    ok(is_name(flat, "p/a.png", "c/a-4cc72ee442431d12.npz"), "in one folder");
    ok(is_name(stem, "p/a.png", "c/a.npz"), "as prepare_buckets_latents");
    ok(is_name(member, "p/a.png", "a-4cc72ee442431d12.npz"), "in an archive");
    beside.sized = stem.sized = true;
    ok(is_name(beside, "none/a.png", "none/a_0512x12345_sd.npz") &&
           is_name(stem, "none/a.png", "c/a_0512x12345_sd.npz"),
       "with the picture's size");
    struct sd_cut unsized = {.path = "none/a.png", .width = -1, .height = 5};
    struct sd_buf name = SD_BUF_INIT;
    struct sd_err err = {0};
    ok(sd_cache_name(&name, &beside, &unsized, &err) && strstr(err.msg, "width"), "which must be told");
    sd_buf_free(&name);
}

static void test_owners(void)
{
    struct sd_cache_owners o = {0};
    struct sd_cut png = {.path = "a.png", .bucket = {64, 64}}, jpg = png, other = png;
    struct sd_err err = {0};
    jpg.path = "a.jpg";
    other.crop[0] = 1;
    ok(!sd_cache_own(&o, "a.npz", &png, &err) && !sd_cache_own(&o, "a.npz", &png, &err), "the same again");
    ok(sd_cache_own(&o, "a.npz", &jpg, &err) && strstr(err.msg, "another picture"), "another picture");
    ok(sd_cache_own(&o, "a.npz", &other, &err) && strstr(err.msg, "in another way"), "cut in another way");
    char name[32];
    int bad = 0;
    for (int i = 0; i < 5000; i++) {
        snprintf(name, sizeof name, "%d.npz", i);
        bad |= sd_cache_own(&o, name, &png, &err);
    }
    ok(!bad && o.count == 5001 && sd_cache_own(&o, "4999.npz", &jpg, &err), "many");
    sd_cache_owners_free(&o);
}

static void test_source(void)
{
    static const char vae[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    char settings[128], told[65];
    snprintf(settings, sizeof settings, "\"vae\":\"%s\",\"draw\":0", vae);
    struct sd_cache_want want = {.settings = settings};
    struct sd_cut cut = {.path = "a.png", .resize = {70, 64}, .crop = {3, 0}, .filter = SD_RESIZE_AREA};
    struct sd_buf source = SD_BUF_INIT;
    ok(!sd_cache_source(&source, &want, &cut, 99, "ff") &&
           strstr(source.data,
                  ",\"resize\":[70,64],\"crop\":[3,0],\"filter\":\"area\",\"bytes\":99,\"sha256\":\"ff\"}"),
       "what a source tells");
    ok(sd_cache_source_vae(source.data, told) && !strcmp(told, vae), "its VAE");
    ok(!sd_cache_source_vae("{\"vae\":\"short\"}", told) && !sd_cache_source_vae("{}", told) &&
           !sd_cache_source_vae("[", told),
       "sources that tell none");
    sd_buf_free(&source);
}

int main(void)
{
    test_names();
    test_owners();
    test_source();
    return tap_end();
}
