/* The names that a pickle may use, and what is made of each. */
#include <string.h>

#include "store/pickle_private.h"

enum role {
    INERT,            /* a class that is only a name here */
    ORDERED_DICT,     /* collections.OrderedDict(), or of a list of pairs */
    SET,              /* set([...]) */
    SIZE,             /* torch.Size((...)) */
    ENCODE,           /* _codecs.encode(text, "latin1"): how protocol 2 writes bytes */
    STORAGE,          /* a typed storage, inside of a persistent id */
    UNTYPED,          /* an untyped one */
    DTYPE,            /* torch.float16 */
    REBUILD,          /* (storage, offset, shape, stride): until 2018 */
    REBUILD_V2,       /* the same and (requires_grad, hooks [, metadata]) */
    REBUILD_V3,       /* the same and the element type before the metadata, with an untyped storage */
    REBUILD_PARAM,    /* (tensor, requires_grad, hooks) */
    REBUILD_SUBCLASS, /* (one of the above, class, its arguments, state) */
};

struct sd_pickle_global {
    const char *module, *name;
    enum role role;
    enum sd_store_dtype dtype;
};

static const struct sd_pickle_global known[] = {
    {"collections", "OrderedDict", ORDERED_DICT, 0},
    {"collections", "defaultdict", ORDERED_DICT, 0},
    {"builtins", "set", SET, 0},
    {"builtins", "frozenset", SET, 0},
    {"_codecs", "encode", ENCODE, 0},
    {"torch", "Size", SIZE, 0},

    {"torch._utils", "_rebuild_tensor", REBUILD, 0},
    {"torch._utils", "_rebuild_tensor_v2", REBUILD_V2, 0},
    {"torch._utils", "_rebuild_tensor_v3", REBUILD_V3, 0},
    {"torch._utils", "_rebuild_parameter", REBUILD_PARAM, 0},
    {"torch._utils", "_rebuild_parameter_with_state", REBUILD_PARAM, 0},
    {"torch._tensor", "_rebuild_from_type_v2", REBUILD_SUBCLASS, 0},

    {"torch", "BoolStorage", STORAGE, SD_STORE_BOOL},
    {"torch", "ByteStorage", STORAGE, SD_STORE_U8},
    {"torch", "CharStorage", STORAGE, SD_STORE_I8},
    {"torch", "ShortStorage", STORAGE, SD_STORE_I16},
    {"torch", "IntStorage", STORAGE, SD_STORE_I32},
    {"torch", "LongStorage", STORAGE, SD_STORE_I64},
    {"torch", "HalfStorage", STORAGE, SD_STORE_F16},
    {"torch", "BFloat16Storage", STORAGE, SD_STORE_BF16},
    {"torch", "FloatStorage", STORAGE, SD_STORE_F32},
    {"torch", "DoubleStorage", STORAGE, SD_STORE_F64},
    {"torch.storage", "UntypedStorage", UNTYPED, SD_STORE_U8},
    {"torch", "UntypedStorage", UNTYPED, SD_STORE_U8},

    {"torch", "bool", DTYPE, SD_STORE_BOOL},
    {"torch", "uint8", DTYPE, SD_STORE_U8},
    {"torch", "int8", DTYPE, SD_STORE_I8},
    {"torch", "float8_e5m2", DTYPE, SD_STORE_F8_E5M2},
    {"torch", "float8_e4m3fn", DTYPE, SD_STORE_F8_E4M3},
    {"torch", "int16", DTYPE, SD_STORE_I16},
    {"torch", "uint16", DTYPE, SD_STORE_U16},
    {"torch", "float16", DTYPE, SD_STORE_F16},
    {"torch", "bfloat16", DTYPE, SD_STORE_BF16},
    {"torch", "int32", DTYPE, SD_STORE_I32},
    {"torch", "uint32", DTYPE, SD_STORE_U32},
    {"torch", "float32", DTYPE, SD_STORE_F32},
    {"torch", "float64", DTYPE, SD_STORE_F64},
    {"torch", "int64", DTYPE, SD_STORE_I64},
    {"torch", "uint64", DTYPE, SD_STORE_U64},

    /* what stands beside the weights */
    {"torch", "device", INERT, 0},
    {"torch", "Tensor", INERT, 0}, /* the class, of _rebuild_from_type_v2 */
    {"torch.nn.parameter", "Parameter", INERT, 0},
    {"torch.nn.modules.container", "ParameterDict", INERT, 0}, /* textual inversion */
    {"pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint", INERT, 0},
    {"pytorch_lightning.callbacks.early_stopping", "EarlyStopping", INERT, 0},
    {"pytorch_lightning.utilities.parsing", "AttributeDict", INERT, 0},
    {"lightning_fabric.utilities.data", "AttributeDict", INERT, 0},
    {"argparse", "Namespace", INERT, 0},
    {"omegaconf.dictconfig", "DictConfig", INERT, 0},
    {"omegaconf.listconfig", "ListConfig", INERT, 0},
    {"omegaconf.base", "ContainerMetadata", INERT, 0},
    {"omegaconf.base", "Metadata", INERT, 0},
    {"omegaconf.nodes", "AnyNode", INERT, 0},
    {"typing", "Any", INERT, 0},
    {"builtins", "dict", INERT, 0}, /* the classes as values, with which omegaconf says what something is */
    {"builtins", "list", INERT, 0},
    {"builtins", "str", INERT, 0},
    {"builtins", "int", INERT, 0},
    {"builtins", "float", INERT, 0},
    {"builtins", "bool", INERT, 0},
    {"numpy", "dtype", INERT, 0},
    {"numpy", "ndarray", INERT, 0},
    {"numpy.core.multiarray", "scalar", INERT, 0},
    {"numpy.core.multiarray", "_reconstruct", INERT, 0},
    {"numpy._core.multiarray", "scalar", INERT, 0},
    {"numpy._core.multiarray", "_reconstruct", INERT, 0},
};

