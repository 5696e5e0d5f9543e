/* The kernel's own per-CPU allocator behind heaplaw.h: shims, the untouched mm/percpu.c, and this.
 *
 * One file for the compiler, so that every static function and variable can be seen.  Built as for
 * one CPU (addresses of areas are plain addresses) but with pages behind chunks as on big machines
 * (percpu-vm.c): no kernel is configured just so, and the functions that find and free areas do not
 * know the difference.
 *
 * Chunk number n is the n-th area of the address range and space n; a handle is n * unit + offset.
 * With no static and no reserved bytes there is no first chunk: it is taken away again, as if all
 * of it had been given out, and the heap begins with an ordinary chunk.  Nothing that is asked
 * answers from a book kept here: all is read from the kernel's structures.
 *
 * Background work is done only by maintenance "balance".  Alignments that are no power of two are
 * refused here (the kernel takes 3 as 4).  Several heaps share the kernel's variables in turn: those
 * of the heap that is worked on are in place, those of the others laid aside.
 */
#include "kernel.h"
#include "backing.h"
#include "lib/find_bit.c"
#include "lib/bitmap.c"
#include "mm/percpu.c"

#include "adapter.h"

enum { RESERVED_GROUP = 1, MOST_CHUNKS = 63, MOST_UNIT = 1 << 24 };

struct settings {
	int64_t unit, chunks, pages, fixed, reserved; /* fixed: static bytes */
};

struct heap {
	struct heap_base base;
	struct settings settings;
	char *aside; /* the kernel's variables, while another heap is worked on */
	uint32_t atomic, group;
};

static struct settings wanted = {0, 2, 0, 0, 0};
static struct heap *current;

/* ---- the kernel's variables, which are one heap's ------------------------------------------------ */

#define VARIABLE(name) {&name, sizeof(name)}
static const struct variable {
	void *place;
	size_t size;
} variables[] = {
	VARIABLE(pcpu_unit_pages), VARIABLE(pcpu_unit_size), VARIABLE(pcpu_nr_units), VARIABLE(pcpu_atom_size),
	VARIABLE(pcpu_nr_slots), VARIABLE(pcpu_free_slot), VARIABLE(pcpu_sidelined_slot),
	VARIABLE(pcpu_to_depopulate_slot), VARIABLE(pcpu_chunk_struct_size), VARIABLE(pcpu_low_unit_cpu),
	VARIABLE(pcpu_high_unit_cpu), VARIABLE(pcpu_base_addr), VARIABLE(pcpu_unit_map), VARIABLE(pcpu_unit_offsets),
	VARIABLE(pcpu_nr_groups), VARIABLE(pcpu_group_offsets), VARIABLE(pcpu_group_sizes), VARIABLE(pcpu_first_chunk),
	VARIABLE(pcpu_reserved_chunk), VARIABLE(pcpu_chunk_lists), VARIABLE(pcpu_nr_empty_pop_pages),
	VARIABLE(pcpu_nr_populated), VARIABLE(pcpu_atomic_alloc_failed), VARIABLE(shim_work_asked),
#if HEAPLAW_PAGE_SHIFT < 12
	VARIABLE(shim_unit),
#endif
};

static size_t variables_size(void)
{
	size_t i, size = 0;

	for (i = 0; i < ARRAY_SIZE(variables); i++)
		size += variables[i].size;
	return size;
}

static void lay_aside(char *to)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(variables); to += variables[i++].size)
		memcpy(to, variables[i].place, variables[i].size);
}

static void put_in_place(const char *from)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(variables); from += variables[i++].size)
		memcpy(variables[i].place, from, variables[i].size);
}

static void work_on(struct heap *heap)
{
	if (heap == current)
		return;
	if (current)
		lay_aside(current->aside);
	put_in_place(heap->aside);
	current = heap;
	now = &heap->base.backing;
}

static struct heap *find(uint64_t number)
{
	struct heap *heap =
		current && current->base.number == number ? current : (struct heap *)heap_numbered(number);

	if (heap)
		work_on(heap);
	return heap;
}

/* ---- making a heap ------------------------------------------------------------------------------- */

