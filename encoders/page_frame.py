"""The frame of the HTML pages, which refer to nothing outside themselves. `gallery` shares their style."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

BASE = """
:root { color-scheme: light dark; --page: #f5f6f8; --card: #fff; --line: #dfe3e8; --text: #1b1f24;
  --soft: #626b76; --empty: #edeff2; }
@media (prefers-color-scheme: dark) { :root { --page: #121417; --card: #1b1f24; --line: #31373e;
  --text: #e7eaee; --soft: #97a1ac; --empty: #262b31; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 28px 20px 60px; max-width: 1240px; background: var(--page);
  color: var(--text); font: 14px/1.45 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 24px; margin: 0 0 16px; overflow-wrap: anywhere; }
.figures { display: flex; flex-wrap: wrap; gap: 1px; margin: 0; background: var(--line); overflow: hidden;
  border: 1px solid var(--line); border-radius: 10px; }
.figures div { flex: 1 1 110px; padding: 12px 16px; background: var(--card); }
.figures dd { margin: 0; font-size: 20px; font-weight: 600; font-variant-numeric: tabular-nums; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 480px), 1fr)); gap: 14px; }
.chart { margin: 0; padding: 10px 12px; border: 1px solid var(--line); border-radius: 10px; background: #fff;
  color: #333; }
.chart svg { display: block; width: 100%; height: auto; }
.chart p { margin: 6px 4px 2px; color: #555; }
.wide { overflow-x: auto; margin: 0 0 14px; }
table { width: 100%; border-collapse: collapse; background: var(--card); border: 1px solid var(--line); }
th { color: var(--soft); font-weight: 500; }
"""
"""What the pages of both packages have in common: colours for light and dark, figures, charts, tables."""

STYLE = (
    BASE
    + """h2 { margin: 30px 2px 10px; font-size: 17px; font-weight: 600; }
h3 { margin: 16px 2px 8px; font-size: 14px; font-weight: 600; }
.figures dt, .note, td:nth-child(2) { color: var(--soft); }
.note { margin: 12px 2px 16px; }
th, td { padding: 7px 12px; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
.rates { min-width: 720px; }
.rates th:first-child { color: var(--text); }
.rates td { font-variant-numeric: tabular-nums; }
.rates tr > :not(:nth-child(2)) { white-space: nowrap; }
.settings td { color: var(--text); overflow-wrap: anywhere; }
.row { display: grid; grid-template-columns: repeat(auto-fill, minmax(230px, 1fr)); gap: 12px; }
.pair { padding: 10px; background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  font-size: 12.5px; overflow-wrap: anywhere; }
.pair img { margin: 0 4px 4px 0; border: 1px solid var(--line); max-width: 100%; }
.pair .path { color: var(--soft); font-size: 11.5px; }
.text { display: block; font-size: 15px; }
"""
)


def framed(title: str, body: str) -> str:
    """The whole page, as text; `body` is HTML."""
    told = html.escape(title)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" '
        """content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">"""
        f"<title>{told}</title><style>{STYLE}</style></head><body><h1>{told}</h1>{body}</body></html>\n"
    )


def cards(figures: Iterable[tuple[str, str]]) -> str:
    """The few figures that stand at the top: (name, value)."""
    cells = (
        f"<div><dd>{html.escape(value)}</dd><dt>{html.escape(name)}</dt></div>" for name, value in figures
    )
    return f'<dl class="figures">{"".join(cells)}</dl>'


def note(words: str) -> str:
    """A paragraph, its lines kept apart."""
    return f'<p class="note">{html.escape(words).replace(chr(10), "<br>")}</p>' if words else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]], kind: str) -> str:
    """A table; one that is too wide for the screen is moved sideways by itself."""
    names = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    cells = "".join(
        f"<tr><th>{html.escape(name)}</th>{''.join(f'<td>{html.escape(c)}</td>' for c in row)}</tr>"
        for name, *row in rows
    )
    top = f"<tr>{names}</tr>" if head else ""
    return f'<div class="wide"><table class="{kind}">{top}{cells}</table></div>'


def figure(drawn: str, words: str) -> str:
    """A chart with what it shows."""
    told = f"<p>{html.escape(words)}</p>" if drawn.startswith("<svg") else ""
    return f'<figure class="chart">{drawn}{told}</figure>'
