"""How allocators are checked: engines, minimiser, replayer, proofs, readers of recordings."""
