#include "store/pickle.h"

#include <stdlib.h>
#include <string.h>

#include "store/pickle_private.h"

/* ---- memory ---- */

int sd_pickle_spend(struct sd_pickle *p, size_t bytes, struct sd_err *err)
{
    size_t most = SD_PICKLE_FACTOR * p->used + SD_PICKLE_ALLOWANCE; /* used is at most SD_PICKLE_LIMIT */
    if (bytes > most - p->spent)
        return sd_err_set(
            err, SD_ERR_DATA,
            "it asks for more than %d bytes of memory for each of its own, as no honest file does",
            SD_PICKLE_FACTOR);
    p->spent += bytes;
    return 0;
}

void *sd_unpickle_alloc(struct sd_unpickler *u, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes) || bytes > SIZE_MAX - 15)
        bytes = SIZE_MAX;
    else
        bytes = (bytes + 15) & ~(size_t)15; /* as the arena does */
    if (sd_pickle_spend(u->out, bytes, u->err))
        return NULL;
    void *p = sd_arena_alloc(&u->out->arena, bytes);
    if (!p)
        sd_err_memory(u->err, bytes);
    return p;
}

struct sd_pickle_value *sd_unpickle_value(struct sd_unpickler *u, enum sd_pickle_kind kind)
{
    struct sd_pickle_value *v = sd_unpickle_alloc(u, 1, sizeof *v);
    if (v)
        v->kind = kind;
    return v;
}

/* How many items a container that may grow has room for: none at first, then 4, 8, 16, ... */
static size_t room_of(size_t count)
{
    size_t room = 4;
    while (room < count)
        room *= 2;
    return count ? room : 0;
}

int sd_unpickle_append(struct sd_unpickler *u, struct sd_pickle_value *list,
                       struct sd_pickle_value *const *more, size_t n)
{
    size_t room = list->kind == SD_PICKLE_TUPLE ? n : room_of(list->count + n); /* which is filled once */
    struct sd_pickle_value **items = list->items;
    if (room > room_of(list->count)) {
        items = sd_unpickle_alloc(u, room, sizeof *items);
        if (!items)
            return -1;
        if (list->count)
            memcpy(items, list->items, list->count * sizeof *items);
    }
    if (n)
        memcpy(items + list->count, more, n * sizeof *items);
    list->items = items;
    list->count += (uint32_t)n;
    return 0;
}

/* Makes room for one more element of a growing array. */
static int grow(struct sd_unpickler *u, void *array, size_t *room, size_t need, size_t size)
{
    void **p = array;
    if (need <= *room)
        return 0;
    size_t more = *room ? 2 * *room : 64;
    more = more < need ? need : more;
    if (sd_pickle_spend(u->out, (more - *room) * size, u->err))
        return -1;
    void *q = realloc(*p, more * size);
    if (!q)
        return sd_err_memory(u->err, more * size);
    memset((char *)q + *room * size, 0, (more - *room) * size);
    *p = q;
    *room = more;
    return 0;
}

/* ---- the stack ---- */

/* Takes NULL for what could not be made. */
int sd_unpickle_push(struct sd_unpickler *u, struct sd_pickle_value *v)
{
    if (!v || grow(u, &u->stack, &u->stack_room, u->depth + 1, sizeof *u->stack))
        return -1;
    u->stack[u->depth++] = v;
    return 0;
}

/* The bottom that opcodes may reach now: below it lies what was there before the last mark. */
static size_t floor_of(const struct sd_unpickler *u)
{
    return u->mark_count ? u->marks[u->mark_count - 1] : 0;
}

static int underflow(struct sd_unpickler *u)
{
    return sd_err_set(u->err, SD_ERR_DATA, "an opcode takes more from the stack than there is");
}

static struct sd_pickle_value *pop(struct sd_unpickler *u)
{
    if (u->depth > floor_of(u))
        return u->stack[--u->depth];
    underflow(u);
    return NULL;
}

static struct sd_pickle_value *top(struct sd_unpickler *u)
{
    struct sd_pickle_value *v = pop(u);
    u->depth += v != NULL;
    return v;
}

static int mark(struct sd_unpickler *u)
{
    if (grow(u, &u->marks, &u->mark_room, u->mark_count + 1, sizeof *u->marks))
        return -1;
    u->marks[u->mark_count++] = u->depth;
    return 0;
}

