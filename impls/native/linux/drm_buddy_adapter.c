/* The kernel's own buddy allocator of graphics memory behind heaplaw.h: shims, the untouched
 * drivers/gpu/drm/drm_buddy.c, and this.
 *
 * It hands out offsets into memory that the CPU need not read: there is no base address, and no contents.  An object
 * is what one call gives, a list of blocks in its order; a handle is the offset of the first.  Sizes are rounded up to
 * whole chunks, as drivers ask in pages.  Group g asks with these bits: 1 from the top, 2 contiguous, 4 inside the
 * first `visible` bytes, and, where the kernel keeps cleared memory apart, 8: cleared memory is wanted, and is given
 * back cleared.  Up to 6.7 contiguity was the drivers' own affair: they rounded up to a power of two and trimmed, and
 * so does this.
 *
 * Without `claims`, sizes of contiguous requests are rounded up to the alignment, as a careful driver would: the
 * kernel of 6.12 aligns them to no more than their size.
 */
#include "kernel.h"
#include "backing.h"
#include "pools.h"
#include "linux/sizes.h"
#include "drm/drm_buddy.h"
#ifdef _LINUX_RBTREE_H /* free blocks of an order stand in a tree, not on a list */
#define FREE_TREES 1
#include "lib/rbtree.c"
#endif
#include "drivers/gpu/drm/drm_buddy.c"

#include "adapter.h"

enum { MOST_CHUNKS = 1 << 16, CLEAR_LIST = 64 }; /* list numbers: the order, + CLEAR_LIST for cleared memory */
enum ask { TOPDOWN = 1, CONTIGUOUS = 2, VISIBLE = 4, CLEARED = 8 };
#ifdef DRM_BUDDY_CLEARED
enum { GROUPS = 15 };
#else
enum { GROUPS = 7 };
#endif

struct settings {
	int64_t size, chunk, visible, claims;
};

struct object {
	struct list_head blocks;
	uint64_t handle;
	uint32_t group;
};

struct heap {
	struct heap_base common;
	struct settings settings;
	struct drm_buddy mm;
	struct object **objects; /* by the chunk that they begin in */
	uint64_t live;
	uint32_t group;
};

static struct settings wanted = {1 << 20, 4096, 1 << 19, 1};

static struct heap *find(uint64_t number)
{
	struct heap *heap = (struct heap *)heap_numbered(number);

	if (heap)
		now = &heap->common.backing;
	return heap;
}

static bool is_clear(struct drm_buddy_block *block)
{
#ifdef DRM_BUDDY_CLEARED
	return drm_buddy_block_is_clear(block);
#else
	(void)block;
	return false;
#endif
}

static u64 clear_bytes(const struct drm_buddy *mm)
{
#ifdef DRM_BUDDY_CLEARED
	return mm->clear_avail;
#else
	(void)mm;
	return 0;
#endif
}

/* ---- every block, by the tree of splits ------------------------------------------------------------ */

struct visit {
	struct out *out;
	const struct heap *heap;
	uint32_t kind;
	u64 clear;
	uint32_t wrong, met;
};

typedef void see(struct visit *visit, struct drm_buddy_block *block);

static void descend(struct visit *visit, struct drm_buddy_block *block, see *look)
{
	look(visit, block);
	if (drm_buddy_block_is_split(block)) {
		descend(visit, block->left, look);
		descend(visit, block->right, look);
	}
}

static void every_block(struct visit *visit, const struct drm_buddy *mm, see *look)
{
	unsigned int i;

	for (i = 0; i < mm->n_roots; i++)
		descend(visit, mm->roots[i], look);
}

/* ---- making a heap ----------------------------------------------------------------------------------- */

static bool sensible(const struct settings *s)
{
	return s->chunk > 0 && s->size >= s->chunk && s->size / s->chunk <= MOST_CHUNKS && s->visible >= s->chunk &&
	       s->visible % s->chunk == 0 && s->visible <= s->size;
}

