/* What adapters of kernel code have in common: heaps by number, answers word by word, the books of pages.
 *
 * An adapter's own ``struct heap`` begins with a ``struct heap_base``.  Nothing here changes ``now``: whose turn
 * it is, is the adapter's affair, as some lay variables aside too.
 */
#ifndef HEAPLAW_SHIM_ADAPTER_H
#define HEAPLAW_SHIM_ADAPTER_H

#include "kernel.h"
#include "backing.h"

#include "heaplaw.h"

uint32_t heaplaw_abi(void) { return HEAPLAW_ABI; }

/* ---- heaps ------------------------------------------------------------------------------------------ */

struct heap_base {
	struct backing backing;
	struct heap_base *next;
	uint64_t number; /* from 1, never used again */
};

static struct heap_base *heaps;

static inline struct heap_base *heap_numbered(uint64_t number)
{
	struct heap_base *heap = heaps;

	while (heap && heap->number != number)
		heap = heap->next;
	return heap;
}

static inline uint64_t heap_enlist(struct heap_base *heap)
{
	static uint64_t made;

	heap->number = ++made;
	heap->next = heaps;
	heaps = heap;
	return heap->number;
}

/* Takes a heap off the list and gives its backing back; the caller frees it.  NULL: there is none. */
static inline struct heap_base *heap_forget(uint64_t number)
{
	struct heap_base **link = &heaps, *heap;

	while (*link && (*link)->number != number)
		link = &(*link)->next;
	heap = *link;
	if (heap) {
		*link = heap->next;
		backing_end(&heap->backing);
	}
	return heap;
}

/* ---- answers ---------------------------------------------------------------------------------------- */

struct out {
	int64_t *words;
	uint64_t room, n;
};

static inline void put(struct out *out, int64_t word) { out->n = heaplaw_put(word, out->words, out->room, out->n); }

/* ---- pages ------------------------------------------------------------------------------------------ */

void heaplaw_fail_pages(uint64_t number, uint32_t order, uint64_t count)
{
	struct heap_base *heap = heap_numbered(number);

	if (heap)
		heap->backing.to_fail = order ? 0 : count; /* only single pages are asked for */
}

#define SOURCE_COLUMNS "given refused injected highest free total" /* of HEAPLAW_SOURCE */
static inline void show_source(struct out *out, const struct backing *b)
{
	put(out, (int64_t)b->given);
	put(out, (int64_t)b->refused);
	put(out, (int64_t)b->injected);
	put(out, 0);
	put(out, b->to_fail ? 0 : (int64_t)b->pages_left);
	put(out, (int64_t)b->page_count);
}

#define LENT_COLUMNS "first order" /* of HEAPLAW_PAGES */
static inline void show_lent(struct out *out, const struct backing *b)
{
	unsigned long i;

	for (i = 0; i < b->page_count; i++)
		if (b->pages[i].taken) {
			put(out, (int64_t)i);
			put(out, 0);
		}
}

#endif
