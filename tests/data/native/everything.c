/* Shows every kind of record and has every function: fixed numbers, to see what becomes of them. */
#include "heaplaw.h"

static uint64_t destroyed, failing, noted[3];
static int64_t limit = 5;

uint32_t heaplaw_abi(void) { return HEAPLAW_ABI; }
uint64_t heaplaw_capabilities(void) { return 0x7FFF & ~HEAPLAW_HAS_BASE & ~HEAPLAW_BATCHES; }
uint64_t heaplaw_create(uint64_t arena) { return arena > 99 ? 3 : 0; }
void heaplaw_destroy(uint64_t heap) { destroyed += heap; }
uint64_t heaplaw_alloc(uint64_t heap, uint64_t size)
{
    return heap && size == 1 ? HEAPLAW_NO_MEMORY : size == 2 ? HEAPLAW_INVALID : size == 3 ? HEAPLAW_TOO_BIG
           : size == 4 ? HEAPLAW_WOULD_BLOCK : size;
}
uint64_t heaplaw_alloc_aligned(uint64_t heap, uint64_t size, uint64_t align) { return heap + size + align * 1000; }
uint32_t heaplaw_free(uint64_t heap, uint64_t handle) { return heap != 3 || handle == 13; }
uint32_t heaplaw_free_sized(uint64_t heap, uint64_t handle, uint64_t size) { return heap != 3 || handle != size; }
uint64_t heaplaw_realloc(uint64_t heap, uint64_t handle, uint64_t size)
{
    return size > handle ? HEAPLAW_NO_MEMORY : heap + handle;
}
uint64_t heaplaw_usable(uint64_t heap, uint64_t handle) { return heap * handle; }
uint32_t heaplaw_check(uint64_t heap) { return heap != 3; }
uint32_t heaplaw_configure(uint32_t parameter, int64_t value)
{
    limit = parameter == 1 ? value : limit;
    return parameter == 0 && value != 4;
}
void heaplaw_context(uint64_t heap, uint32_t cpu, uint32_t atomic, uint32_t group)
{
    noted[0] = heap * 0 + cpu, noted[1] = atomic, noted[2] = group;
}
uint32_t heaplaw_map(uint64_t heap, uint64_t handle) { return heap != 3 || handle == 9; }
uint32_t heaplaw_unmap(uint64_t heap, uint64_t handle) { return heap != 3 || handle == 9; }
void heaplaw_fail_pages(uint64_t heap, uint32_t order, uint64_t count) { failing = heap * 0 + order * 100 + count; }
int64_t heaplaw_promise(uint64_t heap, uint32_t promise)
{
    switch (promise) {
    case HEAPLAW_OPAQUE: return 1;
    case HEAPLAW_PAGE_SIZE: return 4096;
    case HEAPLAW_MAX_SIZE: return limit * 100;
    case HEAPLAW_MAX_ALIGN: return 64;
    case HEAPLAW_MOVING: return 2;
    case HEAPLAW_EVICTING: return 1;
    case HEAPLAW_CPUS: return 2;
    case HEAPLAW_FLAGS: return HEAPLAW_PINNED | HEAPLAW_ZEROED;
    case HEAPLAW_LIMIT: return 16;
    case HEAPLAW_LIMIT + 1: return 32;
    case HEAPLAW_LIST_FROM: return 0;
    case HEAPLAW_LIST_FROM + 1: return 100;
    case HEAPLAW_MOST + 1: return 40;
    case HEAPLAW_HINT_SLACK: return 8;
    case HEAPLAW_METADATA_HEAP: return 100;
    case HEAPLAW_METADATA_BLOCK: return 10;
    default: return heap ? -1 : 0;
    }
}
static uint64_t put(const int64_t *from, uint64_t count, int64_t *words, uint64_t room)
{
    uint64_t n = 0;
    while (n < count)
        n = heaplaw_put(from[n], words, room, n);
    return n;
}
#define PUT(...) \
    do { \
        const int64_t all[] = {__VA_ARGS__}; \
        return put(all, sizeof all / sizeof *all, words, room); \
    } while (0)
uint64_t heaplaw_extents(uint64_t heap, uint64_t handle, int64_t *words, uint64_t room)
{
    PUT(0, (int64_t)(handle * heap), 10, 2, 4096, 20);
}
uint64_t heaplaw_maintain(uint64_t heap, uint32_t kind, int64_t *words, uint64_t room)
{
    PUT((int64_t)heap, kind, 70, 71);
}
uint64_t heaplaw_schema(uint32_t kind, char *text, uint64_t room)
{
    switch (kind) {
    case HEAPLAW_REGIONS: return heaplaw_say("list length start odd space", text, room);
    case HEAPLAW_LISTS: return heaplaw_say("key list", text, room);
    case HEAPLAW_HINTS:
        return heaplaw_say("name start length value direction quantity at room\nname: contig scan", text, room);
    case HEAPLAW_BITS: return heaplaw_say("space start unit units bits", text, room);
    case HEAPLAW_LIST_BITS: return heaplaw_say("bit set list\nbit: first second", text, room);
    case HEAPLAW_COUNTERS: return heaplaw_say("name value\nname: pages", text, room);
    case HEAPLAW_METADATA: return heaplaw_say("out_of_band", text, room);
    case HEAPLAW_COST: return heaplaw_say("name value\nname: found probed", text, room);
    case HEAPLAW_CLAIMED: return heaplaw_say("first count", text, room);
    case HEAPLAW_PAGES: return heaplaw_say("first order", text, room);
    case HEAPLAW_SOURCE: return heaplaw_say("given refused injected highest free", text, room);
    case HEAPLAW_MAINTENANCE: return heaplaw_say("reclaim compact", text, room);
    case HEAPLAW_PARAMETERS: return heaplaw_say("chain limit", text, room);
    case HEAPLAW_OWN: return heaplaw_say("cpu atomic group destroyed failing", text, room);
    default: return 0;
    }
}
uint64_t heaplaw_observe(uint64_t heap, uint32_t kind, int64_t *words, uint64_t room)
{
    uint64_t n = 0;
    switch (kind) {
    case HEAPLAW_REGIONS: PUT(1, 128, 64, 99, 0, -1, 32, 0, 99, 5);
    case HEAPLAW_LISTS: PUT(500, 2, 501, 2);
    case HEAPLAW_HINTS: PUT(0, 0, 256, 64, 0, 0, 64, 64, 7, 0, 256, 0, 2, 2, 0, 0);
    case HEAPLAW_BITS: PUT(0, 0, 8, 64, -1, 0, 512, 8, 4, 5, 1, 0, 8, 4, 1);
    case HEAPLAW_LIST_BITS: PUT(0, 1, 2, 0, 1, 3, 1, 0, 4);
    case HEAPLAW_COUNTERS: PUT(0, 3, 1, 4);
    case HEAPLAW_METADATA: PUT(5, 6);
    case HEAPLAW_COST: PUT(0, 64, 1, (int64_t)heap);
    case HEAPLAW_CLAIMED:
        while (n < 2000) /* more than fits at once */
            n = heaplaw_put((int64_t)n, words, room, n);
        return n;
    case HEAPLAW_PAGES: PUT(0, 1, 4, 0);
    case HEAPLAW_SOURCE: PUT(7, 6, 5, 4, 3);
    case HEAPLAW_OWN:
        PUT((int64_t)noted[0], (int64_t)noted[1], (int64_t)noted[2], (int64_t)destroyed, (int64_t)failing);
    default: return 0;
    }
}
