"""Which live objects belong together where groups may be named and linked.

An object that names no group starts one of its own.  Linking two objects merges their
groups for as long as the merged group has a live object; its names are then free again.

>>> from heaplaw.shadow import Block
>>> groups, one, two, three = Groups(), *(Block(name, name, 8, 1, ()) for name in range(3))
>>> one.group = two.group = 7
>>> for block in (one, two, three): groups.enter(block)
>>> one.group == two.group, one.group == three.group
(True, False)
>>> groups.join(one, three); one.group == three.group
True
"""

from .shadow import Block


class Groups:
    """Sets ``Block.group`` to one number for all objects of a merged group."""

    def __init__(self) -> None:
        self._into: dict[int, int] = {}  # name -> the group that it was merged into
        self._members: dict[int, dict[int, Block]] = {}  # group -> live objects by name

    def enter(self, block: Block) -> None:
        """A new object; its ``group`` is the name that was asked for, 0 for none."""
        block.group = self._into.get(block.group, block.group) or -1 - block.name
        self._members.setdefault(block.group, {})[block.name] = block

    def leave(self, block: Block) -> None:
        """An object is gone; with the last one a merged group ends."""
        members = self._members[block.group]
        del members[block.name]
        if not members:
            del self._members[block.group]
            self._into = {name: group for name, group in self._into.items() if group != block.group}

    def join(self, one: Block, two: Block) -> None:
        """Merge the groups of two live objects.  O(objects of the second group)."""
        kept, gone = one.group, two.group
        if kept != gone:
            for name, block in self._members.pop(gone).items():
                block.group = kept
                self._members[kept][name] = block
            self._into = {name: kept if group == gone else group for name, group in self._into.items()}
            self._into[gone] = kept
