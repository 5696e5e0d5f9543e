/* The kernel's own zsmalloc behind heaplaw.h: shims, the untouched mm/zsmalloc.c of 6.1 or 6.12, and this.
 *
 * Pages of the shim's page allocator lie side by side, page 0 at offset 0 of space 0, the lowest free one is lent
 * first, and its number is its frame number.  A handle is 8 times the number that the shim's cache gave the kernel's
 * handle.  Nothing that is asked answers from a book kept here: all is read from the kernel's structures.
 *
 * There is one CPU, so one object can be mapped at a time.  While one is, the kernel's compaction and page migration
 * would wait for the end of that for ever: they are not begun then.  Page migration is driven here as by the kernel's
 * mm/migrate.c: isolate, migrate, drop the references.
 */
#include "kernel.h"
#include "backing.h"
#include "movable.h"
#include "mm/zsmalloc.c"

#include "adapter.h"

#ifdef ZS_MAX_ZSPAGE_ORDER /* before 6.3 */
enum { GROUPS = NR_ZS_FULLNESS, OBJECTS_MADE = OBJ_ALLOCATED, OBJECTS_USED = OBJ_USED };
#else
enum { GROUPS = NR_FULLNESS_GROUPS, OBJECTS_MADE = ZS_OBJS_ALLOCATED, OBJECTS_USED = ZS_OBJS_INUSE };
#endif
enum { CLASSES = ZS_SIZE_CLASSES, HANDLE_STEP = 8, ENDS = -1, MOST_UNITS = 64 };
enum maintenance { COMPACT, MIGRATE };

struct heap {
	struct heap_base base;
	struct zs_pool *pool;
	uint64_t mapped; /* handle of the object that is mapped, and where; 0: none is */
	char *mapped_at;
	int64_t pages_taken; /* by the last request */
};

static int64_t wanted_pages = 256;

static struct heap *find(uint64_t number)
{
	struct heap *heap = (struct heap *)heap_numbered(number);

	if (heap)
		now = &heap->base.backing;
	return heap;
}

/* ---- handles ------------------------------------------------------------------------------------------ */

static uint64_t shown(const void *handle) { return shim_number(handle) * HANDLE_STEP; }

/* The kernel's handle; 0: there is no such object. */
static unsigned long meant(const struct heap *heap, uint64_t handle)
{
	const struct kmem_cache *cache = heap->pool->handle_cachep;
	uint64_t number = handle / HANDLE_STEP;

	return handle % HANDLE_STEP || number > cache->made || !number ? 0 : (unsigned long)cache->objects[number];
}

/* A first word as it stands in a page, the handle in it as it is shown. */
static int64_t shown_word(unsigned long word)
{
	return word & OBJ_ALLOCATED_TAG ? (int64_t)(shown((const void *)(word - OBJ_ALLOCATED_TAG)) | 1) : (int64_t)word;
}

/* ---- heaps -------------------------------------------------------------------------------------------- */

uint64_t heaplaw_capabilities(void)
{
	return HEAPLAW_PROMISES | HEAPLAW_HAS_BASE | HEAPLAW_HAS_EXTENTS | HEAPLAW_MAINTAINS | HEAPLAW_OBSERVES |
	       HEAPLAW_CHECKS | HEAPLAW_CONFIGURES | HEAPLAW_MAPS | HEAPLAW_FAILS_PAGES;
}

uint32_t heaplaw_configure(uint32_t parameter, int64_t value)
{
	if (parameter || value < 1 || value > 1 << 20)
		return 1;
	wanted_pages = value;
	return 0;
}

/* The CPU's mapping buffer is made once and never freed, as in the kernel. */
static void make_buffer(void)
{
	static struct backing forever;

	if (forever.pieces)
		return;
	now = &forever;
	BUG_ON(zs_init());
}

uint64_t heaplaw_create(uint64_t arena)
{
	struct heap *heap = calloc(1, sizeof(*heap));
	unsigned long pages = (unsigned long)wanted_pages;

	(void)arena;
	if (!heap)
		return 0;
	make_buffer();
	if (!backing_begin(&heap->base.backing, 1, pages << PAGE_SHIFT, pages)) {
		free(heap);
		return 0;
	}
	now = &heap->base.backing;
	heap->pool = zs_create_pool("heaplaw");
	return heap_enlist(&heap->base);
}

