#include "json_mutate.h"

#include <cjson/cJSON.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint64_t mutate_next(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static int draw(uint64_t *state, int n) {
    return n > 0 ? (int)(mutate_next(state) % (uint64_t)n) : 0;
}

/* ---- memory ----------------------------------------------------------------------------------------- */

/* Items that move between lists are lost by some versions of cJSON. Whatever is left is freed with the
 * text. */
typedef struct block {
    struct block *next, *before;
    max_align_t bytes[];
} block;
static block *blocks;

static void *block_new(size_t size) {
    block *b = malloc(sizeof *b + size);
    if (b == NULL)
        return NULL;
    b->before = NULL;
    b->next = blocks;
    if (blocks != NULL)
        blocks->before = b;
    blocks = b;
    return b->bytes;
}

static void block_free(void *bytes) {
    if (bytes == NULL)
        return;
    block *b = (block *)(void *)((char *)bytes - offsetof(block, bytes));
    if (b->next != NULL)
        b->next->before = b->before;
    if (b->before != NULL)
        b->before->next = b->next;
    else
        blocks = b->next;
    free(b);
}

static void blocks_free(void) {
    while (blocks != NULL)
        block_free(blocks->bytes);
    cJSON_InitHooks(NULL);
}

static cJSON *parse(const char *text) {
    cJSON_InitHooks(&(cJSON_Hooks){block_new, block_free});
    return cJSON_Parse(text);
}

typedef struct editor {
    cJSON *root, *graph, *slots, *storages, *tensors, *nodes;
    uint64_t *state;
} editor;

static bool open_text(editor *e, const char *text, uint64_t *state) {
    *e = (editor){.root = parse(text), .state = state};
    if (e->root == NULL) {
        blocks_free();
        return false;
    }
    cJSON *inner = cJSON_GetObjectItemCaseSensitive(e->root, "graph");
    e->graph = inner != NULL ? inner : e->root;
    e->slots = cJSON_GetObjectItemCaseSensitive(e->graph, "slots");
    e->storages = cJSON_GetObjectItemCaseSensitive(e->graph, "storages");
    e->tensors = cJSON_GetObjectItemCaseSensitive(e->graph, "tensors");
    e->nodes = cJSON_GetObjectItemCaseSensitive(e->graph, "nodes");
    return true;
}

static char *close_text(editor *e) {
    char *printed = cJSON_PrintUnformatted(e->root), *text = NULL;
    if (printed != NULL && (text = malloc(strlen(printed) + 1)) != NULL)
        strcpy(text, printed);
    blocks_free();
    return text;
}

/* ---- picking ---------------------------------------------------------------------------------------- */

static cJSON *any_of(const editor *e, const cJSON *list) {
    return cJSON_GetArrayItem(list, draw(e->state, cJSON_GetArraySize(list)));
}

static cJSON *any_list(const editor *e) {
    cJSON *const lists[] = {e->slots, e->storages, e->tensors, e->nodes};
    return lists[draw(e->state, 4)];
}

