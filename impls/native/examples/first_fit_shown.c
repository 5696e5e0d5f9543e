/* What first_fit promises, and what it shows of its own structures. */
#include "first_fit.h"
#include "heaplaw.h"

#define HEAP ((ff_heap *)(uintptr_t)heap)
#define AT(block) ((uint64_t)((const char *)(block) - HEAP->start))
#define PUT(word) (n = heaplaw_put((int64_t)(word), words, room, n))

int64_t heaplaw_promise(uint64_t heap, uint32_t promise)
{
    switch (promise) {
    case HEAPLAW_ARENA: return HEAP->end - HEAP->start;
    case HEAPLAW_MAX_SIZE: return HEAP->end - HEAP->start - FF_HEADER;
    case HEAPLAW_DRAINED_SIZE: return HEAP->end - HEAP->start - FF_HEADER;
    case HEAPLAW_GRANULE: return FF_STEP;
    case HEAPLAW_MAX_ALIGN: return 4096;
    case HEAPLAW_HEADER: return FF_HEADER;
    case HEAPLAW_PROLOGUE: return FF_HEADER;
    case HEAPLAW_FLAGS: return HEAPLAW_DETERMINISTIC | HEAPLAW_MERGES | HEAPLAW_FREE_THEN_ALLOC;
    case HEAPLAW_REJECTS: return 1 | 2 | 4; /* no bytes, too many, odd alignments */
    case HEAPLAW_SERVES_GAP: return 4 * FF_HEADER; /* two headers, and a least block in front of an aligned one */
    case HEAPLAW_SLACK: return FF_STEP - 1 + FF_HEADER; /* rounding, and what is too short for a block of its own */
    case HEAPLAW_EDGES: return 160; /* holds at -O0, where every call of a function is an edge, too */
    case HEAPLAW_EDGES_BLOCK: return 32; /* the free list is walked; it has at most one block more than are live */
    case HEAPLAW_LIST_FROM: return FF_STEP; /* list 0 */
    default: return -1;
    }
}

uint64_t heaplaw_schema(uint32_t kind, char *text, uint64_t room)
{
    switch (kind) {
    case HEAPLAW_REGIONS: return heaplaw_say("start length list", text, room);
    case HEAPLAW_LISTS: return heaplaw_say("list start", text, room);
    case HEAPLAW_HINTS:
        return heaplaw_say("name start length value direction quantity\nname: most", text, room);
    case HEAPLAW_COUNTERS: return heaplaw_say("name value\nname: free_bytes live_objects", text, room);
    case HEAPLAW_COST: return heaplaw_say("name value\nname: found", text, room);
    default: return 0;
    }
}

uint64_t heaplaw_observe(uint64_t heap, uint32_t kind, int64_t *words, uint64_t room)
{
    uint64_t n = 0;
    const ff_block *b;
    const char *at;
    if (kind == HEAPLAW_REGIONS) /* from the headers, whatever the list says */
        for (at = HEAP->start; at < HEAP->end; at += FF_HEADER + (b->length & ~(size_t)1)) {
            b = (const ff_block *)(const void *)at;
            if (b->length & 1)
                PUT(AT(b) + FF_HEADER), PUT(b->length & ~(size_t)1), PUT(0);
        }
    if (kind == HEAPLAW_LISTS)
        for (b = ff_next_free(HEAP, NULL); b; b = ff_next_free(HEAP, b))
            PUT(0), PUT(AT(b) + FF_HEADER);
    if (kind == HEAPLAW_HINTS) { /* a run of bytes that are free counts the headers at both ends of a block */
        PUT(0), PUT(0), PUT(HEAP->end - HEAP->start), PUT(HEAP->most + 2 * FF_HEADER);
        PUT(HEAPLAW_UPPER), PUT(HEAPLAW_LONGEST_FREE);
    }
    if (kind == HEAPLAW_COUNTERS)
        PUT(0), PUT(HEAP->free_bytes), PUT(1), PUT(HEAP->live);
    if (kind == HEAPLAW_COST)
        PUT(0), PUT(HEAP->found);
    return n;
}
