"""How afmalloc splits an object into pieces of powers of two.  Plain integers.

The largest power of two that fits is cut off until what remains is a power of two, or at
most 32 bytes below one; the last piece is rounded up to a power of two, 32 at least::

    400 = 256 + 128 + 16        pieces 256, 128, 32
    300 = 256 + 44              pieces 256, 64              (64 - 44 = 20 is not worth a piece)
    500 = 512 - 12              one piece of 512

``most`` caps the number of pieces; the last one then holds all that remains, and is as large as
that takes.  With ``piece`` no piece is larger: the cut is ``piece`` bytes while more remains.

Source: ``calculate_level``, ``estimate_alloced`` and ``alloc_entry`` of mm/afmalloc.c as
posted to linux-mm by Joonsoo Kim, 26 September 2014; the cap on a piece is Seth Jennings'
proposal in the thread.

>>> split(400, calculate_level(400, 7)), split(3000, calculate_level(3000, 2))
((256, 128, 32), (2048, 1024))
>>> split(3072, calculate_level(3072, 64, 256), 256) == (256,) * 12
True
"""

OBJ_MIN = 32  # bytes of the smallest piece, and the rounding that is not worth a piece
MIN_LEVEL = 1  # pieces of an object
MAX_LEVEL = {8: 7, 4: 6}  # by bytes of a word: metadata of 64 and of 32 bytes
MAX_LEVEL_OF_PIECES = 512  # where pieces are capped, so that they may be many
ENTRY_HEAD = 8  # bytes of metadata before the pointers: two ints


def rounddown_pow_of_two(n: int) -> int:
    """The largest power of two that is at most ``n``.  ValueError for 0, which has none.  O(1)."""
    if n < 1:
        raise ValueError(f"no power of two is at most {n}: undefined in the source")
    return 1 << (n.bit_length() - 1)


def roundup_pow_of_two(n: int) -> int:
    """The least power of two that is at least ``n``, which is at least 1.  O(1)."""
    return 1 << (n - 1).bit_length()


def calculate_level(length: int, most: int, piece: int = 0) -> int:
    """Pieces of an object of ``length`` bytes; 1 means that it is not split.  O(pieces).

    >>> [calculate_level(length, 7) for length in (32, 33, 64, 96, 300, 400, 500, 3000)]
    [1, 1, 1, 1, 2, 3, 1, 5]
    """
    level = 0
    if length > OBJ_MIN:
        while True:
            if piece and length > piece:
                length -= piece
                level += 1
                continue
            down = rounddown_pow_of_two(length)
            if down >= length:
                break
            if roundup_pow_of_two(length) - length <= OBJ_MIN:
                break
            length -= down
            level += 1
    return min(level + 1, most)


def cut(length: int, piece: int = 0) -> int:
    """Bytes of the next piece but the last, of ``length`` that remain.  ValueError for 0.  O(1)."""
    if piece and length > piece:
        return piece
    return rounddown_pow_of_two(length)


def last_piece(length: int) -> int:
    """Bytes of the last piece, for ``length`` that remain.  O(1)."""
    return OBJ_MIN if length < OBJ_MIN else roundup_pow_of_two(length)


def split(length: int, level: int, piece: int = 0) -> tuple[int, ...]:
    """Bytes of each piece, in order.  O(pieces)."""
    sizes = []
    for _ in range(level - 1):
        size = cut(length, piece)
        sizes.append(size)
        length -= size
    sizes.append(last_piece(length))
    return tuple(sizes)


def estimate_alloced(length: int, level: int, piece: int = 0) -> int:
    """Bytes of all pieces together.  O(pieces)."""
    return sum(split(length, level, piece))


def entry_size(level: int, word: int) -> int:
    """Bytes of the metadata of an object in ``level`` pieces.  O(1).

    >>> entry_size(7, 8), entry_size(6, 4)
    (64, 32)
    """
    return ENTRY_HEAD + word * level


def is_split(length: int, level: int, metadata: int, piece: int = 0) -> bool:
    """Are pieces and ``metadata`` bytes cheaper than one power of two?  O(pieces).

    An object longer than the largest piece has no other choice.
    """
    if level == 1:
        return False
    if piece and length > piece:
        return True
    return metadata + estimate_alloced(length, level, piece) < roundup_pow_of_two(length)
