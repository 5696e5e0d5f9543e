#include "allocator.h"

static char *bytes_of(const block *b) { return (char *)b + HEADER; }

block *heap_next(const heap *h, const block *b)
{
    char *at = b ? bytes_of(b) + b->length : h->start;
    return at < h->end ? (block *)(void *)at : NULL;
}

void heap_begin(heap *h, void *memory, size_t bytes)
{
    block *first = memory;
    h->start = memory;
    h->end = h->start + bytes;
    first->length = bytes - HEADER;
    first->live = 0;
}

void *heap_alloc(heap *h, size_t size)
{
    size_t length = (size + STEP - 1) / STEP * STEP;
    block *b, *rest;
    if (!size || length < size)
        return NULL;
    for (b = heap_next(h, NULL); b; b = heap_next(h, b))
        if (!b->live && b->length >= length)
            break;
    if (!b)
        return NULL;
    if (b->length >= length + HEADER + STEP) { /* [ b | rest ] => [ b ][ rest ] */
        rest = (block *)(void *)(bytes_of(b) + length);
        rest->length = b->length - length - HEADER;
        rest->live = 0;
        b->length = length;
    }
    b->live = 1;
    return bytes_of(b);
}

void heap_free(heap *h, void *object)
{
    block *b = (block *)(void *)((char *)object - HEADER), *next = heap_next(h, b), *before;
    b->live = 0;
    if (next && !next->live)
        b->length += HEADER + next->length;
    for (before = heap_next(h, NULL); before && heap_next(h, before) != b; before = heap_next(h, before))
        ;
    if (before && !before->live)
        before->length += HEADER + b->length;
}
