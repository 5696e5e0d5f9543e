#include "first_fit.h"

#include <string.h>

typedef struct { /* lies in the bytes of a free block */
    ff_block *next, *previous;
} links;

static size_t length_of(const ff_block *b) { return b->length & ~(size_t)1; }
static int is_free(const ff_block *b) { return (int)(b->length & 1); }
static char *bytes_of(const ff_block *b) { return (char *)b + FF_HEADER; }
static links *links_of(const ff_block *b) { return (links *)(void *)bytes_of(b); }
static ff_block *block_of(const void *object) { return (ff_block *)(void *)((char *)object - FF_HEADER); }

static ff_block *after(const ff_heap *heap, const ff_block *b)
{
    char *end = bytes_of(b) + length_of(b);
    return end < heap->end ? (ff_block *)(void *)end : NULL;
}

static void unlist(ff_heap *heap, ff_block *b)
{
    links *mine = links_of(b);
    if (mine->next)
        links_of(mine->next)->previous = mine->previous;
    if (mine->previous)
        links_of(mine->previous)->next = mine->next;
    else
        heap->free = mine->next;
    heap->free_bytes -= length_of(b);
    b->length &= ~(size_t)1;
}

/* Put a block on the list behind the last free one that lies before it.  O(free blocks). */
static void list(ff_heap *heap, ff_block *b)
{
    ff_block *previous = NULL, *next = heap->free;
    while (next && next < b) {
        previous = next;
        next = links_of(next)->next;
    }
    links_of(b)->previous = previous;
    links_of(b)->next = next;
    if (next)
        links_of(next)->previous = b;
    if (previous)
        links_of(previous)->next = b;
    else
        heap->free = b;
    heap->free_bytes += length_of(b);
    if (length_of(b) > heap->most)
        heap->most = length_of(b);
    b->length |= 1;
}

/* [ b  |    rest    ]  =>  [ b ][ rest ], neither of them listed */
static ff_block *split(ff_heap *heap, ff_block *b, size_t length)
{
    ff_block *rest = (ff_block *)(void *)(bytes_of(b) + length), *next = after(heap, b);
    rest->length = length_of(b) - length - FF_HEADER;
    rest->before = b;
    b->length = length;
    if (next)
        next->before = rest;
    return rest;
}

/* [ b ][ next ]  =>  [    b    ], neither of them listed */
static void merge(ff_heap *heap, ff_block *b, const ff_block *next)
{
    ff_block *behind = after(heap, next);
    b->length += FF_HEADER + length_of(next);
    if (behind)
        behind->before = b;
}

/* Give a block that is on no list back, with its free neighbours. */
static void release(ff_heap *heap, ff_block *b)
{
    ff_block *next = after(heap, b), *before = b->before;
    if (next && is_free(next)) {
        unlist(heap, next);
        merge(heap, b, next);
    }
    if (before && is_free(before)) {
        unlist(heap, before);
        merge(heap, before, b);
        b = before;
    }
    list(heap, b);
}

static void trim(ff_heap *heap, ff_block *b, size_t length)
{
    if (length_of(b) >= length + FF_HEADER + FF_STEP)
        release(heap, split(heap, b, length));
}

int ff_begin(ff_heap *heap, void *memory, size_t bytes)
{
    ff_block *first = memory;
    bytes &= ~(size_t)(FF_STEP - 1);
    if (bytes < FF_HEADER + FF_STEP || (size_t)memory % FF_STEP)
        return -1;
    memset(heap, 0, sizeof *heap);
    heap->start = memory;
    heap->end = heap->start + bytes;
    first->length = bytes - FF_HEADER;
    first->before = NULL;
    list(heap, first);
    return 0;
}

/* Bytes to leave free at the front of a block, so that what follows is aligned: none, or room for a block. */
static size_t lead(const ff_block *b, size_t align)
{
    size_t at = (size_t)bytes_of(b), gap = (align - at % align) % align;
    return gap == 0 || gap >= FF_HEADER + FF_STEP ? gap : gap + align;
}

void *ff_alloc(ff_heap *heap, size_t size, size_t align)
{
    size_t length = (size + FF_STEP - 1) & ~(size_t)(FF_STEP - 1), most = 0, front;
    ff_block *b;
    heap->found = 0;
    if (align < FF_STEP)
        align = FF_STEP;
    if (length < size || length > heap->most)
        return NULL;
    for (b = heap->free; b; b = links_of(b)->next) {
        front = lead(b, align);
        if (length_of(b) >= front && length_of(b) - front >= length)
            break;
        if (length_of(b) > most)
            most = length_of(b);
    }
    if (!b) {
        heap->most = most; /* the search has seen them all */
        return NULL;
    }
    heap->found = length_of(b);
    unlist(heap, b);
    if (front) {
        ff_block *rest = split(heap, b, front - FF_HEADER);
        list(heap, b);
        b = rest;
    }
    trim(heap, b, length);
    heap->live++;
    return bytes_of(b);
}

int ff_free(ff_heap *heap, void *object)
{
    ff_block *b = block_of(object);
    if ((char *)object < heap->start + FF_HEADER || (char *)object >= heap->end || is_free(b))
        return -1;
    heap->live--;
    release(heap, b);
    return 0;
}

void *ff_resize(ff_heap *heap, void *object, size_t size)
{
    size_t length = (size + FF_STEP - 1) & ~(size_t)(FF_STEP - 1);
    ff_block *b = block_of(object), *next = after(heap, b);
    void *moved;
    if (length < size)
        return NULL;
    if (length > length_of(b) && next && is_free(next) && length_of(b) + FF_HEADER + length_of(next) >= length) {
        unlist(heap, next);
        merge(heap, b, next);
    }
    if (length <= length_of(b)) {
        trim(heap, b, length);
        return object;
    }
    moved = ff_alloc(heap, size, 1);
    if (moved) {
        memcpy(moved, object, length_of(b));
        ff_free(heap, object);
    }
    return moved;
}

size_t ff_usable(const void *object) { return length_of(block_of(object)); }

const ff_block *ff_next_free(const ff_heap *heap, const ff_block *block)
{
    return block ? links_of(block)->next : heap->free;
}