/* Takes everything above the last mark. The values stay where they are until the next push. */
static int pop_mark(struct sd_unpickler *u, struct sd_pickle_value ***items, size_t *n)
{
    *items = NULL;
    *n = 0;
    if (!u->mark_count)
        return sd_err_set(u->err, SD_ERR_DATA, "an opcode asks for a mark that is not there");
    size_t at = u->marks[--u->mark_count];
    *items = u->stack + at;
    *n = u->depth - at;
    u->depth = at;
    return 0;
}

/* ---- containers ---- */

/* A new tuple, list, set or dict of n values. */
static int push_sequence(struct sd_unpickler *u, enum sd_pickle_kind kind, struct sd_pickle_value **items,
                         size_t n)
{
    struct sd_pickle_value *v = sd_unpickle_value(u, kind);
    return !v || sd_unpickle_append(u, v, items, n) ? -1 : sd_unpickle_push(u, v);
}

static int odd_pairs(struct sd_unpickler *u)
{
    return sd_err_set(u->err, SD_ERR_DATA, "a dict with a key that has no value");
}

static int sequence_from_mark(struct sd_unpickler *u, enum sd_pickle_kind kind)
{
    struct sd_pickle_value **items;
    size_t n;
    if (pop_mark(u, &items, &n))
        return -1;
    if (kind == SD_PICKLE_DICT && n % 2)
        return odd_pairs(u);
    return push_sequence(u, kind, items, n);
}

static int tuple_of(struct sd_unpickler *u, size_t n)
{
    if (u->depth - floor_of(u) < n)
        return underflow(u);
    u->depth -= n;
    return push_sequence(u, SD_PICKLE_TUPLE, u->stack + u->depth, n);
}

/* Puts n values into the container that is on top now. */
static int add_items(struct sd_unpickler *u, struct sd_pickle_value **items, size_t n, bool dict)
{
    struct sd_pickle_value *into = top(u);
    if (!into || !(into = sd_unpickle_items(u, into, dict)))
        return -1;
    if (dict && n % 2)
        return odd_pairs(u);
    return sd_unpickle_append(u, into, items, n);
}

static int add_from_mark(struct sd_unpickler *u, bool dict)
{
    struct sd_pickle_value **items;
    size_t n;
    return pop_mark(u, &items, &n) ? -1 : add_items(u, items, n, dict);
}

static int add_few(struct sd_unpickler *u, size_t n, bool dict)
{
    for (size_t i = 0; i < n; i++)
        if (!pop(u))
            return -1;
    return add_items(u, u->stack + u->depth, n, dict);
}

/* ---- memo ---- */

/* Picklers number what they remember in order, so no index is as large as the pickle is long. */
static int put_memo(struct sd_unpickler *u, uint64_t i)
{
    struct sd_pickle_value *v = top(u);
    if (!v)
        return -1;
    if (i >= u->size)
        return sd_err_set(u->err, SD_ERR_DATA, "memo index %llu in a pickle of %zu bytes",
                          (unsigned long long)i, u->size);
    if (grow(u, &u->memo, &u->memo_room, (size_t)i + 1, sizeof *u->memo))
        return -1;
    u->memo_next += !u->memo[i];
    u->memo[i] = v;
    return 0;
}

static int get_memo(struct sd_unpickler *u, uint64_t i)
{
    if (i >= u->memo_room || !u->memo[i])
        return sd_err_set(u->err, SD_ERR_DATA, "memo index %llu was never set", (unsigned long long)i);
    return sd_unpickle_push(u, u->memo[i]);
}

static int memo_op(struct sd_unpickler *u, int width, int (*op)(struct sd_unpickler *u, uint64_t i))
{
    uint64_t i;
    return sd_unpickle_uint(u, width, &i) ? -1 : op(u, i);
}

static int memo_text_op(struct sd_unpickler *u, int (*op)(struct sd_unpickler *u, uint64_t i))
{
    char text[64], *end;
    if (sd_unpickle_number(u, text))
        return -1;
    unsigned long long i = strtoull(text, &end, 10);
    return *end ? sd_err_set(u->err, SD_ERR_DATA, "\"%.40s\" is not a memo index", text) : op(u, i);
}

/* ---- names and calls ---- */

static int load_global(struct sd_unpickler *u)
{
    const char *module, *name;
    size_t module_len, name_len;
    if (sd_unpickle_line(u, &module, &module_len) || sd_unpickle_line(u, &name, &name_len))
        return -1;
    return sd_unpickle_push(u, sd_unpickle_global(u, module, module_len, name, name_len));
}