static bool sensible(const struct settings *s)
{
	return s->unit > 0 && s->unit % (int64_t)PAGE_SIZE == 0 && s->unit <= MOST_UNIT && s->chunks >= 1 &&
	       s->chunks <= MOST_CHUNKS && s->pages >= 0 && s->pages <= 1 << 20 && s->fixed >= 0 && s->reserved >= 0 &&
	       s->reserved % PCPU_MIN_ALLOC_SIZE == 0 && ALIGN(s->fixed, PCPU_MIN_ALLOC_SIZE) + s->reserved < s->unit &&
	       (HEAPLAW_PAGE_SHIFT < 12 || s->unit >= (int64_t)PCPU_MIN_UNIT_SIZE);
}

/* The kernel's scratch array of pages is made once and never freed: here it must fit every heap. */
static void make_scratch(void)
{
	static struct backing forever;

	if (forever.pieces)
		return;
	now = &forever;
	pcpu_nr_units = 1;
	pcpu_unit_pages = MOST_UNIT >> PAGE_SHIFT;
	pcpu_get_pages();
}

static void begin(const struct settings *s)
{
	struct pcpu_alloc_info *info = pcpu_alloc_alloc_info(1, 1);
	struct pcpu_chunk *first;

	info->static_size = (size_t)s->fixed;
	info->reserved_size = (size_t)s->reserved;
	info->dyn_size = (size_t)(s->unit - s->fixed - s->reserved);
	info->unit_size = info->atom_size = info->alloc_size = (size_t)s->unit;
	info->groups[0].nr_units = 1;
	info->groups[0].cpu_map[0] = 0;
	now->areas_taken = 1;
	pcpu_setup_first_chunk(info, now->range);
	pcpu_free_alloc_info(info);
	if (s->fixed || s->reserved)
		return;
	first = pcpu_first_chunk;
	list_del(&first->list);
	pcpu_nr_empty_pop_pages = 0;
	pcpu_nr_populated = 0;
	pcpu_first_chunk = NULL;
	pcpu_free_chunk(first);
	now->areas_taken = 0;
	first = pcpu_create_chunk(GFP_KERNEL);
	BUG_ON(!first);
	pcpu_chunk_relocate(first, -1);
}

uint64_t heaplaw_capabilities(void)
{
	return HEAPLAW_PROMISES | HEAPLAW_ALIGNS | HEAPLAW_HAS_BASE | HEAPLAW_HAS_EXTENTS | HEAPLAW_MAINTAINS |
	       HEAPLAW_OBSERVES | HEAPLAW_CHECKS | HEAPLAW_BATCHES | HEAPLAW_CONFIGURES | HEAPLAW_CONTEXTUAL |
	       HEAPLAW_FAILS_PAGES;
}

uint32_t heaplaw_configure(uint32_t parameter, int64_t value)
{
	int64_t *places[] = {&wanted.unit, &wanted.chunks, &wanted.pages, &wanted.fixed, &wanted.reserved};

	if (parameter >= ARRAY_SIZE(places) || value < 0)
		return 1;
	*places[parameter] = value;
	return 0;
}

uint64_t heaplaw_create(uint64_t arena)
{
	struct heap *heap = calloc(1, sizeof(*heap));

	if (!heap)
		return 0;
	heap->settings = wanted;
	if (!heap->settings.unit)
		heap->settings.unit = (int64_t)arena;
	heap->aside = calloc(1, variables_size());
	if (!heap->aside || !sensible(&heap->settings) ||
	    !backing_begin(&heap->base.backing, (unsigned long)heap->settings.chunks, (unsigned long)heap->settings.unit,
			   (unsigned long)heap->settings.pages)) {
		free(heap->aside);
		free(heap);
		return 0;
	}
	make_scratch();
	heap_enlist(&heap->base);
	work_on(heap); /* all variables are 0 */
#if HEAPLAW_PAGE_SHIFT < 12
	shim_unit = (unsigned long)heap->settings.unit;
#endif
	begin(&heap->settings);
	return heap->base.number;
}

void heaplaw_destroy(uint64_t number)
{
	struct heap *heap = (struct heap *)heap_forget(number);

	if (!heap)
		return;
	if (current == heap)
		current = NULL;
	free(heap->aside);
	free(heap);
}

/* ---- the calls ----------------------------------------------------------------------------------- */

static void *ask_kernel(size_t size, size_t align, bool reserved, gfp_t gfp)
{
#ifdef HEAPLAW_NOPROF /* its name since 6.10 */
	return pcpu_alloc_noprof(size, align, reserved, gfp);
#else
	return pcpu_alloc(size, align, reserved, gfp);
#endif
}

