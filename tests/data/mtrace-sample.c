#include <mcheck.h>
#include <stdint.h>
#include <stdlib.h>

int main(void)
{
    char *early = malloc(10);
    char *list[6], *grown, *moved, *kept;

    mtrace();
    free(early);
    for (int i = 0; i < 6; i++)
        list[i] = malloc(16 << i);
    grown = calloc(4, 25);
    grown = realloc(grown, 60);
    moved = realloc(NULL, 40);
    free(list[1]);
    moved = realloc(moved, 5000);
    kept = aligned_alloc(64, 256);
    if (realloc(moved, SIZE_MAX / 4) != NULL)
        return 1;
    if (malloc(SIZE_MAX / 4) != NULL)
        return 1;
    grown = realloc(grown, 0);
    for (int i = 0; i < 6; i += 2)
        free(list[i]);
    free(moved);
    free(NULL);
    muntrace();
    return kept == NULL;
}