uint64_t heaplaw_capabilities(void)
{
	uint64_t has = HEAPLAW_PROMISES | HEAPLAW_ALIGNS | HEAPLAW_HAS_EXTENTS | HEAPLAW_OBSERVES | HEAPLAW_CHECKS |
		       HEAPLAW_CONFIGURES | HEAPLAW_CONTEXTUAL | HEAPLAW_FAILS_PAGES;
#ifdef DRM_BUDDY_CLEARED
	has |= HEAPLAW_MAINTAINS;
#endif
	return has;
}

uint32_t heaplaw_configure(uint32_t parameter, int64_t value)
{
	int64_t *places[] = {&wanted.size, &wanted.chunk, &wanted.visible, &wanted.claims};

	if (parameter >= ARRAY_SIZE(places) || value < 0)
		return 1;
	*places[parameter] = value;
	return 0;
}

uint64_t heaplaw_create(uint64_t arena)
{
	struct heap *heap = calloc(1, sizeof(*heap));
	unsigned long chunks = sensible(&wanted) ? (unsigned long)(wanted.size / wanted.chunk) : 0;

	(void)arena;
	if (!heap)
		return 0;
	if (!chunks || !backing_begin(&heap->common.backing, 1, PAGE_SIZE, 2 * chunks)) {
		free(heap);
		return 0;
	}
	now = &heap->common.backing;
	heap->settings = wanted;
	drm_buddy_module_init();
	heap->objects = shim_book(chunks * sizeof(struct object *));
	if (drm_buddy_init(&heap->mm, (u64)wanted.size, (u64)wanted.chunk)) {
		backing_end(&heap->common.backing);
		free(heap);
		return 0;
	}
	return heap_enlist(&heap->common);
}

static void count(struct visit *visit, struct drm_buddy_block *block)
{
	visit->met++;
	if (drm_buddy_block_is_split(block) && drm_buddy_block_is_free(block->left) &&
	    drm_buddy_block_is_free(block->right) && is_clear(block->left) == is_clear(block->right))
		visit->wrong = 1; /* the kernel would warn of it, but the laws have seen it */
}

/* Is nothing live, and are books and blocks as they then are? */
static bool is_whole(const struct heap *heap)
{
	struct visit visit = {.heap = heap};

	if (heap->live || heap->mm.avail != heap->mm.size || heaplaw_check(heap->common.number))
		return false;
	every_block(&visit, &heap->mm, count);
	return !visit.wrong && visit.met == now->page_count - now->pages_left;
}

/* The kernel warns of a heap that is ended while something of it is in use: only a whole one is ended its way. */
void heaplaw_destroy(uint64_t number)
{
	struct heap *heap = find(number);

	if (!heap)
		return;
	if (is_whole(heap)) {
		drm_buddy_fini(&heap->mm);
		drm_buddy_module_exit();
		BUG_ON(now->pages_left != now->page_count); /* blocks are left */
	}
	free(heap_forget(number));
}

/* ---- the calls --------------------------------------------------------------------------------------- */

#ifdef DRM_BUDDY_CONTIGUOUS_ALLOCATION
static int ask_kernel(struct heap *heap, u64 size, u64 align, struct list_head *blocks)
{
	u64 end = heap->group & VISIBLE ? (u64)heap->settings.visible : heap->mm.size;
	unsigned long flags = 0;

	flags |= heap->group & TOPDOWN ? DRM_BUDDY_TOPDOWN_ALLOCATION : 0;
	flags |= heap->group & CONTIGUOUS ? DRM_BUDDY_CONTIGUOUS_ALLOCATION : 0;
	flags |= heap->group & VISIBLE ? DRM_BUDDY_RANGE_ALLOCATION : 0;
#ifdef DRM_BUDDY_CLEARED
	flags |= heap->group & CLEARED ? DRM_BUDDY_CLEAR_ALLOCATION : 0;
#endif
	return drm_buddy_alloc_blocks(&heap->mm, 0, end, size, align, blocks, flags);
}
#else
/* as drivers did: all but the last block are whole, and of that the rest is given back */
static void trim(struct heap *heap, u64 rest, struct list_head *blocks)
{
	struct drm_buddy_block *last = list_last_entry(blocks, struct drm_buddy_block, link);
	LIST_HEAD(alone);

	if (!rest)
		return;
	list_move(&last->link, &alone);
	drm_buddy_block_trim(&heap->mm, drm_buddy_block_size(&heap->mm, last) - rest, &alone);
	list_splice_tail(&alone, blocks);
}

