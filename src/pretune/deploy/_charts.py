"""Charts as inline SVG: no scripts, no fonts of their own, coloured by the page's style in light and dark.

Every chart is drawn about as wide as a phone, so that its text keeps a readable size on any screen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from markupsafe import Markup, escape

WIDTH, HEIGHT = 340, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 8, 10, 34
_COUNTS = 44
"""Height of the bars below a reliability diagram that say how many examples each bin holds."""

Points = Sequence[tuple[float, float]]
Labels = tuple[str, str]
"""Names of the horizontal and the vertical axis."""
Whole = Literal["", "x", "y", "xy"]


@dataclass(frozen=True, kw_only=True)
class ChartLine:
    """One series of a line chart."""

    points: Points
    style: str
    """CSS class: 'main', 'other', 'faint' …"""
    label: str = ""
    dots: bool = False


class _Frame:
    """Axes of a chart: maps values to places and draws grid, ticks and labels."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float], *, height: int = HEIGHT, log_y: bool = False) -> None:
        self.log = log_y
        self.x0, self.x1 = x if x[1] > x[0] else (x[0] - 0.5, x[0] + 0.5)
        low, high = y if y[1] > y[0] else (y[0] - 0.5, y[0] + 0.5)
        self.y0, self.y1 = (math.log10(low), math.log10(high)) if log_y and low > 0 and y[1] > y[0] else (low, high)
        self.log = log_y and low > 0 and y[1] > y[0]
        self.height = height

    def px(self, x: float) -> float:
        """Return the horizontal place of a value."""
        return round(_LEFT + (x - self.x0) / (self.x1 - self.x0) * (WIDTH - _LEFT - _RIGHT), 1)

    def py(self, y: float) -> float:
        """Return the vertical place of a value."""
        value = math.log10(y) if self.log else y
        return round(self.height - _BOTTOM - (value - self.y0) / (self.y1 - self.y0) * (self.height - _TOP - _BOTTOM), 1)

    def axes(self, labels: Labels, *, whole: Whole = "") -> str:
        """Return grid lines, tick labels and axis names.

        Args:
            labels: names of the horizontal and the vertical axis.
            whole: the axes that count, whose ticks are whole numbers: 'x', 'y' or 'xy'.
        """
        base = self.height - _BOTTOM
        across, middle = (_LEFT + WIDTH - _RIGHT) / 2, (_TOP + base) / 2
        parts = [f'<text class="name" x="{across:g}" y="{self.height - 4}" text-anchor="middle">{escape(labels[0])}</text>']
        parts.append(f'<text class="name" transform="translate(11 {middle:g}) rotate(-90)" text-anchor="middle">{escape(labels[1])}</text>')
        for tick in _ticks(self.x0, self.x1, 5, whole="x" in whole):
            x = min(self.px(tick), WIDTH - 12)
            parts.append(f'<text class="tick" x="{x}" y="{base + 14}" text-anchor="middle">{_short(tick)}</text>')
        for tick in self._y_ticks("y" in whole):
            y = self.py(tick)
            parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
            parts.append(f'<text class="tick" x="{_LEFT - 6}" y="{y}" text-anchor="end" dominant-baseline="middle">{_short(tick)}</text>')
        return "".join(parts)

    def _y_ticks(self, whole: bool) -> list[float]:
        if not self.log:
            return _ticks(self.y0, self.y1, 4, whole=whole)
        powers = [10.0**p for p in range(math.ceil(self.y0), math.floor(self.y1) + 1)]
        return powers[:: max(1, len(powers) // 4)] if len(powers) > 1 else [float(f"{10**y:.2g}") for y in (self.y0, self.y1)]


def lines(
    series: Sequence[ChartLine],
    *,
    labels: Labels,
    title: str,
    mark: float | None = None,
    log_y: bool = False,
    least: float = 0.0,
    until: float | None = None,
    most: float = math.inf,
) -> Markup:
    """Return a line chart over steps.

    Args:
        series: what is drawn.
        labels: names of the axes.
        title: for those who cannot see it.
        mark: where a dashed vertical line goes.
        log_y: whether the vertical axis is logarithmic.
        least: the smallest range of y that is shown.
        until: the step at which the horizontal axis ends, which then begins at 0; None for the range of the points.
        most: the largest y that can be, above which no axis goes.
    """
    points = [point for line in series for point in line.points]
    low, high = min(y for _, y in points), max(y for _, y in points)
    margin = 0.0 if log_y else max(0.06 * (high - low), (least - (high - low)) / 2)
    xs = [x for x, _ in points] if until is None else [0.0, until]
    frame = _Frame((min(xs), max(xs)), (low - margin, min(high + margin, max(most, high))), log_y=log_y)
    body = [frame.axes(labels, whole="x")]
    if mark is not None:
        body.append(f'<line class="mark" x1="{frame.px(mark)}" x2="{frame.px(mark)}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"/>')
    for line in series:
        path = " ".join(f"{frame.px(x)},{frame.py(y)}" for x, y in line.points)
        body.append(f'<polyline class="line {line.style}" points="{path}"/>')
        if line.dots or len(line.points) == 1:
            body += [f'<circle class="dot {line.style}" cx="{frame.px(x)}" cy="{frame.py(y)}" r="2.4"/>' for x, y in line.points]
    return _svg("".join(body), title)


def calibration(bins: Sequence[dict[str, Any]], title: str) -> Markup:
    """Return the reliability diagram: accuracy over confidence by bin, the diagonal, and below it how many examples each bin holds."""
    low = 0.0 if not bins or bins[0]["low"] < 0.4 else math.floor(bins[0]["low"] * 10) / 10
    frame = _Frame((low, 1.0), (0.0, 1.0), height=HEIGHT + 30)
    most = max((b["count"] for b in bins), default=1)
    body = [frame.axes(("confidence", "accuracy"))]
    floor = HEIGHT + 30 + _COUNTS
    for b in bins:
        left, right = frame.px(max(b["low"], low)), frame.px(b["high"])
        top, base = frame.py(b["accuracy"]), frame.py(0.0)
        sure = min(frame.py(b["confidence"]), top)
        wide = max(right - left - 1.5, 1)
        tall = max((_COUNTS - 18) * b["count"] / most, 1)
        text = escape(f"{b['count']:,} examples, confidence {b['confidence']:.2f}, accuracy {b['accuracy']:.2f}")
        body.append(
            f"<g><title>{text}</title>"
            f'<rect class="bar" x="{left}" y="{top}" width="{wide:.1f}" height="{base - top:.1f}"/>'
            f'<rect class="gap" x="{left}" y="{sure}" width="{wide:.1f}" height="{top - sure:.1f}"/>'
            f'<rect class="count" x="{left}" y="{floor - tall:.1f}" width="{wide:.1f}" height="{tall:.1f}"/>'
            f'<text class="tick" x="{left + wide / 2:.1f}" y="{floor - tall - 3:.1f}" text-anchor="middle">{_short(b["count"])}</text></g>'
        )
    body.append(f'<text class="tick" x="{_LEFT - 6}" y="{floor - 3}" text-anchor="end">examples</text>')
    body.append(f'<line class="diagonal" x1="{frame.px(low)}" y1="{frame.py(low)}" x2="{frame.px(1)}" y2="{frame.py(1)}"/>')
    return _svg("".join(body), title, floor)


def scatter(points: Points, title: str) -> Markup:
    """Return predicted over true numbers with the diagonal on which they agree."""
    low, high = min(min(p) for p in points), max(max(p) for p in points)
    margin = 0.04 * (high - low)
    frame = _Frame((low - margin, high + margin), (low - margin, high + margin), height=300)
    opacity = max(0.15, min(0.75, 12 / len(points) ** 0.5))
    dots = "".join(f'<circle cx="{frame.px(x)}" cy="{frame.py(y)}" r="2.6"/>' for x, y in points)
    corner, end = low - margin, high + margin
    diagonal = f'<line class="diagonal" x1="{frame.px(corner)}" y1="{frame.py(corner)}" x2="{frame.px(end)}" y2="{frame.py(end)}"/>'
    return _svg(f'{frame.axes(("true", "predicted"))}{diagonal}<g class="dots" opacity="{opacity:.2f}">{dots}</g>', title, 300)


def histogram(values: Sequence[float], title: str, *, x_label: str, bins: int = 31) -> Markup:
    """Return how often values fall between their 0.5 and 99.5 percentiles; zero is marked."""
    ranked = sorted(values)
    cut = int(0.005 * len(ranked))
    reach = max(abs(ranked[cut]), abs(ranked[len(ranked) - 1 - cut])) or 1.0
    counts = [0] * bins
    for value in values:
        if abs(value) <= reach:
            counts[min(int((value + reach) / (2 * reach) * bins), bins - 1)] += 1
    frame = _Frame((-reach, reach), (0, max(counts) * 1.05), height=300)
    body = [frame.axes((x_label, "examples"), whole="y")]
    for b, count in enumerate(counts):
        left, right = frame.px(-reach + 2 * reach * b / bins), frame.px(-reach + 2 * reach * (b + 1) / bins)
        top = frame.py(count)
        body.append(f'<rect class="bar" x="{left}" y="{top}" width="{right - left - 0.8:.1f}" height="{frame.py(0) - top:.1f}"/>')
    body.append(f'<line class="diagonal" x1="{frame.px(0)}" x2="{frame.px(0)}" y1="{_TOP}" y2="{frame.py(0)}"/>')
    return _svg("".join(body), title, 300)


def heatmap(shares: Sequence[Sequence[float]], names: Sequence[str], counts: Sequence[Sequence[int]], title: str) -> Markup:
    """Return a large confusion matrix, rows true and columns predicted, one small square a cell that holds examples."""
    count = len(names)
    side = max(4.0, min(16.0, 720 / count))
    size = round(side * count, 1)
    body = [f'<rect class="field" x="0" y="0" width="{size}" height="{size}"/>']
    for i, row in enumerate(shares):
        for j, share in enumerate(row):
            if counts[i][j]:
                kind = "right" if i == j else "wrong"
                tooltip = escape(f"{names[i]} predicted as {names[j]}: {counts[i][j]}" if i != j else f"{names[i]}: {counts[i][j]} right")
                body.append(
                    f'<rect class="{kind}" x="{j * side:.1f}" y="{i * side:.1f}" width="{side:.1f}" height="{side:.1f}" '
                    f'fill-opacity="{0.15 + 0.85 * share:.2f}"><title>{tooltip}</title></rect>'
                )
    return Markup(
        f'<svg class="chart heat" viewBox="0 0 {size} {size}" width="{size}" role="img" aria-label="{escape(title)}">{"".join(body)}</svg>'
    )


def smooth(points: Points, window: int) -> list[tuple[float, float]]:
    """Return a centred moving mean."""
    if window <= 1:
        return list(points)
    half, total, out = window // 2, [0.0], []
    for _, y in points:
        total.append(total[-1] + y)
    for i, (x, _) in enumerate(points):
        low, high = max(0, i - half), min(len(points), i + half + 1)
        out.append((x, (total[high] - total[low]) / (high - low)))
    return out


def thin(points: Points, most: int = 300) -> list[tuple[float, float]]:
    """Return at most `most` points, each the mean of its neighbours."""
    if len(points) <= most:
        return list(points)
    out = []
    for k in range(most):
        part = points[k * len(points) // most : (k + 1) * len(points) // most]
        out.append((sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)))
    return out


def _svg(body: str, title: str, height: int = HEIGHT) -> Markup:
    return Markup(f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">{body}</svg>')


def _ticks(low: float, high: float, count: int, *, whole: bool = False) -> list[float]:
    """Return round numbers inside a range (Heckbert's steps of 1, 2 and 5); whole ones where things are counted."""
    rough = max((high - low) / max(count, 1), 1.0 if whole else 0.0)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= rough * 0.7)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _short(value: float) -> str:
    """Return a tick label."""
    if value == 0:
        return "0"
    if abs(value) >= 10_000 or abs(value) < 0.01:
        return f"{value:.1e}".replace(".0e", "e").replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")
    return f"{value:.4g}"