static int load_stack_global(struct sd_unpickler *u)
{
    struct sd_pickle_value *name = pop(u), *module = name ? pop(u) : NULL;
    if (!module)
        return -1;
    if (name->kind != SD_PICKLE_STR || module->kind != SD_PICKLE_STR)
        return sd_err_set(u->err, SD_ERR_DATA, "a name that is not text");
    return sd_unpickle_push(u, sd_unpickle_global(u, module->text, module->len, name->text, name->len));
}

/* REDUCE and NEWOBJ say the same of what is known here; NEWOBJ_EX has keywords too. */
static int call(struct sd_unpickler *u, bool keywords)
{
    struct sd_pickle_value *kw = keywords ? pop(u) : u->none, *args = kw ? pop(u) : NULL;
    struct sd_pickle_value *callee = args ? pop(u) : NULL;
    return callee ? sd_unpickle_push(u, sd_unpickle_call(u, callee, args)) : -1;
}

/* OBJ: a class and its arguments above a mark. */
static int call_from_mark(struct sd_unpickler *u)
{
    struct sd_pickle_value **items;
    size_t n;
    if (pop_mark(u, &items, &n))
        return -1;
    if (!n)
        return sd_err_set(u->err, SD_ERR_DATA, "an object without a class");
    struct sd_pickle_value *class = items[0];
    if (push_sequence(u, SD_PICKLE_TUPLE, items + 1, n - 1))
        return -1;
    return sd_unpickle_push(u, sd_unpickle_call(u, class, pop(u)));
}

/* INST: a name, and its arguments above a mark. */
static int call_named(struct sd_unpickler *u)
{
    if (load_global(u))
        return -1;
    struct sd_pickle_value *class = pop(u);
    if (!class || sequence_from_mark(u, SD_PICKLE_TUPLE))
        return -1;
    return sd_unpickle_push(u, sd_unpickle_call(u, class, pop(u)));
}

static int build(struct sd_unpickler *u)
{
    struct sd_pickle_value *state = pop(u), *v = state ? top(u) : NULL;
    return v ? sd_unpickle_build(u, v, state) : -1;
}

static int persistent(struct sd_unpickler *u)
{
    struct sd_pickle_value *id = pop(u);
    return id ? sd_unpickle_push(u, sd_unpickle_persistent(u, id)) : -1;
}

static int persistent_text(struct sd_unpickler *u)
{
    const char *line;
    size_t len;
    if (sd_unpickle_line(u, &line, &len) || sd_unpickle_text(u, SD_PICKLE_STR, line, len))
        return -1;
    return persistent(u);
}

static int protocol(struct sd_unpickler *u)
{
    uint64_t v;
    if (sd_unpickle_uint(u, 1, &v))
        return -1;
    return v <= 5
               ? 0
               : sd_err_set(u->err, SD_ERR_DATA, "protocol %llu, expected at most 5", (unsigned long long)v);
}

/* The length of what follows tells nothing that is not known. */
static int frame(struct sd_unpickler *u)
{
    return sd_unpickle_take(u, 8) ? 0 : -1;
}

static int pop_to_mark(struct sd_unpickler *u)
{
    struct sd_pickle_value **items;
    size_t n;
    return pop_mark(u, &items, &n);
}

/* POP takes a mark where that is what lies on top. */
static int pop_one(struct sd_unpickler *u)
{
    if (u->mark_count && u->depth == floor_of(u)) {
        u->mark_count--;
        return 0;
    }
    return pop(u) ? 0 : -1;
}

/* ---- the opcodes ---- */

