/* What zsmalloc stands on besides: pages with flags and references, caches of small objects, locks that know their
 * holders, a shrinker that nobody calls.
 *
 * One CPU and one thread: a lock that would have to be waited for would be waited for for ever, so it ends the
 * process.  A page that is given back must be as it was lent, or the process ends too, as a kernel would complain.
 */
#ifndef HEAPLAW_SHIM_MOVABLE_H
#define HEAPLAW_SHIM_MOVABLE_H

#include "kernel.h"
#include "backing.h"

#include <linux/const.h>
#include <linux/list.h>

/* ---- words ------------------------------------------------------------------------------------------ */

#define CONFIG_COMPACTION 1
#define CONFIG_ZSMALLOC_CHAIN_SIZE 8 /* the kernel's default, from 6.3 on */
#define MAX_PHYSMEM_BITS 52	     /* of x86-64 */
#ifndef MAX
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#endif
#define SZ_16M (1UL << 24)
#ifndef pr_err
#define pr_err(...) ((void)0)
#endif
#define __acquires(lock)
#define __releases(lock)
#define __GFP_MOVABLE 0x08u
#define VM_BUG_ON_PAGE(x, page) ((void)(page), BUG_ON(x))
#define VM_WARN_ON_ONCE(x) ((void)WARN_ON(x))
#define IS_ERR_VALUE(x) IS_ERR((const void *)(x))
static inline bool IS_ERR_OR_NULL(const void *p) { return !p || IS_ERR(p); }
#define atomic_set(a, value) ((a)->counter = (value))
#define atomic_xchg(a, value) __extension__({ int was_ = (a)->counter; (a)->counter = (value); was_; })
typedef struct {
	long counter;
} atomic_long_t;
#define atomic_long_read(a) ((unsigned long)(a)->counter)
#define atomic_long_add(by, a) ((void)((a)->counter += (long)(by)))
#define atomic_long_sub(by, a) ((void)((a)->counter -= (long)(by)))

/* ---- one CPU ---------------------------------------------------------------------------------------- */

#define DEFINE_PER_CPU(type, name) type name
#define per_cpu(name, cpu) (*((void)(cpu), &(name)))
#define this_cpu_ptr(p) (p)
typedef struct {
	int unused;
} local_lock_t;
#define INIT_LOCAL_LOCK(name) {0}
#define local_lock(l) ((void)(l))
#define local_unlock(l) ((void)(l))
#define in_interrupt() 0
#define pagefault_disable() ((void)0)
#define pagefault_enable() ((void)0)
enum { CPUHP_MM_ZS_PREPARE };
#define cpuhp_setup_state(state, name, up, down) ((void)(down), (up)(0))
#define cpuhp_remove_state(state) ((void)(state))

/* ---- locks and work --------------------------------------------------------------------------------- */

typedef struct {
	int readers, writers;
} rwlock_t;

static inline void shim_lock(rwlock_t *l, int readers, int writers)
{
	if (l->writers || (writers && l->readers))
		shim_died("a lock is waited for for ever", __FILE__, __LINE__);
	l->readers += readers;
	l->writers += writers;
}

static inline void shim_unlock(rwlock_t *l, int readers, int writers)
{
	l->readers -= readers;
	l->writers -= writers;
	BUG_ON(l->readers < 0 || l->writers < 0);
}

#define rwlock_init(l) ((l)->readers = (l)->writers = 0)
#define read_lock(l) shim_lock(l, 1, 0)
#define read_unlock(l) shim_unlock(l, 1, 0)
#define write_lock(l) shim_lock(l, 0, 1)
#define write_lock_nested(l, class) shim_lock(l, 0, 1)
#define write_unlock(l) shim_unlock(l, 0, 1)
#define rwlock_is_contended(l) ((void)(l), 0)
#define spin_is_contended(l) ((void)(l), 0)
#define assert_spin_locked(l) ((void)(l))

typedef void (*work_func_t)(struct work_struct *);
#define INIT_WORK(work, function) ((void)(work), (void)(function))
#define flush_work(work) ((void)(work))

/* ---- names, and caches of small objects -------------------------------------------------------------- */

static inline const char *shim_name(const char *name)
{
	char *copy = shim_book(strlen(name) + 1);

	return copy ? strcpy(copy, name) : NULL;
}
#define kstrdup(name, gfp) shim_name(name)
#define kasprintf(gfp, format, ...) ((char *)(size_t)shim_name(format))

/* Objects are numbered from 1; the number that was given back last is given first. */
struct kmem_cache {
	size_t size;
	uint64_t made, unused, room; /* the highest number so far, how many of these are free, room in both tables */
	uint64_t **objects;	     /* by number: its bytes, after a word with the number; NULL: free */
	uint64_t *free;
};

static inline struct kmem_cache *shim_cache(size_t size)
{
	struct kmem_cache *cache = shim_book(sizeof(*cache));

	if (cache)
		cache->size = size;
	return cache;
}

static inline bool shim_widen(struct kmem_cache *cache)
{
	uint64_t room = cache->room ? 2 * cache->room : 64;
	uint64_t **objects = shim_book(room * sizeof(*objects)), *free = shim_book(room * sizeof(*free));

	if (!objects || !free)
		return false;
	if (cache->room) {
		memcpy(objects, cache->objects, cache->room * sizeof(*objects));
		memcpy(free, cache->free, cache->room * sizeof(*free));
	}
	shim_unbook(cache->objects);
	shim_unbook(cache->free);
	cache->objects = objects;
	cache->free = free;
	cache->room = room;
	return true;
}

