/* heaplaw.h: how an allocator in C, C++, Rust or Zig is given to heaplaw.
 *
 * A shared library that exports the six required functions below is a target:
 *
 *     cc -shared -fPIC -o libmine.so mine.c adapter.c && heaplaw check ./libmine.so
 *
 * Everything else is optional; heaplaw_capabilities() says what there is.  The more a library shows, the more
 * laws are asked.  Integers only: a place is an offset in bytes from the start of the heap's memory, an object
 * is its offset or a dense number of yours, a heap is a number.  Nothing is called back; buffers belong to the
 * caller.  One thread calls.  Link the library's own code into it: no function here needs a libheaplaw.
 *
 * C99 and C++; everything is in this one file.  ABI 1: functions and numbers are only ever added.
 */
#ifndef HEAPLAW_H
#define HEAPLAW_H

#include <stdint.h>

#define HEAPLAW_ABI 1

/* Refusals, in place of a handle.  No handle is one of the top 16 numbers; 0 is a handle like any other. */
#define HEAPLAW_NO_MEMORY UINT64_C(0xFFFFFFFFFFFFFFFF)
#define HEAPLAW_INVALID UINT64_C(0xFFFFFFFFFFFFFFFE)     /* the request makes no sense: no bytes, odd alignment */
#define HEAPLAW_TOO_BIG UINT64_C(0xFFFFFFFFFFFFFFFD)     /* above the largest size that is ever served */
#define HEAPLAW_WOULD_BLOCK UINT64_C(0xFFFFFFFFFFFFFFFC) /* an atomic request that needs to sleep */
#define HEAPLAW_NOT_DONE UINT64_C(0xFFFFFFFFFFFFFFFB)    /* results of a batch: this operation was not reached, or
                                                            was skipped (its object does not exist) */
#define HEAPLAW_TOP UINT64_C(0xFFFFFFFFFFFFFFF0)         /* handles lie below */

/* Bits of heaplaw_capabilities().  A bit promises the functions named beside it. */
#define HEAPLAW_PROMISES UINT64_C(0x1)      /* heaplaw_promise */
#define HEAPLAW_ALIGNS UINT64_C(0x2)        /* heaplaw_alloc_aligned */
#define HEAPLAW_REALLOCS UINT64_C(0x4)      /* heaplaw_realloc */
#define HEAPLAW_FREES_SIZED UINT64_C(0x8)   /* heaplaw_free_sized, called in place of heaplaw_free */
#define HEAPLAW_HAS_BASE UINT64_C(0x10)     /* heaplaw_base: contents are written and compared */
#define HEAPLAW_HAS_USABLE UINT64_C(0x20)   /* heaplaw_usable */
#define HEAPLAW_HAS_EXTENTS UINT64_C(0x40)  /* heaplaw_extents, asked in place of heaplaw_usable */
#define HEAPLAW_MAINTAINS UINT64_C(0x80)    /* heaplaw_maintain, heaplaw_schema */
#define HEAPLAW_OBSERVES UINT64_C(0x100)    /* heaplaw_observe, heaplaw_schema */
#define HEAPLAW_CHECKS UINT64_C(0x200)      /* heaplaw_check */
#define HEAPLAW_BATCHES UINT64_C(0x400)     /* heaplaw_batch (see HEAPLAW_DEFINE_BATCH) */
#define HEAPLAW_CONFIGURES UINT64_C(0x800)  /* heaplaw_configure, heaplaw_schema */
#define HEAPLAW_CONTEXTUAL UINT64_C(0x1000) /* heaplaw_context */
#define HEAPLAW_MAPS UINT64_C(0x2000)       /* heaplaw_map, heaplaw_unmap */
#define HEAPLAW_FAILS_PAGES UINT64_C(0x4000) /* heaplaw_fail_pages; shows HEAPLAW_SOURCE and HEAPLAW_PAGES */

