"""Parameters of targets come from names that people write: what is no number is refused in one line.

>>> check_numbers(1, pages=8, chunks=0)
Traceback (most recent call last):
ValueError: chunks must be a whole number from 1, not 0
"""


def check_numbers(least: int | None = None, /, **numbers: object) -> None:
    """ValueError for the first that is no whole number, or below ``least``."""
    for name, value in numbers.items():
        if not isinstance(value, int) or (least is not None and value < least):
            from_least = "" if least is None else f" from {least}"
            raise ValueError(f"{name} must be a whole number{from_least}, not {value!r}")
