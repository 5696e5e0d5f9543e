/* Sixteen slots of 64 bytes: a correct little heap, and one that does one thing wrong by -DWRONG_... */
#include "heaplaw.h"

#include <stdlib.h>
#include <string.h>

#ifndef SHIFT
#define SHIFT 0 /* bytes from a page's start to byte 0 */
#endif
#ifndef LEAD
#define LEAD 0 /* bytes from byte 0 to the first slot */
#endif
#ifndef EXTRA
#define EXTRA 0 /* more capabilities */
#endif
#define SLOTS 16
#define SLOT 64

typedef struct {
    char *memory;
    int used[SLOTS], calls, number;
} slots;

#define HEAP ((slots *)(uintptr_t)heap)

uint32_t heaplaw_abi(void)
{
#ifdef WRONG_ABI
    return 7;
#else
    return HEAPLAW_ABI;
#endif
}
uint64_t heaplaw_capabilities(void)
{
    return HEAPLAW_PROMISES | HEAPLAW_HAS_BASE | HEAPLAW_HAS_USABLE | HEAPLAW_CHECKS | HEAPLAW_OBSERVES |
           HEAPLAW_ALIGNS | HEAPLAW_BATCHES | (EXTRA);
}
#ifndef WRONG_SYMBOLS
static int heaps;

