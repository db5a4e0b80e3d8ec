"""The HTML page: whole, self-contained, escaped, and never half written."""

from __future__ import annotations

import base64
import io
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gallery import report
from gallery.duplicates import Duplicates, Evidence, Picture, grouped
from gallery.errors import GalleryError
from gallery.folders import Unreadable
from gallery.pictures import picture_of
from gallery.report import page, write_report
from tests.gallery.test_duplicates import pairs_of


class Page(HTMLParser):
    """Tags with their attributes, and the text; a page that is not well formed fails here."""

    VOID = ("meta", "img", "link", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.text.append(data.strip())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def scene(folder: Path, names: list[str], **changes: Any) -> Duplicates:
    """Pictures 0..n-1: 1 and 2 near 0, 3 a copy of 0's bytes; the rest alone."""
    pictures = []
    for at, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (400 - at, 300), (20 * at, 99, 99)).save(path, "PNG")
        pictures.append(Picture(str(path), path.stat().st_size, 400 - at, 300))
    looked, copies = (*pictures[:3], *pictures[4:]), {0: (pictures[3],)}
    evidence = Evidence(looked, pairs_of((0, 1, 0.02), (0, 2, 0.0625)), copies)
    bad = (Unreadable("bad <script>.jpg", "is empty (0 bytes)"),)
    values = {"groups": grouped(evidence, 0.125), "unreadable": bad, "threshold": 0.125, "scanned": 6}
    return Duplicates(**{**values, "evidence": evidence, **changes})


NAMES = ["a & b.png", "sub/<img src=x onerror=alert(1)>.png", "c.png", "copy.png", "alone.png"]


def read(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def test_every_picture_of_every_group_with_its_facts(tmp_path: Path) -> None:
    path = write_report(scene(tmp_path, NAMES), tmp_path / "dupes.html")
    found = read(path)
    assert len(found.all("section")) == 1
    assert [figure.get("class") for figure in found.all("figure")] == ["keeper", "", "", ""]
    text = "\n".join(found.text)
    for expected in ("keep", "same bytes", "0.0200", "0.0625", "weakest 0.0625", "0.1250", "400 × 300"):
        assert expected in text
    assert text.count("weakest") == 2  # in the heading and on one card
    assert [bar["style"] for bar in found.all("i") if "style" in bar] == ["width:16%", "width:50%"]
    assert "bad <script>.jpg" in found.text
    assert "is empty (0 bytes)" in found.text
    assert "alone.png" not in text


def test_pictures_are_in_the_page_and_nothing_is_fetched(tmp_path: Path) -> None:
    found = read(write_report(scene(tmp_path, NAMES), tmp_path / "dupes.html"))
    sources = [image["src"] or "" for image in found.all("img")]
    assert len(sources) == 4
    for source in sources:
        kind, _, data = source.partition(",")
        assert kind == "data:image/jpeg;base64"
        assert Image.open(io.BytesIO(base64.b64decode(data))).size[0] == report.THUMBNAIL
    assert found.all("script") == found.all("link") == []
    text = (tmp_path / "dupes.html").read_text(encoding="utf-8")
    rest = re.sub(r'(src="data:|href="file:)[^"]*"', "", text)  # a link to the file itself is not fetched
    assert re.findall(r"https?:|//|url\(|@import", rest) == []
    assert "default-src 'none'" in text
    assert "prefers-color-scheme: dark" in text


def test_names_cannot_become_markup_or_turn_the_writing(tmp_path: Path) -> None:
    names = ["<b>&amp;\"'.png", "<script>alert(1)<script>.png", "a\u202egnp.png", "d.png"]
    found = read(write_report(scene(tmp_path, names), tmp_path / "dupes.html"))
    assert found.all("script") == []
    alternatives = [image["alt"] for image in found.all("img")]
    assert "<b>&amp;\"'.png" in alternatives
    assert "a\\u202egnp.png" in alternatives
    links = [link["href"] or "" for link in found.all("a")]
    assert any(link.startswith("file:///") and "%3Cb%3E" in link for link in links)


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    try:
        found = scene(tmp_path, [os.fsdecode(b"caf\xe9.png"), *NAMES[1:]])
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    text = write_report(found, tmp_path / "dupes.html").read_text(encoding="utf-8")
    assert "caf\\xe9.png" in text
    assert "caf%E9.png" in text


def test_a_picture_that_vanished_is_shown_by_its_reason(tmp_path: Path) -> None:
    found = scene(tmp_path, NAMES)
    (tmp_path / "c.png").unlink()
    seen = read(write_report(found, tmp_path / "dupes.html"))
    assert len(seen.all("img")) == 3
    assert "no such file" in seen.text


def test_the_least_certain_group_comes_first(tmp_path: Path) -> None:
    pictures = tuple(Picture(str(tmp_path / f"{at}.png"), 1, 1, 1) for at in range(6))
    evidence = Evidence(pictures, pairs_of((0, 1, 0.01), (2, 3, 0.1), (4, 5, 0.05)), {})
    found = Duplicates(grouped(evidence, 0.125), (), 0.125, 6, evidence)
    text = Page("".join(page(found))).text
    assert [line for line in text if line.startswith("weakest ")] == [
        "weakest 0.1000",
        "weakest 0.0500",
        "weakest 0.0100",
    ]


def test_no_duplicates_is_a_page_too(tmp_path: Path) -> None:
    evidence = Evidence((), pairs_of(), {})
    found = Duplicates((), (), 0.125, 3, evidence)
    assert "No duplicates were found." in Page("".join(page(found, title="A <b> C"))).text
    assert "A <b> C" in Page("".join(page(found, title="A <b> C"))).text


def test_the_page_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "dupes.html"
    path.write_text("before")
    found = scene(tmp_path / "in", NAMES)

    def fails(*_: Any) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "_unreadable", fails)
    with pytest.raises(KeyboardInterrupt):
        write_report(found, path)
    assert path.read_text() == "before"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dupes.html", "in"]


def test_a_place_that_cannot_be_written_is_a_plain_error(tmp_path: Path) -> None:
    found = scene(tmp_path / "in", NAMES)
    with pytest.raises(GalleryError, match=r"none.dupes\.html cannot be written: no such file or directory"):
        write_report(found, tmp_path / "none" / "dupes.html")


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 KB"), (123_456, "123 KB"), (2.5e12, "2.5 TB")]
)
def test_bytes_for_people(count: float, text: str) -> None:
    assert report._bytes(int(count)) == text


@pytest.mark.parametrize(
    ("item", "shown"),
    [
        (np.random.default_rng(0).random((48, 48)), True),  # a grey picture in [0, 1]
        (np.random.default_rng(0).random((48, 48, 3)), True),
        (np.random.default_rng(0).normal(size=(48, 12)), False),  # steps of a sequence
        (np.random.default_rng(0).random((48, 3)), False),  # of a pen, say; a stripe was shown
        (np.empty((0, 3)), False),
        (np.random.default_rng(0).random(48), False),
    ],
)
def test_floats_are_shown_where_they_may_be_a_picture(item: np.ndarray, shown: bool) -> None:
    assert bool(picture_of(item)) == shown
