/* The kernel's own zbud behind heaplaw.h: shims, the untouched mm/zbud.c of 6.1, and this.
 *
 * Pages of the shim's page allocator lie side by side, page 0 at offset 0 of space 0; a handle is the offset of an
 * object, so what zbud calls a handle less the address of page 0.  Reclaim is maintenance, with the four owners of the
 * model: one gives up everything, one all but the first object, one every other one, and one allocates and frees others
 * meanwhile.
 */
#include "kernel.h"
#include "backing.h"
#include "mm/zbud.c"

#include "adapter.h"

enum { MOST_GIVEN = 256 };
enum owner_kind { RECLAIM, REFUSE_FIRST, REFUSE_SECOND, REENTER, OWNERS };

struct heap {
	struct heap_base base;
	struct zbud_pool *pool;
};

static int64_t wanted_pages = 256;

static struct {
	uint32_t kind;
	int asked, given;
	unsigned long handles[MOST_GIVEN]; /* that were given up */
} owner;

static struct heap *find(uint64_t number)
{
	struct heap *heap = (struct heap *)heap_numbered(number);

	if (heap)
		now = &heap->base.backing;
	return heap;
}

/* ---- the owner of objects -------------------------------------------------------------------------- */

static void give_up(struct zbud_pool *pool, unsigned long handle)
{
	int i;

	for (i = 0; i < owner.given; i++)
		if (owner.handles[i] == handle)
			return;
	BUG_ON(owner.given == MOST_GIVEN);
	zbud_free(pool, handle);
	owner.handles[owner.given++] = handle;
}

static int handles_on(struct zbud_header *zhdr, unsigned long *handles)
{
	int n = 0;

	if (zhdr->first_chunks)
		handles[n++] = encode_handle(zhdr, FIRST);
	if (zhdr->last_chunks)
		handles[n++] = encode_handle(zhdr, LAST);
	return n;
}

static void meanwhile(struct zbud_pool *pool, unsigned long handle)
{
	unsigned long passing = 0, handles[2];
	int i, n, failed = zbud_alloc(pool, CHUNK_SIZE, GFP_KERNEL, &passing);

	n = handles_on(handle_to_zbud_header(handle), handles);
	for (i = 0; i < n; i++)
		if (handles[i] != handle)
			give_up(pool, handles[i]);
	if (!list_empty(&pool->lru)) {
		n = handles_on(list_last_entry(&pool->lru, struct zbud_header, lru), handles);
		if (n && (failed || handles[0] != passing))
			give_up(pool, handles[0]);
	}
	if (!failed)
		zbud_free(pool, passing);
}

static int evict(struct zbud_pool *pool, unsigned long handle)
{
	owner.asked++;
	if (owner.kind == REFUSE_FIRST && owner.asked == 1)
		return -EAGAIN;
	if (owner.kind == REFUSE_SECOND && owner.asked % 2 == 0)
		return -EAGAIN;
	if (owner.kind == REENTER)
		meanwhile(pool, handle);
	give_up(pool, handle);
	return 0;
}

static const struct zbud_ops owned = {.evict = evict};

/* ---- the calls ------------------------------------------------------------------------------------- */

uint64_t heaplaw_capabilities(void)
{
	return HEAPLAW_PROMISES | HEAPLAW_HAS_BASE | HEAPLAW_HAS_EXTENTS | HEAPLAW_MAINTAINS | HEAPLAW_OBSERVES |
	       HEAPLAW_CONFIGURES | HEAPLAW_FAILS_PAGES;
}

uint32_t heaplaw_configure(uint32_t parameter, int64_t value)
{
	if (parameter || value < 1 || value > 1 << 20)
		return 1;
	wanted_pages = value;
	return 0;
}

uint64_t heaplaw_create(uint64_t arena)
{
	struct heap *heap = calloc(1, sizeof(*heap));

	(void)arena;
	if (!heap)
		return 0;
	if (!backing_begin(&heap->base.backing, 1, (unsigned long)wanted_pages << PAGE_SHIFT, (unsigned long)wanted_pages)) {
		free(heap);
		return 0;
	}
	now = &heap->base.backing;
	heap->pool = zbud_create_pool(GFP_KERNEL, &owned);
	return heap_enlist(&heap->base);
}