uint64_t heaplaw_alloc_aligned(uint64_t number, uint64_t size, uint64_t align)
{
	struct heap *heap = find(number);
	char *area;

	if (!heap || !is_power_of_2(align))
		return HEAPLAW_INVALID;
	area = ask_kernel(size, align, heap->group == RESERVED_GROUP, heap->atomic ? GFP_NOWAIT : GFP_KERNEL);
	if (area)
		return (uint64_t)(area - now->range);
	if (!size || align > PAGE_SIZE)
		return HEAPLAW_INVALID;
	return size > PCPU_MIN_UNIT_SIZE ? HEAPLAW_TOO_BIG : HEAPLAW_NO_MEMORY;
}

uint64_t heaplaw_alloc(uint64_t heap, uint64_t size) { return heaplaw_alloc_aligned(heap, size, 1); }

uint32_t heaplaw_free(uint64_t number, uint64_t handle)
{
	if (!find(number) || handle >= now->areas * now->area_size)
		return 1;
	free_percpu(now->range + handle);
	return 0;
}

void heaplaw_context(uint64_t number, uint32_t cpu, uint32_t atomic, uint32_t group)
{
	struct heap *heap = find(number);

	(void)cpu;
	if (!heap)
		return;
	heap->atomic = atomic;
	heap->group = group;
}

uint64_t heaplaw_maintain(uint64_t number, uint32_t kind, int64_t *words, uint64_t room)
{
	uint64_t before;

	if (!find(number) || kind)
		return 0;
	before = now->unmapped;
	pcpu_balance_workfn(NULL);
	return heaplaw_put(0, words, room, heaplaw_put((int64_t)(now->unmapped - before), words, room, 0));
}

uint64_t heaplaw_batch(uint64_t number, const heaplaw_op *ops, uint64_t count, uint64_t *handles, uint64_t *results)
{
	int64_t did[2];
	uint64_t i;

	for (i = 0; i < count; i++) {
		const heaplaw_op *op = ops + i;
		uint64_t *handle = handles + op->name, answer = HEAPLAW_NOT_DONE;

		if (op->kind == HEAPLAW_OP_ALLOC) {
			heaplaw_context(number, 0, (uint32_t)op->mode & 1, (uint32_t)op->mode >> 1);
			*handle = answer = heaplaw_alloc_aligned(number, op->size, op->align ? op->align : 1);
		} else if (op->kind == HEAPLAW_OP_FREE && *handle < HEAPLAW_TOP) {
			answer = heaplaw_free(number, *handle);
			*handle = HEAPLAW_NOT_DONE;
		} else if (op->kind == HEAPLAW_OP_MAINTAIN) {
			answer = heaplaw_maintain(number, (uint32_t)op->mode, did, ARRAY_SIZE(did));
		}
		results[i] = answer;
	}
	return count;
}

/* ---- what is seen ---------------------------------------------------------------------------------- */

/* Space of a chunk, and where in it its bit 0 is: the first unit may hold two chunks. */
static int64_t space_of(const struct pcpu_chunk *chunk)
{
	return ((char *)chunk->base_addr - now->range) / (int64_t)now->area_size;
}
static int64_t base_of(const struct pcpu_chunk *chunk)
{
	return ((char *)chunk->base_addr - now->range) % (int64_t)now->area_size;
}
/* Its number: the reserved chunk comes after all others. */
static int64_t number_of(const struct pcpu_chunk *chunk)
{
	return chunk == pcpu_reserved_chunk ? (int64_t)now->areas : space_of(chunk);
}
static int first_bit(const struct pcpu_chunk *chunk) { return chunk->start_offset / PCPU_MIN_ALLOC_SIZE; }
static int end_bit(struct pcpu_chunk *chunk)
{
	return pcpu_chunk_map_bits(chunk) - chunk->end_offset / PCPU_MIN_ALLOC_SIZE;
}

static int collect(struct pcpu_chunk **chunks)
{
	struct pcpu_chunk *by_number[MOST_CHUNKS + 1] = {NULL}, *chunk;
	int slot, n = 0;
	int64_t i;

	for (slot = 0; slot < pcpu_nr_slots; slot++)
		list_for_each_entry(chunk, &pcpu_chunk_lists[slot], list)
			by_number[number_of(chunk)] = chunk;
	if (pcpu_reserved_chunk)
		by_number[now->areas] = pcpu_reserved_chunk;
	for (i = 0; i <= (int64_t)now->areas; i++)
		if (by_number[i])
			chunks[n++] = by_number[i];
	return n;
}