void heaplaw_destroy(uint64_t number) { free(heap_forget(number)); }

/* ---- the calls ---------------------------------------------------------------------------------------- */

uint64_t heaplaw_alloc(uint64_t number, uint64_t size)
{
	struct heap *heap = find(number);
	unsigned long handle, had;

	if (!heap)
		return HEAPLAW_INVALID;
	had = now->pages_left;
	handle = zs_malloc(heap->pool, size, GFP_KERNEL);
	heap->pages_taken = (int64_t)(had - now->pages_left);
	if (!IS_ERR_VALUE(handle))
		return shown((const void *)handle);
	if ((long)handle == -ENOMEM)
		return HEAPLAW_NO_MEMORY;
	return size > ZS_MAX_ALLOC_SIZE ? HEAPLAW_TOO_BIG : HEAPLAW_INVALID;
}

uint32_t heaplaw_free(uint64_t number, uint64_t handle)
{
	struct heap *heap = find(number);
	unsigned long known = heap ? meant(heap, handle) : 0;

	if (!known)
		return 1;
	heap->pages_taken = 0;
	zs_free(heap->pool, known);
	return 0;
}

uint32_t heaplaw_map(uint64_t number, uint64_t handle)
{
	struct heap *heap = find(number);
	unsigned long known = heap ? meant(heap, handle) : 0;

	if (!known || heap->mapped)
		return 1;
	heap->mapped_at = zs_map_object(heap->pool, known, ZS_MM_RW);
	heap->mapped = handle;
	return 0;
}

uint32_t heaplaw_unmap(uint64_t number, uint64_t handle)
{
	struct heap *heap = find(number);

	if (!heap || !handle || heap->mapped != handle)
		return 1;
	zs_unmap_object(heap->pool, meant(heap, handle));
	heap->mapped = 0;
	return 0;
}

/* Bytes of an object, from `at` on, as its owner reads and writes them: through zs_map_object.  `mode` is the
 * kernel's: read-write or write-only takes from `bytes`, read-only puts there.  0 done; 1: no such object, or another
 * one is mapped. */
__attribute__((visibility("default"))) uint32_t zsmalloc_copy(uint64_t number, uint64_t handle, uint64_t at,
							       char *bytes, uint64_t length, uint32_t mode);
uint32_t zsmalloc_copy(uint64_t number, uint64_t handle, uint64_t at, char *bytes, uint64_t length, uint32_t mode)
{
	struct heap *heap = find(number);
	unsigned long known = heap ? meant(heap, handle) : 0;
	char *place;

	if (!known || (heap->mapped && heap->mapped != handle))
		return 1;
	place = heap->mapped ? heap->mapped_at : zs_map_object(heap->pool, known, (enum zs_mapmode)mode);
	if (mode == ZS_MM_RO)
		memcpy(bytes, place + at, length);
	else
		memcpy(place + at, bytes, length);
	if (!heap->mapped)
		zs_unmap_object(heap->pool, known);
	return 0;
}

static bool migrate_page(struct page *page)
{
	struct page *to;

	get_page(page);
	BUG_ON(!trylock_page(page) || !zsmalloc_mops.isolate_page(page, 0));
	page->flags |= SHIM_ISOLATED;
	to = shim_take_page();
	if (to) {
		BUG_ON(!trylock_page(to));
		BUG_ON(zsmalloc_mops.migrate_page(to, page, MIGRATE_SYNC) != MIGRATEPAGE_SUCCESS);
		unlock_page(to);
		put_page(to);
	} else {
		zsmalloc_mops.putback_page(page);
	}
	page->flags &= ~(unsigned int)SHIM_ISOLATED;
	unlock_page(page);
	put_page(page);
	return to;
}

/* All pages in use, from the last one down, as long as there are pages that they can move to. */
static void migrate_pages(void)
{
	unsigned long i, n = now->page_count;
	bool *was = calloc(n, sizeof(*was));

	for (i = 0; was && i < n; i++)
		was[i] = now->pages[i].taken > 0;
	for (i = n; was && i-- > 0;)
		if (was[i] && !migrate_page(&now->pages[i]))
			break;
	free(was);
}

