/* first_fit as a target of heaplaw: heaplaw check ./libfirst_fit.so.  What it promises and shows of itself stands in
 * first_fit_shown.c, and may be left out. */
#include "first_fit.h"
#include "heaplaw.h"
#include <stdlib.h>

#define HEAP ((ff_heap *)(uintptr_t)heap)
#define AT(object) ((uint64_t)((char *)(object) - HEAP->start))
#ifndef SHOWN
#define SHOWN 0 /* HEAPLAW_PROMISES | HEAPLAW_OBSERVES with first_fit_shown.c */
#endif

uint32_t heaplaw_abi(void) { return HEAPLAW_ABI; }
uint64_t heaplaw_capabilities(void)
{
    return HEAPLAW_ALIGNS | HEAPLAW_REALLOCS | HEAPLAW_HAS_BASE | HEAPLAW_HAS_USABLE | HEAPLAW_BATCHES | SHOWN;
}
uint64_t heaplaw_create(uint64_t arena)
{
    ff_heap *heap = malloc(sizeof *heap);
    void *memory = aligned_alloc(4096, (arena + 4095) / 4096 * 4096);
    return heap && memory && ff_begin(heap, memory, arena) == 0 ? (uint64_t)(uintptr_t)heap : 0;
}
void heaplaw_destroy(uint64_t heap) { free(HEAP->start), free(HEAP); }
uint64_t heaplaw_alloc_aligned(uint64_t heap, uint64_t size, uint64_t align)
{
    int fits = (size_t)size == size && (size_t)align == align; /* a size_t may have 32 bits */
    void *object = fits && size && align && !(align & (align - 1)) ? ff_alloc(HEAP, size, align) : NULL;
    return object ? AT(object) : HEAPLAW_NO_MEMORY;
}
uint64_t heaplaw_alloc(uint64_t heap, uint64_t size) { return heaplaw_alloc_aligned(heap, size, 1); }
uint32_t heaplaw_free(uint64_t heap, uint64_t handle) { return ff_free(HEAP, HEAP->start + handle) != 0; }
uint64_t heaplaw_realloc(uint64_t heap, uint64_t handle, uint64_t size)
{
    void *object = (size_t)size == size ? ff_resize(HEAP, HEAP->start + handle, size) : NULL;
    return object ? AT(object) : HEAPLAW_NO_MEMORY;
}
uint64_t heaplaw_base(uint64_t heap, uint64_t space) { return space ? 0 : (uint64_t)(uintptr_t)HEAP->start; }
uint64_t heaplaw_usable(uint64_t heap, uint64_t handle) { return ff_usable(HEAP->start + handle); }
HEAPLAW_DEFINE_BATCH(heaplaw_alloc_aligned, heaplaw_realloc)
