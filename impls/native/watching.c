/* Does operations on a native heap and asks the local laws about each of them, at the speed of C.
 *
 * It knows what was asked and answered and nothing else: a table of blocks by name, and a map with a bit for each
 * granule that a live block covers.  What it objects to is only a suspicion; the checker runs the same operations
 * again and has the last word.  Built by watching.py; handles must be offsets in space 0. */
#include "heaplaw.h"

#include <string.h>

/* ---- read by watching.py ---- begin */
typedef struct {
    uint64_t handle, size, length, align;
    uint32_t live, known, changed, where; /* known: the checker has it; changed: since it was last told */
} watch_block;

typedef struct {
    uint64_t heap, base, reach, granule, shift, largest, max_align; /* base 0: contents cannot be read */
    int64_t slack, permille, serves_gap, edges, edges_block; /* -1: not promised */
    uint64_t flags;
    uint64_t (*alloc)(uint64_t, uint64_t);
    uint64_t (*aligned)(uint64_t, uint64_t, uint64_t); /* those that a library lacks are null */
    uint64_t (*resize)(uint64_t, uint64_t, uint64_t);
    uint32_t (*give)(uint64_t, uint64_t);
    uint32_t (*give_sized)(uint64_t, uint64_t, uint64_t);
    uint64_t (*usable)(uint64_t, uint64_t);
    uint64_t (*edges_taken)(void);
    watch_block *blocks;
    uint64_t names;
    uint64_t *map;     /* a bit for each granule from `shift` before byte 0 on, and a word more */
    uint32_t *changes; /* names, each once; room for all of them */
    uint32_t *alive;   /* names of live blocks, which know where they stand in it */
    uint64_t changed, live, served, refused, touched, owed, again;
    uint64_t freed_size; /* of the operation before, if it was a free; otherwise 0 */
    uint32_t suspects;   /* of enum watch_law */
} watch;

enum watch_law {
    WATCH_NONE, WATCH_RETURNS, WATCH_DISJOINT, WATCH_IN_BOUNDS, WATCH_ALIGNED, WATCH_BIG_ENOUGH, WATCH_CONTENTS,
    WATCH_ZEROED, WATCH_WASTE_BOUND, WATCH_HANDLE_STABLE, WATCH_NO_SPURIOUS_REFUSAL, WATCH_FREE_THEN_ALLOC,
    WATCH_SEARCH_BOUNDED
};

/* Does operations until one is suspicious; how many were done.  Alloc, free and resize; others do nothing. */
uint64_t watch_run(watch *w, const heaplaw_op *ops, uint64_t count);

/* Looks at every live block; 0, or 1 for a suspicion. */
uint32_t watch_all(watch *w);

/* What changed since it was last asked, six words each: name, live, handle, size, align, length.  How many. */
uint64_t watch_changes(watch *w, uint64_t *words);
/* ---- end */

enum { SMALL = 256, SAMPLE = 64 };

static uint64_t mixed(uint64_t x) /* splitmix64 */
{
    x += UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    return x ^ (x >> 31);
}

static uint64_t pattern(const watch *w, const watch_block *b, uint64_t word)
{
    return mixed((uint64_t)(b - w->blocks) << 32 | word);
}

static char *bytes_of(const watch *w, const watch_block *b) { return (char *)(uintptr_t)(w->base + b->handle); }

/* Fill the bytes [from, to) of a block. */
static void fill(const watch *w, const watch_block *b, uint64_t from, uint64_t to)
{
    char *bytes = bytes_of(w, b);
    uint64_t at = from, value, n;
    while (at < to) {
        value = pattern(w, b, at / 8) >> at % 8 * 8;
        n = 8 - at % 8 < to - at ? 8 - at % 8 : to - at;
        memcpy(bytes + at, &value, n);
        at += n;
    }
}

static int holds(const watch *w, const watch_block *b, uint64_t from, uint64_t to)
{
    const char *bytes = bytes_of(w, b);
    uint64_t at = from, value, n;
    while (at < to) {
        value = pattern(w, b, at / 8) >> at % 8 * 8;
        n = 8 - at % 8 < to - at ? 8 - at % 8 : to - at;
        if (memcmp(bytes + at, &value, n) != 0)
            return 0;
        at += n;
    }
    return 1;
}

/* Bits [from, to) of the map: is one set?  Set or clear them. */
static uint64_t mask(uint64_t word, uint64_t from, uint64_t to)
{
    uint64_t bits = ~UINT64_C(0);
    if (from > word * 64)
        bits &= ~UINT64_C(0) << (from - word * 64);
    if (to < word * 64 + 64)
        bits &= ~(~UINT64_C(0) << (to - word * 64));
    return bits;
}