/* The chunk that a handle lies in, and its bit there. */
static struct pcpu_chunk *chunk_of(uint64_t handle, int *bit)
{
	struct pcpu_chunk *chunks[MOST_CHUNKS + 1];
	int i, n = collect(chunks);

	for (i = 0; i < n; i++) {
		int64_t at = (now->range + handle - (char *)chunks[i]->base_addr) / PCPU_MIN_ALLOC_SIZE;

		if (handle / now->area_size == (uint64_t)space_of(chunks[i]) && at >= first_bit(chunks[i]) &&
		    at < end_bit(chunks[i])) {
			*bit = (int)at;
			return chunks[i];
		}
	}
	return NULL;
}

static int area_end(struct pcpu_chunk *chunk, int bit)
{
	return (int)find_next_bit(chunk->bound_map, pcpu_chunk_map_bits(chunk), bit + 1);
}

static void show_blocks(struct out *out, struct pcpu_chunk *chunk)
{
	int at, end;

	for (at = first_bit(chunk); at < end_bit(chunk); at = end) {
		end = at + 1;
		if (!test_bit(at, chunk->alloc_map) || !test_bit(at, chunk->bound_map))
			continue;
		end = area_end(chunk, at);
		put(out, space_of(chunk) * (int64_t)now->area_size + base_of(chunk) + at * PCPU_MIN_ALLOC_SIZE);
		put(out, space_of(chunk));
		put(out, base_of(chunk) + at * PCPU_MIN_ALLOC_SIZE);
		put(out, (end - at) * PCPU_MIN_ALLOC_SIZE);
	}
}

static void show_regions(struct out *out, struct pcpu_chunk *chunk)
{
	unsigned int start, end, bits = (unsigned int)pcpu_chunk_map_bits(chunk);

	for_each_clear_bitrange(start, end, chunk->alloc_map, bits) {
		put(out, space_of(chunk));
		put(out, base_of(chunk) + start * PCPU_MIN_ALLOC_SIZE);
		put(out, (int64_t)(end - start) * PCPU_MIN_ALLOC_SIZE);
		put(out, -1);
	}
}

static void show_bits(struct out *out, struct pcpu_chunk *chunk)
{
	int at, n, i;

	for (at = first_bit(chunk); at < end_bit(chunk); at += n) {
		uint64_t bits = 0;

		n = min(64, end_bit(chunk) - at);
		for (i = 0; i < n; i++)
			bits |= (uint64_t)test_bit(at + i, chunk->alloc_map) << i;
		put(out, space_of(chunk));
		put(out, base_of(chunk) + at * PCPU_MIN_ALLOC_SIZE);
		put(out, PCPU_MIN_ALLOC_SIZE);
		put(out, n);
		put(out, (int64_t)bits);
	}
}

enum hint_name {
	CHUNK_CONTIG, CHUNK_SCAN, CHUNK_FIRST, CHUNK_BLOCK,
	BLOCK_CONTIG, BLOCK_SCAN, BLOCK_FIRST, BLOCK_LEFT, BLOCK_RIGHT
};

struct span { /* bits of a chunk, hidden ones left out */
	struct pcpu_chunk *chunk;
	int start, end;
};

static void show_hint(struct out *out, int name, struct span s, int bits, int direction, int quantity, int at, int room)
{
	put(out, name);
	put(out, space_of(s.chunk));
	put(out, base_of(s.chunk) + s.start * PCPU_MIN_ALLOC_SIZE);
	put(out, (s.end - s.start) * PCPU_MIN_ALLOC_SIZE);
	put(out, (int64_t)bits * PCPU_MIN_ALLOC_SIZE);
	put(out, direction);
	put(out, quantity);
	put(out, base_of(s.chunk) + at * PCPU_MIN_ALLOC_SIZE);
	put(out, (int64_t)room * PCPU_MIN_ALLOC_SIZE);
}

