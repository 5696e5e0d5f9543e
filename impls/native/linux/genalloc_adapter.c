/* The kernel's own general purpose pool behind heaplaw.h: shims, the untouched lib/genalloc.c, and this.
 *
 * A pool of equal chunks of special memory.  Chunk number n is space n; it begins `base` bytes into the n-th area of
 * the address range, which begins at a page's start, so that `base` makes a misaligned pool.  A handle is an address
 * less that of the range.  The last chunk was added last and is searched first.
 *
 * A request that names an alignment goes through gen_pool_first_fit_align, as gen_pool_dma_alloc_align does; any other
 * through the pool's algorithm: 0 first fit, 1 best fit, 2 first fit aligned to the size.  The kernel answers every
 * refusal with 0: why, is told here by the request alone.  An owner of special memory knows how much it has, and so
 * do the books here; what is free, is read from the kernel's bitmaps.
 */
#include "kernel.h"
#include "backing.h"
#include "pools.h"
#include "lib/find_bit.c"
#include "lib/bitmap.c"
#include "lib/genalloc.c"

#include "adapter.h"

enum { MOST_CHUNKS = 64, MOST_UNITS = 1 << 20 };

struct settings {
	int64_t chunk, chunks, order, algorithm, base; /* bytes, and order as a power of two */
};

struct heap {
	struct heap_base common;
	struct settings settings;
	struct gen_pool *pool;
	uint64_t live, *sizes; /* asked for, by the unit that an object begins in */
};

static struct settings wanted = {16384, 2, 5, 0, 0};

static const genpool_algo_t algorithms[] = {gen_pool_first_fit, gen_pool_best_fit, gen_pool_first_fit_order_align};

static struct heap *find(uint64_t number)
{
	struct heap *heap = (struct heap *)heap_numbered(number);

	if (heap)
		now = &heap->common.backing;
	return heap;
}

static int64_t unit_of(const struct settings *s) { return (int64_t)1 << s->order; }
static int64_t units_of(const struct settings *s) { return s->chunk >> s->order; } /* of a chunk */

static unsigned long start_of(const struct heap *heap, int64_t chunk)
{
	return (unsigned long)now->range + (unsigned long)chunk * now->area_size + (unsigned long)heap->settings.base;
}

/* ---- making a pool --------------------------------------------------------------------------------- */

static bool sensible(const struct settings *s)
{
	return s->order >= 0 && s->order <= (int64_t)PAGE_SHIFT && s->chunk >= unit_of(s) && s->chunks >= 1 &&
	       s->chunks <= MOST_CHUNKS && units_of(s) <= MOST_UNITS && s->algorithm >= 0 &&
	       s->algorithm < (int64_t)ARRAY_SIZE(algorithms) && s->base >= 0 && s->base < (int64_t)PAGE_SIZE &&
	       s->base % unit_of(s) == 0;
}

static void begin(struct heap *heap)
{
	const struct settings *s = &heap->settings;
	int64_t i;

	heap->pool = gen_pool_create((int)s->order, -1);
	gen_pool_set_algo(heap->pool, algorithms[s->algorithm], NULL);
	for (i = 0; i < s->chunks; i++)
		BUG_ON(gen_pool_add(heap->pool, start_of(heap, i), (size_t)s->chunk, -1));
	heap->sizes = shim_book((size_t)(s->chunks * units_of(s)) * sizeof(*heap->sizes));
}

uint64_t heaplaw_capabilities(void)
{
	return HEAPLAW_PROMISES | HEAPLAW_ALIGNS | HEAPLAW_FREES_SIZED | HEAPLAW_HAS_BASE | HEAPLAW_HAS_EXTENTS |
	       HEAPLAW_OBSERVES | HEAPLAW_CHECKS | HEAPLAW_CONFIGURES;
}

uint32_t heaplaw_configure(uint32_t parameter, int64_t value)
{
	int64_t *places[] = {&wanted.chunk, &wanted.chunks, &wanted.order, &wanted.algorithm, &wanted.base};

	if (parameter >= ARRAY_SIZE(places) || value < 0)
		return 1;
	*places[parameter] = value;
	return 0;
}

