/* The malloc of a shared library as a target: a black box, of which blocks, usable sizes and contents are seen.
 *
 * Compiled for one library, by its name: -DMALLOC_FILE="libc.so.6", and for mimalloc's first-class heaps
 * -DMALLOC_MI_HEAP as well, or -DMALLOC_MI_ARENA for heaps that lie in one arena.  -DMALLOC_QUANTUM: the alignment
 * that even the smallest blocks have.
 *
 * A handle is an address less SHIFT, as no handle may be an address near 0 and no base may be 0.  A heap is a set of
 * live blocks and a limit to their bytes, since a process may have more memory than a test should fill; everything
 * else is shared, as it is by the parts of a program.  The set is an open hash table in pages of its own, out of
 * reach of what is tested.  It is what destroy gives back, and it keeps wild frees from the library.
 */
#define _GNU_SOURCE
#include "heaplaw.h"

#include <dlfcn.h>
#include <stddef.h>
#include <sys/mman.h>

#ifndef MALLOC_FILE
#define MALLOC_FILE "libc.so.6"
#endif
#ifndef MALLOC_QUANTUM
#define MALLOC_QUANTUM 1
#endif
#define SHIFT UINT64_C(4096)
#define MOST (UINT64_C(1) << 20)    /* largest size that is served */
#define MOST_ALIGN UINT64_C(4096)
#define FIRST_SLOTS UINT64_C(1024)  /* a power of two, as all numbers of slots are */
#define ARENA_BYTES (UINT64_C(1) << 30) /* of addresses; memory is had when it is used */
#if defined(__x86_64__)
#define REACH (UINT64_C(1) << 47)   /* where addresses of a program end */
#elif UINTPTR_MAX > UINT32_MAX
#define REACH (UINT64_C(1) << 52)
#else
#define REACH (UINT64_C(1) << 32)
#endif

typedef struct {
    uint64_t handle, size; /* size: 1 + what was asked for; 0: an empty slot */
} slot;

typedef struct {
    uint64_t room, used, live, slots;
    slot *table;
    void *own; /* mimalloc's heap */
} heap_t;

static void *(*lib_malloc)(size_t);
static void (*lib_free)(void *);
static void *(*lib_realloc)(void *, size_t);
static int (*lib_memalign)(void **, size_t, size_t);
static size_t (*lib_usable)(void *);

#if defined(MALLOC_MI_HEAP) || defined(MALLOC_MI_ARENA)
#define MI 1
static void *(*mi_malloc)(void *, size_t), *(*mi_realloc)(void *, void *, size_t);
static void *(*mi_memalign)(void *, size_t, size_t);
static void (*mi_destroy)(void *);
static void *(*mi_new)(void);
#else
#define MI 0
#endif
#ifdef MALLOC_MI_ARENA
static int (*mi_reserve)(size_t, _Bool, _Bool, _Bool, int *);
static void *(*mi_area)(int, size_t *), *(*mi_new_in)(int);
static int arena_id;
#endif
static uint64_t low = SHIFT, reach = REACH - SHIFT; /* where blocks may lie */

/* dlsym answers an object's address, which C does not let be made a function's: hence its bytes are copied. */
#define FIND(WHERE, NAME) find(file, NAME, (void *)&(WHERE))
static int find(void *file, const char *name, void *where)
{
    void *found = dlsym(file, name);
    unsigned char *to = where, *from = (unsigned char *)&found;
    for (size_t i = 0; i < sizeof found; i++)
        to[i] = from[i];
    return found != NULL;
}

static int load(void)
{
    void *file;
    if (lib_malloc)
        return 1;
    file = dlopen(MALLOC_FILE, RTLD_NOW | RTLD_LOCAL);
    if (!file || !FIND(lib_free, "free") || !FIND(lib_realloc, "realloc") || !FIND(lib_memalign, "posix_memalign")
        || !FIND(lib_usable, "malloc_usable_size"))
        return 0;
#if MI
    if (!FIND(mi_malloc, "mi_heap_malloc") || !FIND(mi_realloc, "mi_heap_realloc") || !FIND(mi_new, "mi_heap_new")
        || !FIND(mi_memalign, "mi_heap_malloc_aligned") || !FIND(mi_destroy, "mi_heap_destroy"))
        return 0;
#endif
#ifdef MALLOC_MI_ARENA
    size_t bytes = 0;
    if (!FIND(mi_reserve, "mi_reserve_os_memory_ex") || !FIND(mi_area, "mi_arena_area")
        || !FIND(mi_new_in, "mi_heap_new_in_arena") || mi_reserve(ARENA_BYTES, 0, 0, 1, &arena_id))
        return 0;
    low = (uint64_t)(uintptr_t)mi_area(arena_id, &bytes);
    reach = bytes;
#endif
    return FIND(lib_malloc, "malloc");
}