static void show_descriptor(struct out *out, int name, struct span s, const struct pcpu_block_md *md, int from)
{
	int contig = md->contig_hint, scan = md->scan_hint;

	show_hint(out, name, s, contig, HEAPLAW_LOWER, HEAPLAW_LONGEST_FREE, from + md->contig_hint_start, contig);
	show_hint(out, name + 1, s, scan, HEAPLAW_LOWER, HEAPLAW_LONGEST_FREE, from + md->scan_hint_start, scan);
	show_hint(out, name + 2, s, max(from + md->first_free - s.start, 0), HEAPLAW_LOWER, HEAPLAW_FIRST_FREE, 0, 0);
}

static void show_hints(struct out *out, struct pcpu_chunk *chunk)
{
	struct span all = {chunk, first_bit(chunk), end_bit(chunk)};
	int i;

	show_descriptor(out, CHUNK_CONTIG, all, &chunk->chunk_md, 0);
	for (i = 0; i < pcpu_chunk_nr_blocks(chunk); i++) {
		const struct pcpu_block_md *md = chunk->md_blocks + i;
		int from = i * (int)PCPU_BITMAP_BLOCK_BITS, to = from + (int)PCPU_BITMAP_BLOCK_BITS;
		struct span s = {chunk, max(from, all.start), min(to, all.end)};

		/* "If the contig hint is contained in one block, it will be accurate": no run in one block is longer */
		show_hint(out, CHUNK_BLOCK, s, chunk->chunk_md.contig_hint, HEAPLAW_UPPER, HEAPLAW_LONGEST_FREE, 0, 0);
		show_descriptor(out, BLOCK_CONTIG, s, md, from);
		if (s.start == from)
			show_hint(out, BLOCK_LEFT, s, md->left_free, HEAPLAW_EXACT, HEAPLAW_FREE_AT_START, 0, 0);
		if (s.end == to)
			show_hint(out, BLOCK_RIGHT, s, md->right_free, HEAPLAW_EXACT, HEAPLAW_FREE_AT_END, 0, 0);
	}
}

enum counter_name { FREE_BYTES, USED_BYTES, LIVE_OBJECTS, PAGES, EMPTY_PAGES };

static void show_counters(struct out *out, struct pcpu_chunk **chunks, int n)
{
	int64_t values[] = {0, 0, 0, 0, pcpu_nr_empty_pop_pages};
	int i, at, end;

	for (i = 0; i < n; i++) {
		struct pcpu_chunk *chunk = chunks[i];

		values[FREE_BYTES] += chunk->free_bytes;
		values[PAGES] += chunk->immutable ? 0 : chunk->nr_populated;
		for (at = first_bit(chunk); at < end_bit(chunk); at = end) {
			end = at + 1;
			if (!test_bit(at, chunk->alloc_map) || !test_bit(at, chunk->bound_map))
				continue;
			end = area_end(chunk, at);
			values[LIVE_OBJECTS]++;
			values[USED_BYTES] += (end - at) * PCPU_MIN_ALLOC_SIZE;
		}
	}
	for (i = 0; i < (int)ARRAY_SIZE(values); i++) {
		put(out, i);
		put(out, values[i]);
	}
}

/* Pages that chunks say they have, by what is behind their addresses; -1: nothing is. */
static void show_claimed(struct out *out, struct pcpu_chunk *chunk)
{
	int i;

	for (i = 0; i < chunk->nr_pages && !chunk->immutable; i++)
		if (test_bit(i, chunk->populated)) {
			struct page *page = *shim_behind((unsigned long)chunk->base_addr + ((unsigned long)i << PAGE_SHIFT));

			put(out, page ? page - now->pages : -1);
			put(out, 1);
		}
}

/* ---- what is seen by those who compare: every number, as it stands in the structures ------------------ */

enum own_kind { CHUNKS = HEAPLAW_OWN, DESCRIPTORS, ALLOC_MAPS, BOUND_MAPS, SLOTS };

static void show_chunk(struct out *out, struct pcpu_chunk *chunk)
{
	put(out, number_of(chunk));
	put(out, chunk->free_bytes);
	put(out, chunk->nr_pages);
	put(out, chunk->nr_populated);
	put(out, chunk->nr_empty_pop_pages);
	put(out, chunk->isolated);
	put(out, chunk->immutable);
	put(out, (int64_t)(chunk->populated[0] & BITMAP_LAST_WORD_MASK(min(chunk->nr_pages, 64)))); /* pages 0 .. 63 */
}

