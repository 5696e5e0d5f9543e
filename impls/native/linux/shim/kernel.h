/* What kernel code takes for granted, in user space: words of the language, sizes, bits, lists, locks.
 *
 * Written for this project from the published meaning of each name; nothing here is the kernel's
 * text.  Included before any file of a kernel tree, which then stays as it is.  One CPU, no
 * interrupts, nobody else: locks are nothing.  Messages are dropped; a warning or a bug ends the
 * process with one line, so that a check sees it.
 *
 * Headers of the C library that kernel headers would clash with are included here, first.
 */
#ifndef HEAPLAW_SHIM_KERNEL_H
#define HEAPLAW_SHIM_KERNEL_H

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <linux/limits.h>
#include <linux/types.h>

#undef __BIG_ENDIAN /* the C library defines both, the kernel one of them */

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;
typedef unsigned int gfp_t;
typedef unsigned long phys_addr_t;
struct list_head {
	struct list_head *next, *prev;
};
struct hlist_node {
	struct hlist_node *next, **pprev;
};
struct hlist_head {
	struct hlist_node *first;
};

/* ---- words that mark, and do nothing here ------------------------------------------------ */

#define __percpu
#define __force
#define __user
#define __init
#define __initdata
#define __initconst
#define __exit
#define __ro_after_init
#define __read_mostly
#define ____cacheline_aligned_in_smp
#define __maybe_unused __attribute__((unused))
#undef __weak
#define __weak __attribute__((weak))
#undef __always_inline
#define __always_inline inline __attribute__((always_inline))
#define __alloc_size(...)
#define __must_check
#define __pure __attribute__((pure))
#define __bitwise
#define fallthrough __attribute__((fallthrough))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define EXPORT_SYMBOL(name) extern int shim_exported
#define EXPORT_SYMBOL_GPL(name) extern int shim_exported
#define subsys_initcall(function) static int (*shim_initcall)(void) __maybe_unused = function
#define module_init(function) extern int shim_exported
#define module_exit(function) extern int shim_exported
#define MODULE_ALIAS(text) extern int shim_exported
#define MODULE_LICENSE(text) extern int shim_exported
#define MODULE_AUTHOR(text) extern int shim_exported
#define MODULE_DESCRIPTION(text) extern int shim_exported
#define THIS_MODULE NULL
#define DEFINE_FREE(name, type, free)
#define IS_ENABLED(option) 0
#define BUILD_BUG_ON(condition) ((void)sizeof(char[1 - 2 * !!(condition)]))
#define READ_ONCE(x) (*(const volatile __typeof__(x) *)&(x))
#define WRITE_ONCE(x, value) (*(volatile __typeof__(x) *)&(x) = (value))
#define smp_store_release(place, value) (*(place) = (value))
#define smp_load_acquire(place) (*(place))
#define typeof __typeof__
#define _RET_IP_ 0UL

/* ---- messages ---------------------------------------------------------------------------- */

#define printk(...) ((void)0)
#define pr_emerg(...) ((void)0)
#define pr_crit(...) ((void)0)
#define pr_warn(...) ((void)0)
#define pr_info(...) ((void)0)
#define pr_cont(...) ((void)0)
#define dump_stack() ((void)0)
#define KERN_EMERG ""
#define trace_percpu_create_chunk(...) ((void)0)
#define trace_percpu_destroy_chunk(...) ((void)0)
#define trace_percpu_alloc_percpu(...) ((void)0)
#define trace_percpu_alloc_percpu_fail(...) ((void)0)
#define trace_percpu_free_percpu(...) ((void)0)
#define KERN_DEBUG ""