static inline void *shim_cache_take(struct kmem_cache *cache)
{
	uint64_t number, *object = shim_book(sizeof(uint64_t) + cache->size);

	if (!object || (cache->made + 1 >= cache->room && !shim_widen(cache)))
		return NULL;
	number = cache->unused ? cache->free[--cache->unused] : ++cache->made;
	*object = number;
	cache->objects[number] = object + 1;
	return object + 1;
}

static inline uint64_t shim_number(const void *object) { return ((const uint64_t *)object)[-1]; }

static inline void shim_cache_give(struct kmem_cache *cache, void *object)
{
	uint64_t number = shim_number(object);

	BUG_ON(cache->objects[number] != object);
	cache->objects[number] = NULL;
	cache->free[cache->unused++] = number;
	shim_unbook((uint64_t *)object - 1);
}

#define kmem_cache_create(name, size, align, flags, ctor) ((void)(name), shim_cache(size))
#define kmem_cache_destroy(cache) ((void)(cache)) /* goes with the backing */
#define kmem_cache_alloc(cache, gfp) ((void)(gfp), shim_cache_take(cache))
#define kmem_cache_zalloc(cache, gfp) ((void)(gfp), shim_cache_take(cache))
#define kmem_cache_free(cache, object) shim_cache_give(cache, object)

/* ---- pages ------------------------------------------------------------------------------------------ */

enum { SHIM_FIRST = 1, SHIM_LOCKED = 2, SHIM_ISOLATED = 4 };
enum { NR_ZSPAGES };
enum { SHIM_PGTY_ZSMALLOC = 0xf7 }; /* in the upper 8 bits of a type */

#define page_private(page) ((page)->private)
#define set_page_private(page, value) ((void)((page)->private = (value)))
#define PagePrivate(page) (((page)->flags & SHIM_FIRST) != 0)
#define SetPagePrivate(page) ((void)((page)->flags |= SHIM_FIRST))
#define ClearPagePrivate(page) ((void)((page)->flags &= ~(unsigned int)SHIM_FIRST))
#define PageLocked(page) (((page)->flags & SHIM_LOCKED) != 0)
#define PageMovable(page) ((page)->mover != NULL)
#define __SetPageMovable(page, operations) ((void)((page)->mover = (operations)))
#define __ClearPageMovable(page) ((void)((page)->mover = NULL))
#define PageIsolated(page) (((page)->flags & SHIM_ISOLATED) != 0)
#define PageZsmalloc(page) ((page)->page_type >> 24 == SHIM_PGTY_ZSMALLOC)
#define __SetPageZsmalloc(page) ((void)((page)->page_type = (unsigned int)SHIM_PGTY_ZSMALLOC << 24))
#define __ClearPageZsmalloc(page) ((void)((page)->page_type = ~0U))
#define page_mapcount_reset(page) ((void)((page)->page_type = ~0U))
#define page_zone(page) ((void)(page), 0)
#define inc_zone_page_state(page, item) ((void)(page))
#define dec_zone_page_state(page, item) ((void)(page))
#define page_to_pfn(page) ((unsigned long)((page) - now->pages))
#define pfn_to_page(pfn) (now->pages + (pfn))
#define kmap_atomic(page) ((void *)page_address(page))
#define kunmap_atomic(address) ((void)(address))
#define copy_page(to, from) memcpy(to, from, PAGE_SIZE)
#define kmsan_copy_page_meta(to, from) ((void)0)
#define wait_on_page_locked(page) shim_died("a page's lock is waited for for ever", __FILE__, __LINE__)

static inline bool trylock_page(struct page *page)
{
	bool was = PageLocked(page);

	page->flags |= SHIM_LOCKED;
	return !was;
}

static inline void unlock_page(struct page *page)
{
	BUG_ON(!PageLocked(page));
	page->flags &= ~(unsigned int)SHIM_LOCKED;
}

#define get_page(page) ((void)(page)->taken++) /* references; 1 when it is lent */

static inline void put_page(struct page *page)
{
	if (page->taken > 1) {
		page->taken--;
		return;
	}
	BUG_ON(page->flags || page->private || page->page_type != ~0U);
	shim_give_page(page);
}

typedef unsigned int isolate_mode_t;
enum migrate_mode { MIGRATE_ASYNC, MIGRATE_SYNC_LIGHT, MIGRATE_SYNC, MIGRATE_SYNC_NO_COPY };
enum { MIGRATEPAGE_SUCCESS };
struct movable_operations {
	bool (*isolate_page)(struct page *page, isolate_mode_t mode);
	int (*migrate_page)(struct page *to, struct page *from, enum migrate_mode mode);
	void (*putback_page)(struct page *page);
};

/* ---- a shrinker --------------------------------------------------------------------------------------- */

#define DEFAULT_SEEKS 2
#define SHRINK_STOP (~0UL)
#define SINGLE_DEPTH_NESTING 1
struct shrink_control {
	unsigned long nr_to_scan;
};
struct shrinker {
	unsigned long (*count_objects)(struct shrinker *shrinker, struct shrink_control *control);
	unsigned long (*scan_objects)(struct shrinker *shrinker, struct shrink_control *control);
	long batch;
	int seeks;
	void *private_data;
};
#define register_shrinker(shrinker, ...) ((void)(shrinker), 0)
#define unregister_shrinker(shrinker) ((void)(shrinker))
#define shrinker_alloc(flags, ...) ((struct shrinker *)shim_book(sizeof(struct shrinker)))
#define shrinker_register(shrinker) ((void)(shrinker))
#define shrinker_free(shrinker) shim_unbook(shrinker)

#endif