static uint64_t count_moved(const struct kmem_cache *cache, unsigned long *places, bool look)
{
	uint64_t i, moved = 0;

	for (i = 1; i <= cache->made; i++)
		if (cache->objects[i]) {
			if (look)
				moved += places[i] != *cache->objects[i];
			places[i] = *cache->objects[i];
		}
	return moved;
}

uint64_t heaplaw_maintain(uint64_t number, uint32_t kind, int64_t *words, uint64_t room)
{
	struct heap *heap = find(number);
	unsigned long freed = 0, *places;
	uint64_t moved;

	if (!heap || kind > MIGRATE)
		return 0;
	places = calloc(heap->pool->handle_cachep->made + 1, sizeof(*places));
	if (!places || heap->mapped) {
		free(places);
		return heaplaw_put(0, words, room, heaplaw_put(0, words, room, 0));
	}
	count_moved(heap->pool->handle_cachep, places, false);
	if (kind == COMPACT)
		freed = zs_compact(heap->pool);
	else
		migrate_pages();
	moved = count_moved(heap->pool->handle_cachep, places, true);
	free(places);
	return heaplaw_put((int64_t)moved, words, room, heaplaw_put((int64_t)freed, words, room, 0));
}

/* ---- places ------------------------------------------------------------------------------------------- */

static int64_t page_of(const struct page *page) { return page - now->pages; }

static struct page *page_at(struct zspage *zspage, unsigned long number)
{
	struct page *page = get_first_page(zspage);

	while (number--)
		page = get_next_page(page);
	return page;
}

static unsigned long *first_word(struct zspage *zspage, const struct size_class *class, unsigned long slot)
{
	unsigned long offset = slot * (unsigned long)class->size;

	return (unsigned long *)((char *)page_address(page_at(zspage, offset >> PAGE_SHIFT)) + (offset & ~PAGE_MASK));
}

static unsigned long header_of(struct zspage *zspage) { return ZsHugePage(zspage) ? 0 : ZS_HANDLE_SIZE; }

/* Offset and length of the pieces of bytes [from, size) of a slot, with whatever goes before and after each. */
static void put_pieces(struct out *out, struct zspage *zspage, unsigned long slot, unsigned long from, bool region)
{
	struct size_class *class = zspage_class(zspage->pool, zspage);
	unsigned long at = slot * (unsigned long)class->size + from, left = (unsigned long)class->size - from;

	while (left) {
		unsigned long here = min(left, PAGE_SIZE - (at & ~PAGE_MASK));

		if (!region)
			put(out, 0); /* space */
		put(out, page_of(page_at(zspage, at >> PAGE_SHIFT)) * (int64_t)PAGE_SIZE + (int64_t)(at & ~PAGE_MASK));
		put(out, (int64_t)here);
		if (region)
			put(out, -1); /* no list */
		at += here;
		left -= here;
	}
}

/* ---- what is seen of each zspage ------------------------------------------------------------------------ */

enum own_kind { TABLE = HEAPLAW_OWN, STATS, ZSPAGES, CHAINS, WORDS, CELLS, POOL };

static void show_regions(struct out *out, struct zspage *zspage, const struct size_class *class)
{
	unsigned long slot = get_freeobj(zspage);
	int n = class->objs_per_zspage - get_zspage_inuse(zspage);

	while (n-- > 0) {
		BUG_ON(slot >= (unsigned long)class->objs_per_zspage); /* links to what is no slot */
		put_pieces(out, zspage, slot, 0, true);
		slot = *first_word(zspage, class, slot) >> OBJ_TAG_BITS;
	}
}

static void put_bits(struct out *out, int64_t start, int64_t unit, int64_t units, uint64_t bits)
{
	put(out, start);
	put(out, unit);
	put(out, units);
	put(out, (int64_t)bits);
}

/* Tags of first words, by which compaction knows objects; of slots that are whole on one page. */
static void show_bits(struct out *out, struct zspage *zspage, const struct size_class *class)
{
	int64_t start = 0, units = 0;
	uint64_t bits = 0;
	int slot;

	if (ZsHugePage(zspage)) {
		put_bits(out, page_of(zspage->first_page) * (int64_t)PAGE_SIZE, class->size, 1, zspage->first_page->index & 1);
		return;
	}
	for (slot = 0; slot < class->objs_per_zspage; slot++) {
		unsigned long *word = first_word(zspage, class, (unsigned long)slot);
		int64_t at = (char *)word - now->range;

		if (units && (units == MOST_UNITS || at != start + units * class->size)) {
			put_bits(out, start, class->size, units, bits);
			units = 0;
		}
		if ((at & ~(int64_t)PAGE_MASK) + class->size > (int64_t)PAGE_SIZE)
			continue;
		if (!units) {
			start = at;
			bits = 0;
		}
		bits |= (uint64_t)(*word & OBJ_ALLOCATED_TAG) << units++;
	}
	if (units)
		put_bits(out, start, class->size, units, bits);
}