static int ask_kernel(struct heap *heap, u64 size, u64 align, struct list_head *blocks)
{
	u64 end = heap->group & VISIBLE ? (u64)heap->settings.visible : heap->mm.size, rounded = size;
	unsigned long flags = 0;
	int error;

	if (size <= heap->mm.size) {
		rounded = round_up(size, align);
		if (heap->group & CONTIGUOUS && size != end)
			rounded = align = roundup_pow_of_two(rounded);
	}
	flags |= heap->group & TOPDOWN ? DRM_BUDDY_TOPDOWN_ALLOCATION : 0;
	flags |= heap->group & VISIBLE ? DRM_BUDDY_RANGE_ALLOCATION : 0;
	error = drm_buddy_alloc_blocks(&heap->mm, 0, end, rounded, align, blocks, flags);
	if (!error)
		trim(heap, rounded - size, blocks);
	return error;
}
#endif

static uint64_t adopt(struct heap *heap, struct object *object)
{
	struct drm_buddy_block *block;

	BUG_ON(list_empty(&object->blocks));
	list_for_each_entry(block, &object->blocks, link)
		block->private = object;
	block = list_first_entry(&object->blocks, struct drm_buddy_block, link);
	object->handle = drm_buddy_block_offset(block);
	object->group = heap->group;
	heap->objects[object->handle / heap->mm.chunk_size] = object;
	heap->live++;
	return object->handle;
}

uint64_t heaplaw_alloc_aligned(uint64_t number, uint64_t size, uint64_t align)
{
	struct heap *heap = find(number);
	struct object *object;
	u64 bytes;
	int error;

	if (!heap || !is_power_of_2(align))
		return HEAPLAW_INVALID;
	if (size > -heap->mm.chunk_size)
		return HEAPLAW_TOO_BIG; /* it cannot even be rounded */
	align = max(align, heap->mm.chunk_size);
	bytes = round_up(size, heap->mm.chunk_size);
	if (heap->group & CONTIGUOUS && !heap->settings.claims && bytes <= heap->mm.size)
		bytes = round_up(bytes, align);
	object = shim_book(sizeof(*object));
	INIT_LIST_HEAD(&object->blocks);
	error = ask_kernel(heap, bytes, align, &object->blocks);
	if (!error)
		return adopt(heap, object);
	BUG_ON(!list_empty(&object->blocks)); /* a refusal leaves nothing behind */
	shim_unbook(object);
	if (error != -EINVAL)
		return HEAPLAW_NO_MEMORY;
	return !size ? HEAPLAW_INVALID : size > heap->mm.size ? HEAPLAW_TOO_BIG : HEAPLAW_NO_MEMORY;
}

uint64_t heaplaw_alloc(uint64_t heap, uint64_t size) { return heaplaw_alloc_aligned(heap, size, 1); }

static struct object *object_at(const struct heap *heap, uint64_t handle)
{
	return handle < heap->mm.size ? heap->objects[handle / heap->mm.chunk_size] : NULL;
}

uint32_t heaplaw_free(uint64_t number, uint64_t handle)
{
	struct heap *heap = find(number);
	struct object *object = heap ? object_at(heap, handle) : NULL;

	if (!object)
		return 1;
#ifdef DRM_BUDDY_CLEARED
	drm_buddy_free_list(&heap->mm, &object->blocks, object->group & CLEARED ? DRM_BUDDY_CLEARED : 0);
#else
	drm_buddy_free_list(&heap->mm, &object->blocks);
#endif
	heap->objects[handle / heap->mm.chunk_size] = NULL;
	heap->live--;
	shim_unbook(object);
	return 0;
}

void heaplaw_context(uint64_t number, uint32_t cpu, uint32_t atomic, uint32_t group)
{
	struct heap *heap = find(number);

	(void)cpu, (void)atomic;
	if (heap)
		heap->group = group & GROUPS;
}

