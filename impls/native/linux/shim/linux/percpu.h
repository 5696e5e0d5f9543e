/* In place of linux/percpu.h: the tree's own, but that where pages are small a chunk may be small too. */
#include_next <linux/percpu.h>

#if HEAPLAW_PAGE_SHIFT < 12
static unsigned long shim_unit; /* of the heap that is worked on */
#undef PCPU_MIN_UNIT_SIZE
#define PCPU_MIN_UNIT_SIZE shim_unit
#endif
#undef PERCPU_DYNAMIC_EARLY_SIZE
#define PERCPU_DYNAMIC_EARLY_SIZE 1 /* of the first chunk, which is not a machine's here */
