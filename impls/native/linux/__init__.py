"""Linux's own allocators in user space: the kernel's files as they are, shims for what they stand on, an adapter.

    building        takes what is needed from a kernel tree or its package, and compiles it
    percpu, zbud, zsmalloc, genalloc, drm_buddy
                    the targets ``linux:percpu`` and so on: contracts, and what the kernel cannot show
    model           the Python model of percpu in the words of the kernel's structures, to compare the two
    zsmalloc_model  the same of zsmalloc, and the model of its later form

Nothing of the kernel is in this package; whoever builds brings the tree.  What a check finds in code
that was shipped is unconfirmed by its maintainers.
"""