void heaplaw_destroy(uint64_t number) { free(heap_forget(number)); }

uint64_t heaplaw_alloc(uint64_t number, uint64_t size)
{
	struct heap *heap = find(number);
	unsigned long handle = 0;

	if (!heap)
		return HEAPLAW_INVALID;
	switch (zbud_alloc(heap->pool, size, GFP_KERNEL, &handle)) {
	case 0: return handle - (unsigned long)now->range;
	case -ENOMEM: return HEAPLAW_NO_MEMORY;
	case -ENOSPC: return HEAPLAW_TOO_BIG;
	default: return HEAPLAW_INVALID;
	}
}

uint32_t heaplaw_free(uint64_t number, uint64_t handle)
{
	struct heap *heap = find(number);

	if (!heap || handle >= now->area_size)
		return 1;
	zbud_free(heap->pool, (unsigned long)now->range + handle);
	return 0;
}

uint64_t heaplaw_maintain(uint64_t number, uint32_t kind, int64_t *words, uint64_t room)
{
	struct heap *heap = find(number);
	uint64_t n = 0;
	u64 before;
	int i;

	if (!heap || kind >= OWNERS)
		return 0;
	before = heap->pool->pages_nr;
	owner.kind = kind;
	owner.asked = owner.given = 0;
	zbud_reclaim_page(heap->pool, 8); /* as zpool does */
	n = heaplaw_put((int64_t)(before - heap->pool->pages_nr), words, room, n);
	n = heaplaw_put(0, words, room, n);
	for (i = 0; i < owner.given; i++)
		n = heaplaw_put((int64_t)(owner.handles[i] - (unsigned long)now->range), words, room, n);
	return n;
}

/* ---- what is seen ------------------------------------------------------------------------------------ */

enum own_kind { LRU = HEAPLAW_OWN, BUDDIES, POOL };

static int64_t offset_of(const struct zbud_header *zhdr) { return (const char *)zhdr - now->range; }
static int64_t page_of(const struct zbud_header *zhdr) { return offset_of(zhdr) >> PAGE_SHIFT; }

static int64_t list_of(struct zbud_header *zhdr)
{
	return zhdr->first_chunks && zhdr->last_chunks ? 0 : num_free_chunks(zhdr); /* 0: buddied */
}

static void show_page(struct out *out, uint32_t kind, struct zbud_header *zhdr)
{
	int64_t at = offset_of(zhdr) + ZHDR_SIZE_ALIGNED + ((int64_t)zhdr->first_chunks << CHUNK_SHIFT);
	unsigned long handles[2];
	int i, n;

	if (kind == HEAPLAW_CLAIMED) {
		put(out, page_of(zhdr));
		put(out, 1);
	} else if (kind == LRU) {
		put(out, page_of(zhdr));
		put(out, zhdr->first_chunks);
		put(out, zhdr->last_chunks);
		put(out, zhdr->under_reclaim);
	} else if (kind == HEAPLAW_REGIONS && num_free_chunks(zhdr)) {
		put(out, at);
		put(out, (int64_t)num_free_chunks(zhdr) << CHUNK_SHIFT);
		put(out, list_of(zhdr));
	} else if (kind == HEAPLAW_BLOCKS) {
		n = handles_on(zhdr, handles);
		for (i = 0; i < n; i++)
			put(out, (int64_t)(handles[i] - (unsigned long)now->range));
	}
}

static void show_list(struct out *out, uint32_t kind, struct list_head *list, int index)
{
	struct zbud_header *zhdr;

	list_for_each_entry(zhdr, list, buddy) {
		if (kind == BUDDIES) {
			put(out, index);
			put(out, page_of(zhdr));
		} else if (num_free_chunks(zhdr)) {
			put(out, index);
			put(out, 0);
			put(out, offset_of(zhdr) + ZHDR_SIZE_ALIGNED + ((int64_t)zhdr->first_chunks << CHUNK_SHIFT));
		}
	}
}

