"""Contracts on the pure functions of the specification and of the allocators, for CrossHair to confirm.

Each function below calls the very function that its docstring names under ``about``, and says in the lines ``pre``
and ``post`` what must be so before and after, as in PEP 316.  Of the ways of writing contracts that CrossHair
reads this is the one where a precondition that nothing meets is told from a proof ("Unable to meet precondition").
Where plain ``assert`` statements stand for both, it is "Confirmed over all paths" as of version 0.0.112, and of two
asserts at the head of a function the second is assumed instead of proved.  Decorators would be a dependency.

A contract is confirmed where its function asks of symbolic integers what CrossHair has words for: sums, products,
comparisons, ``//``, ``%``, shifts by a constant, ``bit_length`` and masks of low bits.  ``| ^ ~`` and other masks make
it try one value after the other, so the functions built on them (TLSF's mapping, xvmalloc's indexes, buddies,
encoding a location) are no matter for contracts: the theorems on bit-vectors are about those.

>>> from heaplaw.properties.proofs.pep316 import read
>>> contract = read(kmalloc_serves)
>>> contract.about, contract.post
('heaplaw.impls.kmalloc_classes.kmalloc_class', ('size <= __return__ <= 8192',))
"""

from heaplaw import operations
from heaplaw.impls import (
    afmalloc_pieces,
    bits,
    kmalloc_classes,
    nta_bits,
    pages_arithmetic,
    percpu_backing,
    slab_geometry,
    slub_order,
    srog_promises,
    tlsf_mapping,
    xvmalloc_index,
    zsmalloc_classes,
)

# ---- the specification ----------------------------------------------------------------------


def names_are_read_back(birth: int) -> int:
    """The name of a request, read back, is the request's number: names of one and of two letters.

    about: heaplaw.operations.birth_name
    pre: 0 <= birth < 26 + 26 * 26
    post: __return__ == birth
    """
    return operations.birth_number(operations.birth_name(birth))


# ---- bits and pages -------------------------------------------------------------------------


def highest_bit_is_the_power_below(x: int) -> int:
    """The highest bit of a 64-bit word is the power of two that the word lies above, and not twice that.

    about: heaplaw.impls.bits.highest_bit
    pre: 0 < x < 2**64
    post: 2**__return__ <= x < 2 * 2**__return__
    """
    return bits.highest_bit(x)


def aligned_up_is_the_next_multiple(x: int) -> int:
    """What is aligned up to 16 is the next multiple of 16; every x below 64 is tried.

    about: heaplaw.impls.bits.align_up
    pre: 0 <= x < 64
    post: x <= __return__ < x + 16
    post: __return__ % 16 == 0
    """
    return bits.align_up(x, 16)


def order_is_the_least_that_holds(size: int) -> int:
    """The order for a size is one whose pages hold it, and no lower one does.

    about: heaplaw.impls.pages_arithmetic.get_order
    pre: 0 < size < 2**48
    post: size <= 4096 * 2**__return__
    post: __return__ == 0 or size > 2048 * 2**__return__
    """
    return pages_arithmetic.get_order(size, 12)


def misalignment_leads_to_a_block(pfn: int, order: int) -> int:
    """Below any page, by its misalignment, a block of the order may begin, and none is nearer.

    about: heaplaw.impls.pages_arithmetic.misalignment
    pre: 0 <= pfn < 2**52
    pre: 0 <= order <= 10
    post: 0 <= __return__ < 2**order
    post: (pfn - __return__) % 2**order == 0
    """
    return pages_arithmetic.misalignment(pfn, order)


# ---- TLSF and xvmalloc ----------------------------------------------------------------------


def levels_below_are_masked(levels: int, level: int) -> int:
    """Of a word of levels, those that a search begins below are gone and the others stay, past the word's end too.

    about: heaplaw.impls.tlsf_mapping.from_level
    pre: 0 <= levels < 2**32
    pre: 0 <= level <= 34
    post: 0 <= levels - __return__ < 2**level
    post: __return__ % 2**level == 0
    """
    return tlsf_mapping.from_level(levels, level)


def lists_begin_where_the_count_says(index: int) -> int:
    """If the largest payload is the least of a list, that list is the last one.

    about: heaplaw.impls.xvmalloc_index.free_lists
    pre: 0 <= index < 2**28
    post: __return__ == index + 1
    """
    return xvmalloc_index.free_lists(xvmalloc_index.list_start(index))


# ---- kmalloc, SLAB, SLUB --------------------------------------------------------------------


