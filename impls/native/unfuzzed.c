/* What clang's -fsanitize=fuzzer-no-link calls, for a process without libFuzzer: nothing happens.
 *
 * The functions are weak and can be seen, so libFuzzer's own are taken where a process was started with it.  Linked
 * into a library that --source builds for fuzzing, which any process can load then; or loaded before one that has
 * none of this.  Compiled without instrumentation itself. */
#include <stdint.h>

#define WEAK __attribute__((weak, visibility("default")))
#define NOTHING_1(name, type)                                                                                          \
    WEAK void name(type a);                                                                                            \
    WEAK void name(type a) { (void)a; }
#define NOTHING_2(name, type)                                                                                          \
    WEAK void name(type a, type b);                                                                                    \
    WEAK void name(type a, type b) { (void)a, (void)b; }

WEAK extern __thread uintptr_t __sancov_lowest_stack;
WEAK __thread uintptr_t __sancov_lowest_stack;
WEAK extern const char heaplaw_unfuzzed;
WEAK const char heaplaw_unfuzzed = 0; /* tells that this file is in a library */

NOTHING_2(__sanitizer_cov_8bit_counters_init, uint8_t *)
NOTHING_2(__sanitizer_cov_pcs_init, const uintptr_t *)
NOTHING_1(__sanitizer_cov_trace_pc_indir, uintptr_t)
NOTHING_2(__sanitizer_cov_trace_cmp1, uint8_t)
NOTHING_2(__sanitizer_cov_trace_cmp2, uint16_t)
NOTHING_2(__sanitizer_cov_trace_cmp4, uint32_t)
NOTHING_2(__sanitizer_cov_trace_cmp8, uint64_t)
NOTHING_2(__sanitizer_cov_trace_const_cmp1, uint8_t)
NOTHING_2(__sanitizer_cov_trace_const_cmp2, uint16_t)
NOTHING_2(__sanitizer_cov_trace_const_cmp4, uint32_t)
NOTHING_2(__sanitizer_cov_trace_const_cmp8, uint64_t)
NOTHING_1(__sanitizer_cov_trace_div4, uint32_t)
NOTHING_1(__sanitizer_cov_trace_div8, uint64_t)
NOTHING_1(__sanitizer_cov_trace_gep, uintptr_t)

WEAK void __sanitizer_cov_trace_switch(uint64_t value, uint64_t *cases);
WEAK void __sanitizer_cov_trace_switch(uint64_t value, uint64_t *cases) { (void)value, (void)cases; }
