/* Holds a shared library for a process that cannot load it: built like the library (-m32), it reads requests on
 * standard input and writes what the library answers on standard output.
 *
 * Whatever the library does to its process it does to this one.  Built and spoken to by hosting.py; integers are in
 * the machine's order, which is the same on both sides. */
#define _GNU_SOURCE
#include "heaplaw.h"

#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

typedef struct {
    uint32_t what, bytes; /* a function, and how many bytes follow */
    uint64_t a[4];
} request;

typedef struct {
    uint64_t result, bytes;
} answer;

typedef uint64_t nothing(void);
typedef uint64_t one(uint64_t);
typedef uint64_t two(uint64_t, uint64_t);
typedef uint64_t three(uint64_t, uint64_t, uint64_t);
typedef uint32_t narrow(void); /* those whose answer has 32 bits */
typedef uint32_t narrow_one(uint64_t);
typedef uint32_t narrow_two(uint64_t, uint64_t);
typedef uint32_t narrow_three(uint64_t, uint64_t, uint64_t);

enum { ABI, CAPABILITIES, CREATE, DESTROY, ALLOC, FREE, PROMISE, ALLOC_ALIGNED, REALLOC, FREE_SIZED, BASE, USABLE,
       CHECK, CONFIGURE, CONTEXT, MAP, UNMAP, FAIL_PAGES, EDGES, EXTENTS, MAINTAIN, OBSERVE, SCHEMA, BATCH, FUNCTIONS,
       PEEK = FUNCTIONS, POKE };

static const char *const names[FUNCTIONS] = {
    "abi", "capabilities", "create", "destroy", "alloc", "free", "promise", "alloc_aligned", "realloc", "free_sized",
    "base", "usable", "check", "configure", "context", "map", "unmap", "fail_pages", "edges", "extents", "maintain",
    "observe", "schema", "batch",
};

static void *found[FUNCTIONS];
static char *data, *reply; /* what came, what goes */
static size_t room_in, room_out;

static void get(void *to, size_t bytes)
{
    size_t done = 0;
    while (done < bytes) {
        ssize_t n = read(0, (char *)to + done, bytes - done);
        if (n <= 0)
            _exit(0); /* nobody asks any more */
        done += (size_t)n;
    }
}

static void put(const void *from, size_t bytes)
{
    size_t done = 0;
    while (done < bytes) {
        ssize_t n = write(1, (const char *)from + done, bytes - done);
        if (n <= 0)
            _exit(0);
        done += (size_t)n;
    }
}

static void *grown(void *old, size_t *room, size_t bytes)
{
    if (bytes > *room) {
        old = realloc(old, *room = bytes);
        if (!old)
            _exit(70);
    }
    return old;
}

