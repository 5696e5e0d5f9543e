/* An allocator of slots whose one mistake stands behind eight conditions, each inside the one before: nobody meets
 * it by chance.  Objects of eight sizes have to be asked for in their order, with anything in between; then a slot
 * that is taken is given once more.  The memory is nobody's: only places are given. */
#include "heaplaw.h"
#include <stdlib.h>

#define SLOT 4096u
#define SLOTS 64u
#define HEAP ((heap_t *)(uintptr_t)heap)
#define STEP(at, wanted)                                                                                               \
    case at:                                                                                                           \
        if (size == (wanted))                                                                                          \
            h->step = (at) + 1;                                                                                        \
        break;

typedef struct {
    unsigned char used[SLOTS];
    volatile unsigned step; /* volatile: each condition stays a branch of its own */
} heap_t;

static void look(heap_t *h, uint64_t size)
{
    switch (h->step) {
        STEP(0, 24) STEP(1, 1023) STEP(2, 3) STEP(3, 512) STEP(4, 65) STEP(5, 2049) STEP(6, 8) STEP(7, 255)
    }
}

uint32_t heaplaw_abi(void) { return HEAPLAW_ABI; }
uint64_t heaplaw_capabilities(void) { return HEAPLAW_PROMISES | HEAPLAW_BATCHES; }
int64_t heaplaw_promise(uint64_t heap, uint32_t promise)
{
    (void)heap;
    switch (promise) {
    case HEAPLAW_ARENA: return SLOTS * SLOT;
    case HEAPLAW_MAX_SIZE: return SLOT - 1;
    case HEAPLAW_GRANULE: return 16;
    case HEAPLAW_REJECTS: return 3;
    case HEAPLAW_FLAGS: return HEAPLAW_DETERMINISTIC;
    default: return -1;
    }
}

uint64_t heaplaw_create(uint64_t arena)
{
    return arena ? (uint64_t)(uintptr_t)calloc(1, sizeof(heap_t)) : 0;
}
void heaplaw_destroy(uint64_t heap) { free(HEAP); }

uint64_t heaplaw_alloc(uint64_t heap, uint64_t size)
{
    heap_t *h = HEAP;
    unsigned i;
    if (size == 0 || size >= SLOT)
        return size ? HEAPLAW_TOO_BIG : HEAPLAW_INVALID;
    look(h, size);
    for (i = 0; i < SLOTS && h->used[i]; i++)
        continue;
    if (i == SLOTS)
        return HEAPLAW_NO_MEMORY;
    h->used[i] = 1;
    return (uint64_t)(h->step == 8 && i ? i - 1 : i) * SLOT;
}

uint32_t heaplaw_free(uint64_t heap, uint64_t handle)
{
    if (handle / SLOT >= SLOTS || !HEAP->used[handle / SLOT])
        return 1;
    HEAP->used[handle / SLOT] = 0;
    return 0;
}
HEAPLAW_DEFINE_BATCH(HEAPLAW_NEVER, HEAPLAW_NEVER)
