"""The allocators that are checked: those of the literature, and adapters."""
