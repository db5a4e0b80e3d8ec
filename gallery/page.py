"""The frame of the HTML reports: styles for light and dark, for a screen of any width and for a printer."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from encoders.names import printable
from encoders.page_frame import BASE
from gallery.errors import GalleryError

HEAD = (
    """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
"""
    + BASE
    + """:root { --keep: #12805c; --same: #6246c9; --weak: #b4560b; --bar: #3b82c4; }
@media (prefers-color-scheme: dark) { :root { --keep: #3fc796; --same: #a593f5; --weak: #f0a35e;
  --bar: #62a7e3; } }
.figures dt, .note, .facts, .path { color: var(--soft); }
.note { margin: 12px 2px 22px; }
.none { padding: 40px; text-align: center; color: var(--soft); }
section { margin: 0 0 14px; padding: 12px 16px 16px; background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; content-visibility: auto; contain-intrinsic-size: auto 330px; }
h2 { display: flex; gap: 14px; align-items: baseline; margin: 0 0 10px; font-size: 13px; font-weight: 400;
  color: var(--soft); }
h2 a { color: var(--text); font-weight: 600; text-decoration: none; }
h2.plain { margin: 30px 2px 10px; font-size: 17px; font-weight: 600; color: var(--text); }
.row { display: grid; grid-template-columns: repeat(auto-fill, minmax(180px, 1fr)); gap: 12px; }
figure { margin: 0; border: 1px solid var(--line); border-radius: 8px; overflow: hidden; min-width: 0; }
figure.keeper { border-color: var(--keep); box-shadow: inset 0 0 0 1px var(--keep); }
figure > a { display: flex; align-items: center; justify-content: center; height: 176px;
  background: var(--empty);
  color: inherit; text-decoration: none; border-bottom: 1px solid var(--line); }
figure.keeper > a { margin: 2px 2px 0; border-radius: 6px 6px 0 0; height: 174px; }
img { max-width: 168px; max-height: 168px; }
.gone { padding: 12px; color: var(--weak); text-align: center; }
figcaption { padding: 9px 11px 11px; font-size: 12.5px; }
.tags { display: flex; flex-wrap: wrap; gap: 6px; align-items: center; margin-bottom: 6px; min-height: 20px; }
.tag { padding: 0 7px; border: 1px solid var(--line); border-radius: 9px; font-size: 11.5px; font-weight: 600;
  font-variant-numeric: tabular-nums; }
.keep { color: var(--keep); border-color: currentColor; }
.same { color: var(--same); border-color: currentColor; }
.weak { color: var(--weak); border-color: currentColor; }
.bar { flex: 1 0 100%; height: 3px; border-radius: 2px; background: var(--empty); overflow: hidden; }
.bar i { display: block; height: 3px; background: var(--bar); }
.name { font-weight: 600; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.path { font: 11px/1.35 ui-monospace, Menlo, Consolas, monospace; overflow-wrap: anywhere; margin-top: 3px;
  max-height: 4.05em; overflow: auto; }
th, td { padding: 7px 12px; text-align: left; border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
td:first-child { font: 12px ui-monospace, Menlo, Consolas, monospace; }
.wide table { min-width: 620px; }
.wide td, .wide th { overflow-wrap: break-word; }
.wide td:first-child { font: inherit; }
.pair { display: grid; grid-template-columns: 1fr 1fr; height: 176px; background: var(--empty);
  border-bottom: 1px solid var(--line); }
.pair > * { display: flex; align-items: center; justify-content: center; min-width: 0; overflow: hidden; }
.pair img { width: 100%; height: 168px; object-fit: contain; }
.pair .said { padding: 8px; color: var(--soft); font-size: 12px; text-align: center;
  overflow-wrap: anywhere; }
@media print { section { break-inside: avoid; content-visibility: visible; } }
</style></head><body>
"""
)

TAIL = "</body></html>\n"


def write_page(place: Path, pieces: Iterable[str]) -> Path:
    """Writes a page, replacing `place` in one step when it is complete. Raises GalleryError if it cannot."""
    try:
        _write(place, pieces)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise GalleryError(f"the report {printable(place)} cannot be written: {reason}") from error
    return place


def _write(place: Path, pieces: Iterable[str]) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{place.name}.", dir=place.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.writelines(pieces)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).replace(place)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise
