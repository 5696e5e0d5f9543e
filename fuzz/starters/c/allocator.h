/* A first-fit heap to start from: put your allocator in its place.  It knows nothing of heaplaw. */
#ifndef ALLOCATOR_H
#define ALLOCATOR_H

#include <stddef.h>

enum { STEP = 16, HEADER = 16 }; /* blocks are multiples of STEP long, behind a header each */

typedef struct block { /* [ block | bytes ][ block | bytes ] ... up to the end of the memory */
    size_t length;     /* of the bytes behind it */
    size_t live;       /* is it lent? */
} block;

typedef struct heap {
    char *start, *end;
} heap;

void heap_begin(heap *h, void *memory, size_t bytes); /* both multiples of STEP, room for one block at least */
void *heap_alloc(heap *h, size_t size);               /* NULL: there is no room */
void heap_free(heap *h, void *object);
block *heap_next(const heap *h, const block *b); /* the block behind this one, NULL at the end; of NULL: the first */

#endif
