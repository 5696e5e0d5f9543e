/* What kernel code stands on, in user space: memory for its books, pages, and a range of addresses.
 *
 * All of it belongs to one ``struct backing``, of the heap that is being worked on, so that a heap
 * can be forgotten at one go.  Pages can run out: ``pages_left`` says how many may still be had.
 * Every address of the range can be read whether a page is behind it or not; which one is, is
 * kept in ``behind``, as page tables would.
 */
#ifndef HEAPLAW_SHIM_BACKING_H
#define HEAPLAW_SHIM_BACKING_H

#include "kernel.h"

struct page {
	unsigned long index, private; /* the kernel code's own, as are the next two */
	unsigned int page_type, flags;
	const void *mover; /* that can move what is in it */
	int taken;	   /* references, where code counts them */
};

struct piece { /* of memory for books; the bytes follow */
	struct piece *next, **before;
};

struct vm_struct {
	unsigned long flags, size;
	void *addr;
};

struct backing {
	struct piece *pieces;
	char *range; /* ``areas`` areas of ``area_size`` bytes */
	unsigned long areas, area_size;
	u64 areas_taken; /* bit i: area i */
	struct page *pages;
	unsigned long page_count, pages_left, lowest; /* no page below ``lowest`` is free */
	unsigned long unmapped; /* pages that were taken from behind addresses so far */
	unsigned long given, refused, injected, to_fail; /* of single pages: so far, and how many are to be refused */
	struct page **behind; /* of each page of the range */
};

static struct backing *now; /* of the heap that is being worked on */

/* ---- books ---------------------------------------------------------------------------------- */

static void *shim_book(size_t size)
{
	struct piece *piece = calloc(1, sizeof(*piece) + size);

	if (!piece)
		return NULL;
	piece->next = now->pieces;
	piece->before = &now->pieces;
	if (piece->next)
		piece->next->before = &piece->next;
	now->pieces = piece;
	return piece + 1;
}

static void shim_unbook(const void *place)
{
	struct piece *piece;

	if (!place)
		return;
	piece = (struct piece *)place - 1;
	*piece->before = piece->next;
	if (piece->next)
		piece->next->before = piece->before;
	free(piece);
}

#define kmalloc(size, gfp) shim_book(size)
#define kzalloc(size, gfp) shim_book(size)
#define kzalloc_noprof(size, gfp) shim_book(size)
#define vzalloc(size) shim_book(size)
#define __vmalloc(size, gfp) shim_book(size)
#define __vmalloc_noprof(size, gfp) shim_book(size)
#define kfree(p) shim_unbook(p)
#define vfree(p) shim_unbook(p)
#define kvfree(p) shim_unbook(p)
#define slab_is_available() true
#define memblock_alloc(size, align) shim_book(size)
#define memblock_alloc_from(size, align, from) shim_book(size)
#define memblock_free(p, size) shim_unbook(p)
#define kmemleak_ignore_phys(p) ((void)(p))
#define kmemleak_alloc_percpu(p, size, gfp) ((void)(p))
#define kmemleak_free_percpu(p) ((void)(p))

/* ---- pages ---------------------------------------------------------------------------------- */

static struct page *shim_take_page(void)
{
	unsigned long i = now->lowest;

	if (!now->pages_left || now->to_fail) {
		now->refused++;
		now->injected += now->to_fail > 0;
		now->to_fail -= now->to_fail > 0;
		return NULL;
	}
	while (now->pages[i].taken)
		i++;
	now->lowest = i + 1;
	now->pages[i].taken = 1;
	now->pages_left--;
	return &now->pages[i];
}

static void shim_give_page(struct page *page)
{
	unsigned long i = (unsigned long)(page - now->pages);

	BUG_ON(!page->taken);
	page->taken = 0;
	now->given++;
	now->pages_left++;
	if (i < now->lowest)
		now->lowest = i;
}

#define alloc_page(gfp) ((void)(gfp), shim_take_page())
#define alloc_pages_node(node, gfp, order) ((void)(node), (void)(gfp), shim_take_page())
#define __free_page(page) shim_give_page(page)