const char *sd_pickle_name(const struct sd_pickle_global *g)
{
    return g->name;
}

static bool same(const char *text, size_t len, const char *want)
{
    return len == strlen(want) && !memcmp(text, want, len);
}

struct sd_pickle_value *sd_unpickle_global(struct sd_unpickler *u, const char *module, size_t module_len,
                                           const char *name, size_t name_len)
{
    if (same(module, module_len, "__builtin__")) { /* Python 2's name of it, which protocol 2 keeps */
        module = "builtins";
        module_len = strlen(module);
    }
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (same(module, module_len, known[i].module) && same(name, name_len, known[i].name)) {
            struct sd_pickle_value *v = sd_unpickle_value(u, SD_PICKLE_GLOBAL);
            if (v)
                v->global = &known[i];
            return v;
        }
    sd_err_set(u->err, SD_ERR_DATA,
               "refers to %.*s.%.*s, which is none of the names that weights need: refused, and nothing of "
               "it was run",
               module_len < 100 ? (int)module_len : 100, module, name_len < 100 ? (int)name_len : 100, name);
    return NULL;
}

static struct sd_pickle_value *wrong(struct sd_unpickler *u, const struct sd_pickle_global *g,
                                     const char *what)
{
    sd_err_set(u->err, SD_ERR_DATA, "%s.%s: %s", g->module, g->name, what);
    return NULL;
}

/* ---- tensors ---- */

static int whole_numbers(struct sd_unpickler *u, const struct sd_pickle_value *tuple, int64_t *out)
{
    for (size_t i = 0; i < tuple->count; i++) {
        const struct sd_pickle_value *v = tuple->items[i];
        if (v->kind != SD_PICKLE_INT || v->integer < 0)
            return sd_err_set(u->err, SD_ERR_DATA,
                              "a tensor's shape and strides must be whole numbers from 0 up");
        out[i] = v->integer;
    }
    return 0;
}

/* (storage, offset, shape, stride, ...) as a tensor. */
static struct sd_pickle_value *rebuild(struct sd_unpickler *u, const struct sd_pickle_global *g,
                                       const struct sd_pickle_value *args)
{
    struct sd_pickle_value **a = args->items;
    if (args->count < 4 || a[0]->kind != SD_PICKLE_STORAGE || a[1]->kind != SD_PICKLE_INT ||
        a[1]->integer < 0 || a[2]->kind != SD_PICKLE_TUPLE || a[3]->kind != SD_PICKLE_TUPLE ||
        a[2]->count != a[3]->count)
        return wrong(u, g, "its arguments are not (storage, offset, shape, strides)");
    size_t n = a[2]->count;
    if (n > SD_STORE_DIMS)
        return wrong(u, g, "a tensor of more than 64 dimensions");
    bool v3 = g->role == REBUILD_V3;
    if (v3 && (args->count < 7 || a[6]->kind != SD_PICKLE_GLOBAL || a[6]->global->role != DTYPE))
        return wrong(u, g, "its argument 7 is not an element type");
    struct sd_pickle_tensor *t = sd_unpickle_alloc(u, 1, sizeof *t);
    int64_t *dims = t ? sd_unpickle_alloc(u, 2 * n, sizeof *dims) : NULL;
    struct sd_pickle_value *v = dims ? sd_unpickle_value(u, SD_PICKLE_TENSOR) : NULL;
    if (!v || whole_numbers(u, a[2], dims) || whole_numbers(u, a[3], dims + n))
        return NULL;
    *t = (struct sd_pickle_tensor){.storage = a[0]->storage,
                                   .dtype = v3 ? a[6]->global->dtype : a[0]->storage->dtype,
                                   .offset = (uint64_t)a[1]->integer,
                                   .ndim = (int)n,
                                   .shape = dims,
                                   .stride = dims + n};
    v->tensor = t;
    return v;
}

