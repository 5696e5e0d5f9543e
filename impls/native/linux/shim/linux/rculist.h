/* In place of linux/rculist.h: the tree's own, which says nothing where it is not told that this is a kernel. */
#include <linux/list.h>
#define __KERNEL__ 1
#include_next <linux/rculist.h>
#undef __KERNEL__
