"""``python -m heaplaw``."""

from heaplaw.fuzz.cli import main

main()