static uint64_t call(const request *r, uint64_t *bytes)
{
    void *f = r->what < FUNCTIONS ? found[r->what] : 0;
    const uint64_t *a = r->a;
    uint64_t result = 0;
    switch (r->what) {
    case ABI: return ((narrow *)f)();
    case CAPABILITIES: case EDGES: return ((nothing *)f)();
    case CREATE: return ((one *)f)(a[0]);
    case DESTROY: ((void (*)(uint64_t))f)(a[0]); return 0;
    case ALLOC: case BASE: case USABLE: return ((two *)f)(a[0], a[1]);
    case ALLOC_ALIGNED: case REALLOC: return ((three *)f)(a[0], a[1], a[2]);
    case PROMISE: return (uint64_t)((int64_t(*)(uint64_t, uint32_t))f)(a[0], (uint32_t)a[1]);
    case FREE: case MAP: case UNMAP: return ((narrow_two *)f)(a[0], a[1]);
    case FREE_SIZED: return ((narrow_three *)f)(a[0], a[1], a[2]);
    case CHECK: return ((narrow_one *)f)(a[0]);
    case CONFIGURE: return ((uint32_t(*)(uint32_t, int64_t))f)((uint32_t)a[0], (int64_t)a[1]);
    case CONTEXT:
        ((void (*)(uint64_t, uint32_t, uint32_t, uint32_t))f)(a[0], (uint32_t)a[1], (uint32_t)a[2], (uint32_t)a[3]);
        return 0;
    case FAIL_PAGES: ((void (*)(uint64_t, uint32_t, uint64_t))f)(a[0], (uint32_t)a[1], a[2]); return 0;
    case EXTENTS: case MAINTAIN: case OBSERVE: /* a[2]: room in words */
        reply = grown(reply, &room_out, (size_t)a[2] * 8);
        if (r->what == EXTENTS)
            result = ((uint64_t(*)(uint64_t, uint64_t, int64_t *, uint64_t))f)(a[0], a[1], (int64_t *)(void *)reply, a[2]);
        else
            result = ((uint64_t(*)(uint64_t, uint32_t, int64_t *, uint64_t))f)(a[0], (uint32_t)a[1],
                                                                               (int64_t *)(void *)reply, a[2]);
        *bytes = (result < a[2] ? result : a[2]) * 8;
        return result;
    case SCHEMA: /* a[1]: room in bytes */
        reply = grown(reply, &room_out, (size_t)a[1]);
        result = ((uint64_t(*)(uint32_t, char *, uint64_t))f)((uint32_t)a[0], reply, a[1]);
        *bytes = result < a[1] ? result : a[1];
        return result;
    case BATCH: { /* a[1] operations and a[2] handles came; handles and results go */
        size_t ops = (size_t)a[1] * sizeof(heaplaw_op), handles = (size_t)a[2] * 8;
        reply = grown(reply, &room_out, handles + (size_t)a[1] * 8);
        memcpy(reply, data + ops, handles);
        memset(reply + handles, 0, (size_t)a[1] * 8);
        *bytes = handles + (size_t)a[1] * 8;
        return ((uint64_t(*)(uint64_t, const heaplaw_op *, uint64_t, uint64_t *, uint64_t *))f)(
            a[0], (const heaplaw_op *)(void *)data, a[1], (uint64_t *)(void *)reply, (uint64_t *)(void *)(reply + handles));
    }
    case PEEK:
        reply = grown(reply, &room_out, (size_t)a[1]);
        memcpy(reply, (const void *)(uintptr_t)a[0], (size_t)a[1]);
        *bytes = a[1];
        return 0;
    case POKE: memcpy((void *)(uintptr_t)a[0], data, r->bytes); return 0;
    default: _exit(70);
    }
}

/* hosting LIBRARY PARENT */
int main(int count, char **words)
{
    char text[512] = "", name[64];
    void *library;
    size_t i;
    answer says = {0, 0};
    if (count != 3)
        return 2;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* it may hang, and hear of nothing */
    if (getppid() != (pid_t)atoi(words[2]))
        return 0;
    library = dlopen(words[1], RTLD_NOW | RTLD_LOCAL);
    if (!library) { /* result 1, and why */
        const char *why = dlerror();
        says.result = 1;
        says.bytes = strlen(why);
        put(&says, sizeof says);
        put(why, says.bytes);
        return 2;
    }
    for (i = 0; i < FUNCTIONS; i++) { /* result 0, and the functions in order, "-" for one that is not there */
        snprintf(name, sizeof name, "heaplaw_%s", names[i]);
        found[i] = dlsym(library, name);
        strcat(strcat(text, i ? " " : ""), found[i] ? names[i] : "-");
    }
    says.bytes = strlen(text);
    put(&says, sizeof says);
    put(text, says.bytes);
    for (;;) {
        request r;
        get(&r, sizeof r);
        data = grown(data, &room_in, r.bytes);
        get(data, r.bytes);
        says.bytes = 0;
        says.result = call(&r, &says.bytes);
        put(&says, sizeof says);
        put(reply, says.bytes);
    }
}
