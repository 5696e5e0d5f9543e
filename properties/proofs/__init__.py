"""Proofs: what an allocator's arithmetic does for every value of a machine word, by the code that it runs."""
