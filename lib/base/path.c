#include "base/path.h"

#include <string.h>
#include <strings.h>

const char *sd_path_base(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

const char *sd_path_slash(const char *folder)
{
    size_t len = strlen(folder);
    return len && folder[len - 1] == '/' ? "" : "/";
}

size_t sd_path_stem_len(const char *path)
{
    const char *base = sd_path_base(path), *dot = strrchr(base, '.');
    base += strspn(base, ".");
    return dot && dot > base ? (size_t)(dot - path) : strlen(path);
}

int sd_path_sidecar(struct sd_buf *out, const char *path, const char *ending)
{
    return sd_buf_add(out, path, sd_path_stem_len(path)) || sd_buf_adds(out, ending) ? -1 : 0;
}

bool sd_path_is_archive(const char *path, size_t len)
{
    static const char *const endings[] = {".zip",     ".tar",    ".tar.gz", ".tgz",
                                          ".tar.bz2", ".tar.xz", ".tar.zst"};
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        size_t n = strlen(endings[i]);
        if (len > n && !strncasecmp(path + len - n, endings[i], n) && path[len - n - 1] != '/')
            return true;
    }
    return false;
}

int sd_path_visible(struct sd_buf *out, const char *s, size_t len)
{
    int bad = 0;
    for (size_t i = 0, start = 0; i <= len && !bad; i++) {
        if (i < len && (unsigned char)s[i] >= 0x20 && s[i] != 0x7f)
            continue;
        bad |= sd_buf_add(out, s + start, i - start);
        if (i < len)
            bad |= sd_buf_addf(out, "\\x%02x", (unsigned char)s[i]);
        start = i + 1;
    }
    return bad;
}