uint64_t heaplaw_create(uint64_t arena)
{
	struct heap *heap = calloc(1, sizeof(*heap));

	(void)arena;
	if (!heap)
		return 0;
	heap->settings = wanted;
	if (!sensible(&wanted) || !backing_begin(&heap->common.backing, (unsigned long)wanted.chunks,
						 PFN_ALIGN(wanted.base + wanted.chunk), 1)) {
		free(heap);
		return 0;
	}
	now = &heap->common.backing;
	begin(heap);
	return heap_enlist(&heap->common);
}

/* Bytes that the bitmap of a chunk shows as free. */
static long clear_bytes(const struct heap *heap, const struct gen_pool_chunk *chunk)
{
	unsigned long bits = (unsigned long)units_of(&heap->settings);

	return (long)(bits - bitmap_weight(chunk->bits, bits)) << heap->settings.order;
}

/* The kernel ends a pool with a BUG where something of it is in use: only an empty one is ended its way. */
void heaplaw_destroy(uint64_t number)
{
	struct heap *heap = find(number);
	struct gen_pool_chunk *chunk;

	if (!heap)
		return;
	list_for_each_entry(chunk, &heap->pool->chunks, next_chunk)
		if (clear_bytes(heap, chunk) != units_of(&heap->settings) << heap->settings.order)
			heap->live++;
	if (!heap->live)
		gen_pool_destroy(heap->pool);
	free(heap_forget(number));
}

/* ---- the calls -------------------------------------------------------------------------------------- */

static int64_t chunk_of(uint64_t handle) { return (int64_t)(handle / now->area_size); }

static uint64_t *size_at(struct heap *heap, uint64_t handle)
{
	int64_t at = (int64_t)(handle % now->area_size) - heap->settings.base;

	return &heap->sizes[chunk_of(handle) * units_of(&heap->settings) + (at >> heap->settings.order)];
}

uint64_t heaplaw_alloc_aligned(uint64_t number, uint64_t size, uint64_t align)
{
	struct heap *heap = find(number);
	struct genpool_data_align data = {.align = (int)align};
	uint64_t handle;
	unsigned long place;

	if (!heap || !is_power_of_2(align) || align > PAGE_SIZE)
		return HEAPLAW_INVALID;
	place = align == 1 ? gen_pool_alloc(heap->pool, size)
			   : gen_pool_alloc_algo(heap->pool, size, gen_pool_first_fit_align, &data);
	if (!place)
		return !size ? HEAPLAW_INVALID : size > (uint64_t)heap->settings.chunk ? HEAPLAW_TOO_BIG : HEAPLAW_NO_MEMORY;
	handle = place - (unsigned long)now->range;
	*size_at(heap, handle) = size;
	heap->live++;
	return handle;
}

uint64_t heaplaw_alloc(uint64_t heap, uint64_t size) { return heaplaw_alloc_aligned(heap, size, 1); }

uint32_t heaplaw_free_sized(uint64_t number, uint64_t handle, uint64_t size)
{
	struct heap *heap = find(number);

	if (!heap || handle >= now->areas * now->area_size)
		return 1;
	gen_pool_free(heap->pool, (unsigned long)now->range + handle, size);
	heap->live--;
	return 0;
}

uint32_t heaplaw_free(uint64_t number, uint64_t handle) /* by the owner's books */
{
	struct heap *heap = find(number);

	return heap ? heaplaw_free_sized(number, handle, *size_at(heap, handle)) : 1;
}

/* ---- what is seen ------------------------------------------------------------------------------------ */

enum own_kind { CHUNKS = HEAPLAW_OWN };

static void show_free(struct out *out, const struct heap *heap, const struct gen_pool_chunk *chunk, int64_t space)
{
	unsigned long bits = (unsigned long)units_of(&heap->settings), from, to;

	for (from = find_first_zero_bit(chunk->bits, bits); from < bits; from = find_next_zero_bit(chunk->bits, bits, to)) {
		to = find_next_bit(chunk->bits, bits, from);
		put(out, space);
		put(out, heap->settings.base + (int64_t)(from << heap->settings.order));
		put(out, (int64_t)((to - from) << heap->settings.order));
	}
}

static void show_bits(struct out *out, const struct heap *heap, const struct gen_pool_chunk *chunk, int64_t space)
{
	int64_t i, units = units_of(&heap->settings);

	for (i = 0; i < units; i += BITS_PER_LONG) {
		put(out, space);
		put(out, heap->settings.base + (i << heap->settings.order));
		put(out, unit_of(&heap->settings));
		put(out, min(units - i, (int64_t)BITS_PER_LONG));
		put(out, (int64_t)chunk->bits[BIT_WORD(i)]);
	}
}

