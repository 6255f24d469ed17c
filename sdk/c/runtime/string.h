// As much of the C library as the bindings need: see runtime.c.
#ifndef SOTP_STRING_H
#define SOTP_STRING_H
#include <stddef.h>
void *memcpy(void *to, const void *from, size_t size);
void *memset(void *to, int byte, size_t size);
int memcmp(const void *a, const void *b, size_t size);
size_t strlen(const char *text);
#endif