#ifdef DRM_BUDDY_CLEARED
uint64_t heaplaw_maintain(uint64_t number, uint32_t kind, int64_t *words, uint64_t room)
{
	struct heap *heap = find(number);

	if (heap && kind < 2)
		drm_buddy_reset_clear(&heap->mm, kind == 1);
	return heaplaw_put(0, words, room, heaplaw_put(0, words, room, 0));
}
#endif

/* ---- what is seen -------------------------------------------------------------------------------------- */

enum own_kind { MANAGER = HEAPLAW_OWN, TREE };

static int64_t list_of(struct drm_buddy_block *block)
{
	return drm_buddy_block_order(block) + (is_clear(block) ? CLEAR_LIST : 0);
}

static void show_block(struct visit *visit, struct drm_buddy_block *block)
{
	struct drm_buddy mm = visit->heap->mm;
	int64_t start = (int64_t)drm_buddy_block_offset(block), length = (int64_t)drm_buddy_block_size(&mm, block);

	if (visit->kind == HEAPLAW_CLAIMED) {
		put(visit->out, (int64_t)shim_object_number(block));
		put(visit->out, 1);
	} else if (visit->kind == TREE) {
		put(visit->out, start);
		put(visit->out, drm_buddy_block_order(block));
		put(visit->out, drm_buddy_block_state(block) >> 10);
		put(visit->out, is_clear(block));
	} else if (visit->kind == HEAPLAW_REGIONS && drm_buddy_block_is_free(block)) {
		put(visit->out, start);
		put(visit->out, length);
		put(visit->out, list_of(block));
	} else if (visit->kind == HEAPLAW_BLOCKS && drm_buddy_block_is_allocated(block)) {
		put(visit->out, (int64_t)((struct object *)block->private)->handle);
		put(visit->out, start);
		put(visit->out, length);
	}
}

static void put_listed(struct out *out, int64_t list, struct drm_buddy_block *block)
{
	put(out, list);
	put(out, 0);
	put(out, (int64_t)drm_buddy_block_offset(block));
}

static void show_lists(struct out *out, const struct drm_buddy *mm)
{
	unsigned int order;

	for (order = 0; order <= mm->max_order; order++) {
#ifdef FREE_TREES
		unsigned int tree;

		for_each_free_tree(tree) {
			struct rb_node *node = rb_first(&mm->free_trees[tree][order]);

			for (; node; node = rb_next(node))
				put_listed(out, order + (tree == DRM_BUDDY_CLEAR_TREE ? CLEAR_LIST : 0),
					   rb_entry(node, struct drm_buddy_block, rb));
		}
#else
		struct drm_buddy_block *block;
		unsigned long met = 0;

		list_for_each_entry(block, &mm->free_list[order], link) {
			BUG_ON(met++ > now->page_count); /* the list goes round */
			put_listed(out, order + (is_clear(block) ? CLEAR_LIST : 0), block);
		}
#endif
	}
}

static void show_manager(struct out *out, const struct drm_buddy *mm)
{
	put(out, (int64_t)mm->size);
	put(out, (int64_t)mm->avail);
	put(out, (int64_t)clear_bytes(mm));
	put(out, mm->max_order);
	put(out, mm->n_roots);
}

uint64_t heaplaw_observe(uint64_t number, uint32_t kind, int64_t *words, uint64_t room)
{
	struct out out = {words, room, 0};
	struct heap *heap = find(number);
	struct visit visit = {.out = &out, .heap = heap, .kind = kind};

	if (!heap)
		return 0;
	switch (kind) {
	case HEAPLAW_LISTS: show_lists(&out, &heap->mm); break;
	case HEAPLAW_SOURCE: show_source(&out, now); break;
	case HEAPLAW_PAGES: show_lent(&out, now); break;
	case MANAGER: show_manager(&out, &heap->mm); break;
	case HEAPLAW_COUNTERS:
		put(&out, 0);
		put(&out, (int64_t)heap->mm.avail);
		put(&out, 1);
		put(&out, (int64_t)clear_bytes(&heap->mm));
		break;
	default: every_block(&visit, &heap->mm, show_block);
	}
	return out.n;
}

