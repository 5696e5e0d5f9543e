"""Mutants that break no promise: nothing that a user of the allocator, or a law, could hold against them.

Either they change nothing at all, or what remains is another correct allocator; the reason says which.
A mutant is known by its module, the text of its line and the change, for line numbers would not last.

>>> module, why, changes = EQUIVALENT[0]
>>> isinstance(why, str) and all(len(change) == 2 for change in changes)
True
"""

Entry = tuple[str, str, tuple[tuple[str, str], ...]]
"""A module (``module:function``, where its line stands in others too), the reason, and (text of the line,
"before -> after"; ``*``: every change of the line)."""

_BEFORE_A_CALL = "read before the first call only, or of a call whose steps are not promised; the next call sets it"
_UNDERSTATED = "a cost or a size reported too low: what is promised is a bound from above"
_WITHIN = "a cost overstated by one that stays within the bound: only the bound is promised"
_GUARD = "a guard against structures that are broken already: it stops a walk, now a little earlier or later"
_MISUSE = "tells misuse from use, and no such misuse is promised to be noticed"
_EMPTY = "only a request for no bytes at all meets it, and no client makes one"
_ANY_NEGATIVE = "any negative number says that there is none"
_TOLD_ONCE = "one formula gives what is promised and what is reported"
_ORDER = "another order of a list: which of several fitting blocks is taken is policy, no promise"
_REDUNDANT = "what follows does the same again"
_SHORT_CUT = "a short cut: the long way comes to the same"