def kmalloc_serves(size: int) -> int:
    """The class for a request is as large as the request.

    about: heaplaw.impls.kmalloc_classes.kmalloc_class
    pre: 0 < size <= 8192
    post: size <= __return__ <= 8192
    """
    return kmalloc_classes.kmalloc_class(size)


def kmalloc_wastes_less_than_half(size: int) -> int:
    """From 5 bytes on, less than half of the class is wasted.

    about: heaplaw.impls.kmalloc_classes.kmalloc_class
    pre: 4 < size <= 8192
    post: __return__ < 2 * size
    """
    return kmalloc_classes.kmalloc_class(size)


def kmalloc_is_monotone(size: int) -> tuple[int, int]:
    """A larger request gets no smaller class.

    about: heaplaw.impls.kmalloc_classes.kmalloc_class
    pre: 0 < size < 8192
    post: __return__[0] <= __return__[1]
    """
    return kmalloc_classes.kmalloc_class(size), kmalloc_classes.kmalloc_class(size + 1)


def kmalloc_wants_the_aligned_classes(size: int) -> int:
    """Where DMA asks for 128 bytes of alignment every class is a multiple of 128.

    about: heaplaw.impls.kmalloc_classes.kmalloc_index
    pre: 0 < size <= 8192
    post: size <= __return__
    post: __return__ % 128 == 0
    """
    return kmalloc_classes.index_size(kmalloc_classes.kmalloc_index(size, 128))


def eras_agree(size: int) -> tuple[int, int]:
    """SLAB's classes of 2005 and of 6.1 are the same, with cache lines of 32 bytes.

    about: heaplaw.impls.kmalloc_classes.class_of_2005
    pre: 0 < size <= 8192
    post: __return__[0] == __return__[1]
    """
    return kmalloc_classes.kmalloc_class(size, 32), kmalloc_classes.class_of_2005(size, line=32)


def slots_and_rest_are_the_slab(total: int, size: int) -> tuple[int, int]:
    """Slots with their index and what is left over are the slab, and no further slot would fit.

    about: heaplaw.impls.slab_geometry.cache_estimate
    pre: 4096 <= total <= 2**22
    pre: 8 <= size <= 2**22
    post: __return__[0] * (size + 2) + __return__[1] == total
    post: 0 <= __return__[1] < size + 2
    """
    return slab_geometry.cache_estimate(total, size, 2)


def batches_are_no_larger_than_limits(size: int, cpus: int) -> tuple[int, int, int]:
    """What a CPU fetches at once fits into what it may keep, and one CPU shares with nobody.

    about: heaplaw.impls.slab_geometry.cpu_limits
    pre: 0 < size <= 2**22
    pre: 1 <= cpus <= 64
    post: 1 <= __return__[1] <= __return__[0]
    post: __return__[2] == 0 or (cpus > 1 and size <= 4096)
    """
    return slab_geometry.cpu_limits(size, cpus)


def index_of_a_slab_is_served(length: int) -> int:
    """What holds a slab's index is as long as the index, in a class or in whole pages.

    about: heaplaw.impls.slab_geometry.freelist_cache_size
    pre: 0 < length <= 2**24
    post: length <= __return__ <= 2 * length + 32
    """
    return slab_geometry.freelist_cache_size(length)


def slabs_hold_an_object(size: int) -> int:
    """A slab of the order that SLUB chooses holds an object, of the costly order at most where that is enough.

    about: heaplaw.impls.slub_order.calculate_order
    pre: 8 <= size <= 32768
    post: size <= 4096 * 2**__return__
    post: 0 <= __return__ <= 3
    """
    return slub_order.calculate_order(size)


def nodes_keep_some_slabs(size: int) -> int:
    """A node keeps 5 to 10 slabs with free objects.

    about: heaplaw.impls.slub_order.min_partial
    pre: 0 < size < 2**32
    post: 5 <= __return__ <= 10
    """
    return slub_order.min_partial(size)


# ---- zsmalloc and afmalloc ------------------------------------------------------------------


def zsmalloc_serves(size: int) -> int:
    """A slot of the class for a request holds it and the handle word; whole pages keep that word elsewhere.

    about: heaplaw.impls.zsmalloc_classes.class_index
    pre: 0 < size <= 4096
    post: min(size + 8, 4096) <= __return__ <= 4096
    """
    return zsmalloc_classes.class_size(zsmalloc_classes.class_index(size, 8, 16, 254), 4096, 16)


