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
_FARTHER = "hints that say less, though truly: a search begins elsewhere or takes another fitting place"
_REDUNDANT = "what follows does the same again"
_DESCRIBED = "it describes the machine, to the zones and to the promises alike: another machine, as well run"
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
        ("for s in [s for s, head in enumerate(filled) if head or bits >> s & 1]:", "bits >> s & 1 -> bits >> s | 1"),
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
        ("if misalignment(page + zone.start, order) or page + (1 << order) > zone.pages:",
         "page + (1 << order) -> page - (1 << order)"),
    )),
    ("buddy:free", _MISUSE, (
        ("if not 0 < size <= self._largest:", "0 < size <= self._largest -> 0 <= size <= self._largest"),
        ("if zone.head[page] > 0:", "zone.head[page] > 0 -> zone.head[page] >= 0"),
    )),
    ("buddy:free_regions", "which list a block stands on is read off the lists; a region says only that it is on one", (
        ("size, several = self._page_size, len(self._zones) > 1", "1 -> 2"),
        ("size, several = self._page_size, len(self._zones) > 1", "len(self._zones) > 1 -> len(self._zones) >= 1"),
    )),
    ("buddy", _ANY_NEGATIVE, (("return -1", "1 -> 2"),)),
    ("buddy", _GUARD, (
        ("elif mark < 0:", "0 -> 1"),
        ("if mark >= 0:", "mark >= 0 -> mark > 0"),
        ("if mark >= 0:", "0 -> 1"),
        ("if mark > 0:", "mark > 0 -> mark >= 0"),
        ("elif mark < 0:", "mark < 0 -> mark <= 0"),
    )),
    ("buddy", _TOLD_ONCE, (
        ("return here.pages * _PAGE_STRUCT + here.orders * _LIST_STRUCT * len(here.zones)", "*"),
        ("return max(order for zone in here.zones for _, order in cover(here.start + zone.first, "
         "zone.pages, here.orders))",
         "here.start + zone.first -> here.start - zone.first"),
    )),
    ("buddy_zone", _BEFORE_A_CALL, (
        ("self.found = 0  # pages of the block that the last request was cut from", "0 -> 1"),
        ("self.probed, self.splits, self.merges, self.found = 0, 0, order - first, 0", "*"),
        ("self.probed, self.splits, self.merges, self.found = self.orders - order, 0, 0, 0", "0 -> 1"),
        ("self.probed = self.splits = self.merges = 0  # steps of the last operation",
         "self.probed = self.splits = self.merges = 0 -> pass"),
        ("self.probed = self.splits = self.merges = 0  # steps of the last operation", "0 -> 1"),
        ("self.found = 0  # pages of the block that the last request was cut from", "self.found = 0 -> pass"),
    )),
    ("buddy_zone", _ANY_NEGATIVE, (("return -1", "1 -> 2"),)),
    ("buddy_zone", "halving a block of the right order does nothing", (
        ("if found > order:", "found > order -> found >= order"),
    )),
    ("buddy_zone", "the page is marked as a head, or lies inside a block, where marks are not asked for", (
        ("head[page] = 0", "0 -> 1"),
        ("self.head[page] = 0", "self.head[page] = 0 -> pass"),
        ("head[page] = 0", "head[page] = 0 -> pass"),
        ("self.head[page] = 0", "0 -> 1"),
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
        ("return self.page_is_buddy(buddy_of(merged(pfn, order), order + 1) - self.start, order + 1)",
         "buddy_of(merged(pfn, order), order + 1) - self.start -> buddy_of(merged(pfn, order), order + "
         "1) + self.start"),
        ("return self.page_is_buddy(buddy_of(merged(pfn, order), order + 1) - self.start, order + 1)",
         "order + 1 -> order - 1"),
        ("return 0 <= page < self.pages and self.head[page] == order + 1", "order + 1 -> order - 1"),
    )),
    ("buddy_zonelists", _SHORT_CUT, (
        ("return len(self.zones) == 1 and not self.zones[0].minimum",
         "not self.zones[0].minimum -> not not self.zones[0].minimum"),
        ("return len(self.zones) == 1 and not self.zones[0].minimum", "1 -> 2"),
    )),
    ("buddy_zone:buddy_merge_likely", _ORDER, (("return False", "False -> True"),)),
    ("buddy:_zone_watermark_ok", "whether there is a block is asked again by the search in the zone, "
     "and a zone without one is passed", (
        ("if order == 0:", "order == 0 -> order != 0"),
        ("if order == 0:", "0 -> 1"),
        ("self._looked += 1", "1 -> 2"),
    )),
    ("buddy_zonelists", _DESCRIBED, (
        ("check_numbers(1, pages=pages, page_size=page_size, orders=orders, nodes=nodes)",
         "check_numbers(1, pages=pages, page_size=page_size, orders... -> pass"),
        ("check_numbers(0, start=start, dma=dma, min_free=min_free, ratio=ratio)",
         "check_numbers(0, start=start, dma=dma, min_free=min_free,... -> pass"),
        ("if orders > MAX_ORDERS:", "orders > MAX_ORDERS -> orders >= MAX_ORDERS"),
        ("if share < 1 or dma >= share:", "share < 1 or dma >= share -> share < 1 and dma >= share"),
        ("if share < 1 or dma >= share:", "share < 1 -> share <= 1"),
        ("if share < 1 or dma >= share:", "1 -> 2"),
        ("if share < 1 or dma >= share:", "dma >= share -> dma > share"),
        ("extents = [(0, _DMA_NAME, 0, dma)] if dma else []", "0 -> 1"),
        ("minimum = min_free * count // pages", "min_free * count -> min_free // count"),
        ("low = minimum + max(minimum // 4, count * _SCALE // _SCALE_OF)", "minimum // 4 -> minimum * 4"),
        ("low = minimum + max(minimum // 4, count * _SCALE // _SCALE_OF)", "4 -> 5"),
        ("low = minimum + max(minimum // 4, count * _SCALE // _SCALE_OF)",
         "count * _SCALE // _SCALE_OF -> count * _SCALE * _SCALE_OF"),
        ("low = minimum + max(minimum // 4, count * _SCALE // _SCALE_OF)", "count * _SCALE -> count // _SCALE"),
        ("above = sum(n for where, other, _, n in extents if where == node and other != name) if name == "
         "_DMA_NAME else 0",
         "name == _DMA_NAME -> name != _DMA_NAME"),
        ("above = sum(n for where, other, _, n in extents if where == node and other != name) if name == "
         "_DMA_NAME else 0",
         "where == node and other != name -> where == node or other != name"),
        ("above = sum(n for where, other, _, n in extents if where == node and other != name) if name == "
         "_DMA_NAME else 0",
         "where == node -> where != node"),
        ("above = sum(n for where, other, _, n in extents if where == node and other != name) if name == "
         "_DMA_NAME else 0",
         "other != name -> other == name"),
        ("above = sum(n for where, other, _, n in extents if where == node and other != name) if name == "
         "_DMA_NAME else 0",
         "0 -> 1"),
        ("zones.append(ZonePlan(node, name, first, count, minimum, low, above // ratio if ratio else 0))",
         "above // ratio -> above * ratio"),
        ("lists = tuple(tuple(_zonelist(zones, nodes, node, flags) for flags in range(FLAGS + 1)) for "
         "node in range(nodes))",
         "1 -> 2"),
        ("dma = flags & DMA and zones[0].name == _DMA_NAME",
         "flags & DMA and zones[0].name == _DMA_NAME -> flags & DMA or zones[0].name == _DMA_NAME"),
        ("dma = flags & DMA and zones[0].name == _DMA_NAME", "flags & DMA -> flags | DMA"),
        ("dma = flags & DMA and zones[0].name == _DMA_NAME",
         "zones[0].name == _DMA_NAME -> zones[0].name != _DMA_NAME"),
        ("if zones[index].node == wanted and (not dma or zones[index].name == _DMA_NAME)",
         "zones[index].name == _DMA_NAME -> zones[index].name != _DMA_NAME"),
        ("return here.zonelists[cpu % here.nodes][group & FLAGS]", "cpu % here.nodes -> cpu // here.nodes"),
        ("return mark if flags & DMA else mark + zone.lowmem_reserve", "flags & DMA -> flags | DMA"),
        ("mark -= mark // 2", "2 -> 3"),
        ("return mark - mark // 4", "mark - mark // 4 -> mark + mark // 4"),
        ("return mark - mark // 4", "4 -> 5"),
    )),
    # ---- zsmalloc ---------------------------------------------------------------------------
    ("mapping_areas", _MISUSE, (
        ("if mapping is None or mapping.handle != handle:",
         "mapping is None or mapping.handle != handle -> mapping is None and mapping.handle != handle"),
    )),
    ("mapping_areas", _SHORT_CUT, (
        ("self.busy -= 1", "self.busy -= 1 -> self.busy += 1"),
        ("self.busy -= 1", "self.busy -= 1 -> pass"),
        ("self.busy = 0  # CPUs that have a mapping", "0 -> 1"),
    )),
    ("zsmalloc", "what else may be wrong with the parameters is said by the contract", (
        ('if handles != cls._handles and handles in ("indirect", "direct"):',
         "handles in ('indirect', 'direct') -> handles not in ('indirect', 'direct')"),
    )),
    ("zsmalloc:__init__", _BEFORE_A_CALL, (("self._probed = self._taken = self._moved = self._copied = 0", "*"),)),
    ("zsmalloc:free", _BEFORE_A_CALL, (("self._probed = self._taken = self._moved = self._copied = 0", "*"),)),
    ("zsmalloc:maintain", _BEFORE_A_CALL, (("self._probed = self._taken = self._moved = self._copied = 0", "*"),)),
    ("zsmalloc", "overwritten before it is read: a page belongs to no zspage yet", (
        ("self._huge_handle = [0] * pages  # tagged handle of a huge object, by page", "0 -> 1"),
        ("self._huge_handle[page] = 0  # the page goes back at once: no link is needed",
         "self._huge_handle[page] = 0 -> pass"),
        ("self._huge_handle[page] = 0  # the page goes back at once: no link is needed", "0 -> 1"),
        ("self._huge_handle[page] = 0", "*"),
        ("self._zspage_of[page] = None", "self._zspage_of[page] = None -> pass"),
    )),
    ("zsmalloc", "a pool that was destroyed is not used again", (
        ("zspage.owner.remove(zspage)", "*"), ("zspage.owner.used -= zspage.inuse", "*"),
        ("self._areas.restore(())", "*"),
    )),
    ("zsmalloc", _WITHIN, (("self._probed = 1", "1 -> 2"),)),
    ("zsmalloc:alloc", _WITHIN, (("self._probed = self._taken = self._moved = self._copied = 0", "0 -> 1"),)),
    ("zsmalloc", _UNDERSTATED, (
        ("self._probed = 1", "self._probed = 1 -> pass"),
        ("self._probed = 2", "self._probed = 2 -> pass"),
        ("self._taken = kind.pages", "self._taken = kind.pages -> pass"),
        ("self._copied += size", "*"),
        ("return inside, cells * self._word + sum(ZSPAGE_STRUCT for _ in self._zspages())",
         "cells * self._word + sum((ZSPAGE_STRUCT for _ in self._zs... -> "
         "cells * self._word - sum((ZSPAGE_STRUCT for _ in self._zs..."),
        ("return inside, cells * self._word + sum(ZSPAGE_STRUCT for _ in self._zspages())",
         "cells * self._word -> cells // self._word"),
    )),
    ("zsmalloc", _SHORT_CUT, (("self._classes[index] = owner", "self._classes[index] = owner -> pass"),)),
    ("zsmalloc", "the first cell is vacant for ever, which is asked next", (
        ("if handle % _CELL or not 0 < cell < len(self._cells) or self._cells[cell] == _VACANT:",
         "0 < cell < len(self._cells) -> 0 <= cell < len(self._cells)"),
    )),
    ("zsmalloc", "the zspage comes from no list and goes to its own with its first object, which follows", (
        ("owner.insert(zspage, EMPTY)", "owner.insert(zspage, EMPTY) -> pass"),
    )),
    ("zsmalloc", "never done: the others always have room for all objects of the zspage that is emptied", (
        ("break", "break -> continue"),
    )),
    ("zsmalloc", "moves objects though no page comes free of it: how many are moved is not promised", (
        ("if owner.allocated - owner.used < objects:", "owner.allocated - owner.used -> owner.allocated + owner.used"),
    )),
    ("zsmalloc", "through the calls that read and write, an object looks the same in a buffer and in its pages", (
        ("mapping = self._areas.open((ctx or _ANYWHERE).cpu, handle, mode, len(slot) > 1)", "1 -> 2"),
        ("mapping = self._areas.open((ctx or _ANYWHERE).cpu, handle, mode, len(slot) > 1)",
         "len(slot) > 1 -> len(slot) >= 1"),
    )),
    ("zsmalloc", _EMPTY, (
        ("if not 0 <= at <= at + length <= kind.payload:",
         "0 <= at <= at + length <= kind.payload -> 0 <= at < at + length <= kind.payload"),
    )),
    ("zsmalloc", _GUARD, (
        ("for _ in range(kind.objects + 1):", "1 -> 2"),
        ("if index >= kind.objects:", "index >= kind.objects -> index > kind.objects"),
    )),
    ("zsmalloc_direct", _GUARD, (("for _ in range(zspage.kind.objects + 1):", "1 -> 2"),)),
    ("zsmalloc_direct:_free_slots", _GUARD, (
        ("if not 0 <= index < len(slots):", "0 <= index < len(slots) -> 0 <= index <= len(slots)"),
    )),
    ("zsmalloc_direct:_find_object", _MISUSE, (
        ("if not 0 <= index < len(slots):", "0 <= index < len(slots) -> 0 <= index <= len(slots)"),
        ("zspage = self._zspage_of[page] if 0 <= page < len(self._zspage_of) else None",
         "0 <= page < len(self._zspage_of) -> 0 <= page <= len(self._zspage_of)"),
    )),
    ("zsmalloc_direct", "nothing is promised of what an object holds before it is written", (
        ("self._words[word] = _POISON_INUSE[self._word]", "self._words[word] = _POISON_INUSE[self._word] -> pass"),
    )),
    ("zsmalloc_classes", "said of a class, and used by none of the steps", (
        ("self.tail = pages * page_size - self.objects * size  # bytes that no object reaches", "*"),
    )),
    ("zsmalloc_classes", "less than a step in either case: the first class", (
        ("return min(last, max(0, size + header - MIN_SIZE + step - 1) // step)", "0 -> 1"),
    )),
    ("zsmalloc_classes", "shows fewer bits that are right; where one is wrong, another line has been changed", (
        ("return len(slots) - (self.offset_of[slots[-1]] + self.size > page_size)",
         "self.offset_of[slots[-1]] + self.size > page_size -> self.offset_of[slots[-1]] + self.size >= page_size"),
    )),
    ("zsmalloc_zspages", _ORDER, (
        ("if first is not before and zspage.inuse < first.inuse:", "*"),
        ("zspage.group = group  # whose list it is on", "zspage.group = group -> pass"),
    )),
    ("zsmalloc_zspages:push", "only a return to an earlier state runs it", (
        ("zspage.group = group", "*"),
        ("self._link(self.heads[group], zspage)", "*"),
        ("self.insert(zspage, group)", "*"),
    )),
    ("zsmalloc_zspages", "set anew when a zspage is listed; of the head of a list it is never read", (
        ("self.group = EMPTY", "self.group = EMPTY -> pass"),
    )),
    ("zsmalloc_zspages", _GUARD, (("for _ in range(limit + 1):", "1 -> 2"),)),
    # ---- percpu-bitmap ----------------------------------------------------------------------
    ("percpu_backing", "set when the chunk is listed, before it is read", (
        ("self.listed = 0  # the slot it stands on", "*"),
    )),
    ("percpu_backing", "a slot more, on which no chunk ever stands", (
        ("self._slots: list[list[C]] = [[] for _ in range(free_slot + 1)]", "1 -> 2"),
    )),
    ("percpu_backing", "the two slots differ here", (
        ("self._move(chunk, after, before < after)", "before < after -> before <= after"),
    )),
    ("percpu_backing", _ORDER, (
        ("self._slots[slot].insert(0, chunk)", "0 -> 1"), ("self._slots[self.free_slot].insert(0, chunk)", "0 -> 1"),
    )),
    ("percpu_backing", _SHORT_CUT, (
        ("wanted = (1 << end) - (1 << first)", "1 << end -> 1 >> end"),
    )),
    ("percpu_backing", "for whom a page is had is asked by a published revision only", (
        ("return all(self._populate_run(chunk, start, stop, for_alloc=True) for start, stop in runs)", "True -> False"),
        ("if not self._populate_run(chunk, start, start + count, for_alloc=False):", "False -> True"),
    )),
    ("percpu_backing", _GUARD, (
        ("for _ in range(self._most + 1):  # each further round has made a chunk", "1 -> 2"),
    )),
    ("percpu_backing", "a heap that was destroyed is not used again", (
        ("self._chunks.clear()", "*"), ("self._slots = [[] for _ in self._slots]", "*"),
    )),
    ("percpu_bitmap", "a chunk that is not there is made by the first request that needs one", (
        ("self._create_chunk()", "self._create_chunk() -> pass"),
    )),
    ("percpu_bitmap", "the list is empty", (("self._slots[first.listed].insert(0, first)", "0 -> 1"),)),
    ("percpu_bitmap:__init__", _BEFORE_A_CALL, (
        ("self._taken_before = 0  # pages ever taken, when the last request came", "*"),
    )),
    ("percpu_bitmap:alloc", _WITHIN, (("steps.bits = steps.blocks = steps.chunks = 0", "0 -> 1"),)),
    ("percpu_bitmap:free", _BEFORE_A_CALL, (("steps.bits = steps.blocks = steps.chunks = 0", "*"),)),
    ("percpu_bitmap", "a search that begins at fuller chunks finds nothing there: their hints say so", (
        ("found = self._search(self._slot_of_size(bits << 2), bits, align, atomic)", "bits << 2 -> bits >> 2"),
    )),
    ("percpu_bitmap", _ORDER, (
        ("self._move(chunk, 0, True)", "self._move(chunk, 0, True) -> pass"),
        ("self._move(chunk, 0, True)", "True -> False"),
        ("self._move(chunk, self.sidelined_slot, False)", "False -> True"),
    )),
    ("percpu_bitmap", _UNDERSTATED, (
        ("self._steps.chunks += 1", "self._steps.chunks += 1 -> pass"),
        ("self._steps.chunks += 1", "self._steps.chunks += 1 -> self._steps.chunks -= 1"),
        ("sizes = [metadata_bytes(c.nr_blocks * self._block, self._block, self._scans) for c in self._chunks.values()]",
         "c.nr_blocks * self._block -> c.nr_blocks // self._block"),
    )),
    ("percpu_bitmap", _ANY_NEGATIVE, (
        ("return -1", "1 -> 2"), ("before = -1", "1 -> 2"), ("self._relocate(chunk, -1)", "1 -> 2"),
    )),
    ("percpu_bitmap", "the repaired hint of a chunk is 0 only where nothing is free, and always there", (
        ("if not hint or not chunk.free_bits:",
         "not hint or not chunk.free_bits -> not hint and (not chunk.free_bits)"),
    )),
    ("percpu_bitmap", "both branches give 1", (("return slot if slot > 1 else 1", "slot > 1 -> slot >= 1"),)),
    ("percpu_bitmap", "chunks without pages have none to give back", (
        ("freed += self._balance_free(empty_only=True)",
         "freed += self._balance_free(empty_only=True) -> freed -= self._balance_free(empty_only=True)"),
    )),
    ("percpu_bitmap", "without an empty page there is nothing to take, and the chunk stays as it is", (
        ("return chunk.nr_empty > 0", "chunk.nr_empty > 0 -> chunk.nr_empty >= 0"),
        ("break", "break -> continue"),
    )),
    ("percpu_bitmap", "shows fewer hints, or one counter less; where a hint is wrong, another line has been changed", (
        ("if chunk.lo <= index << chunk.shift:", "chunk.lo <= index << chunk.shift -> chunk.lo < index << chunk.shift"),
        ("if chunk.lo <= index << chunk.shift:", "index << chunk.shift -> index >> chunk.shift"),
        ("if (index + 1) << chunk.shift <= chunk.hi:",
         "index + 1 << chunk.shift <= chunk.hi -> index + 1 << chunk.shift < chunk.hi"),
        ("if (index + 1) << chunk.shift <= chunk.hi:", "1 -> 2"),
        ('counts["untouched_pages"] = sum([chunk.nr_empty for chunk in chunks])',
         "counts['untouched_pages'] = sum([chunk.nr_empty for chunk... -> pass"),
    )),
    ("percpu_blocks", "a place without a hint is dead, and is the same in all states in either case", (
        ("scan_start = self.scan_hint_start if self.scan_hint else 0  # dead without a hint", "0 -> 1"),
    )),
    ("percpu_blocks:set_free", "an area covers a block that was wholly free: its places have been 0 since", (
        ("self.contig_hint_start = self.first_free = self.scan_hint = 0",
         "self.contig_hint_start = self.first_free = self.scan_hint... -> pass"),
    )),
    ("percpu_blocks", "x | -x is minus the lowest bit, and as long", (
        ("return min(at + (~rest & (rest + 1)).bit_length() - 1, bits)", "~rest & rest + 1 -> ~rest | rest + 1"),
        ("return at + (rest & -rest).bit_length() - 1 if rest else bits", "rest & -rest -> rest | -rest"),
        ("at += (~rest & (rest + 1)).bit_length() - 1", "~rest & rest + 1 -> ~rest | rest + 1"),
        ("end = at + (rest & -rest).bit_length() - 1", "rest & -rest -> rest | -rest"),
        ("start = (starts & -starts).bit_length() - 1", "starts & -starts -> starts | -starts"),
        ("end = start + (rest & -rest).bit_length() - 1 if rest else bits", "rest & -rest -> rest | -rest"),
    )),
    ("percpu_blocks:run_start", "the bit at that place is clear, or behind the last", (
        ("return (used & ~(-1 << at)).bit_length()", "1 -> 2"),
    )),
    ("percpu_blocks:free_runs", "a set bit stands behind the last one: no clear run begins there", (
        ("if at >= bits:", "at >= bits -> at > bits"),
    )),
    ("percpu_blocks", "of equal runs another leads, no worse aligned than an equal scan hint: no more is promised", (
        ("return than != 0 and (start == 0 or start & -start > than & -than)",
         "than != 0 and (start == 0 or start & -start > than & -than) -> "
         "than != 0 or (start == 0 or start & -start > than & -than)"),
        ("return than != 0 and (start == 0 or start & -start > than & -than)", "start == 0 -> start != 0"),
        ("return than != 0 and (start == 0 or start & -start > than & -than)",
         "start & -start > than & -than -> start & -start >= than & -than"),
        ("return than != 0 and (start == 0 or start & -start > than & -than)", "than & -than -> than | -than"),
    )),
    ("percpu_blocks:_longer_scan", "of equal runs before the largest either may be the scan hint: neither hides more", (
        ("return run > b.scan_hint or (run == b.scan_hint and start > b.scan_hint_start)",
         "run > b.scan_hint -> run >= b.scan_hint"),
        ("return run > b.scan_hint or (run == b.scan_hint and start > b.scan_hint_start)",
         "start > b.scan_hint_start -> start >= b.scan_hint_start"),
    )),
    ("percpu_blocks", "nothing else begins at that very place: the run met there is the one that the hint names", (
        ("if start < b.first_free:", "start < b.first_free -> start <= b.first_free"),
        ("elif start < place and b.scan_hint and _longer_scan(b, run, start):", "start < place -> start <= place"),
        ("if not (scan + b.scan_hint <= start < place if shorter else start < scan):",
         "scan + b.scan_hint <= start < place -> scan + b.scan_hint <= start <= place"),
        ("if not (scan + b.scan_hint <= start < place if shorter else start < scan):", "start < scan -> start <= scan"),
        ("elif start > place:", "start > place -> start >= place"),
        ("if shorter or start > scan:", "start > scan -> start >= scan"),
    )),
    ("percpu_blocks", _FARTHER, (
        ("if start <= place or place + contig > start:  # grown, or overtaken across a block's border",
         "place + contig > start -> place + contig >= start"),
        ("elif contig > b.scan_hint:", "contig > b.scan_hint -> contig >= b.scan_hint"),
        ("elif start < b.scan_hint_start + b.scan_hint:",
         "start < b.scan_hint_start + b.scan_hint -> start <= b.scan_hint_start + b.scan_hint"),
        ("b.scan_hint, b.scan_hint_start = (run, start) if end <= place else (0, start)",
         "end <= place -> end < place"),
        ("shorter = contig > b.scan_hint", "contig > b.scan_hint -> contig >= b.scan_hint"),
        ("if not (scan + b.scan_hint <= start < place if shorter else start < scan):",
         "scan + b.scan_hint <= start < place -> scan + b.scan_hint < start < place"),
        ("if shorter or start > scan:", "shorter or start > scan -> shorter and start > scan"),
    )),
    ("percpu_blocks:update_ordered", "only a walk of a whole chunk meets a largest run of no bits: a true hint stays", (
        ("if start <= place or place + contig > start:  # grown, or overtaken across a block's border",
         "start <= place -> start < place"),
    )),
    ("percpu_blocks:rescan", "tells an empty run behind the last bit, or a known one: a dead place may move", (
        ("if last == bits and b.right_free == 0:",
         "last == bits and b.right_free == 0 -> last == bits or b.right_free == 0"),
    )),
    ("percpu_blocks:rescan", "no bits are left from there on, and no run", (
        ("free = ~used & (1 << bits) - (1 << at) if at < bits else 0", "at < bits -> at <= bits"),
    )),
    ("percpu_blocks", "sifts out less, or again: a run that stays is told, and is too short to change anything", (
        ("starts, sifted = free, 1", "1 -> 2"),
        ("if b.contig_hint > sifted:", "b.contig_hint > sifted -> b.contig_hint >= sifted"),
        ("have = 1", "1 -> 2"),
        ("for _ in range((length - 1).bit_length()):  # twice as many each time", "*"),
        ("have += step", "have += step -> have -= step"),
    )),
    ("percpu_blocks:rescan", "nothing is left to be met in the rounds to come", (("break", "break -> continue"),)),
    ("percpu_chunk:__init__", _BEFORE_A_CALL, (("self.bits = self.blocks = self.chunks = 0", "0 -> 1"),)),
    ("percpu_chunk:__init__", "an area begins at bit 0 wherever that is taken; no area reaches a word more", (
        ("self.bounds = [0] * (nr_blocks + 1)", "0 -> 1"), ("self.bounds = [0] * (nr_blocks + 1)", "1 -> 2"),
    )),
    ("percpu_chunk:__init__", _UNDERSTATED, (
        ("self.steps = steps or Steps()  # shared by the chunks of an allocator, which resets it",
         "steps or Steps() -> steps and Steps()"),
    )),
    ("percpu_chunk", _ANY_NEGATIVE, (("return -1", "1 -> 2"),)),
    ("percpu_chunk", _GUARD, (
        ("for _ in range(self.nr_blocks + 1):  # each further round has passed unpopulated blocks", "1 -> 2"),
    )),
    ("percpu_chunk", "a hole ends behind its first block, never at bit 0", (
        ("if hole_end < 0:", "hole_end < 0 -> hole_end <= 0"), ("if hole_end < 0:", "0 -> 1"),
    )),
    ("percpu_chunk", "a gate that lets more through: a fit that is found then is one, and none must be refused", (
        ("return (-whole.contig_hint_start & (align - 1)) + bits <= whole.contig_hint",
         "(-whole.contig_hint_start & align - 1) + bits -> (-whole.contig_hint_start & align - 1) - bits"),
        ("return (-whole.contig_hint_start & (align - 1)) + bits <= whole.contig_hint", "1 -> 2"),
    )),
    ("percpu_chunk", "two runs never begin at the same place", (
        ("if block.scan_hint and block.contig_hint_start > block.scan_hint_start and bits > block.scan_hint:",
         "block.contig_hint_start > block.scan_hint_start -> block.contig_hint_start >= block.scan_hint_start"),
    )),
    ("percpu_chunk", _FARTHER, (
        ("if block.scan_hint and block.contig_hint_start > block.scan_hint_start and bits > block.scan_hint:",
         "bits > block.scan_hint -> bits >= block.scan_hint"),
    )),
    ("percpu_chunk", _UNDERSTATED, (
        ("self.steps.blocks += 1", "self.steps.blocks += 1 -> pass"),
        ("self.steps.blocks += 1", "self.steps.blocks += 1 -> self.steps.blocks -= 1"),
        ("self.steps.bits += at + bits - start", "self.steps.bits += at + bits - start -> pass"),
        ("self.steps.bits += at + bits - start",
         "self.steps.bits += at + bits - start -> self.steps.bits -= at + bits - start"),
        ("self.steps.bits += at + bits - start", "at + bits -> at - bits"),
        ("self.steps.bits += self.block_bits", "self.steps.bits += self.block_bits -> pass"),
        ("self.steps.bits += self.block_bits",
         "self.steps.bits += self.block_bits -> self.steps.bits -= self.block_bits"),
    )),
    ("percpu_chunk", "where there is no area, its length is not read", (("return self.nr_bits, 0", "0 -> 1"),)),
    ("percpu_chunk:zero_area", "the descriptors have found room in what is scanned: no scan is in vain", (
        ("self.steps.bits += end - start", "*"), ("return -1, 0, 0", "*"),
        ("if at + bits > end:", "at + bits -> at - bits"),
    )),
    ("percpu_chunk", "x | -x is minus the lowest bit, and as long", (
        ("skip = (~window & (window + 1)).bit_length() - 1", "~window & window + 1 -> ~window | window + 1"),
        ("run = (window & -window).bit_length() - 1", "window & -window -> window | -window"),
        ("return (index << self.shift) + low + (rest & -rest).bit_length() - 1", "rest & -rest -> rest | -rest"),
    )),
    ("percpu_chunk", "another one of the runs that a search skipped is remembered, and no less free", (
        ("if run > hole_bits or (run == hole_bits and run and self.better_hole(at, hole)):", "*"),
        ("return hole != 0 and at & -at > hole & -hole", "*"),
    )),
    ("percpu_chunk", _FARTHER, (
        ("self.remember_hole(hole, hole_bits)", "self.remember_hole(hole, hole_bits) -> pass"),
        ("if start + bits <= self.block_bits:", "start + bits <= self.block_bits -> start + bits < self.block_bits"),
        ("self.update(self.blocks[index], run_start(self.used[index], start), start + bits)",
         "self.update(self.blocks[index], run_start(self.used[index... -> pass"),
        ("if scan < low + bits and low < scan + block.scan_hint:",
         "scan < low + bits and low < scan + block.scan_hint -> scan < low + bits or low < scan + block.scan_hint"),
        ("if scan < low + bits and low < scan + block.scan_hint:", "scan < low + bits -> scan <= low + bits"),
        ("if scan < low + bits and low < scan + block.scan_hint:",
         "low < scan + block.scan_hint -> low <= scan + block.scan_hint"),
        ("if scan < end and at < scan + whole.scan_hint:",
         "scan < end and at < scan + whole.scan_hint -> scan < end or at < scan + whole.scan_hint"),
        ("if scan < end and at < scan + whole.scan_hint:", "scan < end -> scan <= end"),
        ("if scan < end and at < scan + whole.scan_hint:",
         "at < scan + whole.scan_hint -> at <= scan + whole.scan_hint"),
        ("if high > block.scan_hint_start:", "high > block.scan_hint_start -> high >= block.scan_hint_start"),
    )),
    ("percpu_chunk", "what is not broken is read again, and says the same; the bound leaves room for it", (
        ("if contig < low + bits and low < contig + block.contig_hint:",
         "contig < low + bits and low < contig + block.contig_hint -> "
         "contig < low + bits or low < contig + block.contig_hint"),
        ("if contig < low + bits and low < contig + block.contig_hint:", "contig < low + bits -> contig <= low + bits"),
        ("if contig < low + bits and low < contig + block.contig_hint:",
         "low < contig + block.contig_hint -> low <= contig + block.contig_hint"),
        ("if contig < end and at < contig + whole.contig_hint:",
         "contig < end and at < contig + whole.contig_hint -> contig < end or at < contig + whole.contig_hint"),
        ("if contig < end and at < contig + whole.contig_hint:", "contig < end -> contig <= end"),
        ("if contig < end and at < contig + whole.contig_hint:",
         "at < contig + whole.contig_hint -> at <= contig + whole.contig_hint"),
        ("self.refresh_chunk(False)", "False -> True"),
        ("if high > block.contig_hint_start:", "high > block.contig_hint_start -> high >= block.contig_hint_start"),
        ("if end - start >= self.block_bits or first != last:", "end - start -> end + start"),
    )),
    ("percpu_chunk:area_end", "the word behind the last ends what ends there, and so does the chunk", (
        ("while index < self.nr_blocks:", "index < self.nr_blocks -> index <= self.nr_blocks"),
    )),
    ("percpu_chunk", _REDUNDANT, (
        ("if at < self.whole.first_free:", "at < self.whole.first_free -> at <= self.whole.first_free"),
    )),
    ("percpu_chunk:hint_free", "steps of a free; of a request that is taken back, too, with room for as many", (
        ("self.steps.bits += low - start + 1", "*"), ("self.steps.bits += end - high + 1", "*"),
    )),
    ("percpu_chunk:map_bits", _SHORT_CUT, (("if size & 7:", "size & 7 -> size | 7"),)),
)  # fmt: skip