EQUIVALENT: tuple[Entry, ...] = (
    ("bits", "x | -x is minus the lowest bit, and as long", (
        ("return (x & -x).bit_length() - 1", "x & -x -> x | -x"),
    )),
    # ---- tlsf -------------------------------------------------------------------------------
    ("tlsf:__init__", _BEFORE_A_CALL, (("self._found = self._probed = self._scanned = 0", "0 -> 1"),)),
    ("tlsf", "the size that differs is refused in either case, and the same way", (
        ("adjusted = self._adjust(size) if size <= self._mask else 0  # no larger one fits in a word",
         "size <= self._mask -> size < self._mask"),
        ("block = self._take(wanted) if wanted < g.most else _NONE", "wanted < g.most -> wanted <= g.most"),
    )),
    ("tlsf", "marking the block free, which follows, keeps no bit of it but one that stays as it was", (
        ("self._words[0] = 0  # the block before counts as used; its back link would lie before the arena", "0 -> 1"),
        ("words[rest - 1] = 0  # stale bytes of the object so far", "0 -> 1"),
    )),
    ("tlsf", "another place within the same block, aligned as well; the search has left room for it", (
        ("if gap and gap < g.header:  # too short for a block: on to a boundary that leaves one",
         "gap < g.header -> gap <= g.header"),
    )),
    ("tlsf", "list 0 never has a block: the smallest one is three words", (
        ("if number < 0:", "number < 0 -> number <= 0"), ("if number < 0:", "0 -> 1"),
    )),
    ("tlsf", "which list a block stands on is read off the lists; a region says only that it is on one", (
        ("yield FreeRegion(0, block * word, size, (number >> sl, number & (1 << sl) - 1))",
         "(1 << sl) - 1 -> (1 << sl) + 1"),
    )),
    ("tlsf", _TOLD_ONCE, (
        ("return g.word * ((g.rows << g.sl) + g.rows + 1 + 2 * alignments)", "*"),
    )),
    ("tlsf", _UNDERSTATED, (
        ("in_place = self._word * (1 + len(list(self._walk())))",
         "self._word * (1 + len(list(self._walk()))) -> self._word // (1 + len(list(self._walk())))"),
    )),
    ("tlsf_lists", _BEFORE_A_CALL, (("self._scanned = 0", "0 -> 1"),)),
    ("tlsf_lists", _WITHIN, (("self._scanned = 1", "1 -> 2"), ("self._scanned = 2", "2 -> 3"))),
    ("tlsf_lists", _ANY_NEGATIVE, (("return -1", "1 -> 2"),)),
    ("tlsf", _GUARD, (
        ("block, limit = 1, self._arena >> bits", "self._arena >> bits -> self._arena << bits"),
    )),
    ("tlsf_lists", _GUARD, (("left -= 1", "1 -> 2"), ("if left < 0:", "*"))),
    ("tlsf_lists", "shows more or fewer bits that are right; where one is wrong, another line has been changed", (
        ("told.update([row for row in range(min(len(row_bits), rows.bit_length())) if rows >> row & 1])", "*"),
        ('yield ListBit(f"row {row}", tuple([(row, s) for s in range(1 << sl)]), bool(rows >> row & 1))', "1 -> 2"),
        ("if bits >> s & 1 or heads[row << sl | s]:", "bits >> s & 1 -> bits >> s | 1"),
        ("if bits >> s & 1 or heads[row << sl | s]:", "row << sl | s -> row << sl & s"),
    )),
    ("tlsf_mapping", "the size that differs is refused in either case, here or by a search past the last list", (
        ("return rounded if rounded < self.most else 0", "rounded < self.most -> rounded <= self.most"),
    )),
    ("tlsf_mapping", "the threshold begins a list: rounding it up leaves it as it is", (
        ("return self.insert(self.round_up(size) if size >= self.small else size)",
         "size >= self.small -> size > self.small"),
    )),
    # ---- xvmalloc ---------------------------------------------------------------------------
    ("xvmalloc:__init__", _BEFORE_A_CALL, (("self._found = self._scanned = self._probed = self._grown = 0", "*"),)),
    ("xvmalloc:free", _BEFORE_A_CALL, (("self._found = self._scanned = self._probed = self._grown = 0", "*"),)),
    ("xvmalloc", "offsets are multiples of four: the mask's lowest bit meets none", (
        ("self._page_shift, self._offset_mask = page_size.bit_length() - 1, page_size - 1", "1 -> 2"),
    )),
    ("xvmalloc", _UNDERSTATED, (
        ("self._scanned += 1", "self._scanned += 1 -> pass"),
        ("self._scanned += 1", "self._scanned += 1 -> self._scanned -= 1"),
        ("self._probed = 1", "self._probed = 1 -> pass"),
        ("return self._header * blocks, pool_bytes(self._page_size, self._header, self._bit_mask + 1)",
         "self._bit_mask + 1 -> self._bit_mask - 1"),
    )),
    ("xvmalloc", _WITHIN, (("self._scanned += 1", "1 -> 2"),)),
    ("xvmalloc", "block 0 is page 0 with offset 0: both branches give 0", (
        ("self._fields[block + self._offsets_at >> 1] = before & self._offset_mask if before >= 0 else 0",
         "before >= 0 -> before > 0"),
        ("self._fields[block + self._offsets_at + 2 >> 1] = after & self._offset_mask if after >= 0 else 0",
         "after >= 0 -> after > 0"),
    )),
    ("xvmalloc", "the offset of a link to no page is never read", (
        ("self._fields[block + self._offsets_at >> 1] = before & self._offset_mask if before >= 0 else 0", "0 -> 1"),
        ("self._fields[block + self._offsets_at + 2 >> 1] = after & self._offset_mask if after >= 0 else 0", "0 -> 1"),
    )),
    ("xvmalloc", "the links of a block that is on no list are never read, and set anew when it is listed", (
        ("self._set_before(block, _NONE)", "self._set_before(block, _NONE) -> pass"),
        ("self._set_after(block, _NONE)", "self._set_after(block, _NONE) -> pass"),
    )),
    ("xvmalloc", "shows more bits that are right; where one is wrong, another line has been changed", (
        ("if heads[index] != _NONE or of_word >> (index - first) & 1:",
         "of_word >> index - first & 1 -> of_word >> index - first | 1"),
        ("if heads[index] != _NONE or of_word >> (index - first) & 1:",
         "of_word >> index - first -> of_word << index - first"),
    )),
    ("xvmalloc", _GUARD, (
        ("if block + header + length > end:", "block + header + length -> block + header - length"),
        ("left = len(self._memory) // (LEAST + self._header)", "*"),
        ("if left < 0:", "*"),
    )),
    ("xvmalloc", _EMPTY, (("if at < 0 or length < 0 or at + length > usable:", "length < 0 -> length <= 0"),
                          ("if at < 0 or length < 0 or at + length > usable:", "0 -> 1"))),
    ("xvmalloc_index", "no block is larger than a page: the limit is met by none", (
        ("limited = size - (over & ~(over >> _SIGN))",
         "size - (over & ~(over >> _SIGN)) -> size + (over & ~(over >> _SIGN))"),
    )),
    ("xvmalloc_index", "below 32 bytes the search goes round to all lists, as it should", (
        ("short = size - LEAST", "size - LEAST -> size + LEAST"),
    )),
    # ---- buddy ------------------------------------------------------------------------------
    ("buddy", _BEFORE_A_CALL, (
        ("self._passed = 0  # zones that the last request looked at", "*"),
        ("self._looked = 0  # free lists that the watermarks of the last request looked at", "*"),
    )),
    ("buddy:alloc", _BEFORE_A_CALL, (("self._forget_steps()", "self._forget_steps() -> pass"),)),
    ("buddy:free", _BEFORE_A_CALL, (("self._forget_steps()", "self._forget_steps() -> pass"),)),
    ("buddy", _UNDERSTATED, (
        ("self._passed += 1", "self._passed += 1 -> self._passed -= 1"),
        ("self._passed += 1", "self._passed += 1 -> pass"),
        ("self._looked += 1", "self._looked += 1 -> pass"),
        ("self._looked += 1", "self._looked += 1 -> self._looked -= 1"),
        ("probed = self._looked + sum(zone.probed for zone in zones)",
         "self._looked + sum((zone.probed for zone in zones)) -> self._looked - sum((zone.probed for zone in zones))"),
    )),
    ("buddy", _MISUSE, (
        ("if misalignment(page + zone.start, order) or page + (1 << order) > zone.pages:", "1 << order -> 1 >> order"),
        ("if misalignment(page + zone.start, order) or page + (1 << order) > zone.pages:",
         "misalignment(page + zone.start, order) or page + (1 << or... -> "
         "misalignment(page + zone.start, order) and page + (1 << o..."),
    )),
    ("buddy:free", _MISUSE, (
        ("if not 0 < size <= self._largest:", "0 < size <= self._largest -> 0 <= size <= self._largest"),
        ("if zone.head[page] > 0:", "zone.head[page] > 0 -> zone.head[page] >= 0"),
    )),
    ("buddy:free_regions", "which list a block stands on is read off the lists; a region says only that it is on one", (
        ("size, several = self._page_size, len(self._zones) > 1", "1 -> 2"),
    )),
    ("buddy", _ANY_NEGATIVE, (("return -1", "1 -> 2"),)),
    ("buddy", _GUARD, (("elif mark < 0:", "0 -> 1"),)),
    ("buddy", _TOLD_ONCE, (("return here.pages * _PAGE_STRUCT + here.orders * _LIST_STRUCT * len(here.zones)", "*"),)),
    ("buddy_zone", _BEFORE_A_CALL, (
        ("self.found = 0  # pages of the block that the last request was cut from", "0 -> 1"),
        ("self.probed, self.splits, self.merges, self.found = 0, 0, order - first, 0", "*"),
        ("self.probed, self.splits, self.merges, self.found = self.orders - order, 0, 0, 0", "0 -> 1"),
    )),
    ("buddy_zone", _ANY_NEGATIVE, (("return -1", "1 -> 2"),)),
    ("buddy_zone", "halving a block of the right order does nothing", (
        ("if found > order:", "found > order -> found >= order"),
    )),
    ("buddy_zone", "the page is marked as a head, or lies inside a block, where marks are not asked for", (
        ("head[page] = 0", "0 -> 1"),
        ("self.head[page] = 0", "self.head[page] = 0 -> pass"),
    )),
    ("buddy_zone", _GUARD, (("for _ in range(self.pages + 1):", "1 -> 2"),)),
    ("buddy_zone", _ORDER, (
        ("if self.tail and self.buddy_merge_likely(pfn, order):", "*"),
        ("if order >= self.orders - 2:", "*"),
        ("return self.page_is_buddy(buddy_of(merged(pfn, order), order + 1) - self.start, order + 1)", "1 -> 2"),
        ("return 0 <= page < self.pages and self.head[page] == order + 1",
         "0 <= page < self.pages -> 0 < page < self.pages"),
        ("return 0 <= page < self.pages and self.head[page] == order + 1", "0 -> 1"),
        ("return 0 <= page < self.pages and self.head[page] == order + 1", "1 -> 2"),
        ("return 0 <= page < self.pages and self.head[page] == order + 1",
         "self.head[page] == order + 1 -> self.head[page] != order + 1"),
    )),
    ("buddy_zonelists", _SHORT_CUT, (
        ("return len(self.zones) == 1 and not self.zones[0].minimum",
         "not self.zones[0].minimum -> not not self.zones[0].minimum"),
        ("return len(self.zones) == 1 and not self.zones[0].minimum", "1 -> 2"),
    )),
    # ---- zsmalloc ---------------------------------------------------------------------------
    ("mapping_areas", _MISUSE, (
        ("if mapping is None or mapping.handle != handle:",
         "mapping is None or mapping.handle != handle -> mapping is None and mapping.handle != handle"),
    )),
    ("mapping_areas", _SHORT_CUT, (
        ("self.busy -= 1", "self.busy -= 1 -> self.busy += 1"),
        ("self.busy -= 1", "self.busy -= 1 -> pass"),
    )),
    ("zsmalloc", "what else may be wrong with the parameters is said by the contract", (
        ('if handles != cls._handles and handles in ("indirect", "direct"):',
         "handles in ('indirect', 'direct') -> handles not in ('indirect', 'direct')"),
    )),
    ("zsmalloc:__init__", _BEFORE_A_CALL, (("self._probed = self._taken = self._moved = self._copied = 0", "*"),)),
    ("zsmalloc:maintain", _BEFORE_A_CALL, (("self._probed = self._taken = self._moved = self._copied = 0", "*"),)),
    ("zsmalloc", "overwritten before it is read: a page belongs to no zspage yet", (
        ("self._huge_handle = [0] * pages  # tagged handle of a huge object, by page", "0 -> 1"),
        ("self._huge_handle[page] = 0  # the page goes back at once: no link is needed",
         "self._huge_handle[page] = 0 -> pass"),
        ("self._zspage_of[page] = None", "self._zspage_of[page] = None -> pass"),
    )),
    ("zsmalloc", "a pool that was destroyed is not used again", (
        ("zspage.owner.remove(zspage)", "*"), ("zspage.owner.used -= zspage.inuse", "*"),
    )),
    ("zsmalloc", _WITHIN, (("self._probed = 1", "1 -> 2"),)),
    ("zsmalloc", _UNDERSTATED, (
        ("self._probed = 2", "self._probed = 2 -> pass"),
        ("self._taken = kind.pages", "self._taken = kind.pages -> pass"),
        ("self._copied += size", "*"),
        ("cells = sum(owner.used for owner in owners) * self._word",
         "sum((owner.used for owner in owners)) * self._word -> sum((owner.used for owner in owners)) // self._word"),
    )),
    ("zsmalloc", "the zspage comes from no list and goes to its own with its first object, which follows", (
        ("owner.insert(zspage, EMPTY)", "owner.insert(zspage, EMPTY) -> pass"),
    )),
    ("zsmalloc", _EMPTY, (
        ("if at < 0 or length < 0 or at + length > kind.payload:", "length < 0 -> length <= 0"),
    )),
    ("zsmalloc", _MISUSE, (
        ("if at < 0 or length < 0 or at + length > kind.payload:",
         "at < 0 or length < 0 or at + length > kind.payload -> "
         "at < 0 and length < 0 and (at + length > kind.payload)"),
    )),
    ("zsmalloc", _GUARD, (
        ("for _ in range(kind.objects + 1):", "1 -> 2"),
        ("if index >= kind.objects:", "index >= kind.objects -> index > kind.objects"),
    )),
    ("zsmalloc", "calls come with a circumstance wherever CPUs are told apart", (
        ("mapping = self._areas.open(ctx.cpu if ctx is not None else 0, handle, mode, len(slot) > 1)", "0 -> 1"),
    )),
    ("zsmalloc_direct", _GUARD, (("for _ in range(zspage.kind.objects + 1):", "1 -> 2"),)),
    ("zsmalloc_classes", "said of a class, and used by none of the steps", (
        ("self.tail = pages * page_size - self.objects * size  # bytes that no object reaches", "*"),
    )),
    ("zsmalloc_zspages", _ORDER, (
        ("if first is not before and zspage.inuse < first.inuse:", "*"),
    )),
)  # fmt: skip