/* For code that maps nothing: page i lies at page i of the range. */
static inline void *page_address(const struct page *page) { return now->range + ((page - now->pages) << PAGE_SHIFT); }
static inline struct page *virt_to_page(const void *p)
{
	return &now->pages[((const char *)p - now->range) >> PAGE_SHIFT];
}

/* ---- addresses ------------------------------------------------------------------------------ */

static inline struct page **shim_behind(unsigned long address)
{
	return &now->behind[(address - (unsigned long)now->range) >> PAGE_SHIFT];
}

static inline struct page *vmalloc_to_page(const void *address) { return *shim_behind((unsigned long)address); }

static inline int shim_map(unsigned long start, unsigned long end, struct page **pages)
{
	for (; start < end; start += PAGE_SIZE) {
		BUG_ON(*shim_behind(start)); /* there is one already */
		*shim_behind(start) = *pages++;
	}
	return 0;
}

static inline void vunmap_range_noflush(unsigned long start, unsigned long end)
{
	for (; start < end; start += PAGE_SIZE) {
		BUG_ON(!*shim_behind(start));
		*shim_behind(start) = NULL;
		now->unmapped++;
	}
}

#define vmap_pages_range_noflush(start, end, prot, pages, shift) shim_map(start, end, pages)
#define flush_cache_vmap(start, end) ((void)(start), (void)(end))
#define flush_cache_vunmap(start, end) ((void)(start), (void)(end))
#define flush_tlb_kernel_range(start, end) ((void)(start), (void)(end))
#define is_vmalloc_addr(p) ((void)(p), true)
#define page_to_phys(page) ((phys_addr_t)((page) - now->pages) << PAGE_SHIFT)
#define __pa(p) ((phys_addr_t)(unsigned long)(p))
#define MAX_DMA_ADDRESS 0UL

/* the lowest area that is not in use */
static inline struct vm_struct **pcpu_get_vm_areas(const unsigned long *offsets, const size_t *sizes, int count,
						   size_t align)
{
	struct vm_struct **found;
	unsigned long i = 0;

	(void)offsets, (void)sizes, (void)count, (void)align;
	while (i < now->areas && now->areas_taken >> i & 1)
		i++;
	if (i == now->areas)
		return NULL;
	found = shim_book(sizeof(*found) + sizeof(**found));
	if (!found)
		return NULL;
	*found = (struct vm_struct *)(found + 1);
	(*found)->addr = now->range + i * now->area_size;
	now->areas_taken |= 1ULL << i;
	return found;
}

static inline void pcpu_free_vm_areas(struct vm_struct **areas, int count)
{
	unsigned long i = ((unsigned long)(*areas)->addr - (unsigned long)now->range) / now->area_size;

	(void)count;
	now->areas_taken &= ~(1ULL << i);
	shim_unbook(areas);
}

/* ---- one backing ------------------------------------------------------------------------------ */

static void backing_end(struct backing *b)
{
	struct piece *piece, *next;

	for (piece = b->pieces; piece; piece = next) {
		next = piece->next;
		free(piece);
	}
	if (b->range)
		munmap(b->range, b->areas * b->area_size);
	free(b->pages);
	free(b->behind);
}

static bool backing_begin(struct backing *b, unsigned long areas, unsigned long area_size, unsigned long pages)
{
	unsigned long all = areas * (area_size >> PAGE_SHIFT);

	memset(b, 0, sizeof(*b));
	b->areas = areas;
	b->area_size = area_size;
	b->page_count = b->pages_left = pages ? pages : all;
	b->pages = calloc(b->page_count, sizeof(*b->pages));
	b->behind = calloc(all, sizeof(struct page *));
	b->range = mmap(NULL, areas * area_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (b->range == MAP_FAILED)
		b->range = NULL;
	if (b->pages && b->behind && b->range)
		return true;
	backing_end(b);
	return false;
}

#endif
