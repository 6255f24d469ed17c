// As much of the C library as the bindings need: see runtime.c.
#ifndef SOTP_STDLIB_H
#define SOTP_STDLIB_H
#include <stddef.h>
void *malloc(size_t size);
void *realloc(void *old, size_t size);
void free(void *block);
_Noreturn void abort(void);
#endif
