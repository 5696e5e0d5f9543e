"""How allocators are checked: engines, minimiser, readers of recordings."""