static void show_fields(struct out *out, int64_t number, int64_t block, const struct pcpu_block_md *md)
{
	put(out, number);
	put(out, block);
	put(out, md->contig_hint);
	put(out, md->contig_hint_start);
	put(out, md->scan_hint);
	put(out, md->scan_hint ? md->scan_hint_start : 0); /* nobody reads it without a hint */
	put(out, md->left_free);
	put(out, md->right_free);
	put(out, md->first_free);
}

static void show_descriptors(struct out *out, struct pcpu_chunk *chunk)
{
	int i;

	show_fields(out, number_of(chunk), -1, &chunk->chunk_md);
	for (i = 0; i < pcpu_chunk_nr_blocks(chunk); i++)
		show_fields(out, number_of(chunk), i, chunk->md_blocks + i);
}

static void show_map(struct out *out, const unsigned long *map, size_t bits)
{
	size_t i;

	for (i = 0; i < BITS_TO_LONGS(bits); i++)
		put(out, (int64_t)map[i]);
}

static void show_slots(struct out *out)
{
	struct pcpu_chunk *chunk;
	int slot;

	put(out, -1);
	put(out, pcpu_nr_empty_pop_pages);
	put(out, -2);
	put(out, pcpu_atomic_alloc_failed);
	for (slot = 0; slot < pcpu_nr_slots; slot++)
		list_for_each_entry(chunk, &pcpu_chunk_lists[slot], list) {
			put(out, slot);
			put(out, number_of(chunk));
		}
}

static void show(struct out *out, uint32_t kind, struct pcpu_chunk *chunk)
{
	switch (kind) {
	case HEAPLAW_BLOCKS: show_blocks(out, chunk); break;
	case HEAPLAW_REGIONS: show_regions(out, chunk); break;
	case HEAPLAW_BITS: show_bits(out, chunk); break;
	case HEAPLAW_HINTS: show_hints(out, chunk); break;
	case HEAPLAW_CLAIMED: show_claimed(out, chunk); break;
	case CHUNKS: show_chunk(out, chunk); break;
	case DESCRIPTORS: show_descriptors(out, chunk); break;
	case ALLOC_MAPS: show_map(out, chunk->alloc_map, (size_t)pcpu_chunk_map_bits(chunk)); break;
	case BOUND_MAPS: show_map(out, chunk->bound_map, (size_t)pcpu_chunk_map_bits(chunk) + 1); break;
	default: break;
	}
}

uint64_t heaplaw_observe(uint64_t number, uint32_t kind, int64_t *words, uint64_t room)
{
	struct pcpu_chunk *chunks[MOST_CHUNKS + 1];
	struct out out = {words, room, 0};
	int i, n;

	if (!find(number))
		return 0;
	n = collect(chunks);
	if (kind == HEAPLAW_COUNTERS)
		show_counters(&out, chunks, n);
	else if (kind == HEAPLAW_PAGES)
		show_lent(&out, now);
	else if (kind == HEAPLAW_SOURCE)
		show_source(&out, now);
	else if (kind == SLOTS)
		show_slots(&out);
	else
		for (i = 0; i < n; i++)
			show(&out, kind, chunks[i]);
	return out.n;
}

uint64_t heaplaw_schema(uint32_t kind, char *text, uint64_t room)
{
	const char *says = "";

	switch (kind) {
	case HEAPLAW_BLOCKS: says = "handle space start length"; break;
	case HEAPLAW_REGIONS: says = "space start length list"; break;
	case HEAPLAW_BITS: says = "space start unit units bits"; break;
	case HEAPLAW_HINTS:
		says = "name space start length value direction quantity at room\n"
		       "name: chunk.contig chunk.scan chunk.first_free chunk.contig_by_block block.contig block.scan "
		       "block.first_free block.left block.right";
		break;
	case HEAPLAW_COUNTERS: says = "name value\nname: free_bytes used_bytes live_objects pages empty_pages"; break;
	case HEAPLAW_PAGES: says = LENT_COLUMNS; break;
	case HEAPLAW_SOURCE: says = SOURCE_COLUMNS; break;
	case HEAPLAW_CLAIMED: says = "first count"; break;
	case HEAPLAW_MAINTENANCE: says = "balance"; break;
	case HEAPLAW_PARAMETERS: says = "unit chunks pages static reserved"; break;
	case CHUNKS: says = "chunk free_bytes nr_pages nr_populated nr_empty_pop_pages isolated immutable populated"; break;
	case DESCRIPTORS:
		says = "chunk block contig_hint contig_hint_start scan_hint scan_hint_start left_free right_free first_free";
		break;
	case ALLOC_MAPS: says = "alloc_map"; break;
	case BOUND_MAPS: says = "bound_map"; break;
	case SLOTS: says = "slot chunk"; break;
	default: break;
	}
	return heaplaw_say(says, text, room);
}