static struct sd_pickle_value *rebuild_parameter(struct sd_unpickler *u, const struct sd_pickle_global *g,
                                                 const struct sd_pickle_value *args)
{
    if (!args->count || args->items[0]->kind != SD_PICKLE_TENSOR)
        return wrong(u, g, "its first argument is not a tensor");
    return args->items[0];
}

static bool is_rebuild(const struct sd_pickle_value *v)
{
    return v->kind == SD_PICKLE_GLOBAL && v->global->role >= REBUILD && v->global->role <= REBUILD_PARAM;
}

/* Tensors that somebody hung attributes on. */
static struct sd_pickle_value *rebuild_subclass(struct sd_unpickler *u, const struct sd_pickle_global *g,
                                                const struct sd_pickle_value *args)
{
    if (args->count < 3 || !is_rebuild(args->items[0]) || args->items[2]->kind != SD_PICKLE_TUPLE)
        return wrong(u, g, "its arguments are not (_rebuild_*, class, arguments, state)");
    return sd_unpickle_call(u, args->items[0], args->items[2]);
}

static int64_t number(const struct sd_pickle_value *v)
{
    return v->kind == SD_PICKLE_INT ? v->integer : -1;
}

struct sd_pickle_value *sd_unpickle_persistent(struct sd_unpickler *u, const struct sd_pickle_value *id)
{
    struct sd_pickle_value **a = id->items;
    bool tuple = id->kind == SD_PICKLE_TUPLE;
    if (tuple && id->count && sd_pickle_is_text(a[0], "module")) {
        sd_err_set(u->err, SD_ERR_DATA, "a whole Python module was saved, with its source: refused");
        return NULL;
    }
    bool good = tuple && id->count >= 5 && sd_pickle_is_text(a[0], "storage") &&
                a[1]->kind == SD_PICKLE_GLOBAL &&
                (a[1]->global->role == STORAGE || a[1]->global->role == UNTYPED) &&
                a[2]->kind == SD_PICKLE_STR && a[3]->kind == SD_PICKLE_STR && number(a[4]) >= 0;
    int64_t view = 0;
    if (good && id->count > 5 && a[5]->kind != SD_PICKLE_NONE) { /* (key, offset, elements) of a view */
        good = a[5]->kind == SD_PICKLE_TUPLE && a[5]->count == 3;
        view = good ? number(a[5]->items[1]) : -1;
    }
    if (!good || view < 0) {
        sd_err_set(
            u->err, SD_ERR_DATA,
            "a persistent id that is not (\"storage\", type, key, place, elements), as torch.save has it");
        return NULL;
    }
    struct sd_pickle_storage *s = sd_unpickle_alloc(u, 1, sizeof *s);
    struct sd_pickle_value *v = s ? sd_unpickle_value(u, SD_PICKLE_STORAGE) : NULL;
    if (!v)
        return NULL;
    *s = (struct sd_pickle_storage){.key = a[2]->text,
                                    .key_len = a[2]->len,
                                    .dtype = a[1]->global->dtype,
                                    .elements = (uint64_t)a[4]->integer,
                                    .view = (uint64_t)view,
                                    .next = u->out->storages};
    u->out->storages = s;
    v->storage = s;
    return v;
}

/* ---- containers ---- */

/* Python 2 gave an OrderedDict its items as a list of pairs. */
static struct sd_pickle_value *ordered_dict(struct sd_unpickler *u, const struct sd_pickle_global *g,
                                            const struct sd_pickle_value *args)
{
    struct sd_pickle_value *dict = sd_unpickle_value(u, SD_PICKLE_DICT);
    const struct sd_pickle_value *list = args->count ? args->items[0] : NULL;
    if (!dict || !list || list->kind != SD_PICKLE_LIST) /* a defaultdict has a class there */
        return dict;
    for (size_t i = 0; i < list->count; i++) {
        const struct sd_pickle_value *pair = list->items[i];
        if ((pair->kind != SD_PICKLE_LIST && pair->kind != SD_PICKLE_TUPLE) || pair->count != 2)
            return wrong(u, g, "its argument is not a list of pairs");
        if (sd_unpickle_append(u, dict, pair->items, 2))
            return NULL;
    }
    return dict;
}

static struct sd_pickle_value *make_set(struct sd_unpickler *u, const struct sd_pickle_global *g,
                                        const struct sd_pickle_value *args)
{
    struct sd_pickle_value *set = sd_unpickle_value(u, SD_PICKLE_SET);
    if (!set || !args->count)
        return set;
    const struct sd_pickle_value *list = args->items[0];
    if (list->kind != SD_PICKLE_LIST && list->kind != SD_PICKLE_TUPLE)
        return wrong(u, g, "its argument is not a list");
    return sd_unpickle_append(u, set, list->items, list->count) ? NULL : set;
}

