// Buddy as a target of heaplaw: heaplaw check ./libbuddy.so.  There is no heaplaw_base: the CPU sees none of the memory.
#include "buddy.hpp"
#include "heaplaw.h"

static Buddy &of(uint64_t heap) { return *reinterpret_cast<Buddy *>(static_cast<uintptr_t>(heap)); }

uint32_t heaplaw_abi() { return HEAPLAW_ABI; }
uint64_t heaplaw_capabilities()
{ return HEAPLAW_PROMISES | HEAPLAW_ALIGNS | HEAPLAW_HAS_USABLE | HEAPLAW_BATCHES | HEAPLAW_OBSERVES; }
uint64_t heaplaw_create(uint64_t arena) { return reinterpret_cast<uintptr_t>(new Buddy(arena)); }
void heaplaw_destroy(uint64_t heap) { delete &of(heap); }
uint64_t heaplaw_alloc_aligned(uint64_t heap, uint64_t size, uint64_t align)
{
    return size && align && !(align & (align - 1)) ? of(heap).alloc(size, align).value_or(HEAPLAW_NO_MEMORY)
                                                   : HEAPLAW_INVALID;
}
uint64_t heaplaw_alloc(uint64_t heap, uint64_t size) { return heaplaw_alloc_aligned(heap, size, 1); }
uint32_t heaplaw_free(uint64_t heap, uint64_t handle) { return !of(heap).free(handle); }
uint64_t heaplaw_usable(uint64_t heap, uint64_t handle) { return of(heap).usable(handle); }
HEAPLAW_DEFINE_BATCH(heaplaw_alloc_aligned, HEAPLAW_NEVER)

int64_t heaplaw_promise(uint64_t heap, uint32_t promise)
{
    const int64_t bytes = int64_t(of(heap).bytes()), unit = int64_t(Buddy::unit);
    if (promise == HEAPLAW_ARENA || promise == HEAPLAW_DRAINED_SIZE || promise == HEAPLAW_MAX_ALIGN) return bytes;
    if (promise == HEAPLAW_GRANULE || promise == HEAPLAW_SLACK) return unit;
    if (promise == HEAPLAW_SLACK_PERMILLE) return 1000;
    if (promise == HEAPLAW_FLAGS) return HEAPLAW_DETERMINISTIC | HEAPLAW_FREE_THEN_ALLOC;
    if (promise == HEAPLAW_REJECTS || promise == HEAPLAW_DETECTS) return 1 | 2 | 4; // see the header for the bits
    return -1;
}
uint64_t heaplaw_schema(uint32_t kind, char *text, uint64_t room)
{ return kind == HEAPLAW_REGIONS ? heaplaw_say("start length", text, room) : 0; }
uint64_t heaplaw_observe(uint64_t heap, uint32_t, int64_t *words, uint64_t room)
{
    uint64_t n = 0;
    for (std::size_t order = 0; order < of(heap).free_blocks().size(); order++)
        for (uint64_t at : of(heap).free_blocks()[order])
            for (uint64_t word : {at, Buddy::unit << order}) n = heaplaw_put(int64_t(word), words, room, n);
    return n;
}