uint64_t heaplaw_schema(uint32_t kind, char *text, uint64_t room)
{
	const char *says = "";

	switch (kind) {
	case HEAPLAW_BLOCKS: says = "handle start length"; break;
	case HEAPLAW_REGIONS: says = "start length list"; break;
	case HEAPLAW_LISTS: says = "list space start"; break;
	case HEAPLAW_COUNTERS: says = "name value\nname: free_bytes cleared_bytes"; break;
	case HEAPLAW_PAGES: says = LENT_COLUMNS; break;
	case HEAPLAW_SOURCE: says = SOURCE_COLUMNS; break;
	case HEAPLAW_CLAIMED: says = "first count"; break;
	case HEAPLAW_PARAMETERS: says = "size chunk visible claims"; break;
	case MANAGER: says = "size avail clear_avail max_order n_roots"; break;
	case TREE: says = "offset order state clear\nstate: none allocated free split"; break;
#ifdef DRM_BUDDY_CLEARED
	case HEAPLAW_MAINTENANCE: says = "reset-dirty reset-clear"; break;
#endif
	default: break;
	}
	return heaplaw_say(says, text, room);
}

uint64_t heaplaw_extents(uint64_t number, uint64_t handle, int64_t *words, uint64_t room)
{
	struct out out = {words, room, 0};
	struct heap *heap = find(number);
	struct object *object = heap ? object_at(heap, handle) : NULL;
	struct drm_buddy_block *block;

	if (!object)
		return 0;
	list_for_each_entry(block, &object->blocks, link) {
		put(&out, 0);
		put(&out, (int64_t)drm_buddy_block_offset(block));
		put(&out, (int64_t)drm_buddy_block_size(&heap->mm, block));
	}
	return out.n;
}

static void look_over(struct visit *visit, struct drm_buddy_block *block)
{
	struct drm_buddy mm = visit->heap->mm;
	struct drm_buddy_block *left = block->left, *right = block->right;

	if (drm_buddy_block_is_free(block) && is_clear(block))
		visit->clear += drm_buddy_block_size(&mm, block);
	if (!drm_buddy_block_is_split(block))
		return;
	if (left->parent != block || right->parent != block)
		visit->wrong = 1;
	else if (drm_buddy_block_order(left) + 1 != drm_buddy_block_order(block) ||
		 drm_buddy_block_order(right) + 1 != drm_buddy_block_order(block))
		visit->wrong = 2;
	else if (drm_buddy_block_offset(left) != drm_buddy_block_offset(block) ||
		 drm_buddy_block_offset(right) != drm_buddy_block_offset(left) + drm_buddy_block_size(&mm, left))
		visit->wrong = 3;
}

/* 1 to 3: halves of a block that have another parent, order, place; 4: clear_avail is not what free blocks say. */
uint32_t heaplaw_check(uint64_t number)
{
	struct heap *heap = find(number);
	struct visit visit = {.heap = heap};

	every_block(&visit, &heap->mm, look_over);
	if (!visit.wrong && visit.clear != clear_bytes(&heap->mm))
		visit.wrong = 4;
	return visit.wrong;
}

int64_t heaplaw_promise(uint64_t number, uint32_t promise)
{
	struct heap *heap = find(number);

	if (!heap)
		return -1;
	switch (promise) {
	case HEAPLAW_ARENA: return (int64_t)heap->mm.size;
	case HEAPLAW_GRANULE: return (int64_t)heap->mm.chunk_size;
	case HEAPLAW_MAX_ALIGN: return (int64_t)heap->mm.chunk_size << heap->mm.max_order;
	case HEAPLAW_ORIGIN: return 0;
	case HEAPLAW_OPAQUE: return 1;
	case HEAPLAW_FLAGS: return HEAPLAW_DETERMINISTIC;
	case HEAPLAW_REJECTS: return 1 | 2 | 4;
	case HEAPLAW_GROUPS: return GROUPS;
	case HEAPLAW_DRAINED_SIZE: return (int64_t)heap->mm.size;
	default: return -1;
	}
}
