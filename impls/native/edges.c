/* Counts the edges that instrumented code takes: what -fsanitize-coverage=trace-pc (gcc and clang) calls at each of
 * them.  Compiled without instrumentation itself, and linked into a library that --source builds. */
#include <stdint.h>

static uint64_t taken;

#if defined(__GNUC__)
#define EXPORTED __attribute__((visibility("default")))
#else
#define EXPORTED
#endif

EXPORTED uint64_t heaplaw_edges(void);
EXPORTED uint64_t heaplaw_edges(void) { return taken; }

/* Hidden: another library in the process may have one of its own, and each counts for itself. */
__attribute__((visibility("hidden"))) void __sanitizer_cov_trace_pc(void);
__attribute__((visibility("hidden"))) void __sanitizer_cov_trace_pc(void) { taken++; }
