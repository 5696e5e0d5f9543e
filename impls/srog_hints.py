"""The callers of SROG: which live object stands for a group.

The allocator knows groups only by addresses: a request is told any live object of the group it is
to join, or none to start one.  Its users (a packet's header, data and fragments) keep an early
object at hand.  Here a caller names its group by a number, and the oldest live object of that group
is the hint; when the last one is gone the name starts anew, and so do names that were linked.

>>> hints = GroupHints()
>>> hints.enter(32, name=1); hints.enter(64, name=1); hints.enter(4128, name=0)
>>> hints.of_name(1), hints.of_name(2), hints.of_object(4128)
(32, None, 4128)
>>> hints.leave(32); hints.of_name(1)
64
>>> hints.join(64, 4128); sorted(hints.of_groups()), hints.of_object(4128)
([64], 64)
"""

from collections.abc import Iterator

Frozen = tuple[tuple[tuple[int, tuple[int, ...]], ...], tuple[tuple[int, int], ...]]
"""Members of each group, oldest first, and the group of each name."""


class GroupHints:
    """Live objects by group; groups have numbers of their own."""

    __slots__ = ("_group_of", "_members", "_names", "_next")

    def __init__(self) -> None:
        self._group_of: dict[int, int] = {}  # object -> group
        self._members: dict[int, dict[int, None]] = {}  # group -> objects, oldest first
        self._names: dict[int, int] = {}
        self._next = 0

    def of_name(self, name: int) -> int | None:
        """The hint of a named group; None when it has no object, and for name 0, which is no name."""
        group = self._names.get(name) if name else None
        return None if group is None else next(iter(self._members[group]))

    def of_object(self, handle: int) -> int | None:
        """The hint of an object's group; None for an object that nobody knows."""
        group = self._group_of.get(handle)
        return None if group is None else next(iter(self._members[group]))

    def of_groups(self) -> Iterator[int]:
        """A hint for every group there is.  O(groups)."""
        return (next(iter(members)) for members in self._members.values())

    def enter(self, handle: int, name: int) -> None:
        """A new object; with name 0 it is a group of its own.  O(1)."""
        group = self._names.get(name) if name else None
        if group is None:
            group = self._next
            self._next += 1
            self._members[group] = {}
            if name:
                self._names[name] = group
        self._members[group][handle] = None
        self._group_of[handle] = group

    def leave(self, handle: int) -> None:
        """An object is gone; with the last of a group its names are free again.  O(1), O(names) at the end."""
        group = self._group_of.pop(handle, None)
        if group is None:
            return
        del self._members[group][handle]
        if not self._members[group]:
            del self._members[group]
            self._names = {name: other for name, other in self._names.items() if other != group}

    def join(self, one: int, two: int) -> None:
        """The second object's group becomes part of the first's.  O(objects of the second group)."""
        kept, gone = self._group_of[one], self._group_of[two]
        if kept != gone:
            moved = self._members.pop(gone)
            self._members[kept].update(moved)
            self._group_of.update(dict.fromkeys(moved, kept))
            self._names = {name: kept if group == gone else group for name, group in self._names.items()}

    def frozen(self) -> Frozen:
        """All of it, numbered by the order of the groups; hashable."""
        number = {group: index for index, group in enumerate(self._members)}
        members = tuple((number[group], tuple(handles)) for group, handles in self._members.items())
        return members, tuple(sorted((name, number[group]) for name, group in self._names.items()))

    def thaw(self, state: Frozen) -> None:
        """Return to what ``frozen`` told."""
        self._members = {group: dict.fromkeys(handles) for group, handles in state[0]}
        self._group_of = {handle: group for group, handles in state[0] for handle in handles}
        self._names, self._next = dict(state[1]), len(state[0])
