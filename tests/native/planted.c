/* An allocator of slots of 64 bytes with one mistake, which BUG names; with NONE it is honest. */
#include "heaplaw.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum bug { NONE, SEGFAULT, HANG, LEAK, WILD_FREE, OVERRUN, MISALIGNED, ASSERTS };
#ifndef BUG
#define BUG NONE
#endif
#define SLOT 64u
#define MEGA ((size_t)1 << 20)
#define HEAP ((heap_t *)(uintptr_t)heap)

typedef struct {
    unsigned char *memory, *used;
    uint64_t slots, live;
} heap_t;

static volatile int never;

/* What goes wrong when an object is asked for while two others live. */
static void third(heap_t *h)
{
    size_t hoard = 0;
    switch (BUG) {
    case SEGFAULT: *(volatile int *)(uintptr_t)never = 1; break;
    case LEAK:
        while (!never) {
            unsigned char *more = malloc(MEGA);
            if (more)
                memset(more, 1, MEGA), hoard++;
        }
        break;
    case WILD_FREE: /* whatever an object has left where glibc looks for a size, it says what is wrong */
        memset(h->memory, 0, 16);
        free(h->memory + 16 + never);
        break;
    case ASSERTS: assert(h->live < 2 && "room for two"); break;
    default: break;
    }
}

uint32_t heaplaw_abi(void) { return HEAPLAW_ABI; }
uint64_t heaplaw_capabilities(void) { return HEAPLAW_PROMISES | HEAPLAW_HAS_BASE; }
int64_t heaplaw_promise(uint64_t heap, uint32_t promise)
{
    switch (promise) {
    case HEAPLAW_ARENA: return (int64_t)(HEAP->slots * SLOT);
    case HEAPLAW_MAX_SIZE: return SLOT;
    case HEAPLAW_GRANULE: return 16;
    case HEAPLAW_ORIGIN: return 0;
    case HEAPLAW_REJECTS: return 3;
    case HEAPLAW_FLAGS: return HEAPLAW_DETERMINISTIC;
    default: return -1;
    }
}

uint64_t heaplaw_create(uint64_t arena)
{
    heap_t *h = calloc(1, sizeof *h);
    if (!h || arena < SLOT)
        return 0;
    h->slots = arena / SLOT;
    h->memory = calloc(h->slots, SLOT);
    h->used = calloc(h->slots, 1);
    return (uint64_t)(uintptr_t)h;
}
void heaplaw_destroy(uint64_t heap) { free(HEAP->memory), free(HEAP->used), free(HEAP); }
uint64_t heaplaw_base(uint64_t heap, uint64_t space) { return space ? 0 : (uint64_t)(uintptr_t)HEAP->memory; }

uint64_t heaplaw_alloc(uint64_t heap, uint64_t size)
{
    heap_t *h = HEAP;
    if (size == 0 || size > SLOT)
        return size ? HEAPLAW_TOO_BIG : HEAPLAW_INVALID;
    for (uint64_t i = 0; i < h->slots; i++)
        if (!h->used[i]) {
            if (h->live == 2)
                third(h);
            h->used[i] = 1, h->live++;
            if (BUG == OVERRUN)
                h->memory[(i + 1) * SLOT] = 0xA5; /* a guard byte, one too far */
            return i * SLOT + (BUG == MISALIGNED && (size & 8) ? 8 : 0);
        }
    return HEAPLAW_NO_MEMORY;
}

uint32_t heaplaw_free(uint64_t heap, uint64_t handle)
{
    heap_t *h = HEAP;
    uint64_t i = handle / SLOT;
    if (i >= h->slots || !h->used[i])
        return 1;
    h->used[i] = 0, h->live--;
    if (BUG == HANG && h->live == 1)
        while (!never)
            continue;
    return 0;
}
