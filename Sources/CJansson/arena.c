#include "shim.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/* A tree lives for a moment and ends as a whole, but Jansson allocates and frees each of its values, names and tables by
 * itself. Here a parse takes memory from the front of a block, and all of it is given back at once.
 * Source: Jansson's "API Reference", "Custom Memory Allocation". */

/* A block beyond the first, which has no head. */
struct block {
    struct block *older;
    max_align_t data[];
};

/* Enough for most jobs. Each thread has one; what is never written to takes no memory. */
static _Thread_local max_align_t first[32 * 1024 / sizeof(max_align_t)];
static _Thread_local struct block *blocks;
static _Thread_local char *next, *end;
static _Thread_local int is_parsing;

static void *grow(size_t size) {
    size_t room = size > sizeof first ? size : sizeof first;
    struct block *block = malloc(sizeof *block + room);
    if (!block) return NULL;
    block->older = blocks;
    blocks = block;
    next = (char *)block->data + size;
    end = (char *)block->data + room;
    return block->data;
}

static void *allocate(size_t size) {
    if (!is_parsing) return malloc(size);
    if (size > PTRDIFF_MAX) return NULL;
    size = (size + _Alignof(max_align_t) - 1) & ~(_Alignof(max_align_t) - 1);
    if (size > (size_t)(end - next)) return grow(size);
    void *memory = next;
    next += size;
    return memory;
}

static void release(void *memory) {
    if (!is_parsing) free(memory);
}

__attribute__((constructor)) static void use_arena(void) { json_set_alloc_funcs(allocate, release); }

json_t *seedream_json_begin(const void *text, size_t length, size_t flags, json_error_t *error) {
    is_parsing = 1;
    next = (char *)first;
    end = next + sizeof first;
    return json_loadb(text, length, flags, error);
}

void seedream_json_end(void) {
    is_parsing = 0;
    while (blocks) {
        struct block *older = blocks->older;
        free(blocks);
        blocks = older;
    }
}
