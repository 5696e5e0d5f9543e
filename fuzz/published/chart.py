"""A chart as SVG: curves over numbers, plain or logarithmic, a legend; black on white, nothing loaded.

The colours are Okabe and Ito's; every curve has its own marker and dashes besides, so that nothing
depends on colours.

>>> picture = svg(Chart("growth", "objects", "steps", (Line("a", ((1, 1), (10, 100))),), log=True))
>>> picture.startswith("<svg"), picture.count("<polyline"), "objects" in picture
(True, 1, True)
"""

from html import escape
from math import ceil, floor, log10

from .shape import Chart, Line

_WIDTH, _HEIGHT = 640, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 78, 34, 34, 46
_ROW = 17  # of the legend, below the chart
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_DASHES = ("", "6 3", "2 3", "9 3 2 3", "1 2", "12 4", "4 4")
_TICKS = 5
_FEW = 24  # points: more get no markers


class _Scale:
    """Numbers of an axis to pixels; ``ticks`` are round numbers on it."""

    def __init__(self, values: list[float], log: bool, low: float, high: float) -> None:
        self.log, self.low, self.high = log, low, high
        if log:
            exponents = [log10(value) for value in values if value > 0]
            first, last = floor(min(exponents)), max(ceil(max(exponents)), floor(min(exponents)) + 1)
            every = max(1, ceil((last - first) / 8))
            self.ticks = [10.0**exponent for exponent in range(first, last + 1, every)]
            self.least, self.most = float(first), float(last)
            return
        least, most = min([0.0, *values]), max([*values, min([0.0, *values]) + 1e-9])
        rough = (most - least) / _TICKS
        unit = 10.0 ** floor(log10(rough))
        step = next(unit * times for times in (1, 2, 2.5, 5, 10) if unit * times >= rough)
        self.ticks = [round(step * at, 9) for at in range(floor(least / step), ceil(most / step) + 1)]
        self.least, self.most = self.ticks[0], self.ticks[-1]

    def at(self, value: float) -> float:
        """The pixel of a number; what a logarithm cannot show stands at the axis."""
        place = (log10(value) if value > 0 else self.least) if self.log else value
        return round(self.low + (place - self.least) / (self.most - self.least) * (self.high - self.low), 1)


def svg(chart: Chart) -> str:
    """The chart as a whole SVG document.  ValueError for a chart without points."""
    points = [point for line in chart.lines for point in line.points]
    if not points:
        raise ValueError(f"{chart.title}: nothing to draw")
    across = _Scale([x for x, _ in points], chart.log, _LEFT, _WIDTH - _RIGHT)
    up = _Scale([y for _, y in points], chart.log, _HEIGHT - _BOTTOM, _TOP)
    height = _HEIGHT + _ROW * len(chart.lines)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
        ' font-family="sans-serif" font-size="12">',
        f"<title>{escape(chart.title)}</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        _words(_WIDTH / 2, 20, chart.title, "middle", 14),
        *_grid(across, up),
        _words((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 10, chart.x, "middle"),
        f'<text x="14" y="{_HEIGHT / 2}" text-anchor="middle" transform="rotate(-90 14 {_HEIGHT / 2})">'
        f"{escape(chart.y)}</text>",
    ]
    for number, line in enumerate(chart.lines):
        parts += _curve(number, line, across, up)
    return "\n".join([*parts, "</svg>", ""])


def _grid(across: _Scale, up: _Scale) -> list[str]:
    parts = []
    for tick in across.ticks:
        x = across.at(tick)
        parts.append(f'<line x1="{x}" x2="{x}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}" stroke="#ddd"/>')
        parts.append(_words(x, _HEIGHT - _BOTTOM + 16, f"{tick:,.12g}", "middle"))
    for tick in up.ticks:
        y = up.at(tick)
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}" stroke="#ddd"/>')
        label = f"{tick:.0e}" if tick >= 1e6 else f"{tick:,.6g}"
        parts.append(_words(_LEFT - 6, y + 4, label, "end"))
    return parts


def _curve(number: int, line: Line, across: _Scale, up: _Scale) -> list[str]:
    """A curve and its line of the legend."""
    colour, dashes = _COLOURS[number % len(_COLOURS)], _DASHES[number % len(_DASHES)]
    style = f'fill="none" stroke="{colour}" stroke-width="2"' + (f' stroke-dasharray="{dashes}"' if dashes else "")
    places = [(across.at(x), up.at(y)) for x, y in line.points]
    y = _HEIGHT + 4 + _ROW * number
    parts = [
        f'<polyline points="{" ".join(f"{a},{b}" for a, b in places)}" {style}/>',
        f'<line x1="{_LEFT}" x2="{_LEFT + 34}" y1="{y}" y2="{y}" {style}/>',
        _words(_LEFT + 42, y + 4, line.name, "start"),
    ]
    if len(places) <= _FEW:
        parts += [_marker(number, a, b, colour) for a, b in places]
    return [*parts, _marker(number, _LEFT + 17, y, colour)]


def _marker(number: int, x: float, y: float, colour: str) -> str:
    if number % 3 == 0:
        return f'<circle cx="{x}" cy="{y}" r="3.5" fill="{colour}"/>'
    if number % 3 == 1:
        return f'<rect x="{x - 3:.1f}" y="{y - 3:.1f}" width="6" height="6" fill="{colour}"/>'
    return f'<polygon points="{x},{y - 4:.1f} {x - 4:.1f},{y + 3:.1f} {x + 4:.1f},{y + 3:.1f}" fill="{colour}"/>'


def _words(x: float, y: float, text: str, anchor: str, size: int = 12) -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="{size}">{escape(text)}</text>'
