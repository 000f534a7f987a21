"""Draws what vector.py measured: queries a second over recall@10, a panel for each set.

    cat deb384.jsonl synth128.jsonl | python3 plot.py > recall.svg

Takes the lines with an engine, an ef, a recall and queries a second, and needs no library. A point
that another of its engine beats in both is left out, and so is what lies left of the panel.
"""

import json
import math
import sys
from xml.sax.saxutils import escape

LEAST_RECALL = 0.80
WIDTH, HEIGHT, LEFT, TOP, GAP, BELOW = 400, 300, 70, 34, 70, 44
COLUMN = 150
TITLES = {
    "deb384": "61,436 x 384 embeddings of text, cosine",
    "synth128": "200,000 x 128 bytes in clusters, L2",
}
COLOURS = ["#0b6bcb", "#dc2626", "#15803d", "#7e22ce", "#d97706", "#0e7490", "#be185d", "#4d7c0f"]
GREY = ["#374151", "#6b7280", "#9ca3af"]
INK = "#6b7280"


def read(lines):
    sets = {}
    for line in filter(str.strip, lines):
        figure = json.loads(line)
        if {"engine", "ef", "recall", "qps"} <= figure.keys():
            engines = sets.setdefault(figure["set"], {})
            engines.setdefault(figure["engine"], []).append((figure["recall"], figure["qps"]))
    return sets


def front(points):
    """The points that no other beats in both, from the least recall on."""
    kept, fastest = [], 0.0
    for recall, qps in sorted(points, reverse=True):
        if qps > fastest:
            kept.append((recall, qps))
            fastest = qps
    return [point for point in reversed(kept) if point[0] >= LEAST_RECALL]


def text(x, y, words, anchor="start", **more):
    extra = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in more.items())
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{extra}>{escape(words)}</text>'


def panel(at, name, engines, style):
    lowest = min(qps for points in engines.values() for _, qps in points)
    highest = max(qps for points in engines.values() for _, qps in points)
    bottom, top = math.floor(math.log10(lowest)), math.ceil(math.log10(highest))
    x = lambda recall: at + (recall - LEAST_RECALL) / (1 - LEAST_RECALL) * WIDTH
    y = lambda qps: TOP + (top - math.log10(qps)) / (top - bottom) * HEIGHT
    out = [text(at, TOP - 12, TITLES.get(name, name), font_weight="bold")]
    for percent in range(round(LEAST_RECALL * 100), 101, 5):
        here = x(percent / 100)
        out.append(f'<path d="M{here:.1f} {TOP}V{TOP + HEIGHT}" stroke="{INK}" opacity=".25"/>')
        out.append(text(here, TOP + HEIGHT + 16, f"{percent / 100:.2f}", "middle"))
    for power in range(bottom, top + 1):
        here = y(10**power)
        out.append(f'<path d="M{at} {here:.1f}h{WIDTH}" stroke="{INK}" opacity=".25"/>')
        out.append(text(at - 6, here + 4, f"{10**power:,}", "end"))
    out.append(text(at + WIDTH / 2, TOP + HEIGHT + 34, "recall@10", "middle"))
    for engine, points in engines.items():
        colour, dash = style[engine]
        path = "L".join(f"{x(recall):.1f} {y(qps):.1f}" for recall, qps in points)
        out.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
        dots = (f'<circle cx="{x(recall):.1f}" cy="{y(qps):.1f}" r="2.5"/>' for recall, qps in points)
        out.append(f'<g fill="{colour}">{"".join(dots)}</g>')
    return out


def draw(sets):
    names = sorted({engine for engines in sets.values() for engine in engines})
    ours = [name for name in names if name.startswith("arqon")]
    rivals = [name for name in names if not name.startswith("arqon")]
    style = {name: (COLOURS[n % len(COLOURS)], "") for n, name in enumerate(ours)}
    dash = ' stroke-dasharray="6 4"'
    style |= {name: (GREY[n % len(GREY)], dash) for n, name in enumerate(rivals)}
    legend = LEFT + len(sets) * (WIDTH + GAP) - GAP + 20
    out = []
    for n, name in enumerate(sorted(sets)):
        out += panel(LEFT + n * (WIDTH + GAP), name, sets[name], style)
    for n, name in enumerate([*ours, *rivals]):
        colour, dash = style[name]
        here = TOP + 10 + 20 * n
        line = f'<path d="M{legend} {here}h24" stroke="{colour}" stroke-width="2"{dash}/>'
        out += [line, text(legend + 30, here + 4, name)]
    out.append(text(4, TOP - 12, "queries/s"))
    wide, high = legend + COLUMN, TOP + HEIGHT + BELOW
    head = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" width="{wide}" '
            f'height="{high}" font-family="sans-serif" font-size="12" fill="{INK}">')
    return "\n".join([head, *out, "</svg>"])


def main():
    sets = {name: {engine: front(points) for engine, points in engines.items()}
            for name, engines in read(sys.stdin).items()}
    sets = {name: {engine: points for engine, points in engines.items() if points}
            for name, engines in sets.items()}
    sets = {name: engines for name, engines in sets.items() if engines}
    if not sets:
        sys.exit("no figures on standard input; see vector.py")
    print(draw(sets))


main()
