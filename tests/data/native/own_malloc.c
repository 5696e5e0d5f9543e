/* A malloc of its own, for what is wrong with one: it cuts blocks off one piece of memory, headers of 16 bytes.
 *   -DOFF=8      blocks of 16 bytes and more lie 8 past a multiple of 16
 *   -DFORGETS    realloc copies nothing
 *   -DSHORT=1    malloc_usable_size says so much less than there is
 *   -DACCEPTS    posix_memalign takes any alignment as 16
 *   -DREFUSES    sizes between 1000 and 2000 are refused
 *   -DLACKS      there is no malloc_usable_size */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifndef OFF
#define OFF 0
#endif
#ifndef SHORT
#define SHORT 0
#endif
#define BYTES ((size_t)1 << 30)

static _Alignas(4096) unsigned char memory[BYTES];
static size_t taken;

int posix_memalign(void **where, size_t align, size_t size)
{
    size_t at;
#ifdef ACCEPTS
    if (align & (align - 1) || align < 16)
        align = 16;
#endif
    if (align % sizeof(void *) || align & (align - 1) || !align)
        return EINVAL;
    if (size > BYTES / 2 || taken + size + align + 64 > BYTES)
        return ENOMEM;
    at = (taken + 16 + align - 1) / align * align;
    memcpy(memory + at + OFF - sizeof size, &size, sizeof size);
    *where = memory + at + OFF;
    taken = (at + OFF + size + 15) / 16 * 16;
    return 0;
}

void *malloc(size_t size)
{
    void *p;
#ifdef REFUSES
    if (size > 1000 && size < 2000)
        return NULL;
#endif
    return posix_memalign(&p, 16, size) ? NULL : p;
}

void free(void *p) { (void)p; }

size_t length_of(const void *p);
size_t length_of(const void *p)
{
    size_t size;
    memcpy(&size, (const unsigned char *)p - sizeof size, sizeof size);
    return size;
}

void *realloc(void *p, size_t size)
{
    void *to = malloc(size);
    (void)p;
#ifndef FORGETS
    if (to)
        memcpy(to, p, length_of(p) < size ? length_of(p) : size);
#endif
    return to;
}

#ifndef LACKS
size_t malloc_usable_size(void *p) { return length_of(p) - (length_of(p) ? SHORT : 0); }
#endif