static int any(const watch *w, uint64_t from, uint64_t to)
{
    uint64_t word;
    for (word = from / 64; word * 64 < to; word++)
        if (w->map[word] & mask(word, from, to))
            return 1;
    return 0;
}

/* The granule that a place lies in; granules are counted where alignment is judged. */
static uint64_t granule_of(const watch *w, uint64_t place) { return (place + w->shift) / w->granule; }

static void mark(watch *w, const watch_block *b, int set)
{
    uint64_t from = granule_of(w, b->handle), to = granule_of(w, b->handle + b->length + w->granule - 1), word;
    for (word = from / 64; word * 64 < to; word++)
        if (set)
            w->map[word] |= mask(word, from, to);
        else
            w->map[word] &= ~mask(word, from, to);
}

static uint32_t suspect(watch *w, uint32_t law) { return w->suspects = law; }

static void note(watch *w, watch_block *b)
{
    if (!b->changed) {
        b->changed = 1;
        w->changes[w->changed++] = (uint32_t)(b - w->blocks);
    }
}

/* Is a block where it may be, and as long as it may be?  Its place is free in the map. */
static uint32_t place(watch *w, watch_block *b)
{
    uint64_t end, most;
    b->length = w->usable ? w->usable(w->heap, b->handle) : b->size;
    end = b->handle + b->length;
    if (end > w->reach || end < b->handle)
        return suspect(w, WATCH_IN_BOUNDS);
    if (b->length && any(w, granule_of(w, b->handle), granule_of(w, end + w->granule - 1)))
        return suspect(w, WATCH_DISJOINT);
    if ((b->handle + w->shift) % w->granule || (b->align > 1 && (b->handle + w->shift) % b->align))
        return suspect(w, WATCH_ALIGNED);
    if (b->length < b->size)
        return suspect(w, WATCH_BIG_ENOUGH);
    if (w->usable && (w->slack >= 0 || w->permille >= 0)) {
        most = (uint64_t)(w->slack > 0 ? w->slack : 0);
        if (w->permille > 0)
            most += b->size / 1000 * (uint64_t)w->permille + b->size % 1000 * (uint64_t)w->permille / 1000;
        if (b->length - b->size > most + (b->align > w->granule ? b->align : 0))
            return suspect(w, WATCH_WASTE_BOUND);
    }
    mark(w, b, 1);
    return 0;
}

/* A live block keeps its place and what was written to it; whole when small, at the edges otherwise. */
static uint32_t touch(watch *w, const watch_block *b)
{
    w->touched++;
    if (w->usable && w->usable(w->heap, b->handle) != b->length)
        return suspect(w, WATCH_HANDLE_STABLE);
    if (w->base && (b->size <= SMALL ? !holds(w, b, 0, b->size)
                                     : !holds(w, b, 0, SAMPLE) || !holds(w, b, b->size - SAMPLE, b->size)))
        return suspect(w, WATCH_CONTENTS);
    return 0;
}

/* Is there a gap of so many granules?  What a word holds of free bits is looked at bit by bit only if it is mixed. */
static int has_gap(const watch *w, uint64_t granules)
{
    uint64_t at = granule_of(w, w->granule - 1), run = 0, all = granule_of(w, w->reach), bits;
    while (at < all) {
        bits = w->map[at / 64] >> at % 64;
        if (bits == 0) {
            run += 64 - at % 64;
            at += 64 - at % 64;
        } else if (bits & 1) {
            run = 0;
            at++;
        } else {
            run++;
            at++;
        }
        if (at > all) {
            run -= run < at - all ? run : at - all;
            at = all;
        }
        if (run >= granules)
            return 1;
    }
    return 0;
}

static uint32_t refused(watch *w, const heaplaw_op *op, uint64_t answer, uint64_t freed)
{
    uint64_t align = op->align > w->granule ? op->align : 0, need;
    w->refused++;
    if (answer < HEAPLAW_WOULD_BLOCK)
        return suspect(w, WATCH_RETURNS);
    if ((w->flags & HEAPLAW_FREE_THEN_ALLOC) && freed && freed == op->size && !align) {
        w->again++;
        return suspect(w, WATCH_FREE_THEN_ALLOC);
    }
    if (w->serves_gap < 0 || op->size == 0 || op->size > w->largest || op->align > w->max_align)
        return 0;
    w->owed++;
    need = (op->size + w->granule - 1) / w->granule * w->granule + align + (uint64_t)w->serves_gap;
    return has_gap(w, (need + w->granule - 1) / w->granule) ? suspect(w, WATCH_NO_SPURIOUS_REFUSAL) : 0;
}

