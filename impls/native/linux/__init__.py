"""Linux's own allocators in user space: the kernel's files as they are, shims for what they stand on, an adapter.

    building    takes what is needed from a kernel tree or its package, and compiles it
    percpu      the target ``linux:percpu``
    model       the Python model in the words of the kernel's structures, to compare the two

Nothing of the kernel is in this package; whoever builds brings the tree.  What a check finds in code
that was shipped is unconfirmed by its maintainers.
"""
