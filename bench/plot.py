# SPDX-License-Identifier: MIT
"""Plots as SVG, written by hand: axes, labels, points; nothing else needed."""
import html
import math

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 90, 200, 70, 60
COLOURS = ["#0b62a4", "#d1495b", "#3a7d44", "#8d6a9f", "#e08e0b", "#444444"]


def figure(value):
    """A number as a reader likes it: 1.2M, 340k, 0.031."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


class Axis:
    """One direction: from values to pixels, linear from zero or logarithmic."""

    def __init__(self, values, log, start, end):
        self.log, self.start, self.end = log, start, end
        positive = [v for v in values if v > 0] or [1]
        if log:
            self.low = 10 ** math.floor(math.log10(min(positive)))
            self.high = 10 ** math.ceil(math.log10(max(positive) * 1.0001))
        else:
            self.low, self.high = 0, self.ceiling(max(positive))

    @staticmethod
    def ceiling(value):
        """The next round number at or above @value."""
        power = 10 ** math.floor(math.log10(value))
        return next(n * power for n in (1, 1.5, 2, 3, 4, 5, 6, 8, 10)
                    if n * power >= value * 0.9999)

    def at(self, value):
        """The pixel of @value."""
        if self.log:
            value = max(value, self.low)
            share = (math.log10(value / self.low) /
                     math.log10(self.high / self.low))
        else:
            share = value / self.high
        return self.start + share * (self.end - self.start)

    def ticks(self):
        """The values to be labelled."""
        if not self.log:
            return [self.high * i / 5 for i in range(6)]
        n = round(math.log10(self.high / self.low))
        return [self.low * 10 ** i for i in range(n + 1)]


def text(x, y, words, size=12, anchor="start", extra=""):
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" '
            f'text-anchor="{anchor}" {extra}>{html.escape(words)}</text>')


def frame(title, xlabel, ylabel, yaxis):
    """What surrounds the points."""
    middle = (LEFT + WIDTH - RIGHT) / 2
    high = (TOP + HEIGHT - BOTTOM) / 2
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" '
           f'height="{HEIGHT}" font-family="sans-serif" fill="#222">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>']
    half = title.rfind(" ", 0, 85) if len(title) > 85 else len(title)
    out.append(text(16, 24, title[:half], 14))
    out.append(text(16, 43, title[half:].strip(), 14))
    out.append(text(middle, HEIGHT - 14, xlabel, 13, "middle"))
    out.append(text(20, high, ylabel, 13, "middle",
                    f'transform="rotate(-90 20 {high:.1f})"'))
    for value in yaxis.ticks():
        y = yaxis.at(value)
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" '
                   f'y2="{y:.1f}" stroke="#ddd"/>')
        out.append(text(LEFT - 6, y + 4, figure(value), 12, "end"))
    return out


def legend(names):
    out = []
    for i, name in enumerate(names):
        y = TOP + 12 + i * 20
        out.append(f'<rect x="{WIDTH - RIGHT + 14}" y="{y - 9}" width="10" '
                   f'height="10" fill="{COLOURS[i % len(COLOURS)]}"/>')
        out.append(text(WIDTH - RIGHT + 30, y, name))
    return out


def lines(title, xlabel, ylabel, series, log=False):
    """One line through points for each name in @series: {name: [(x, y)]}.

    The x values stand at equal distances, in order: they are counts such as
    1, 2, 5, 64, of which the small ones are not to be crowded together.
    """
    xs = sorted({x for points in series.values() for x, _ in points})
    ys = [y for points in series.values() for _, y in points]
    yaxis = Axis(ys, log, HEIGHT - BOTTOM, TOP)
    step = (WIDTH - LEFT - RIGHT) / max(len(xs), 1)
    where = {x: LEFT + step * (i + 0.5) for i, x in enumerate(xs)}
    out = frame(title, xlabel, ylabel, yaxis)
    for x in xs:
        out.append(text(where[x], HEIGHT - BOTTOM + 20, str(x), 12, "middle"))
    for i, points in enumerate(series.values()):
        colour = COLOURS[i % len(COLOURS)]
        at = [(where[x], yaxis.at(y)) for x, y in sorted(points)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
        out.append(f'<polyline points="{path}" fill="none" '
                   f'stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>'
                for x, y in at]
    return "\n".join(out + legend(series) + ["</svg>"]) + "\n"


def bars(title, ylabel, values, log=False):
    """One bar for each name in @values: {name: value}."""
    yaxis = Axis(values.values(), log, HEIGHT - BOTTOM, TOP)
    step = (WIDTH - LEFT - RIGHT / 4) / max(len(values), 1)
    out = frame(title, "", ylabel, yaxis)
    for i, (name, value) in enumerate(values.items()):
        x = LEFT + step * (i + 0.5)
        y = yaxis.at(value)
        out.append(f'<rect x="{x - step * 0.3:.1f}" y="{y:.1f}" '
                   f'width="{step * 0.6:.1f}" '
                   f'height="{HEIGHT - BOTTOM - y:.1f}" '
                   f'fill="{COLOURS[i % len(COLOURS)]}"/>')
        out.append(text(x, y - 6, figure(value), 12, "middle"))
        out.append(text(x, HEIGHT - BOTTOM + 20, name, 12, "middle"))
    return "\n".join(out + ["</svg>"]) + "\n"