/* A chunk's own figure of what is free in it, exact. */
static void show_avail(struct out *out, const struct heap *heap, const struct gen_pool_chunk *chunk, int64_t space)
{
	put(out, space);
	put(out, heap->settings.base);
	put(out, units_of(&heap->settings) << heap->settings.order);
	put(out, atomic_long_read(&chunk->avail));
	put(out, HEAPLAW_EXACT);
	put(out, HEAPLAW_FREE);
}

uint64_t heaplaw_observe(uint64_t number, uint32_t kind, int64_t *words, uint64_t room)
{
	struct out out = {words, room, 0};
	struct heap *heap = find(number);
	struct gen_pool_chunk *chunk;
	int64_t space;

	if (!heap)
		return 0;
	if (kind == HEAPLAW_COUNTERS) {
		put(&out, 0);
		put(&out, (int64_t)gen_pool_avail(heap->pool));
		return out.n;
	}
	list_for_each_entry(chunk, &heap->pool->chunks, next_chunk) {
		space = chunk_of(chunk->start_addr - (unsigned long)now->range);
		if (kind == HEAPLAW_REGIONS) {
			show_free(&out, heap, chunk, space);
		} else if (kind == HEAPLAW_BITS) {
			show_bits(&out, heap, chunk, space);
		} else if (kind == HEAPLAW_HINTS) {
			show_avail(&out, heap, chunk, space);
		} else if (kind == CHUNKS) {
			put(&out, space);
			put(&out, (int64_t)chunk_size(chunk));
			put(&out, atomic_long_read(&chunk->avail));
		}
	}
	return out.n;
}

uint64_t heaplaw_schema(uint32_t kind, char *text, uint64_t room)
{
	const char *says = "";

	switch (kind) {
	case HEAPLAW_REGIONS: says = "space start length"; break;
	case HEAPLAW_BITS: says = "space start unit units bits"; break;
	case HEAPLAW_HINTS: says = "space start length value direction quantity"; break;
	case HEAPLAW_COUNTERS: says = "name value\nname: free_bytes"; break;
	case HEAPLAW_PARAMETERS: says = "chunk chunks order algo base"; break;
	case CHUNKS: says = "chunk size avail"; break;
	default: break;
	}
	return heaplaw_say(says, text, room);
}

uint64_t heaplaw_extents(uint64_t number, uint64_t handle, int64_t *words, uint64_t room)
{
	struct out out = {words, room, 0};
	struct heap *heap = find(number);

	if (!heap)
		return 0;
	put(&out, chunk_of(handle));
	put(&out, (int64_t)(handle % now->area_size));
	put(&out, ALIGN((int64_t)*size_at(heap, handle), unit_of(&heap->settings)));
	return out.n;
}

uint64_t heaplaw_base(uint64_t number, uint64_t space)
{
	return find(number) && space < now->areas ? (uint64_t)(uintptr_t)now->range + space * now->area_size : 0;
}

/* 1: the pool's size is not that of its chunks; 2: one of its chunks is not found by address. */
uint32_t heaplaw_check(uint64_t number)
{
	struct heap *heap = find(number);
	const struct settings *s = &heap->settings;
	int64_t i;

	if (gen_pool_size(heap->pool) != (size_t)(s->chunks * s->chunk))
		return 1;
	for (i = 0; i < s->chunks; i++)
		if (!gen_pool_has_addr(heap->pool, start_of(heap, i), (size_t)s->chunk))
			return 2;
	return 0;
}

int64_t heaplaw_promise(uint64_t number, uint32_t promise)
{
	struct heap *heap = find(number);

	if (!heap)
		return -1;
	switch (promise) {
	case HEAPLAW_ARENA: return (int64_t)now->area_size;
	case HEAPLAW_MAX_SIZE: return units_of(&heap->settings) << heap->settings.order;
	case HEAPLAW_GRANULE: return unit_of(&heap->settings);
	case HEAPLAW_MAX_ALIGN: return PAGE_SIZE;
	case HEAPLAW_OPAQUE: return 1;
	case HEAPLAW_FLAGS: return HEAPLAW_MERGES | HEAPLAW_DETERMINISTIC;
	case HEAPLAW_REJECTS: return 1 | 2 | 4;
	case HEAPLAW_SLACK: return unit_of(&heap->settings) - 1;
	default: return -1;
	}
}