static uint32_t settle(watch *w, watch_block *b)
{
    uint64_t i;
    if (place(w, b))
        return w->suspects;
    if (w->base && (w->flags & HEAPLAW_ZEROED))
        for (i = 0; i < b->size; i++)
            if (bytes_of(w, b)[i])
                return suspect(w, WATCH_ZEROED);
    if (w->base)
        fill(w, b, 0, b->size);
    return 0;
}

static uint32_t do_alloc(watch *w, const heaplaw_op *op, uint64_t freed)
{
    watch_block *b = w->blocks + op->name;
    uint64_t before = w->edges_taken ? w->edges_taken() : 0, taken;
    int aligned = w->aligned && op->align != 1;
    uint64_t answer = aligned ? w->aligned(w->heap, op->size, op->align) : w->alloc(w->heap, op->size);
    taken = w->edges_taken ? w->edges_taken() - before : 0;
    if (w->edges >= 0 && taken > (uint64_t)(w->edges + w->edges_block * (int64_t)(w->live + 1)))
        return suspect(w, WATCH_SEARCH_BOUNDED);
    if (answer >= HEAPLAW_TOP)
        return refused(w, op, answer, freed);
    b->handle = answer;
    b->size = op->size;
    b->align = aligned ? op->align : 1;
    b->live = 1;
    b->where = (uint32_t)w->live;
    w->alive[w->live++] = op->name;
    w->served++;
    if (freed && freed == op->size && b->align <= w->granule)
        w->again++;
    note(w, b);
    return settle(w, b);
}

static uint32_t do_free(watch *w, watch_block *b)
{
    if (touch(w, b))
        return w->suspects;
    if (w->give_sized ? w->give_sized(w->heap, b->handle, b->size) : w->give(w->heap, b->handle))
        return suspect(w, WATCH_RETURNS);
    mark(w, b, 0);
    b->live = 0;
    w->alive[b->where] = w->alive[--w->live];
    w->blocks[w->alive[b->where]].where = b->where;
    w->freed_size = b->size;
    note(w, b);
    return 0;
}

static uint32_t do_resize(watch *w, watch_block *b, uint64_t size)
{
    uint64_t answer, kept = size < b->size ? size : b->size;
    if (touch(w, b))
        return w->suspects;
    answer = w->resize(w->heap, b->handle, size);
    if (answer >= HEAPLAW_TOP) { /* the old object is as it was */
        w->refused++;
        return answer < HEAPLAW_WOULD_BLOCK ? suspect(w, WATCH_RETURNS) : touch(w, b);
    }
    mark(w, b, 0);
    b->handle = answer;
    b->size = size;
    if (!(w->flags & HEAPLAW_REALLOC_ALIGNS))
        b->align = 1;
    note(w, b);
    if (place(w, b))
        return w->suspects;
    if (w->base && !holds(w, b, 0, kept))
        return suspect(w, WATCH_CONTENTS);
    if (w->base)
        fill(w, b, kept, size);
    return 0;
}

uint64_t watch_run(watch *w, const heaplaw_op *ops, uint64_t count)
{
    uint64_t i;
    for (i = 0; i < count && !w->suspects; i++) {
        const heaplaw_op *op = ops + i;
        const uint64_t freed = w->freed_size;
        watch_block *b;
        w->freed_size = 0;
        if (op->name >= w->names)
            continue;
        b = w->blocks + op->name;
        if (op->kind == HEAPLAW_OP_ALLOC && !b->live)
            do_alloc(w, op, freed);
        else if (op->kind == HEAPLAW_OP_FREE && b->live)
            do_free(w, b);
        else if (op->kind == HEAPLAW_OP_REALLOC && b->live && w->resize && op->size)
            do_resize(w, b, op->size);
    }
    return i;
}

uint32_t watch_all(watch *w)
{
    uint64_t i;
    for (i = 0; i < w->live; i++)
        if (touch(w, w->blocks + w->alive[i]))
            return 1;
    return 0;
}

uint64_t watch_changes(watch *w, uint64_t *words)
{
    uint64_t i, n = 0;
    for (i = 0; i < w->changed; i++) {
        watch_block *b = w->blocks + w->changes[i];
        if (b->known || b->live) { /* otherwise it was born and died in between */
            const uint64_t told[6] = {w->changes[i], b->live, b->handle, b->size, b->align, b->length};
            memcpy(words + 6 * n++, told, sizeof told);
        }
        b->known = b->live;
        b->changed = 0;
    }
    w->changed = 0;
    return n;
}