static void *pages(uint64_t bytes)
{
    void *p = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

/* ---- the set of live blocks ---- */

static uint64_t home_of(const heap_t *h, uint64_t handle)
{
    return ((handle >> 3) * UINT64_C(0x9E3779B97F4A7C15) >> 20) & (h->slots - 1);
}

/* The slot of a handle, or the empty one where it would be. */
static slot *slot_of(const heap_t *h, uint64_t handle)
{
    uint64_t i = home_of(h, handle);
    while (h->table[i].size && h->table[i].handle != handle)
        i = (i + 1) & (h->slots - 1);
    return h->table + i;
}

static int grow(heap_t *h)
{
    slot *old = h->table, *to;
    uint64_t n = h->slots, i;
    if (!(h->table = pages(2 * n * sizeof *old))) {
        h->table = old;
        return 0;
    }
    h->slots = 2 * n;
    for (i = 0; i < n; i++)
        if (old[i].size) {
            to = slot_of(h, old[i].handle);
            *to = old[i];
        }
    munmap(old, (size_t)(n * sizeof *old));
    return 1;
}

static void enter(heap_t *h, uint64_t handle, uint64_t size)
{
    slot *to = slot_of(h, handle);
    if (to->size) /* the library gave the same block twice, which the caller notices: it is here once */
        h->used -= to->size - 1;
    else
        h->live++;
    to->handle = handle;
    to->size = size + 1;
    h->used += size;
}

/* Empty a slot and move back those behind it that were pushed on past it. */
static void leave(heap_t *h, slot *gone)
{
    uint64_t mask = h->slots - 1, hole = (uint64_t)(gone - h->table), i = hole;
    h->used -= gone->size - 1;
    h->live--;
    for (;;) {
        i = (i + 1) & mask;
        if (!h->table[i].size)
            break;
        if (((i - home_of(h, h->table[i].handle)) & mask) >= ((i - hole) & mask)) {
            h->table[hole] = h->table[i];
            hole = i;
        }
    }
    h->table[hole].size = 0;
}

/* ---- requests ---- */

static heap_t *heap_of(uint64_t heap) { return (heap_t *)(uintptr_t)heap; }
static void *place(uint64_t handle) { return (void *)(uintptr_t)(handle + low); }

/* Is it refused here, for the limit's sake?  What is beyond all objects is for the library to refuse. */
static uint64_t refused_here(const heap_t *h, uint64_t size, uint64_t besides)
{
    if (size > MOST && size <= PTRDIFF_MAX)
        return HEAPLAW_TOO_BIG;
    if (size > SIZE_MAX)
        return HEAPLAW_NO_MEMORY;
    return size <= PTRDIFF_MAX && size > h->room - besides ? HEAPLAW_NO_MEMORY : 0;
}

static uint64_t entered(heap_t *h, void *p, uint64_t size)
{
    uint64_t handle = (uint64_t)(uintptr_t)p - low;
    if (!p)
        return size ? HEAPLAW_NO_MEMORY : HEAPLAW_INVALID;
    enter(h, handle, size);
    return handle;
}

uint32_t heaplaw_abi(void) { return HEAPLAW_ABI; }

uint64_t heaplaw_capabilities(void)
{
    return HEAPLAW_PROMISES | HEAPLAW_ALIGNS | HEAPLAW_REALLOCS | HEAPLAW_HAS_BASE | HEAPLAW_HAS_USABLE
           | HEAPLAW_BATCHES;
}

uint64_t heaplaw_create(uint64_t arena)
{
    heap_t *h;
    if (!load() || !(h = pages(sizeof *h)))
        return 0;
    h->room = arena;
    h->slots = FIRST_SLOTS;
    h->table = pages(FIRST_SLOTS * sizeof *h->table);
#ifdef MALLOC_MI_ARENA
    h->own = mi_new_in(arena_id);
#elif MI
    h->own = mi_new();
#endif
    if (h->table && (!MI || h->own))
        return (uint64_t)(uintptr_t)h;
    munmap(h, sizeof *h);
    return 0;
}

void heaplaw_destroy(uint64_t heap)
{
    heap_t *h = heap_of(heap);
#if MI
    mi_destroy(h->own);
#else
    for (uint64_t i = 0; i < h->slots; i++)
        if (h->table[i].size)
            lib_free(place(h->table[i].handle));
#endif
    munmap(h->table, (size_t)(h->slots * sizeof *h->table));
    munmap(h, sizeof *h);
}

uint64_t heaplaw_alloc(uint64_t heap, uint64_t size)
{
    heap_t *h = heap_of(heap);
    uint64_t no = refused_here(h, size, h->used);
    if (no || (2 * h->live >= h->slots && !grow(h)))
        return no ? no : HEAPLAW_NO_MEMORY;
#if MI
    return entered(h, mi_malloc(h->own, (size_t)size), size);
#else
    return entered(h, lib_malloc((size_t)size), size);
#endif
}

uint64_t heaplaw_alloc_aligned(uint64_t heap, uint64_t size, uint64_t align)
{
    heap_t *h = heap_of(heap);
    uint64_t no = refused_here(h, size, h->used);
    void *p = NULL;
    if (no || (2 * h->live >= h->slots && !grow(h)))
        return no ? no : HEAPLAW_NO_MEMORY;
    if (align == 1 || align == 2 || align == 4) /* less than it may be asked for */
        align = sizeof(void *);
    if (align > SIZE_MAX || (MI && (!align || (align & (align - 1))))) /* its heaps promise nothing of these */
        return HEAPLAW_INVALID;
#if MI
    p = mi_memalign(h->own, (size_t)size, (size_t)align);
#else
    if (lib_memalign(&p, (size_t)align, (size_t)size) != 0)
        p = NULL;
#endif
    if (!p && (align == 0 || (align & (align - 1))))
        return HEAPLAW_INVALID;
    return entered(h, p, size);
}

uint32_t heaplaw_free(uint64_t heap, uint64_t handle)
{
    heap_t *h = heap_of(heap);
    slot *mine = slot_of(h, handle);
    if (!mine->size)
        return 1;
    leave(h, mine);
    lib_free(place(handle));
    return 0;
}

uint64_t heaplaw_realloc(uint64_t heap, uint64_t handle, uint64_t size)
{
    heap_t *h = heap_of(heap);
    slot *mine = slot_of(h, handle);
    uint64_t no;
    void *p;
    if (!mine->size || !size) /* to no bytes: libraries differ, and C23 leaves it open */
        return HEAPLAW_INVALID;
    if ((no = refused_here(h, size, h->used - (mine->size - 1))) != 0)
        return no;
#if MI
    p = mi_realloc(h->own, place(handle), (size_t)size);
#else
    p = lib_realloc(place(handle), (size_t)size);
#endif
    if (!p)
        return HEAPLAW_NO_MEMORY;
    leave(h, mine);
    return entered(h, p, size);
}

uint64_t heaplaw_base(uint64_t heap, uint64_t space)
{
    (void)heap;
    return space ? 0 : low;
}

uint64_t heaplaw_usable(uint64_t heap, uint64_t handle)
{
    (void)heap;
    return lib_usable(place(handle));
}

int64_t heaplaw_promise(uint64_t heap, uint32_t promise)
{
    static const int64_t limits[] = {8, 16, 24, 128, 1032, 8192, 14336, 65536, 131072, 262144, (int64_t)MOST};
    const heap_t *h = heap_of(heap);
    if (promise >= HEAPLAW_LIMIT && promise < HEAPLAW_LIMIT + sizeof limits / sizeof *limits)
        return limits[promise - HEAPLAW_LIMIT];
    switch (promise) {
    case HEAPLAW_ARENA:
        return (int64_t)reach;
    case HEAPLAW_MAX_SIZE:
    case HEAPLAW_DRAINED_SIZE:
        return (int64_t)(h->room < MOST ? h->room : MOST);
    case HEAPLAW_GRANULE:
        return MALLOC_QUANTUM;
    case HEAPLAW_MAX_ALIGN:
        return (int64_t)MOST_ALIGN;
    case HEAPLAW_REJECTS:
        return 2 | 4; /* beyond PTRDIFF_MAX, and alignments that are no power of two; malloc(0) is left open */
    case HEAPLAW_FLAGS:
        return HEAPLAW_FREE_THEN_ALLOC;
    default:
        return -1;
    }
}

HEAPLAW_DEFINE_BATCH(heaplaw_alloc_aligned, heaplaw_realloc)