static int step(struct sd_unpickler *u, unsigned char op)
{
    switch (op) {
    case 0x80:
        return protocol(u);
    case 0x95:
        return frame(u);
    case '(':
        return mark(u);
    case '0':
        return pop_one(u);
    case '1':
        return pop_to_mark(u);
    case '2':
        return sd_unpickle_push(u, top(u));
    case ')':
        return sd_unpickle_push(u, u->empty);
    case 0x85:
        return tuple_of(u, 1);
    case 0x86:
        return tuple_of(u, 2);
    case 0x87:
        return tuple_of(u, 3);
    case 't':
        return sequence_from_mark(u, SD_PICKLE_TUPLE);
    case ']':
        return sd_unpickle_push(u, sd_unpickle_value(u, SD_PICKLE_LIST));
    case 'l':
        return sequence_from_mark(u, SD_PICKLE_LIST);
    case '}':
        return sd_unpickle_push(u, sd_unpickle_value(u, SD_PICKLE_DICT));
    case 'd':
        return sequence_from_mark(u, SD_PICKLE_DICT);
    case 0x8f:
        return sd_unpickle_push(u, sd_unpickle_value(u, SD_PICKLE_SET));
    case 0x91:
        return sequence_from_mark(u, SD_PICKLE_SET); /* a frozenset */
    case 'a':
        return add_few(u, 1, false);
    case 'e':
    case 0x90:
        return add_from_mark(u, false);
    case 's':
        return add_few(u, 2, true);
    case 'u':
        return add_from_mark(u, true);
    case 'p':
        return memo_text_op(u, put_memo);
    case 'q':
        return memo_op(u, 1, put_memo);
    case 'r':
        return memo_op(u, 4, put_memo);
    case 0x94:
        return put_memo(u, u->memo_next);
    case 'g':
        return memo_text_op(u, get_memo);
    case 'h':
        return memo_op(u, 1, get_memo);
    case 'j':
        return memo_op(u, 4, get_memo);
    case 'c':
        return load_global(u);
    case 0x93:
        return load_stack_global(u);
    case 'R':
    case 0x81:
        return call(u, false);
    case 0x92:
        return call(u, true);
    case 'o':
        return call_from_mark(u);
    case 'i':
        return call_named(u);
    case 'b':
        return build(u);
    case 'Q':
        return persistent(u);
    case 'P':
        return persistent_text(u);
    }
    return sd_unpickle_scalar(u, op);
}

static int run(struct sd_unpickler *u)
{
    while (u->at < u->size) {
        size_t at = u->at;
        unsigned char op = u->bytes[u->at++];
        u->out->used = u->at;
        if (op == '.') {
            u->out->value = pop(u);
            if (u->out->value && !u->depth && !u->mark_count)
                return 0;
            if (u->out->value)
                sd_err_set(u->err, SD_ERR_DATA, "it ends with more than one value");
            return sd_err_prefix(u->err, "pickle, byte %zu", at);
        }
        if (step(u, op))
            return sd_err_prefix(u->err, "pickle, byte %zu", at);
    }
    return sd_err_set(u->err, SD_ERR_DATA, "pickle, byte %zu: cut short: no end", u->at);
}

/* The values that all their uses share: nothing changes them. */
static int make_constants(struct sd_unpickler *u)
{
    u->none = sd_unpickle_value(u, SD_PICKLE_NONE);
    u->no = sd_unpickle_value(u, SD_PICKLE_BOOL);
    u->yes = sd_unpickle_value(u, SD_PICKLE_BOOL);
    u->empty = sd_unpickle_value(u, SD_PICKLE_TUPLE);
    u->small = sd_unpickle_alloc(u, 256, sizeof *u->small);
    if (!u->none || !u->no || !u->yes || !u->empty || !u->small)
        return -1;
    u->yes->integer = 1;
    for (int i = 0; i < 256; i++)
        u->small[i] = (struct sd_pickle_value){.kind = SD_PICKLE_INT, .integer = i};
    return 0;
}

int sd_pickle_parse(struct sd_pickle *p, const void *bytes, size_t size, struct sd_err *err)
{
    struct sd_unpickler u = {
        .out = p, .bytes = bytes, .size = size < SD_PICKLE_LIMIT ? size : SD_PICKLE_LIMIT, .err = err};
    *p = (struct sd_pickle){0};
    int rc = make_constants(&u) || run(&u) ? -1 : 0;
    free(u.stack);
    free(u.marks);
    free(u.memo);
    if (rc)
        sd_pickle_free(p);
    return rc;
}

void sd_pickle_free(struct sd_pickle *p)
{
    sd_arena_free(&p->arena);
    *p = (struct sd_pickle){0};
}

bool sd_pickle_is_text(const struct sd_pickle_value *v, const char *text)
{
    return v && v->kind == SD_PICKLE_STR && v->len == strlen(text) && !memcmp(v->text, text, v->len);
}

const struct sd_pickle_value *sd_pickle_get(const struct sd_pickle_value *dict, const char *key)
{
    if (dict && dict->kind == SD_PICKLE_DICT)
        for (size_t i = dict->count; i > 1; i -= 2)
            if (sd_pickle_is_text(dict->items[i - 2], key))
                return dict->items[i - 1];
    return NULL;
}
