/* A model in several files, by its index. */
#include <string.h>

#include "base/json.h"
#include "store/tensor_file_private.h"

#define MOST_SHARDS 1000
#define MOST_BYTES ((size_t)16 << 20)

/* The folder of a path, with its slash; empty for a bare name. */
static size_t folder_length(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? (size_t)(slash - path) + 1 : 0;
}

/* The shard of this name, opened when it is new; -1 after an error. */
static int64_t shard_of(struct sd_tensor_file *tf, const char *name, struct sd_err *err)
{
    size_t folder = folder_length(tf->path);
    for (size_t i = 0; i < tf->shard_count; i++)
        if (!strcmp(sd_tensor_file_path(tf->shards[i]) + folder, name))
            return (int64_t)i;
    if (!*name || strchr(name, '/') || !sd_tensor_file_named(name))
        return sd_err_set(err, SD_ERR_DATA,
                          "%s: weight_map names \"%.100s\", expected a tensor file in this folder", tf->path,
                          name);
    if (tf->shard_count == MOST_SHARDS)
        return sd_err_set(err, SD_ERR_DATA, "%s: more than %d files", tf->path, MOST_SHARDS);
    char *path = sd_arena_printf(&tf->arena, "%.*s%s", (int)folder, tf->path, name);
    if (!path)
        return sd_err_memory(err, strlen(name));
    if (sd_tensor_file_open_part(&tf->shards[tf->shard_count], path, true, err))
        return sd_err_prefix(err, "%s: its shard %.100s", tf->path, name);
    return (int64_t)tf->shard_count++;
}

static int open_shards(struct sd_tensor_file *tf, const cJSON *map, struct sd_err *err)
{
    for (const cJSON *m = map->child; m; m = m->next) {
        if (!cJSON_IsString(m))
            return sd_err_set(err, SD_ERR_DATA, "%s: weight_map: \"%.100s\" is not given a file's name",
                              tf->path, m->string);
        int64_t i = shard_of(tf, m->valuestring, err);
        if (i < 0)
            return -1;
        if (!sd_tensor_file_find(tf->shards[i], m->string))
            return sd_err_set(err, SD_ERR_DATA,
                              "%s: weight_map places tensor \"%.100s\" in %.100s, where it is not", tf->path,
                              m->string, m->valuestring);
    }
    return 0;
}

static int take_slots(struct sd_tensor_file *tf, struct sd_err *err)
{
    for (size_t i = 0; i < tf->shard_count; i++)
        for (size_t k = 0; k < tf->shards[i]->count; k++) {
            struct sd_tensor_slot *s = sd_tensor_file_add(tf, err);
            if (!s)
                return -1;
            *s = tf->shards[i]->slots[k];
            s->shard = i;
        }
    return sd_tensor_file_index(tf, err);
}

int sd_shards_read(struct sd_tensor_file *tf, struct sd_err *err)
{
    if (tf->is_shard)
        return sd_err_set(err, SD_ERR_DATA, "%s: a shard that is itself an index", tf->path);
    if (tf->map.size > MOST_BYTES)
        return sd_err_set(err, SD_ERR_DATA, "%s: %zu bytes, too large for an index of shards", tf->path,
                          tf->map.size);
    cJSON *root = sd_json_parse((const char *)tf->map.data, tf->map.size, err);
    if (!root)
        return sd_err_prefix(err, "%s: not a tensor file: read as an index of shards", tf->path);
    const cJSON *map = sd_json_get(root, "weight_map");
    int rc;
    tf->shards = sd_arena_array(&tf->arena, MOST_SHARDS, sizeof *tf->shards);
    if (tf->borrowed)
        rc = sd_err_set(err, SD_ERR_DATA, "%s: an index of shards is no tensor file by itself", tf->path);
    else if (!cJSON_IsObject(map) || !map->child)
        rc = sd_err_set(err, SD_ERR_DATA, "%s: JSON without a weight_map: no index of a model's shards",
                        tf->path);
    else if (!tf->shards)
        rc = sd_err_memory(err, MOST_SHARDS * sizeof *tf->shards);
    else
        rc = open_shards(tf, map, err) || take_slots(tf, err) ? -1 : 0;
    cJSON_Delete(root);
    return rc;
}