uint64_t heaplaw_observe(uint64_t number, uint32_t kind, int64_t *words, uint64_t room)
{
	struct out out = {words, room, 0};
	struct heap *heap = find(number);
	struct zbud_header *zhdr;
	int i;

	if (!heap)
		return 0;
	if (kind == HEAPLAW_LISTS || kind == BUDDIES) {
		show_list(&out, kind, &heap->pool->buddied, 0);
		for (i = 1; i < (int)NCHUNKS; i++) /* unbuddied[0] is the storage of buddied */
			show_list(&out, kind, &heap->pool->unbuddied[i], i);
	} else if (kind == POOL || kind == HEAPLAW_COUNTERS) {
		put(&out, 0);
		put(&out, (int64_t)heap->pool->pages_nr);
	} else if (kind == HEAPLAW_SOURCE) {
		show_source(&out, now);
	} else if (kind == HEAPLAW_PAGES) {
		show_lent(&out, now);
	} else {
		list_for_each_entry(zhdr, &heap->pool->lru, lru)
			show_page(&out, kind, zhdr);
	}
	return out.n;
}

uint64_t heaplaw_schema(uint32_t kind, char *text, uint64_t room)
{
	const char *says = "";

	switch (kind) {
	case HEAPLAW_BLOCKS: says = "handle"; break;
	case HEAPLAW_REGIONS: says = "start length list"; break;
	case HEAPLAW_LISTS: says = "list space start"; break;
	case HEAPLAW_COUNTERS: says = "name value\nname: pages"; break;
	case HEAPLAW_PAGES: says = LENT_COLUMNS; break;
	case HEAPLAW_SOURCE: says = SOURCE_COLUMNS; break;
	case HEAPLAW_CLAIMED: says = "first count"; break;
	case HEAPLAW_MAINTENANCE: says = "reclaim reclaim-refuse-first reclaim-refuse-second reclaim-reenter"; break;
	case HEAPLAW_PARAMETERS: says = "pages"; break;
	case LRU: says = "page first_chunks last_chunks under_reclaim"; break;
	case BUDDIES: says = "list page"; break;
	case POOL: says = "pool pages_nr"; break;
	default: break;
	}
	return heaplaw_say(says, text, room);
}

uint64_t heaplaw_extents(uint64_t number, uint64_t handle, int64_t *words, uint64_t room)
{
	struct out out = {words, room, 0};
	struct zbud_header *zhdr;
	bool first = (handle & ~PAGE_MASK) == ZHDR_SIZE_ALIGNED;

	if (!find(number))
		return 0;
	zhdr = handle_to_zbud_header((unsigned long)now->range + handle);
	put(&out, 0);
	put(&out, (int64_t)handle);
	put(&out, (int64_t)(first ? zhdr->first_chunks : zhdr->last_chunks) << CHUNK_SHIFT);
	return out.n;
}

uint64_t heaplaw_base(uint64_t number, uint64_t space)
{
	return find(number) && !space ? (uint64_t)(uintptr_t)now->range : 0;
}

int64_t heaplaw_promise(uint64_t number, uint32_t promise)
{
	if (!find(number))
		return -1;
	switch (promise) {
	case HEAPLAW_ARENA: return (int64_t)now->area_size;
	case HEAPLAW_MAX_SIZE: return PAGE_SIZE - ZHDR_SIZE_ALIGNED - CHUNK_SIZE;
	case HEAPLAW_GRANULE: return CHUNK_SIZE;
	case HEAPLAW_PROLOGUE: return ZHDR_SIZE_ALIGNED;
	case HEAPLAW_FLAGS: return HEAPLAW_DETERMINISTIC | HEAPLAW_FREE_THEN_ALLOC;
	case HEAPLAW_REJECTS: return 1 | 2;
	case HEAPLAW_SLACK: return CHUNK_SIZE - 1;
	case HEAPLAW_EVICTING: return (1 << OWNERS) - 1;
	case HEAPLAW_PAGE_SIZE: return PAGE_SIZE;
	case HEAPLAW_DRAINED_PAGES: return 0;
	default: return -1;
	}
}
