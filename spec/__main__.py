"""``python -m heaplaw``."""

from heaplaw.fuzz.cli import main

if __name__ == "__main__":
    main()