static inline __attribute__((noreturn)) void shim_died(const char *what, const char *file, int line)
{
	fprintf(stderr, "%s at %s:%d\n", what, file, line);
	fflush(stderr);
	abort();
}
#define panic(...) shim_died("kernel panic", __FILE__, __LINE__)
#define BUG() shim_died("kernel BUG", __FILE__, __LINE__)
#define BUG_ON(x) ((void)(unlikely(x) && (BUG(), 0)))
#define VM_BUG_ON(x) BUG_ON(x)
/* WARN is for callers' mistakes, which laws judge by the answer; WARN_ON for the code's own */
#define WARN(x, ...) ((void)(x))
#define WARN_ON(x) \
	({ bool bad_ = (x); if (unlikely(bad_)) shim_died("kernel WARNING (" #x ")", __FILE__, __LINE__); bad_; })
#define WARN_ON_ONCE(x) WARN_ON(x)

/* ---- sizes ------------------------------------------------------------------------------- */

#define BITS_PER_BYTE 8
#define BITS_PER_LONG (__SIZEOF_LONG__ * 8)
#ifndef HEAPLAW_PAGE_SHIFT
#define HEAPLAW_PAGE_SHIFT 12
#endif
#undef PAGE_SHIFT
#undef PAGE_SIZE
#undef PAGE_MASK
#define PAGE_SHIFT HEAPLAW_PAGE_SHIFT
#define PAGE_SIZE (1UL << PAGE_SHIFT)
#define PAGE_MASK (~(PAGE_SIZE - 1))
#define SMP_CACHE_BYTES 64
#define NR_CPUS 1

#define __ALIGN_MASK(x, mask) (((x) + (mask)) & ~(mask))
#define ALIGN(x, to) __ALIGN_MASK(x, (__typeof__(x))(to) - 1)
#define IS_ALIGNED(x, to) (((x) & ((__typeof__(x))(to) - 1)) == 0)
#define PFN_ALIGN(x) (((unsigned long)(x) + PAGE_SIZE - 1) & PAGE_MASK)
#define PFN_UP(x) (((x) + PAGE_SIZE - 1) >> PAGE_SHIFT)
#define PFN_DOWN(x) ((x) >> PAGE_SHIFT)
#define offset_in_page(p) ((unsigned long)(p) & ~PAGE_MASK)
#define DIV_ROUND_UP(n, d) (((n) + (d) - 1) / (d))
#define round_up(x, to) ALIGN(x, to)
#define round_down(x, to) ((x) & ~((__typeof__(x))(to) - 1))
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define struct_size(p, member, count) (sizeof(*(p)) + sizeof((p)->member[0]) * (count))
#define container_of(p, type, member) ((type *)((char *)(p) - offsetof(type, member)))

#define min_t(type, a, b) ({ type a_ = (a), b_ = (b); a_ < b_ ? a_ : b_; })
#define max_t(type, a, b) ({ type a_ = (a), b_ = (b); a_ > b_ ? a_ : b_; })
#define min(a, b) ({ __typeof__(a) am_ = (a); __typeof__(b) bm_ = (b); am_ < bm_ ? am_ : bm_; })
#define max(a, b) ({ __typeof__(a) ax_ = (a); __typeof__(b) bx_ = (b); ax_ > bx_ ? ax_ : bx_; })
#define clamp(x, lo, hi) min(max(x, lo), hi)
#define swap(a, b) do { __typeof__(a) a_ = (a); (a) = (b); (b) = a_; } while (0)

/* ---- bits -------------------------------------------------------------------------------- */

#define BIT(n) (1UL << (n))
#define BIT_WORD(n) ((n) / BITS_PER_LONG)
#define BIT_MASK(n) (1UL << ((n) % BITS_PER_LONG))
#define BITS_TO_LONGS(n) DIV_ROUND_UP((size_t)(n), (size_t)BITS_PER_LONG)
#define DECLARE_BITMAP(name, bits) unsigned long name[BITS_TO_LONGS(bits)]
#define GENMASK(high, low) ((~0UL << (low)) & (~0UL >> (BITS_PER_LONG - 1 - (high))))
#define small_const_nbits(n) (__builtin_constant_p(n) && (n) <= BITS_PER_LONG && (n) > 0)

static inline unsigned long __ffs(unsigned long word) { return __builtin_ctzl(word); }
static inline unsigned long __fls(unsigned long word) { return BITS_PER_LONG - 1 - __builtin_clzl(word); }
static inline unsigned long ffz(unsigned long word) { return __builtin_ctzl(~word); }
#define ffs shim_ffs /* of the C library too */
static inline int shim_ffs(unsigned int x) { return __builtin_ffs((int)x); }
static inline int fls(unsigned int x) { return x ? 32 - __builtin_clz(x) : 0; }
static inline int fls64(u64 x) { return x ? 64 - __builtin_clzll(x) : 0; }
static inline int fls_long(unsigned long x) { return x ? BITS_PER_LONG - __builtin_clzl(x) : 0; }
static inline unsigned long hweight_long(unsigned long word) { return (unsigned long)__builtin_popcountl(word); }
static __attribute__((noinline, unused)) unsigned long fns(unsigned long word, unsigned int n)
{
	for (; n && word; n--)
		word &= word - 1;
	return word ? __ffs(word) : BITS_PER_LONG;
}
static inline void __set_bit(unsigned long nr, unsigned long *map) { map[BIT_WORD(nr)] |= BIT_MASK(nr); }
static inline void __clear_bit(unsigned long nr, unsigned long *map) { map[BIT_WORD(nr)] &= ~BIT_MASK(nr); }
static inline bool test_bit(unsigned long nr, const unsigned long *map)
{
	return map[BIT_WORD(nr)] >> (nr % BITS_PER_LONG) & 1;
}
#define set_bit __set_bit
#define clear_bit __clear_bit
#define ilog2(n) (fls64(n) - 1)
#define order_base_2(n) ((n) > 1 ? fls64((u64)(n) - 1) : 0)
#define roundup_pow_of_two(n) (1UL << order_base_2(n))
#define rounddown_pow_of_two(n) (1UL << ilog2(n))
static inline bool is_power_of_2(unsigned long n) { return n && !(n & (n - 1)); }
static inline unsigned long lcm(unsigned long a, unsigned long b)
{
	unsigned long x = a, y = b;

	while (y) {
		unsigned long rest = x % y;

		x = y;
		y = rest;
	}
	return a / x * b;
}

/* ---- errors, lists, locks ---------------------------------------------------------------- */

#define MAX_ERRNO 4095
static inline void *ERR_PTR(long error) { return (void *)error; }
static inline long PTR_ERR(const void *p) { return (long)p; }
static inline bool IS_ERR(const void *p) { return (unsigned long)p >= (unsigned long)-MAX_ERRNO; }
#define KSTRTOX_OVERFLOW (1U << 31)
#define LIST_POISON1 ((void *)0x100)
#define LIST_POISON2 ((void *)0x122)

typedef struct {
	int counter;
} atomic_t;
typedef int spinlock_t;
struct mutex {
	int unused;
};
#define DEFINE_SPINLOCK(name) spinlock_t name
#define DEFINE_MUTEX(name) struct mutex name
#define spin_lock(l) ((void)(l))
#define spin_unlock(l) ((void)(l))
#define spin_lock_init(l) ((void)(l))
#define spin_lock_irq(l) ((void)(l))
#define spin_unlock_irq(l) ((void)(l))
#define spin_lock_irqsave(l, flags) ((void)(l), (flags) = 0)
#define spin_unlock_irqrestore(l, flags) ((void)(l), (void)(flags))
#define mutex_lock(l) ((void)(l))
#define mutex_unlock(l) ((void)(l))
#define mutex_lock_killable(l) ((void)(l), 0)
#define lockdep_assert_held(l) ((void)(l))
#define cond_resched() ((void)0)

/* ---- one CPU, one node, work that is only asked for ---------------------------------------- */

#define raw_smp_processor_id() 0
#define num_possible_cpus() 1U
#define nr_cpu_ids 1U
#define cpu_possible(cpu) ((cpu) == 0)
#define cpu_to_node(cpu) 0
#define for_each_possible_cpu(cpu) for ((cpu) = 0; (cpu) < 1; (cpu)++)
#define per_cpu_ptr(p, cpu) ((void)(cpu), (p))

struct work_struct {
	int unused;
};
static int shim_work_asked __maybe_unused; /* how often background work was asked for; nothing starts it by itself */
#define DECLARE_WORK(name, function) struct work_struct name
#define schedule_work(work) ((void)(work), shim_work_asked++)

/* ---- requests for memory ------------------------------------------------------------------ */

#define __GFP_HIGHMEM 0x02u
#define __GFP_MAYSLEEP 0x400u
#define __GFP_NOWARN 0x2000u
#define __GFP_NOFAIL 0x8000u
#define __GFP_NORETRY 0x10000u
#define __GFP_ZERO 0x100u
#define __GFP_ACCOUNT 0x400000u
#define GFP_KERNEL (__GFP_MAYSLEEP | 0xc0u)
#define GFP_NOWAIT 0x800u
#define GFP_ATOMIC 0x820u
#define current_gfp_context(gfp) (gfp)
#define gfpflags_allow_blocking(gfp) (((gfp) & __GFP_MAYSLEEP) != 0)
#define memalloc_noio_save() 0U
#define memalloc_noio_restore(flags) ((void)(flags))

#endif