/* One row of plain numbers; what ends the chain of free slots is shown as -1, whichever number past the last it is. */
static void show_row(struct out *out, struct zspage *zspage, const struct size_class *class, int group)
{
	unsigned long free = get_freeobj(zspage);

	put(out, (int64_t)class->index);
	put(out, group);
	put(out, page_of(zspage->first_page));
	put(out, (int64_t)zspage->class);
	put(out, (int64_t)zspage->fullness);
	put(out, get_zspage_inuse(zspage));
	put(out, free >= (unsigned long)class->objs_per_zspage ? ENDS : (int64_t)free);
	put(out, ZsHugePage(zspage) ? shown_word(zspage->first_page->index) : -1);
}

static void show_chain(struct out *out, struct zspage *zspage)
{
	struct page *page;

	for (page = get_first_page(zspage); page; page = get_next_page(page)) {
		put(out, page_of(page));
		put(out, get_first_obj_offset(page));
	}
}

/* First words of all slots: handles, and links to the next free slot. */
static void show_words(struct out *out, struct zspage *zspage, const struct size_class *class)
{
	unsigned long slot, slots = (unsigned long)class->objs_per_zspage;

	for (slot = 0; slot < slots && !ZsHugePage(zspage); slot++) {
		unsigned long word = *first_word(zspage, class, slot);
		bool ends = !(word & OBJ_ALLOCATED_TAG) && word >> OBJ_TAG_BITS >= slots;

		put(out, ends ? -1 - (int64_t)OBJ_ALLOCATED_TAG : shown_word(word));
	}
}

static void show_zspage(struct out *out, uint32_t kind, struct zspage *zspage, struct size_class *class, int group)
{
	struct page *page;

	switch (kind) {
	case HEAPLAW_REGIONS: show_regions(out, zspage, class); break;
	case HEAPLAW_BITS: show_bits(out, zspage, class); break;
	case HEAPLAW_LISTS:
		put(out, (int64_t)class->index * GROUPS + group);
		put(out, page_of(zspage->first_page));
		break;
	case HEAPLAW_CLAIMED:
		for (page = get_first_page(zspage); page; page = get_next_page(page)) {
			put(out, page_of(page));
			put(out, 1);
		}
		break;
	case ZSPAGES: show_row(out, zspage, class, group); break;
	case CHAINS: show_chain(out, zspage); break;
	case WORDS: show_words(out, zspage, class); break;
	default: break;
	}
}

/* ---- what is seen of the pool --------------------------------------------------------------------------- */

#define for_each_class(class, i, pool)                                                                               \
	for ((i) = 0; (i) < CLASSES; (i)++)                                                                          \
		if (((class) = (pool)->size_class[i])->index == (unsigned int)(i))

#define for_each_zspage(zspage, class, i, group, pool)                                                               \
	for_each_class(class, i, pool) for ((group) = 0; (group) < GROUPS; (group)++)                                \
		list_for_each_entry(zspage, &(class)->fullness_list[group], list)

static void show_table(struct out *out, const struct zs_pool *pool)
{
	int i;

	for (i = 0; i < CLASSES; i++) {
		put(out, (int64_t)pool->size_class[i]->index);
		put(out, pool->size_class[i]->size);
		put(out, pool->size_class[i]->pages_per_zspage);
		put(out, pool->size_class[i]->objs_per_zspage);
	}
}

static void show_stats(struct out *out, const struct zs_pool *pool)
{
	struct size_class *class;
	unsigned long any;
	int i, k;

	for_each_class(class, i, pool) {
		for (any = 0, k = 0; k <= OBJECTS_USED; k++)
			any |= class->stats.objs[k];
		if (!any)
			continue;
		put(out, i);
		put(out, (int64_t)class->stats.objs[OBJECTS_MADE]);
		put(out, (int64_t)class->stats.objs[OBJECTS_USED]);
		for (k = 0; k < GROUPS; k++)
			put(out, (int64_t)class->stats.objs[k]);
	}
}

