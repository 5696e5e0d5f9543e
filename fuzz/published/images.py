"""Pages to compress: files that look like source text, and pages as of a program's memory, from a seed alone.

Real trees differ from machine to machine, so results over them do not recur; ``heaplaw reproduce
zram TREE`` is for those.  Here a file draws its words from a vocabulary of its own size, so that
files compress better and worse, as sources do; pages of memory are also tables of numbers, noise
in part, and not always filled.  How widely is set after source text (Python's library, C headers):
there zlib makes 1,200 to 1,300 bytes of a full page, give or take 310 to 330, and within a file 160 to
220; a file has 2 pages in the median and 4 in the mean.  Here: 1,340, 310, 165, 2 and 4.  zlib packs
them, which Python always has.

>>> some = memory_pages(3, seed=1)
>>> [len(page) for page in some], some == memory_pages(3, seed=1)
([4096, 4096, 4096], True)
>>> 500 < len(ZLIB.pack(some[0])) < 3500, ZLIB.unpack(ZLIB.pack(some[0])) == some[0]
(True, True)
"""

import random
import zlib
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path

from .zram import PAGE, Compressor

ZLIB = Compressor("zlib", lambda page: zlib.compress(page, 1), zlib.decompress)
"""Level 1, the nearest to what the postings used (LZO)."""
_ALL_WORDS = 6000
_MEAN_PAGES, _SPREAD_PAGES = 2.0, 1.1  # of a file: a kernel's are 14 KB in the mean, and widely spread
_JOINTS = (" ", " ", ", ", "(", "->", ";\n\t", " = ", ");\n", " 0x", "\n")
_OWN_WORDS = (5.6, 0.9)  # of a file: logarithm of how many, and its spread
_PART = (-0.7, 0.8)  # of these words, that a page uses: the same
_LETTERS = "etaoinsrhldcumfpgwybvkxjqz_"


def _vocabulary(seed: int) -> list[str]:
    dice = random.Random(seed)
    return ["".join(dice.choices(_LETTERS, k=dice.randint(2, 14))) for _ in range(_ALL_WORDS)]


def text(words: list[str], size: int, dice: random.Random) -> bytes:
    """``size`` bytes of lines; how many different words they have decides how well they compress.

    A file has words of its own, and each page's worth of it uses as many of them as it happens to.
    """
    own = dice.sample(words, min(len(words), int(dice.lognormvariate(*_OWN_WORDS)) + 8))
    phrases = [word + joint for word, joint in zip(own, dice.choices(_JOINTS, k=len(own)), strict=True)]
    parts = []
    for at in range(0, size, PAGE):
        some = phrases[: max(4, int(len(phrases) * min(1.0, dice.lognormvariate(*_PART))))]
        weights = list(accumulate(1 / (rank + 3) for rank in range(len(some))))
        length = min(PAGE, size - at)
        part = "".join(dice.choices(some, cum_weights=weights, k=length // 5 + 8))
        parts.append(part.encode()[:length].ljust(length, b"\n"))
    return b"".join(parts)


def numbers(size: int, dice: random.Random) -> bytes:
    """``size`` bytes of a table of small numbers and of pointers near each other."""
    base = dice.getrandbits(34) << 12
    near = dice.choice((6, 10, 14, 20))
    cells = [
        base + (dice.getrandbits(near) << 3) if dice.random() < 0.6 else dice.getrandbits(8) for _ in range(size // 8)
    ]
    return b"".join([cell.to_bytes(8, "little") for cell in cells])


def memory_pages(count: int, seed: int) -> list[bytes]:
    """``count`` pages as a program's memory has them: text, tables, some of it noise; many not filled to the end."""
    dice, words = random.Random(seed), _vocabulary(0)
    return [_memory_page(words, dice) for _ in range(count)]


def _memory_page(words: list[str], dice: random.Random) -> bytes:
    full = PAGE if dice.random() < 0.5 else dice.randint(PAGE // 4, PAGE) & ~7
    noise = min(full, dice.randint(0, PAGE // 2) & ~7) if dice.random() < 0.3 else 0
    filled = text(words, full - noise, dice) if dice.random() < 0.8 else numbers(full - noise, dice)
    return (filled + dice.randbytes(noise)).ljust(PAGE, b"\0")


def packed_sizes(count: int, seed: int, most: int = PAGE) -> list[int]:
    """Bytes of ``count`` pages packed, those above ``most`` left out."""
    sizes = [len(ZLIB.pack(page)) for page in memory_pages(count, seed)]
    return [size for size in sizes if size <= most]


def plant(tree: Path, pages: int, shares: Mapping[str, float], seed: int) -> None:
    """Write files of about ``pages`` pages in all into folders of ``tree``, by their shares of the pages."""
    words = _vocabulary(0)
    for folder, share in shares.items():
        dice, left, number = random.Random(f"{seed} {folder}"), round(pages * share), 0
        while left > 0:
            size = max(64, int(dice.lognormvariate(0, _SPREAD_PAGES) * _MEAN_PAGES * PAGE))
            size = min(size, left * PAGE)
            inside = tree / folder / f"d{number // 40}"
            inside.mkdir(parents=True, exist_ok=True)
            (inside / f"f{number}.c").write_bytes(text(words, size, dice))
            left -= -(-size // PAGE)
            number += 1
