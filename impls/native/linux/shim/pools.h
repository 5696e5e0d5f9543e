/* What lib/genalloc.c and drivers/gpu/drm/drm_buddy.c take for granted beyond kernel.h and backing.h.
 *
 * Written for this project from the published meaning of each name.  One thread: reads under RCU are plain reads, and
 * a compare-and-exchange always finds what was read before.  A slab gives each object the number of a page of the
 * shim's page allocator, so that objects are counted, run out, and are refused as pages are; their memory is a book's.
 */
#ifndef HEAPLAW_SHIM_POOLS_H
#define HEAPLAW_SHIM_POOLS_H

#include "kernel.h"
#include "backing.h"

#define GENMASK_ULL(high, low) ((~0ULL << (low)) & (~0ULL >> (63 - (high))))
static inline unsigned int hweight64(u64 word) { return (unsigned int)__builtin_popcountll(word); }

/* ---- one thread ---------------------------------------------------------------------------------- */

#define __rcu
#define CONFIG_ARCH_HAVE_NMI_SAFE_CMPXCHG 1
#define rcu_read_lock() ((void)0)
#define rcu_read_unlock() ((void)0)
#define rcu_read_lock_any_held() true
#define RCU_LOCKDEP_WARN(condition, text) ((void)0)
#define rcu_assign_pointer(p, value) ((p) = (value))
#define rcu_dereference(p) (p)
#define rcu_dereference_raw(p) (p)
#define rcu_dereference_check(p, condition) (p)
#define cpu_relax() ((void)0)
#define cmpxchg(place, old, new) \
	({ __typeof__(*(place)) was_ = *(place); if (was_ == (old)) *(place) = (new); was_; })
#define try_cmpxchg(place, old, new) \
	({ bool same_ = *(place) == *(old); if (same_) *(place) = (new); else *(old) = *(place); same_; })

typedef struct {
	long counter;
} atomic_long_t;
#define atomic_long_set(a, n) ((a)->counter = (long)(n))
#define atomic_long_read(a) ((a)->counter)
#define atomic_long_add(n, a) ((a)->counter += (long)(n))
#define atomic_long_sub(n, a) ((a)->counter -= (long)(n))

/* ---- books ---------------------------------------------------------------------------------------- */

typedef u64 dma_addr_t;

#define kmalloc_node(size, gfp, node) ((void)(node), shim_book(size))
#define vzalloc_node(size, node) ((void)(node), shim_book(size))
#define kmalloc_array(count, size, gfp) shim_book((size_t)(count) * (size))
#define kstrdup_const(text, gfp) ((void)(text), (char *)NULL)
#define kmemleak_update_trace(p) ((void)(p))
static inline void kfree_const(const void *p)
{
	if (p)
		shim_unbook(p);
}

/* ---- a slab ---------------------------------------------------------------------------------------- */

struct kmem_cache {
	size_t size;
};

struct shim_slot {
	_Alignas(16) unsigned long number; /* of its page; the object follows */
};

#define KMEM_CACHE(type, flags) ({ static struct kmem_cache cache_ = {sizeof(struct type)}; &cache_; })
#define kmem_cache_destroy(cache) ((void)(cache))

static inline void *kmem_cache_zalloc(const struct kmem_cache *cache, gfp_t gfp)
{
	struct page *page = shim_take_page();
	struct shim_slot *slot;

	(void)gfp;
	if (!page)
		return NULL;
	slot = shim_book(sizeof(*slot) + cache->size);
	BUG_ON(!slot);
	slot->number = (unsigned long)(page - now->pages);
	return slot + 1;
}

static inline unsigned long shim_object_number(const void *object) { return ((const struct shim_slot *)object - 1)->number; }

static inline void kmem_cache_free(const struct kmem_cache *cache, void *object)
{
	(void)cache;
	shim_give_page(&now->pages[shim_object_number(object)]);
	shim_unbook((struct shim_slot *)object - 1);
}

/* ---- devices, of which there are none ---------------------------------------------------------------- */

struct device;
struct drm_printer {
	int unused;
};
#define drm_printf(printer, ...) ((void)(printer))
#define devres_find(dev, release, match, data) ((void)(dev), (void)(match), (void)(data), (void *)NULL)
#define devres_alloc(release, size, gfp) ((void)(release), (void *)NULL)
#define devres_add(dev, resource) ((void)(dev), (void)(resource))
#define devres_free(resource) ((void)(resource))

#endif