def zsmalloc_indexes_stay_in_the_table(size: int) -> int:
    """The index of the class for a request of a page or less is one of the table's.

    about: heaplaw.impls.zsmalloc_classes.class_index
    pre: 0 < size <= 4096
    post: 0 <= __return__ <= 254
    """
    return zsmalloc_classes.class_index(size, 8, 16, zsmalloc_classes.last_index(4096, 16))


def locations_lose_nothing(location: int) -> tuple[int, int]:
    """Page and index of a location and its tag bit make up the location again.

    about: heaplaw.impls.zsmalloc_classes.decode_location
    pre: 0 <= location < 2**64
    post: 0 <= __return__[1] < 2**23
    post: (__return__[0] * 2**23 + __return__[1]) * 2 + location % 2 == location
    """
    return zsmalloc_classes.decode_location(location, 23)


def handles_lose_nothing(handle: int) -> tuple[int, int]:
    """Page and index of a handle of before 4.1 make up the handle again, and what is no handle has an index of -1.

    about: heaplaw.impls.zsmalloc_classes.handle_to_location
    pre: 0 <= handle < 2**64
    post: -1 <= __return__[1] < 2**24 - 1
    post: __return__[0] * 2**24 + __return__[1] + 1 == handle
    """
    return zsmalloc_classes.handle_to_location(handle, 24)


def fuller_is_no_emptier_group(inuse: int, objects: int) -> tuple[int, int]:
    """One object more does not put a zspage into an emptier group.

    about: heaplaw.impls.zsmalloc_classes.fullness_group
    pre: 0 < objects <= 4096
    pre: 0 <= inuse < objects
    post: __return__[0] <= __return__[1]
    """
    return zsmalloc_classes.fullness_group(inuse, objects), zsmalloc_classes.fullness_group(inuse + 1, objects)


def used_share_is_a_percentage(size: int, pages: int) -> int:
    """The used share of a chain is above 50 percent and at most 100.

    about: heaplaw.impls.zsmalloc_classes.used_percent
    pre: 32 <= size <= 4096
    pre: 1 <= pages <= 4
    post: 50 <= __return__ <= 100
    """
    return zsmalloc_classes.used_percent(size, pages, 4096)


def power_below(n: int) -> int:
    """The power of two that a piece is cut by is at most the length and more than half of it.

    about: heaplaw.impls.afmalloc_pieces.rounddown_pow_of_two
    pre: 0 < n < 2**64
    post: __return__ <= n < 2 * __return__
    """
    return afmalloc_pieces.rounddown_pow_of_two(n)


def last_piece_holds_the_rest(length: int) -> int:
    """The last piece holds all that remains, is no smaller than the smallest, and less than twice what it must be.

    about: heaplaw.impls.afmalloc_pieces.last_piece
    pre: 0 < length < 2**32
    post: max(length, 32) <= __return__ < 2 * max(length, 32)
    """
    return afmalloc_pieces.last_piece(length)


# ---- percpu, NTA, SROG ----------------------------------------------------------------------


def slots_grow_with_sizes(size: int) -> tuple[int, int]:
    """A chunk with more free bytes stands on no lower slot, and by one slot higher at most for one byte more.

    about: heaplaw.impls.percpu_backing.size_to_slot
    pre: 0 < size < 2**24
    post: 1 <= __return__[0] <= __return__[1] <= __return__[0] + 1
    """
    return percpu_backing.size_to_slot(size), percpu_backing.size_to_slot(size + 1)


def runs_end_at_a_clear_bit(mask: int, pos: int) -> int:
    """The run down from a bit is of set bits only, and ends at bit 0 or above a clear bit: bitmaps of 6 bits.

    about: heaplaw.impls.nta_bits.run_down
    pre: 0 <= mask < 2**6
    pre: 0 <= pos < 6
    post: 0 <= __return__ <= pos + 1
    post: mask // 2 ** (pos + 1 - __return__) % 2**__return__ == 2**__return__ - 1
    post: __return__ == pos + 1 or mask // 2 ** (pos - __return__) % 2 == 0
    """
    return nta_bits.run_down(mask, pos)


def srog_pages_hold_the_object(whole: int) -> int:
    """The pages for an object hold it and the head, in words of 32 bits, as long as the published sums do not wrap.

    about: heaplaw.impls.srog_promises.order_for
    pre: 0 < whole < 2**32 - 4095 - 28
    post: whole + 28 <= 4096 * 2**__return__
    """
    return srog_promises.order_for(whole, 4096, 2**32 - 1)