/* Where objects are, by the handles' own words. */
static void show_cells(struct out *out, const struct kmem_cache *cache)
{
	unsigned int index;
	struct page *page;
	uint64_t i;

	for (i = 1; i <= cache->made; i++)
		if (cache->objects[i]) {
			obj_to_location(*cache->objects[i], &page, &index);
			put(out, (int64_t)(i * HANDLE_STEP));
			put(out, page_of(page));
			put(out, index);
		}
}

enum counter_name { PAGES, LIVE_OBJECTS, USED_BYTES, FREE_BYTES, MAPPED_OBJECTS, COUNTERS };

static void show_counters(struct out *out, const struct zs_pool *pool)
{
	int64_t values[COUNTERS] = {(int64_t)atomic_long_read(&pool->pages_allocated)};
	struct size_class *class;
	struct zspage *zspage;
	int i, group;

	for_each_class(class, i, pool) {
		int64_t used = (int64_t)class->stats.objs[OBJECTS_USED], made = (int64_t)class->stats.objs[OBJECTS_MADE];
		bool huge = class->objs_per_zspage == 1 && class->pages_per_zspage == 1;

		values[LIVE_OBJECTS] += used;
		values[USED_BYTES] += used * (class->size - (huge ? 0 : (int64_t)ZS_HANDLE_SIZE));
		values[FREE_BYTES] += (made - used) * class->size;
	}
	for_each_zspage(zspage, class, i, group, pool)
		values[MAPPED_OBJECTS] += zspage->lock.readers;
	for (i = 0; i < COUNTERS; i++) {
		put(out, i);
		put(out, values[i]);
	}
}

static void show_metadata(struct out *out, const struct zs_pool *pool)
{
	const struct kmem_cache *handles = pool->handle_cachep, *zspages = pool->zspage_cachep;
	int64_t inside = 0;
	struct size_class *class;
	struct zspage *zspage;
	int i, group;

	for_each_zspage(zspage, class, i, group, pool)
		inside += get_zspage_inuse(zspage) * (int64_t)header_of(zspage);
	put(out, inside);
	put(out, (int64_t)((handles->made - handles->unused) * handles->size +
			   (zspages->made - zspages->unused) * zspages->size));
}

static void show_pool(struct out *out, const struct zs_pool *pool)
{
	put(out, (int64_t)atomic_long_read(&pool->pages_allocated));
	put(out, (int64_t)now->given);
	put(out, (int64_t)now->refused);
	put(out, atomic_long_read(&pool->stats.pages_compacted));
	put(out, (int64_t)huge_class_size);
}

uint64_t heaplaw_observe(uint64_t number, uint32_t kind, int64_t *words, uint64_t room)
{
	struct out out = {words, room, 0};
	struct heap *heap = find(number);
	struct size_class *class;
	struct zspage *zspage;
	int i, group;

	if (!heap)
		return 0;
	switch (kind) {
	case HEAPLAW_PAGES: show_lent(&out, now); break;
	case HEAPLAW_SOURCE: show_source(&out, now); break;
	case HEAPLAW_COUNTERS: show_counters(&out, heap->pool); break;
	case HEAPLAW_METADATA: show_metadata(&out, heap->pool); break;
	case HEAPLAW_COST:
		put(&out, 0);
		put(&out, heap->pages_taken);
		break;
	case TABLE: show_table(&out, heap->pool); break;
	case STATS: show_stats(&out, heap->pool); break;
	case CELLS: show_cells(&out, heap->pool->handle_cachep); break;
	case POOL: show_pool(&out, heap->pool); break;
	default:
		for_each_zspage(zspage, class, i, group, heap->pool)
			show_zspage(&out, kind, zspage, class, group);
	}
	return out.n;
}

