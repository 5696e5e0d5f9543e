"""Readers of recorded allocations; each gives an ordinary trace."""