static cJSON *member(const cJSON *object, const char *key) {
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

static void set(cJSON *object, const char *key, cJSON *value) {
    if (object == NULL)
        cJSON_Delete(value);
    else if (member(object, key) != NULL)
        cJSON_ReplaceItemInObjectCaseSensitive(object, key, value);
    else
        cJSON_AddItemToObject(object, key, value);
}

/* The n-th value below `at` for which `wanted` holds, in order; *n counts down. */
static cJSON *nth(cJSON *at, bool (*wanted)(const cJSON *), int *n) {
    for (; at != NULL; at = at->next) {
        if (wanted(at) && (*n)-- == 0)
            return at;
        cJSON *found = nth(at->child, wanted, n);
        if (found != NULL)
            return found;
    }
    return NULL;
}

static cJSON *any_value(const editor *e, bool (*wanted)(const cJSON *)) {
    int count = 1 << 30;
    (void)nth(e->root->child, wanted, &count);
    int n = (1 << 30) - count;
    if (n == 0)
        return NULL;
    n = draw(e->state, n);
    return nth(e->root->child, wanted, &n);
}

static bool is_number(const cJSON *at) {
    return cJSON_IsNumber(at);
}

static bool is_name(const cJSON *at) {
    return cJSON_IsString(at) && at->string != NULL && strcmp(at->string, "name") == 0;
}

static bool is_list(const cJSON *at) {
    return cJSON_IsArray(at) && at->child != NULL;
}

/* ---- values ----------------------------------------------------------------------------------------- */

static const char *const extremes[] = {
    "0",
    "1",
    "-1",
    "2",
    "3",
    "7",
    "31",
    "32",
    "64",
    "4096",
    "65535",
    "1e4",
    "1e18",
    "0.5",
    "-0.0",
    "1e-320",
    "2147483647",
    "2147483648",
    "1e38",
    "1e39",
    "1e4",
    "null",
    "[]",
    "\"NaN\"",
    "16777217",
    "1e300",
    "4294967295",
    "true",
    "\"\"",
    "{}",
    "-64",
    "255",
    "256",
    "9007199254740991",
    "\"9223372036854775807\"",
    "\"-9223372036854775808\"",
    "\"4611686018427387904\"",
    "9007199254740993",
};

static cJSON *extreme(const editor *e) {
    return cJSON_CreateRaw(extremes[draw(e->state, (int)(sizeof extremes / sizeof extremes[0]))]);
}

/* A number near the one that is there, or an extreme. */
static cJSON *other_number(const editor *e, const cJSON *old) {
    double n = cJSON_IsNumber(old) ? old->valuedouble : 0;
    switch (draw(e->state, 9)) {
    case 0:
        return cJSON_CreateNumber(n + 1);
    case 1:
        return cJSON_CreateNumber(n - 1);
    case 2:
        return cJSON_CreateNumber(n * 2);
    case 3:
        return cJSON_CreateNumber((double)((int64_t)n / 2));
    case 4:
        return cJSON_CreateNumber(n + 4);
    case 5:
        return cJSON_CreateNumber(n + 64);
    case 6:
        return cJSON_CreateNumber(draw(e->state, 8));
    default:
        return extreme(e);
    }
}

static cJSON *other_name(const editor *e) {
    static const char *const odd[] = {"",  "x",           "y",        "gguf.0", "*",  "a=b",
                                      "-", "\xc2\x9b[2J", "\x1b[31m", "..",     "\n", "%s%n"};
    cJSON *name = any_value(e, is_name);
    if (name != NULL && draw(e->state, 4) > 0)
        return cJSON_CreateString(name->valuestring);
    if (draw(e->state, 6) > 0)
        return cJSON_CreateString(odd[draw(e->state, (int)(sizeof odd / sizeof odd[0]))]);
    char longest[160];
    memset(longest, 'n', sizeof longest);
    longest[126 + draw(e->state, 3)] = '\0';
    return cJSON_CreateString(longest);
}

static cJSON *new_name(const editor *e) {
    char name[24];
    snprintf(name, sizeof name, "name%d", draw(e->state, 1 << 20));
    return cJSON_CreateString(name);
}

static cJSON *other_id(const editor *e, const cJSON *list) {
    return cJSON_CreateNumber(1 + draw(e->state, cJSON_GetArraySize(list) + (draw(e->state, 20) == 0)));
}

static cJSON *other_dim(const editor *e, const cJSON *old) {
    const cJSON *slot = member(any_of(e, e->slots), "name");
    if (slot != NULL && draw(e->state, 3) == 0) {
        if (draw(e->state, 2))
            return cJSON_CreateString(slot->valuestring);
        cJSON *dim = cJSON_CreateObject();
        cJSON_AddItemToObject(dim, "n", other_number(e, NULL));
        cJSON_AddStringToObject(dim, "slot", slot->valuestring);
        return dim;
    }
    return other_number(e, old);
}

static void replace(cJSON *list, int at, cJSON *value) {
    if (at < cJSON_GetArraySize(list))
        cJSON_ReplaceItemInArray(list, at, value);
    else
        cJSON_Delete(value);
}

/* ---- edits ------------------------------------------------------------------------------------------ */

static void swap_keys(cJSON *a, cJSON *b, const char *key) {
    cJSON *x = cJSON_DetachItemFromObjectCaseSensitive(a, key);
    cJSON *y = cJSON_DetachItemFromObjectCaseSensitive(b, key);
    if (x != NULL)
        cJSON_AddItemToObject(b, key, x);
    if (y != NULL)
        cJSON_AddItemToObject(a, key, y);
}

static void edit_names(const editor *e) {
    cJSON *list = any_list(e), *a = any_of(e, list), *b = any_of(e, draw(e->state, 2) ? list : any_list(e));
    if (a == NULL || b == NULL)
        return;
    if (a != b && draw(e->state, 2))
        swap_keys(a, b, "name");
    else if (draw(e->state, 8) == 0)
        cJSON_DeleteItemFromObjectCaseSensitive(a, "name");
    else
        set(a, "name", draw(e->state, 2) ? new_name(e) : other_name(e));
}

static void edit_reference(const editor *e) {
    cJSON *node = any_of(e, e->nodes), *tensor = any_of(e, e->tensors);
    cJSON *ids = member(node, draw(e->state, 3) ? "inputs" : "outputs");
    switch (draw(e->state, 4)) {
    case 0:
        set(tensor, "storage", other_id(e, e->storages));
        break;
    case 1:
        swap_keys(tensor, any_of(e, e->tensors), "storage");
        break;
    default:
        replace(ids, draw(e->state, cJSON_GetArraySize(ids)), other_id(e, e->tensors));
        break;
    }
}

static void edit_tensor(const editor *e) {
    static const char *const dtypes[] = {"f32", "f16",  "bf16", "i32",  "u32",  "i64",
                                         "u8",  "q4_0", "q8_0", "q6_K", "q8_a", "none"};
    cJSON *tensor = any_of(e, e->tensors), *shape = member(tensor, "shape");
    int at = draw(e->state, cJSON_GetArraySize(shape));
    switch (draw(e->state, 8)) {
    case 0:
        set(tensor, "dtype",
            cJSON_CreateString(dtypes[draw(e->state, (int)(sizeof dtypes / sizeof dtypes[0]))]));
        break;
    case 1:
        cJSON_AddItemToArray(shape, other_dim(e, NULL));
        break;
    case 2:
        cJSON_DeleteItemFromArray(shape, at);
        break;
    case 3:
        set(tensor, "offset", other_number(e, member(tensor, "offset")));
        break;
    case 4: {
        cJSON *strides = cJSON_CreateArray();
        for (int i = 0; i < cJSON_GetArraySize(shape); i++)
            cJSON_AddItemToArray(strides, other_number(e, NULL));
        if (member(tensor, "strides") != NULL && draw(e->state, 2)) {
            cJSON_Delete(strides);
            strides = cJSON_DetachItemFromObjectCaseSensitive(tensor, "strides");
            replace(strides, at, other_number(e, cJSON_GetArrayItem(strides, at)));
        }
        set(tensor, "strides", strides);
        break;
    }
    default:
        replace(shape, at, other_dim(e, cJSON_GetArrayItem(shape, at)));
        break;
    }
}

static void edit_storage(const editor *e) {
    static const char *const kinds[] = {"weight", "input", "output", "state", "arena", "none"};
    cJSON *storage = any_of(e, e->storages);
    if (draw(e->state, 2))
        set(storage, "kind", cJSON_CreateString(kinds[draw(e->state, draw(e->state, 10) ? 5 : 6)]));
    else
        set(storage, "size", other_number(e, member(storage, "size")));
}

static void edit_slot(const editor *e) {
    static const char *const keys[] = {"min", "max", "preset"};
    cJSON *slot = any_of(e, e->slots);
    const char *key = keys[draw(e->state, 3)];
    if (slot != NULL && (member(slot, key) != NULL || draw(e->state, 10) == 0))
        set(slot, key, other_number(e, member(slot, key)));
}

static void edit_attribute(const editor *e) {
    cJSON *attrs = member(any_of(e, e->nodes), "attrs");
    int n = cJSON_GetArraySize(attrs);
    cJSON *at = cJSON_GetArrayItem(attrs, draw(e->state, n));
    const cJSON *slot = member(any_of(e, e->slots), "name");
    if (at == NULL)
        return;
    if (draw(e->state, 4) == 0 && slot != NULL) {
        cJSON *value = cJSON_CreateObject();
        cJSON_AddStringToObject(value, "slot", slot->valuestring);
        set(attrs, at->string, value);
    } else if (draw(e->state, 6) == 0) {
        cJSON_DeleteItemFromObjectCaseSensitive(attrs, at->string);
    } else {
        set(attrs, at->string,
            cJSON_IsNumber(at) ? other_number(e, at)
            : cJSON_IsBool(at) ? cJSON_CreateBool(!cJSON_IsTrue(at))
                               : extreme(e));
    }
}

/* Drops, doubles or moves an element of a list, of the graph's or any other. */
static void edit_list(const editor *e) {
    cJSON *list = draw(e->state, 4) ? any_list(e) : any_value(e, is_list);
    int n = cJSON_GetArraySize(list), at = draw(e->state, n);
    if (n == 0)
        return;
    int how = draw(e->state, 4);
    cJSON *item =
        how == 0 ? cJSON_Duplicate(cJSON_GetArrayItem(list, at), true) : cJSON_DetachItemFromArray(list, at);
    if (how == 1)
        cJSON_Delete(item);
    else
        cJSON_InsertItemInArray(list, how == 2 ? (at > 0 ? at - 1 : 1) : draw(e->state, n), item);
}

/* One more tensor in a storage, a part of one that is there, under a name that may be anything's. */
static void edit_view(const editor *e) {
    cJSON *of = any_of(e, e->tensors);
    if (of == NULL)
        return;
    cJSON *view = cJSON_Duplicate(of, true), *shape = member(view, "shape");
    cJSON_DeleteItemFromObjectCaseSensitive(view, "name");
    if (draw(e->state, 2))
        set(view, "name", draw(e->state, 2) ? other_name(e) : new_name(e));
    if (draw(e->state, 2))
        replace(shape, 0, cJSON_CreateNumber(1));
    if (draw(e->state, 3) == 0)
        set(view, "offset", cJSON_CreateNumber(4 * draw(e->state, 12)));
    if (draw(e->state, 6) == 0)
        set(view, "storage", other_id(e, e->storages));
    cJSON_AddItemToArray(e->tensors, view);
}

static void edit_op(const editor *e) {
    swap_keys(any_of(e, e->nodes), any_of(e, e->nodes), draw(e->state, 2) ? "op" : "outputs");
}

static void edit_number(const editor *e) {
    cJSON *at = any_value(e, is_number);
    if (at == NULL)
        return;
    cJSON *value = other_number(e, at);
    if (cJSON_IsNumber(value))
        cJSON_SetNumberValue(at, value->valuedouble);
    cJSON_Delete(value);
}

/* ---- ids -------------------------------------------------------------------------------------------- */

/* What an id was and is now; ids that stand twice mean the first. */
static double renumbered(const cJSON *list, double id) {
    int place = 1;
    for (const cJSON *at = list != NULL ? list->child : NULL; at != NULL; at = at->next, place++) {
        const cJSON *old = member(at, "id");
        if (old != NULL && cJSON_IsNumber(old) && old->valuedouble == id)
            return place;
    }
    return id;
}

static void renumber_list(cJSON *ids, const cJSON *list) {
    for (cJSON *at = ids != NULL ? ids->child : NULL; at != NULL; at = at->next)
        if (cJSON_IsNumber(at))
            cJSON_SetNumberValue(at, renumbered(list, at->valuedouble));
}

static void number(cJSON *list) {
    int place = 1;
    for (cJSON *at = list != NULL ? list->child : NULL; at != NULL; at = at->next)
        set(at, "id", cJSON_CreateNumber(place++));
}

static void renumber(const editor *e) {
    for (cJSON *t = e->tensors != NULL ? e->tensors->child : NULL; t != NULL; t = t->next) {
        cJSON *storage = member(t, "storage");
        if (cJSON_IsNumber(storage))
            cJSON_SetNumberValue(storage, renumbered(e->storages, storage->valuedouble));
    }
    for (cJSON *n = e->nodes != NULL ? e->nodes->child : NULL; n != NULL; n = n->next) {
        renumber_list(member(n, "inputs"), e->tensors);
        renumber_list(member(n, "outputs"), e->tensors);
    }
    number(e->storages);
    number(e->tensors);
}

/* A node's name must be its first output's. */
static void name_nodes(const editor *e) {
    for (cJSON *n = (e->nodes != NULL ? e->nodes->child : NULL); n != NULL; n = n->next) {
        const cJSON *out = cJSON_GetArrayItem(member(n, "outputs"), 0);
        const cJSON *tensor = cJSON_IsNumber(out) ? cJSON_GetArrayItem(e->tensors, out->valueint - 1) : NULL;
        const cJSON *name = member(tensor, "name");
        cJSON_DeleteItemFromObjectCaseSensitive(n, "name");
        if (name != NULL)
            cJSON_AddStringToObject(n, "name", name->valuestring);
    }
}

/* ---- all of it -------------------------------------------------------------------------------------- */

char *mutate_graph(const char *text, uint64_t *state, int edits) {
    /* Twice: what leaves most graphs good. */
    static void (*const kinds[])(const editor *) = {
        edit_names,  edit_names,   edit_view, edit_view,      edit_list, edit_list,   edit_reference,
        edit_tensor, edit_storage, edit_slot, edit_attribute, edit_op,   edit_number,
    };
    editor e;
    if (!open_text(&e, text, state))
        return NULL;
    for (int i = 0; i < edits; i++)
        kinds[draw(state, (int)(sizeof kinds / sizeof kinds[0]))](&e);
    if (draw(state, 8) > 0) {
        renumber(&e);
        name_nodes(&e);
    }
    return close_text(&e);
}

char *mutate_names(const char *text, uint64_t *state) {
    editor e;
    if (!open_text(&e, text, state))
        return NULL;
    /* First every storage's name is some tensor's: those that have it keep it, the others get it if they have
     * none. */
    for (const cJSON *s = e.storages->child; s != NULL; s = s->next) {
        const cJSON *name = member(s, "name");
        bool taken = name == NULL;
        for (const cJSON *t = e.tensors->child; t != NULL && !taken; t = t->next)
            taken =
                member(t, "name") != NULL && strcmp(member(t, "name")->valuestring, name->valuestring) == 0;
        cJSON *t = any_of(&e, e.tensors);
        if (!taken && t != NULL)
            set(t, "name", cJSON_CreateString(name->valuestring));
    }
    for (int n = cJSON_GetArraySize(e.tensors), i = n; i > 1; i--) {
        cJSON *a = cJSON_GetArrayItem(e.tensors, i - 1), *b = cJSON_GetArrayItem(e.tensors, draw(state, i));
        if (a != b)
            swap_keys(a, b, "name");
    }
    name_nodes(&e);
    return close_text(&e);
}

int mutate_storages(const char *text, const char *kind, char names[][MUTATE_NAME], int n) {
    editor e;
    int count = 0;
    if (!open_text(&e, text, NULL))
        return 0;
    for (const cJSON *s = e.storages != NULL ? e.storages->child : NULL; s != NULL && count < n;
         s = s->next) {
        const cJSON *name = member(s, "name"), *is = member(s, "kind");
        if (cJSON_IsString(name) && cJSON_IsString(is) && strcmp(is->valuestring, kind) == 0)
            snprintf(names[count++], MUTATE_NAME, "%s", name->valuestring);
    }
    blocks_free();
    return count;
}
