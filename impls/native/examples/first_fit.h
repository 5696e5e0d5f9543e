/* A first-fit heap over memory of the caller's: a header of 16 bytes before every block, free blocks on one list in
 * order of address, free neighbours merged at once.  It knows nothing of heaplaw; first_fit_adapter.c shows it. */
#ifndef FIRST_FIT_H
#define FIRST_FIT_H

#include <stddef.h>

enum { FF_STEP = 16, FF_HEADER = 16 };

/*  [ header | bytes of the block ][ header | bytes ] ... up to the end of the memory */
typedef struct ff_block {
    size_t length;           /* of what comes behind the header, a multiple of FF_STEP; odd while the block is free */
    struct ff_block *before; /* the block before this one, NULL for the first */
} ff_block;

typedef struct ff_heap {
    char *start, *end;
    ff_block *free;   /* the first free block */
    size_t free_bytes, live;
    size_t most;      /* no free block is longer than this */
    size_t found;     /* length of the block that the last search settled on, 0 for none */
} ff_heap;

int ff_begin(ff_heap *heap, void *memory, size_t bytes);            /* 0, or -1: too small or misaligned */
void *ff_alloc(ff_heap *heap, size_t size, size_t align);           /* NULL: there is no room */
int ff_free(ff_heap *heap, void *object);                           /* -1: that is no object */
void *ff_resize(ff_heap *heap, void *object, size_t size);          /* NULL: no room, the object is as it was */
size_t ff_usable(const void *object);
const ff_block *ff_next_free(const ff_heap *heap, const ff_block *block); /* NULL as block: the first one */

#endif