uint64_t heaplaw_schema(uint32_t kind, char *text, uint64_t room)
{
	const char *says = "";

	switch (kind) {
	case HEAPLAW_REGIONS: says = "start length list"; break;
	case HEAPLAW_LISTS: says = "list key"; break;
	case HEAPLAW_BITS: says = "start unit units bits"; break;
	case HEAPLAW_COUNTERS:
		says = "name value\nname: pages live_objects used_bytes free_bytes mapped_objects";
		break;
	case HEAPLAW_METADATA: says = "in_place out_of_band"; break;
	case HEAPLAW_COST: says = "name value\nname: pages_taken"; break;
	case HEAPLAW_PAGES: says = LENT_COLUMNS; break;
	case HEAPLAW_SOURCE: says = SOURCE_COLUMNS; break;
	case HEAPLAW_CLAIMED: says = "first count"; break;
	case HEAPLAW_MAINTENANCE: says = "compact migrate"; break;
	case HEAPLAW_PARAMETERS: says = "pages"; break;
	case TABLE: says = "class size pages objects"; break;
	case STATS:
		says = GROUPS == 4 ? "class allocated used empty almost_empty almost_full full"
				   : "class allocated used empty 10 20 30 40 50 60 70 80 90 99 full";
		break;
	case ZSPAGES: says = "on_class on_group first_page class group inuse freeobj huge_handle"; break;
	case CHAINS: says = "page first_offset"; break;
	case WORDS: says = "first_word"; break;
	case CELLS: says = "handle page index"; break;
	case POOL: says = "pages_allocated given refused pages_compacted huge_class_size"; break;
	default: break;
	}
	return heaplaw_say(says, text, room);
}

uint64_t heaplaw_extents(uint64_t number, uint64_t handle, int64_t *words, uint64_t room)
{
	struct heap *heap = find(number);
	unsigned long known = heap ? meant(heap, handle) : 0;
	struct out out = {words, room, 0};
	struct zspage *zspage;
	struct page *page;
	unsigned int slot;

	if (!known)
		return 0;
	obj_to_location(handle_to_obj(known), &page, &slot);
	zspage = get_zspage(page);
	put_pieces(&out, zspage, slot, header_of(zspage), false);
	return out.n;
}

uint64_t heaplaw_base(uint64_t number, uint64_t space)
{
	return find(number) && !space ? (uint64_t)(uintptr_t)now->range : 0;
}

/* 0, or what is wrong with a zspage: 1 its record, 2 its pages, 3 its class's counts */
uint32_t heaplaw_check(uint64_t number)
{
	struct heap *heap = find(number);
	struct size_class *class;
	struct zspage *zspage;
	struct page *page;
	int i, group;

	if (!heap)
		return 0;
	for_each_class(class, i, heap->pool) {
		unsigned long used = 0, made = 0;

		for (group = 0; group < GROUPS; group++) {
			unsigned long listed = 0;

			list_for_each_entry(zspage, &class->fullness_list[group], list) {
				if (zspage->magic != ZSPAGE_MAGIC || zspage->pool != heap->pool || zspage->class != class->index ||
				    (int)zspage->fullness != group)
					return 1;
				for (page = get_first_page(zspage); page; page = get_next_page(page))
					if (get_zspage(page) != zspage || PagePrivate(page) != (page == zspage->first_page) ||
					    page->taken != 1 || PageLocked(page))
						return 2;
				listed++;
				used += (unsigned long)get_zspage_inuse(zspage);
				made += (unsigned long)class->objs_per_zspage;
			}
			if (listed != class->stats.objs[group])
				return 3;
		}
		if (used != class->stats.objs[OBJECTS_USED] || made != class->stats.objs[OBJECTS_MADE])
			return 3;
	}
	return 0;
}

int64_t heaplaw_promise(uint64_t number, uint32_t promise)
{
	if (!find(number))
		return -1;
	switch (promise) {
	case HEAPLAW_ARENA: return (int64_t)now->area_size;
	case HEAPLAW_MAX_SIZE: return ZS_MAX_ALLOC_SIZE;
	case HEAPLAW_GRANULE: return ZS_HANDLE_SIZE;
	case HEAPLAW_OPAQUE: return 1;
	case HEAPLAW_FLAGS: return HEAPLAW_DETERMINISTIC | HEAPLAW_FREE_THEN_ALLOC | HEAPLAW_PINNED;
	case HEAPLAW_REJECTS: return 1 | 2;
	case HEAPLAW_MAPPINGS: return 1;
	case HEAPLAW_MOVING: return 1 << COMPACT | 1 << MIGRATE;
	case HEAPLAW_PAGE_SIZE: return PAGE_SIZE;
	case HEAPLAW_DRAINED_PAGES: return 0;
	default: return -1;
	}
}
