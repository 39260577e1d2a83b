#include "tensor/plugin.h"

#include "base/buf.h"
#include "base/path.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Adds "folder of this program" + rest. */
static void beside_program(struct sd_buf *path, const char *rest)
{
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0)
        return;
    self[n] = 0;
    sd_buf_add(path, self, (size_t)(sd_path_base(self) - self));
    sd_buf_adds(path, rest);
}

/* Opens the plugin in the folder that path names, or adds to tried why not. */
static void *open_in(struct sd_buf *path, const char *name, struct sd_buf *tried)
{
    if (sd_buf_addf(path, "libsd%s.so", name))
        return NULL;
    if (access(path->data, F_OK)) {
        sd_buf_addf(tried, "%s%s", tried->len ? ", " : "", path->data);
        return NULL;
    }
    void *so = dlopen(path->data, RTLD_NOW | RTLD_LOCAL);
    if (!so)
        sd_buf_addf(tried, "%s%s", tried->len ? ", " : "", dlerror());
    return so;
}

static void *find(const char *name, struct sd_buf *tried)
{
    static const char *const places[] = {"", "../lib/sd/"};
    const char *given = getenv("SD_PLUGINS");
    void *so = NULL;
    for (size_t i = 0; !so && i < (given ? 1 : sizeof places / sizeof *places); i++) {
        struct sd_buf path = {0};
        if (given)
            sd_buf_addf(&path, "%s%s", given, sd_path_slash(given));
        else
            beside_program(&path, places[i]);
        so = open_in(&path, name, tried);
        sd_buf_free(&path);
    }
    return so;
}

const struct sd_plugin *sd_plugin_load(const char *name, struct sd_err *err)
{
    struct sd_buf tried = {0};
    void *so = find(name, &tried);
    if (!so)
        sd_err_set(err, SD_ERR_MACHINE, "there is no %s backend here; tried %s", name,
                   tried.len ? tried.data : "out of memory");
    sd_buf_free(&tried);
    if (!so)
        return NULL;
    const struct sd_plugin *p = dlsym(so, "sd_plugin");
    if (p && p->version == SD_PLUGIN_VERSION && p->call_bytes == sizeof(struct sd_call) &&
        p->node_bytes == sizeof(struct sd_node) && p->ops == SD_OP_COUNT)
        return p;
    sd_err_set(err, SD_ERR_MACHINE,
               "libsd%s.so was not built with this program; build and install both together", name);
    dlclose(so);
    return NULL;
}