uint64_t heaplaw_extents(uint64_t number, uint64_t handle, int64_t *words, uint64_t room)
{
	struct out out = {words, room, 0};
	struct pcpu_chunk *chunk;
	int bit = 0;

	if (!find(number))
		return 0;
	chunk = chunk_of(handle, &bit);
	if (!chunk)
		return 0;
	put(&out, space_of(chunk));
	put(&out, base_of(chunk) + bit * PCPU_MIN_ALLOC_SIZE);
	put(&out, (area_end(chunk, bit) - bit) * PCPU_MIN_ALLOC_SIZE);
	return out.n;
}

uint64_t heaplaw_base(uint64_t number, uint64_t space)
{
	if (!find(number) || space >= now->areas)
		return 0;
	return (uint64_t)(uintptr_t)(now->range + space * now->area_size);
}

/* 0, or 1: an area lies where no page is; 2: the pages of a chunk are miscounted */
uint32_t heaplaw_check(uint64_t number)
{
	struct pcpu_chunk *chunks[MOST_CHUNKS + 1];
	unsigned long at;
	int i, n;

	if (!find(number))
		return 0;
	n = collect(chunks);
	for (i = 0; i < n; i++) {
		struct pcpu_chunk *chunk = chunks[i];
		unsigned long bits = (unsigned long)pcpu_chunk_map_bits(chunk);
		int populated = 0;

		for_each_set_bit(at, chunk->alloc_map, bits)
			if (!test_bit(at / PCPU_BITMAP_BLOCK_BITS, chunk->populated))
				return 1;
		for_each_set_bit(at, chunk->populated, (unsigned long)chunk->nr_pages)
			populated++;
		if (populated != chunk->nr_populated)
			return 2;
	}
	return 0;
}

int64_t heaplaw_promise(uint64_t number, uint32_t promise)
{
	struct heap *heap = find(number);
	const int64_t page = (int64_t)PAGE_SIZE, limits[] = {1, 4, 8, 16, 64, 256, 1024, page - 4, page, 2 * page};
	int64_t largest;

	if (!heap)
		return -1;
	largest = (int64_t)PCPU_MIN_UNIT_SIZE;
	switch (promise) {
	case HEAPLAW_ARENA: return heap->settings.unit;
	case HEAPLAW_GRANULE: return PCPU_MIN_ALLOC_SIZE;
	case HEAPLAW_MAX_ALIGN: return (int64_t)PAGE_SIZE;
	case HEAPLAW_OPAQUE: return 1;
	case HEAPLAW_HEADER: return 0;
	case HEAPLAW_FLAGS: return HEAPLAW_ZEROED | HEAPLAW_DETERMINISTIC;
	case HEAPLAW_SLACK: return PCPU_MIN_ALLOC_SIZE - 1;
	case HEAPLAW_GROUPS: return heap->settings.reserved ? 1 : 0;
	case HEAPLAW_HINT_SLACK + CHUNK_CONTIG: return (int64_t)PAGE_SIZE; /* "may be off by up to a page" */
	case HEAPLAW_HINT_SLACK + BLOCK_CONTIG: return 0;
	default: break;
	}
	if (!heap->settings.fixed && !heap->settings.reserved && !heap->settings.pages) {
		if (promise == HEAPLAW_MAX_SIZE || promise == HEAPLAW_DRAINED_SIZE)
			return largest;
		if (promise == HEAPLAW_REJECTS)
			return 1 | 2 | 4;
	}
	if (promise >= HEAPLAW_LIMIT && promise < HEAPLAW_LIMIT + ARRAY_SIZE(limits))
		return limits[promise - HEAPLAW_LIMIT];
	if (promise == HEAPLAW_LIMIT + ARRAY_SIZE(limits))
		return largest;
	return -1;
}
