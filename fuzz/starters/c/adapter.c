/* allocator.c as a target of heaplaw.  The first six functions are needed; each capability, promise and record brings
 * more laws: heaplaw.h says what there is, 'heaplaw check ./heaplaw_build/allocator-edges.so -v' what was asked. */
#include "allocator.h"
#include "heaplaw.h"
#include <stdlib.h>

#define HEAP ((heap *)(uintptr_t)h)
#define OFFSET(place) ((uint64_t)((const char *)(place) - HEAP->start))

uint32_t heaplaw_abi(void) { return HEAPLAW_ABI; }
uint64_t heaplaw_capabilities(void)
{
    return HEAPLAW_PROMISES | HEAPLAW_HAS_BASE | HEAPLAW_HAS_USABLE | HEAPLAW_OBSERVES | HEAPLAW_BATCHES;
}
uint64_t heaplaw_create(uint64_t arena)
{
    heap *made = malloc(sizeof *made);
    void *memory = arena >= HEADER + STEP ? aligned_alloc(STEP, arena / STEP * STEP) : NULL;
    if (!made || !memory)
        return 0;
    heap_begin(made, memory, arena / STEP * STEP);
    return (uint64_t)(uintptr_t)made;
}
void heaplaw_destroy(uint64_t h) { free(HEAP->start), free(HEAP); }
uint64_t heaplaw_alloc(uint64_t h, uint64_t size)
{
    void *object = heap_alloc(HEAP, size);
    return object ? OFFSET(object) : HEAPLAW_NO_MEMORY;
}
uint32_t heaplaw_free(uint64_t h, uint64_t handle) { return heap_free(HEAP, HEAP->start + handle), 0; }

/* ---- what follows only lets more be seen ---- */

uint64_t heaplaw_base(uint64_t h, uint64_t space) { return space ? 0 : (uint64_t)(uintptr_t)HEAP->start; }
uint64_t heaplaw_usable(uint64_t h, uint64_t handle) { return ((block *)(void *)(HEAP->start + handle - HEADER))->length; }
HEAPLAW_DEFINE_BATCH(HEAPLAW_NEVER, HEAPLAW_NEVER)

int64_t heaplaw_promise(uint64_t h, uint32_t promise)
{
    const int64_t bytes = HEAP->end - HEAP->start;
    switch (promise) {
    case HEAPLAW_ARENA: return bytes;
    case HEAPLAW_MAX_SIZE: return bytes - HEADER;
    case HEAPLAW_DRAINED_SIZE: return bytes - HEADER; /* when all is freed, so much can be had at once */
    case HEAPLAW_GRANULE: return STEP;
    case HEAPLAW_HEADER: return HEADER;
    case HEAPLAW_PROLOGUE: return HEADER;
    case HEAPLAW_FLAGS: return HEAPLAW_DETERMINISTIC | HEAPLAW_MERGES | HEAPLAW_FREE_THEN_ALLOC;
    case HEAPLAW_REJECTS: return 1 | 2;          /* no bytes, and too many */
    case HEAPLAW_SERVES_GAP: return 2 * HEADER;  /* a gap of the size and two headers is enough */
    case HEAPLAW_SLACK: return STEP - 1 + HEADER; /* rounding, and what is too short for a block of its own */
    default: return -1;
    }
}
uint64_t heaplaw_schema(uint32_t kind, char *text, uint64_t room)
{
    return kind == HEAPLAW_REGIONS ? heaplaw_say("start length", text, room) : 0;
}
uint64_t heaplaw_observe(uint64_t h, uint32_t kind, int64_t *words, uint64_t room)
{
    uint64_t n = 0;
    const block *b;
    for (b = heap_next(HEAP, NULL); kind == HEAPLAW_REGIONS && b; b = heap_next(HEAP, b))
        if (!b->live) {
            n = heaplaw_put((int64_t)OFFSET(b) + HEADER, words, room, n);
            n = heaplaw_put((int64_t)b->length, words, room, n);
        }
    return n;
}
