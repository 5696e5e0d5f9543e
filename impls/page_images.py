"""The pages that a source lends, with their contents, at one moment: for return to an earlier state.

>>> source = PageSource(pages=4)
>>> page = source.take(1)
>>> source.memory[0] = 7; then = PageImages(source)
>>> source.give(page, 1); source.memory[0] = 0; then.put_back(source)
>>> source.runs, source.memory[0]
({0: 1}, 7)
"""

from heaplaw.pages import PageSource


class PageImages:
    """Runs held, in order of page, and what is in them."""

    __slots__ = ("contents", "runs")

    def __init__(self, source: PageSource) -> None:
        size = source.page_size
        self.runs = tuple(sorted(source.runs.items()))
        self.contents = [bytes(source.memory[page * size : (page + (1 << order)) * size]) for page, order in self.runs]

    def put_back(self, source: PageSource) -> None:
        """Make the source lend these runs and no others, whatever failures are armed.  O(bytes held)."""
        for page, order in list(source.runs.items()):
            source.give(page, order)
        for (page, order), data in zip(self.runs, self.contents, strict=True):
            source.retake(page, order)
            start = page * source.page_size
            source.memory[start : start + len(data)] = data
