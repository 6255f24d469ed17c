// What a plugin in C stands on. There is no C library and no WASI: a plugin has nothing to open and nothing to print to.
//
// An instance lives for one call, so memory is only ever taken. A block begins with its size, which realloc needs.
#include <stdint.h>
#include "stdlib.h"
#include "string.h"

extern unsigned char __heap_base;
#define PAGE 65536u
#define GRAIN 8u

static uintptr_t next;

_Noreturn void abort(void) { __builtin_trap(); }

void *malloc(size_t size) {
    if (next == 0) next = ((uintptr_t)&__heap_base + GRAIN - 1) & ~(uintptr_t)(GRAIN - 1);
    if (size > UINT32_MAX - 4 * PAGE - next) return NULL;
    uintptr_t block = next + GRAIN;
    uintptr_t end = (block + size + GRAIN - 1) & ~(uintptr_t)(GRAIN - 1);
    uintptr_t have = (uintptr_t)__builtin_wasm_memory_size(0) * PAGE;
    if (end > have && __builtin_wasm_memory_grow(0, (end - have + PAGE - 1) / PAGE) == SIZE_MAX) return NULL;
    *(size_t *)(block - GRAIN) = size;
    next = end;
    return (void *)block;
}

void *realloc(void *old, size_t size) {
    if (old == NULL) return malloc(size);
    size_t had = *(size_t *)((uintptr_t)old - GRAIN);
    if (size <= had) return old;
    void *new = malloc(size);
    return new == NULL ? NULL : memcpy(new, old, had);
}

void free(void *block) { (void)block; }

void *memcpy(void *to, const void *from, size_t size) {
    unsigned char *t = to;
    const unsigned char *f = from;
    while (size--) *t++ = *f++;
    return to;
}

void *memset(void *to, int byte, size_t size) {
    unsigned char *t = to;
    while (size--) *t++ = (unsigned char)byte;
    return to;
}

int memcmp(const void *a, const void *b, size_t size) {
    const unsigned char *x = a, *y = b;
    for (; size--; x++, y++)
        if (*x != *y) return *x - *y;
    return 0;
}

size_t strlen(const char *text) {
    size_t length = 0;
    while (text[length]) length++;
    return length;
}