/* UTF-8 whose characters are all below 256, as those bytes. */
static struct sd_pickle_value *encode(struct sd_unpickler *u, const struct sd_pickle_global *g,
                                      const struct sd_pickle_value *args)
{
    if (args->count != 2 || args->items[0]->kind != SD_PICKLE_STR ||
        !sd_pickle_is_text(args->items[1], "latin1"))
        return wrong(u, g, "its arguments are not (text, \"latin1\")");
    const unsigned char *p = (const unsigned char *)args->items[0]->text;
    size_t len = args->items[0]->len, n = 0;
    char *bytes = sd_unpickle_alloc(u, len, 1);
    struct sd_pickle_value *v = bytes ? sd_unpickle_value(u, SD_PICKLE_BYTES) : NULL;
    for (size_t i = 0; v && i < len; i++) {
        if (p[i] < 0x80) {
            bytes[n++] = (char)p[i];
        } else if ((p[i] == 0xc2 || p[i] == 0xc3) && i + 1 < len && (p[i + 1] & 0xc0) == 0x80) {
            bytes[n++] = (char)((p[i] & 3) << 6 | (p[i + 1] & 0x3f));
            i++;
        } else {
            return wrong(u, g, "a character that latin1 does not have");
        }
    }
    if (v) {
        v->text = bytes;
        v->len = (uint32_t)n;
    }
    return v;
}

static struct sd_pickle_value *make_object(struct sd_unpickler *u, const struct sd_pickle_global *g,
                                           const struct sd_pickle_value *args)
{
    struct sd_pickle_object *o = sd_unpickle_alloc(u, 1, sizeof *o);
    struct sd_pickle_value *v = o ? sd_unpickle_value(u, SD_PICKLE_OBJECT) : NULL;
    if (!v)
        return NULL;
    *o = (struct sd_pickle_object){.class = g, .args = args};
    v->object = o;
    return v;
}

/* ---- doors ---- */

struct sd_pickle_value *sd_unpickle_call(struct sd_unpickler *u, struct sd_pickle_value *callee,
                                         struct sd_pickle_value *args)
{
    if (callee->kind != SD_PICKLE_GLOBAL || args->kind != SD_PICKLE_TUPLE) {
        sd_err_set(u->err, SD_ERR_DATA,
                   "it calls something that is no known name, or without a tuple of arguments");
        return NULL;
    }
    const struct sd_pickle_global *g = callee->global;
    switch (g->role) {
    case INERT:
        return make_object(u, g, args);
    case ORDERED_DICT:
        return ordered_dict(u, g, args);
    case SET:
        return make_set(u, g, args);
    case SIZE:
        if (args->count == 1 && args->items[0]->kind == SD_PICKLE_TUPLE)
            return args->items[0];
        return wrong(u, g, "its argument is not a tuple");
    case ENCODE:
        return encode(u, g, args);
    case REBUILD:
    case REBUILD_V2:
    case REBUILD_V3:
        return rebuild(u, g, args);
    case REBUILD_PARAM:
        return rebuild_parameter(u, g, args);
    case REBUILD_SUBCLASS:
        return rebuild_subclass(u, g, args);
    case STORAGE:
    case UNTYPED:
    case DTYPE:
        break;
    }
    return wrong(u, g, "it is called, which torch.save never does");
}

int sd_unpickle_build(struct sd_unpickler *u, struct sd_pickle_value *v, struct sd_pickle_value *state)
{
    switch (v->kind) {
    case SD_PICKLE_OBJECT:
        v->object->state = state;
        return 0;
    case SD_PICKLE_DICT: /* a state_dict has its _metadata so; tensors may have attributes */
    case SD_PICKLE_TENSOR:
        return 0;
    default:
        return sd_err_set(u->err, SD_ERR_DATA, "attributes for a value that has none");
    }
}

struct sd_pickle_value *sd_unpickle_items(struct sd_unpickler *u, struct sd_pickle_value *v, bool dict)
{
    if (v->kind == SD_PICKLE_OBJECT) {
        struct sd_pickle_object *o = v->object;
        if (!o->items)
            o->items = sd_unpickle_value(u, dict ? SD_PICKLE_DICT : SD_PICKLE_LIST);
        v = o->items;
    }
    if (!v || (dict ? v->kind == SD_PICKLE_DICT : v->kind == SD_PICKLE_LIST || v->kind == SD_PICKLE_SET))
        return v;
    sd_err_set(u->err, SD_ERR_DATA, "items for a value that holds none of this kind");
    return NULL;
}
