"""Draws flow.svg and flow-dark.svg, the picture in the README: python docs/images/flow.py [FOLDER]."""

import sys
from pathlib import Path

WIDTH, HEIGHT = 980, 286
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'DejaVu Sans', sans-serif"
MONO = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
LIGHT = {
    "back": "#ffffff",
    "ink": "#1f2328",
    "soft": "#59636e",
    "line": "#8c959f",
    "box": "#f6f8fa",
    "edge": "#d1d9e0",
    "good": "#1a7f37",
    "bad": "#cf222e",
    "current": "#dafbe1",
}
DARK = {
    "back": "#0d1117",
    "ink": "#e6edf3",
    "soft": "#9198a1",
    "line": "#7d8590",
    "box": "#161b22",
    "edge": "#3d444d",
    "good": "#3fb950",
    "bad": "#f85149",
    "current": "#12261e",
}


def draw(colour: dict[str, str]) -> str:
    """The picture in one set of colours."""
    shapes: list[str] = []

    def text(x: int, y: int, words: str, *, size: int = 13, ink: str = "ink", font: str = FONT, **more: str) -> None:
        rest = "".join(f' {key.replace("_", "-")}="{value}"' for key, value in more.items())
        shapes.append(
            f'<text x="{x}" y="{y}" font-family="{font}" font-size="{size}" fill="{colour[ink]}"{rest}>{words}</text>'
        )

    def box(x: int, y: int, width: int, height: int, *, fill: str = "box", edge: str = "edge") -> None:
        shapes.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" '
            f'fill="{colour[fill]}" stroke="{colour[edge]}" stroke-width="1.5"/>'
        )

    def card(x: int, y: int, width: int, title: str, *lines: str, mono: bool = False) -> None:
        box(x, y, width, 34 + 18 * len(lines))
        text(x + 12, y + 21, title, font_weight="600")
        for number, line in enumerate(lines):
            text(x + 12, y + 40 + 18 * number, line, size=12, ink="soft", font=MONO if mono else FONT)

    def arrow(path: str, ink: str = "line", dash: str = "") -> None:
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        shapes.append(
            f'<path d="{path}" fill="none" stroke="{colour[ink]}" stroke-width="1.8"{dashed} marker-end="url(#{ink})"/>'
        )

    for x, title in ((20, "sources"), (216, "working warehouse"), (572, "checks"), (726, "releases"), (878, "readers")):
        text(x, 34, title, size=12, ink="soft", letter_spacing="0.6")

    card(20, 56, 140, "files", "CSV, JSON, Parquet")
    card(20, 146, 140, "databases", "Postgres, SQLite")
    box(216, 48, 304, 158, fill="back")
    card(228, 92, 130, "raw_&lt;source&gt;", "rows and cursor,", "one transaction")
    card(410, 92, 98, "marts", "dbt models", "and tests")
    card(572, 102, 100, "all checks", "passed?")
    for number, y in ((1, 56), (2, 96), (3, 136)):
        current = number == 3
        box(726, y, 96, 30, fill="current" if current else "box", edge="good" if current else "edge")
        text(738, y + 20, f"release {number}", font_weight="600" if current else "400")
    text(726, 190, "current &#8594; 3", size=12, ink="good", font=MONO)
    for y, reader in ((102, "SQL"), (127, "BI tools"), (152, "Python")):
        text(884, y, reader)

    arrow("M160 82 C 190 82, 190 117, 224 121")
    arrow("M160 172 C 190 172, 190 137, 224 133")
    text(166, 74, "load", size=12, ink="soft")
    arrow("M358 127 H406")
    text(364, 119, "build", size=12, ink="soft")
    arrow("M508 127 H568")
    arrow("M672 127 C 696 127, 698 150, 722 151", ink="good")
    text(683, 122, "yes", size=12, ink="good", font_weight="600")
    arrow("M822 151 C 846 150, 848 130, 874 127", ink="good")
    arrow("M622 154 V236", ink="bad", dash="5 4")
    text(632, 208, "no", size=12, ink="bad", font_weight="600")
    text(
        WIDTH - 20, 260, "refused: nothing is published, readers keep the current release", ink="bad", text_anchor="end"
    )

    heads = "".join(
        f'<marker id="{ink}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0 L8 4 L0 8 Z" fill="{colour[ink]}"/></marker>'
        for ink in ("line", "good", "bad")
    )
    title = "Sources are loaded, built and checked; only what every check passed becomes a release, which readers see."
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img">\n<title>{title}</title>\n<defs>{heads}</defs>\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="10" fill="{colour["back"]}"/>\n'
        + "\n".join(shapes)
        + "\n</svg>\n"
    )


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    for name, colours in (("flow.svg", LIGHT), ("flow-dark.svg", DARK)):
        (folder / name).write_text(draw(colours), encoding="utf-8", newline="\n")