#ifdef __cplusplus
extern "C" {
#endif
#if defined(__GNUC__)
#pragma GCC visibility push(default) /* exported whatever -fvisibility says */
#endif

/* ---- what follows up to the end mark is read by heaplaw as well: plain declarations only ---- begin */

/* What heaplaw_promise is asked.  It answers -1 where the library promises nothing.  Bytes everywhere. */
enum heaplaw_promise_id {
    HEAPLAW_ARENA = 1,          /* bytes of each space; not promised: what heaplaw_create was given */
    HEAPLAW_MIN_SIZE = 2,       /* a fresh heap serves every size from MIN_SIZE (not promised: 1) ... */
    HEAPLAW_MAX_SIZE = 3,       /* ... up to MAX_SIZE (not promised: the whole arena) */
    HEAPLAW_GRANULE = 4,        /* every block starts at a multiple of this */
    HEAPLAW_MAX_ALIGN = 5,      /* largest alignment that heaplaw_alloc_aligned may be asked for (not promised: 4096) */
    HEAPLAW_ORIGIN = 6,         /* alignment in space 0 is judged at ORIGIN + offset; 0: at the offset, wherever the
                                   memory lies; not promised: at the address, or at the offset if the CPU cannot
                                   read it.  Have the memory at the same distance from a boundary of MAX_ALIGN in
                                   every run, and runs repeat */
    HEAPLAW_OPAQUE = 7,         /* 1: a handle is any number; otherwise it is the block's offset in space 0 */
    HEAPLAW_HEADER = 8,         /* bytes between two neighbouring blocks, live or free */
    HEAPLAW_PROLOGUE = 9,       /* bytes before the first block */
    HEAPLAW_EPILOGUE = 10,      /* bytes after the last one */
    HEAPLAW_FLAGS = 11,         /* of enum heaplaw_flag, added; not promised: 0 */
    HEAPLAW_REJECTS = 12,       /* requests that are refused: 1 zero bytes, 2 above MAX_SIZE, 4 odd alignments */
    HEAPLAW_DETECTS = 13,       /* bad frees that are noticed: 1 double, 2 foreign, 4 interior, 8 wrong size */
    HEAPLAW_DRAINED_SIZE = 14,  /* this much can be had again when everything was freed */
    HEAPLAW_SERVES_GAP = 15,    /* a request is served if there is a gap between live blocks as long as the size,
                                   rounded up to the granule, plus the alignment if above it, plus this */
    HEAPLAW_SLACK = 16,         /* a block is longer than asked for by at most SLACK bytes ... */
    HEAPLAW_SLACK_PERMILLE = 17, /* ... plus this many thousandths of the size, plus an alignment above the granule */
    HEAPLAW_METADATA_HEAP = 18, /* metadata of a heap is at most this many bytes ... */
    HEAPLAW_METADATA_BLOCK = 19, /* ... plus this many for each live block */
    HEAPLAW_CPUS = 20,          /* heaplaw_context may name CPUs 0 .. CPUS-1 */
    HEAPLAW_GROUPS = 21,        /* and groups 1 .. GROUPS */
    HEAPLAW_MAPPINGS = 22,      /* objects that may be mapped at once on a CPU; not promised: any number */
    HEAPLAW_MOVING = 23,        /* kinds of maintenance, a bit each, that may move objects */
    HEAPLAW_EVICTING = 24,      /* kinds of maintenance that may end objects */
    HEAPLAW_EDGES = 25,         /* a call of alloc takes at most EDGES edges of its code ... */
    HEAPLAW_EDGES_BLOCK = 26,   /* ... plus this many for each live block.  Asked where edges are counted; how many
                                   there are depends on how the library is optimised */
    HEAPLAW_PAGE_SIZE = 27,     /* bytes of a page; promised: space 0 is the memory of pages that are taken and
                                   given back, and HEAPLAW_PAGES shows which; not promised: spaces are arenas */
    HEAPLAW_DRAINED_PAGES = 28, /* most pages held when everything was freed */
    HEAPLAW_LIMIT = 1000,       /* + i, until -1: sizes worth asking for: class limits and thresholds */
    HEAPLAW_LIST_FROM = 2000,   /* + i, until -1, growing: list i is for free regions of this length or more */
    HEAPLAW_MOST = 3000,        /* + n: HEAPLAW_COST's number named n is at most this after a call of alloc */
    HEAPLAW_HINT_SLACK = 4000   /* + n: HEAPLAW_HINTS' hint named n lags behind the truth by at most this */
};

enum heaplaw_flag {
    HEAPLAW_REALLOC_ALIGNS = 1,  /* resizing keeps the alignment that was asked for */
    HEAPLAW_ZEROED = 2,          /* a fresh block is all zero */
    HEAPLAW_DETERMINISTIC = 4,   /* the same calls give the same answers */
    HEAPLAW_SLACK_GROWS = 8,     /* a live block may grow when its neighbour is split or merged */
    HEAPLAW_MERGES = 16,         /* two free neighbours never stay apart */
    HEAPLAW_FREE_THEN_ALLOC = 32, /* what was freed can be had again at once */
    HEAPLAW_PINNED = 64          /* an object that is mapped stays where it is */
};

/* ---- required ---- */

uint32_t heaplaw_abi(void); /* HEAPLAW_ABI */
uint64_t heaplaw_capabilities(void);
uint64_t heaplaw_create(uint64_t arena); /* a heap over so many bytes: its address, or any number but 0;
                                            0: there is no such heap */
void heaplaw_destroy(uint64_t heap);     /* gives everything back; what is live ends */
uint64_t heaplaw_alloc(uint64_t heap, uint64_t size);    /* a handle or a refusal */
uint32_t heaplaw_free(uint64_t heap, uint64_t handle);   /* 0 done, 1 noticed that this is no object */

/* ---- optional, by capability ---- */

int64_t heaplaw_promise(uint64_t heap, uint32_t promise);
uint64_t heaplaw_alloc_aligned(uint64_t heap, uint64_t size, uint64_t align);
uint64_t heaplaw_realloc(uint64_t heap, uint64_t handle, uint64_t size); /* refused: the old object is as it was */
uint32_t heaplaw_free_sized(uint64_t heap, uint64_t handle, uint64_t size);
uint64_t heaplaw_base(uint64_t heap, uint64_t space); /* address of byte 0 of a space, the same as long
                                                         as the heap lives; 0: the CPU cannot read it */
uint64_t heaplaw_usable(uint64_t heap, uint64_t handle); /* bytes of a live block, slack included */
uint32_t heaplaw_check(uint64_t heap);                   /* 0, or a number of yours for what is wrong */
uint32_t heaplaw_configure(uint32_t parameter, int64_t value); /* for heaps made from now on; 0, or 1: no such value */
void heaplaw_context(uint64_t heap, uint32_t cpu, uint32_t atomic, uint32_t group); /* holds until the next one */
uint32_t heaplaw_map(uint64_t heap, uint64_t handle); /* 0 done */
uint32_t heaplaw_unmap(uint64_t heap, uint64_t handle);
void heaplaw_fail_pages(uint64_t heap, uint32_t order, uint64_t count); /* the next `count` requests for pages of this
                                                                           order or more fail; 0 0: none any more */

/* Edges of the library's code that were taken so far: defined by heaplaw's edges.c, which --source links in. */
uint64_t heaplaw_edges(void);

/* Functions that write words: no more than `room` of them; the answer is how many there are.  Where that is more
 * than `room`, the caller asks again with more.  A word is a signed number in 64 bits. */

/* The pieces of a live object: space, start, length; space, start, length; ... */
uint64_t heaplaw_extents(uint64_t heap, uint64_t handle, int64_t *words, uint64_t room);

/* What maintenance of a kind did: pages freed, objects moved, then the handle of each object that it ended. */
uint64_t heaplaw_maintain(uint64_t heap, uint32_t kind, int64_t *words, uint64_t room);

/* Records of what heaplaw_schema(kind) describes, one after the other, read from the allocator's own structures. */
uint64_t heaplaw_observe(uint64_t heap, uint32_t kind, int64_t *words, uint64_t room);

/* Text that describes the records of a kind, in ASCII, at most `room` bytes and not ended by a zero; the answer is
 * its length, 0 where this kind is not shown.  The first line names the columns of a record, in the order of its
 * words.  A further line "COLUMN: ZERO ONE TWO" names the values of a column. */
uint64_t heaplaw_schema(uint32_t kind, char *text, uint64_t room);

/* Kinds of records, with the columns that heaplaw knows.  A column that is left out is 0 (list: no list, -1);
 * columns of your own are shown to people and compared between two implementations.  Names stand in a further line
 * of the schema: "name: free_bytes live_objects". */
enum heaplaw_kind {
    HEAPLAW_BLOCKS = 1,    /* handle space start length          live objects, as the allocator's structures have them */
    HEAPLAW_REGIONS = 2,   /* space start length list            free stretches; list -1: on no list by design */
    HEAPLAW_LISTS = 3,     /* list space start                   members met while walking the lists; or list key,
                              where members are no free regions but numbered containers */
    HEAPLAW_HINTS = 4,     /* name space start length value direction quantity at room
                              a guess `value` about the region [start, start+length), see the enums below;
                              at, room: the place that is claimed to be free; room 0: names none */
    HEAPLAW_BITS = 5,      /* space start unit units bits        bit i set: `unit` bytes at start + i*unit are live;
                              at most 64 units a record */
    HEAPLAW_LIST_BITS = 6, /* bit set list                       a bit that claims: one of its lists is not empty;
                              a record for each list of a bit */
    HEAPLAW_COUNTERS = 7,  /* name value                         free_bytes used_bytes live_objects free_blocks
                              largest_free requested_bytes pages ... are recounted */
    HEAPLAW_METADATA = 8,  /* in_place out_of_band               bytes of metadata */
    HEAPLAW_COST = 9,      /* name value                         steps of the last call; "found": bytes of the region
                              that the search settled on */
    HEAPLAW_PAGES = 10,    /* first order                        runs of pages lent, by the books of who lends them */
    HEAPLAW_SOURCE = 11,   /* given refused injected highest free
                              since the start: pages given back, requests for pages refused, how many of those by
                              heaplaw_fail_pages, the highest order asked for; and pages that could be had now */
    HEAPLAW_CLAIMED = 12,  /* first count                        runs of pages that the allocator's structures hold */
    HEAPLAW_MAINTENANCE = 32, /* schema only: a line of names    kinds of maintenance 0, 1, ... */
    HEAPLAW_PARAMETERS = 33,  /* schema only: a line of names    parameters 0, 1, ... of heaplaw_configure */
    HEAPLAW_OWN = 64          /* and above: what you like */
};

enum heaplaw_direction { HEAPLAW_LOWER = 0, HEAPLAW_UPPER = 1, HEAPLAW_EXACT = 2 }; /* the hint's side of the truth */

enum heaplaw_quantity {
    HEAPLAW_LONGEST_FREE = 0,  /* the longest free run of the region */
    HEAPLAW_FREE = 1,          /* its free bytes */
    HEAPLAW_FIRST_FREE = 2,    /* its first free position, from its start */
    HEAPLAW_FREE_AT_START = 3, /* the free run at its start */
    HEAPLAW_FREE_AT_END = 4    /* the free run at its end */
};

/* An operation of a batch; `name` is an index into the table of handles. */
typedef struct heaplaw_op {
    uint32_t kind; /* of enum heaplaw_op_kind */
    uint32_t name;
    uint64_t size;
    uint64_t align; /* 0 or 1: none is asked for */
    uint64_t mode;  /* alloc: 1 atomic, 2*g in group g; maintain: which kind; on_cpu: which CPU */
} heaplaw_op;

enum heaplaw_op_kind {
    HEAPLAW_OP_NOP = 0,
    HEAPLAW_OP_ALLOC = 1,
    HEAPLAW_OP_FREE = 2,
    HEAPLAW_OP_REALLOC = 3,
    HEAPLAW_OP_MAINTAIN = 8,
    HEAPLAW_OP_ON_CPU = 10
};

/* Do `count` operations in one call; answers how many were done.  An alloc puts its answer in handles[name]; a free
 * or resize takes its object from there, is skipped where it finds a refusal, and a free leaves HEAPLAW_NOT_DONE.
 * results[i] is written as soon as operation i has answered: the handle or refusal, or what heaplaw_free said. */
uint64_t heaplaw_batch(uint64_t heap, const heaplaw_op *ops, uint64_t count, uint64_t *handles, uint64_t *results);

/* ---- end */

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif

/* For adapters: the answer of heaplaw_schema, from a string. */
static inline uint64_t heaplaw_say(const char *says, char *text, uint64_t room)
{
    uint64_t n = 0;
    for (; says[n] != 0; n++)
        if (n < room)
            text[n] = says[n];
    return n;
}

/* For adapters: append a word to what heaplaw_observe and its like answer; `n` counts them. */
static inline uint64_t heaplaw_put(int64_t word, int64_t *words, uint64_t room, uint64_t n)
{
    if (n < room)
        words[n] = word;
    return n + 1;
}

/* HEAPLAW_DEFINE_BATCH(heaplaw_alloc_aligned, heaplaw_realloc) on a line of its own defines heaplaw_batch by the
 * library's own functions; HEAPLAW_NEVER stands for one that it has not.  Modes, maintenance and sized frees are
 * none of its business: a library that has these writes its own. */
#define HEAPLAW_NEVER(heap, handle, size) HEAPLAW_INVALID
#define HEAPLAW_DEFINE_BATCH(ALIGNED, REALLOC)                                                                       \
    uint64_t heaplaw_batch(uint64_t heap, const heaplaw_op *ops, uint64_t count, uint64_t *handles,      \
                           uint64_t *results)                                                                        \
    {                                                                                                                \
        uint64_t i;                                                                                                  \
        for (i = 0; i < count; i++) {                                                                                \
            const heaplaw_op *op = ops + i;                                                                          \
            uint64_t *handle = handles + op->name, answer = HEAPLAW_NOT_DONE;                                        \
            if (op->kind == HEAPLAW_OP_ALLOC) {                                                                      \
                *handle = answer = op->align > 1 ? ALIGNED(heap, op->size, op->align) : heaplaw_alloc(heap, op->size); \
            } else if (op->kind == HEAPLAW_OP_FREE && *handle < HEAPLAW_TOP) {                                       \
                answer = heaplaw_free(heap, *handle);                                                                \
                *handle = HEAPLAW_NOT_DONE;                                                                          \
            } else if (op->kind == HEAPLAW_OP_REALLOC && *handle < HEAPLAW_TOP) {                                    \
                answer = REALLOC(heap, *handle, op->size);                                                           \
                if (answer < HEAPLAW_TOP)                                                                            \
                    *handle = answer;                                                                                \
            }                                                                                                        \
            results[i] = answer;                                                                                     \
        }                                                                                                            \
        return count;                                                                                                \
    }

#endif