uint64_t heaplaw_create(uint64_t arena)
{
    slots *heap = calloc(1, sizeof *heap);
    heap->number = ++heaps;
    heap->memory = aligned_alloc(4096, 8192);
    memset(heap->memory, 0, 8192);
    (void)arena;
#ifdef WRONG_CREATE
    return 0;
#endif
    return (uint64_t)(uintptr_t)heap;
}
void heaplaw_destroy(uint64_t heap)
{
    free(HEAP->memory);
    free(HEAP);
}
#endif
uint64_t heaplaw_alloc_aligned(uint64_t heap, uint64_t size, uint64_t align)
{
    int i;
    HEAP->calls++;
    if (align > SLOT)
        return HEAPLAW_INVALID;
    for (i = 0; i < SLOTS && size <= SLOT; i++)
        if (!HEAP->used[i]) {
            HEAP->used[i] = 1;
#ifdef WRONG_PLACE
            return i == 3 ? LEAD + 2 * SLOT + 32 : LEAD + (uint64_t)i * SLOT;
#elif defined(WRONG_BOUNDS)
            return LEAD + (uint64_t)(i == 6 ? SLOTS : i) * SLOT;
#elif defined(WRONG_ALIGN)
            return LEAD + (uint64_t)i * SLOT + (i == 5);
#elif defined(WRONG_CONTENTS)
            HEAP->memory[SHIFT + LEAD + (i + 1) * SLOT] ^= 1; /* one byte past the end */
#elif defined(WRONG_ANSWER)
            return HEAPLAW_TOP + 1;
#elif defined(WRONG_REFUSAL)
            if (i == 7)
                return HEAPLAW_NO_MEMORY;
#elif defined(WRONG_SECOND)
            return HEAP->number == 2 ? LEAD + 1 : LEAD + (uint64_t)i * SLOT;
#endif
            return LEAD + (uint64_t)i * SLOT;
        }
    return size <= SLOT ? HEAPLAW_NO_MEMORY : HEAPLAW_TOO_BIG;
}
uint64_t heaplaw_alloc(uint64_t heap, uint64_t size) { return heaplaw_alloc_aligned(heap, size, 1); }
uint32_t heaplaw_free(uint64_t heap, uint64_t handle)
{
    uint64_t i = (handle - LEAD) / SLOT;
#ifndef WRONG_FREE
    if (i >= SLOTS || (handle - LEAD) % SLOT || !HEAP->used[i])
        return 1;
#endif
    HEAP->used[i % SLOTS] = 0;
    return 0;
}
uint64_t heaplaw_base(uint64_t heap, uint64_t space)
{
    (void)space;
    return (uint64_t)(uintptr_t)HEAP->memory + SHIFT;
}
uint64_t heaplaw_usable(uint64_t heap, uint64_t handle)
{
    (void)heap, (void)handle;
#ifdef WRONG_LENGTH
    return 16;
#endif
    return SLOT;
}
uint32_t heaplaw_check(uint64_t heap)
{
#ifdef WRONG_CHECK
    return HEAP->calls >= 3 ? 42 : 0;
#endif
    (void)heap;
    return 0;
}
int64_t heaplaw_promise(uint64_t heap, uint32_t promise)
{
    (void)heap;
    switch (promise) {
    case HEAPLAW_ARENA: return LEAD + SLOTS * SLOT;
    case HEAPLAW_PROLOGUE: return LEAD;
    case HEAPLAW_MAX_SIZE: return SLOT;
    case HEAPLAW_GRANULE: return SLOT;
    case HEAPLAW_MAX_ALIGN: return SLOT;
    case HEAPLAW_FLAGS: return HEAPLAW_DETERMINISTIC | HEAPLAW_FREE_THEN_ALLOC;
    case HEAPLAW_DETECTS: return 1 | 2 | 4;
    case HEAPLAW_REJECTS: return 2;
    case HEAPLAW_SERVES_GAP: return LEAD;
    case HEAPLAW_SLACK: return SLOT;
    case HEAPLAW_EDGES: return 8;
#ifndef WRONG_EDGES
    case HEAPLAW_EDGES_BLOCK: return 8;
#endif
#ifdef ORIGIN
    case HEAPLAW_ORIGIN: return ORIGIN;
#endif
    default: return -1;
    }
}
uint64_t heaplaw_schema(uint32_t kind, char *text, uint64_t room)
{
#ifdef WRONG_COLUMN
    return kind == HEAPLAW_REGIONS ? heaplaw_say("start len", text, room) : 0;
#elif defined(WRONG_NAMES)
    return kind == HEAPLAW_COUNTERS ? heaplaw_say("name value\nnme: live_objects", text, room) : 0;
#endif
    return kind == HEAPLAW_REGIONS    ? heaplaw_say("start length", text, room)
           : kind == HEAPLAW_BITS     ? heaplaw_say("start unit units bits", text, room)
           : kind == HEAPLAW_COUNTERS ? heaplaw_say("name value\nname: live_objects free_bytes", text, room)
                                      : 0;
}
uint64_t heaplaw_observe(uint64_t heap, uint32_t kind, int64_t *words, uint64_t room)
{
    uint64_t n = 0;
    int64_t i, bits = 0, live = 0;
    for (i = 0; i < SLOTS; i++) {
        live += HEAP->used[i];
        bits |= (int64_t)HEAP->used[i] << i;
        if (kind == HEAPLAW_REGIONS && !HEAP->used[i]) {
            n = heaplaw_put(LEAD + i * SLOT, words, room, n);
            n = heaplaw_put(SLOT, words, room, n);
        }
    }
    if (kind == HEAPLAW_BITS) /* two records of one bitmap */
        for (i = 0; i < SLOTS; i += 8) {
            n = heaplaw_put(LEAD + i * SLOT, words, room, n);
            n = heaplaw_put(SLOT, words, room, n);
            n = heaplaw_put(8, words, room, n);
            n = heaplaw_put(bits >> i & 255, words, room, n);
        }
    if (kind == HEAPLAW_COUNTERS) {
        n = heaplaw_put(0, words, room, n);
#ifdef WRONG_COUNTERS
        live += live > 4;
#endif
        n = heaplaw_put(live, words, room, n);
        n = heaplaw_put(1, words, room, n);
        n = heaplaw_put((SLOTS - live) * SLOT, words, room, n);
#ifdef WRONG_RECORDS
        if (live)
            n = heaplaw_put(1, words, room, n);
#endif
    }
    return n;
}
HEAPLAW_DEFINE_BATCH(heaplaw_alloc_aligned, HEAPLAW_NEVER)
