"""CSV files as people have them: paths that are wrong, cells that are missing, quotes, headers or none."""

from __future__ import annotations

import csv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import encoders
from encoders import apart, csv_rows, datasets, delimited, names, preprocess
from encoders.errors import DatasetError
from tests.encoders import made
from tests.encoders.shapes import picture


def table(place: Path, text: str) -> Path:
    (place / "t.csv").write_text(text, encoding="utf-8", newline="")
    return place / "t.csv"


def pictures(place: Path, header: str = "file,label") -> list[str]:
    """The rows of a CSV of 4 subjects with 3 pictures each, which are written beside it."""
    rows = [header]
    for number in range(12):
        Image.fromarray(picture(number // 3, np.random.default_rng(number))).save(place / f"p_{number}.png")
        rows.append(f"p_{number}.png,s{number // 3}")
    return rows


@pytest.mark.parametrize("header", ["file,label", "what,label"])
def test_a_wrong_path_is_refused_by_its_row_or_left_out(header: str, tmp_path: Path) -> None:
    """It made a text of every path, and the encoder learnt the names of files."""
    rows = pictures(tmp_path, header)
    rows[7] = rows[7].replace("_", "-")
    place = table(tmp_path, "\n".join(rows))
    said = r"1 of 12 items cannot be read .*--skip-unreadable\):\n  row 8, p-6.png: no such file$"
    with pytest.raises(DatasetError, match=said):
        encoders.train(place, output=tmp_path / "x", steps=2, holdout=0.5, progress=False)
    assert not (tmp_path / "x").exists()
    kept = datasets.prepared(datasets.load(place), preprocess.InkPreprocess(), skip=True)
    assert kept.items.shape == (11, 1, 48, 48) and kept.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 3]
    assert kept.names[5:7] == ("row 7, p_5.png", "row 9, p_7.png")


def test_paths_of_which_none_is_there(tmp_path: Path) -> None:
    for header in ("file", "what"):
        place = table(tmp_path, f"{header},label\na.png,1\nb.png,1\nc.png,2\n")
        with pytest.raises(DatasetError, match=r"none of 3 files is there \(row 2, a.png\), seen from"):
            datasets.load(place)
    called = datasets.load(table(tmp_path, "text,label\na.png,1\nb.png,1\nc.png,2\n"))
    assert called.items == ["a.png", "b.png", "c.png"] and called.holds == "texts"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('text,label\nann,1\n"bob,1\ncy,2\ndi,2\n', r"row 3 is not a whole row .* a quote that is opened"),
        (
            'text,label\n"bob,1\n' + "some words,2\n" * 20_000,
            r"row 2 is not a whole row of a CSV, from line 2 on .*quote",
        ),
        ('text,label\n"ann,1\n"bob" li,1\ncy,2\n', r"row 2 is not a whole row of a CSV, from line 2 on"),
        ('text,label\nann,1\n"bob,1\nx,"cy"\ndi,2\n', r"row 3 is not a whole row"),
        (
            'text,label\n"an\nn",1\nbob,1\n"cy,2',
            r"row 4 is not a whole row of a CSV, from line 5 on .*closed",
        ),
        ("text,label\nann,1\n\nbob, \ncy,1\ndi,\n", r"row 4 and 1 more have no subject in column label"),
        ("a,b,label\n1,2,x\n1,,x\n3,n o,y\n", r"columns b hold words.*row 4 has 'n o' in column b"),
        (
            "a,label\n.5,x\n1_0,x\n3,y\n",
            r"column a holds measured .*row 3 has '1_0' in column a\): mend these",
        ),
        ("a,b,label\n1,,x\n2,,x\n", "columns b hold words"),
        ("text,label\n\n", "a header and no row"),
        ("x;label\n1,5;a\n2;a\n-2,5e3;b\n", r"column x has numbers with a comma \(row 2 has '1,5'\): write"),
        ("x;y;label\n1;1,5;a\n2;;a\n3;2,5;b\n", r"column y has numbers with a comma \(row 2 has '1,5'\)"),
        ("1,5;a\n2,5;a\n3,1;b\n", r"column 0 has numbers with a comma \(row 1 has '1,5'\)"),
        ("label,x,Label\na,1,7\na,2,7\nb,3,8\n", "2 columns called label: give the subjects'"),
    ],
)
def test_what_is_refused_names_its_row(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=said):
        datasets.load(table(tmp_path, text))


def test_a_text_keeps_its_line_ends_and_separators(tmp_path: Path) -> None:
    """Rows were torn at them, and words glued where a line end was."""
    text = 'text,label\r\n"First Line\nsecond",1\r\n"a\r\nb",1\r\nx\u2028y\x0b\x85z,2\r\nw,2\r\n'
    found = datasets.load(table(tmp_path, text))
    assert found.items == ["First Line\nsecond", "a\r\nb", "x\u2028y\x0b\x85z", "w"]
    assert found.names[0] == "row 2, First Line\\nsecond"


@pytest.mark.parametrize(
    ("rows", "items"),
    [
        (['"Heroes" (live),a', '"abc" ,a', "Low,b", 'the "x",b'], ["Heroes (live)", "abc", "Low", 'the "x"']),
        (
            ['"Heroes" (2017)\ta', '"He""r" ""\ta', "Low\tb", '"L"\tb'],
            ["Heroes (2017)", 'He"r ""', "Low", "L"],
        ),
        (['"a\nb" ,a', "ab,a", "c,b", '"d" e,b'], ["a\nb", "ab", "c", "d e"]),
    ],
)
def test_a_cell_that_begins_with_a_quote(rows: list[str], items: list[str], tmp_path: Path) -> None:
    """Such files were refused: for a quote left open, where none was."""
    header = "text\twho" if "\t" in rows[0] else "text,who"
    found = datasets.load(table(tmp_path, "\n".join([header, *rows])))
    assert found.items == items and found.labels.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("text", "label", "items"),
    [
        ("alice,a\nNan,a\nbob,b\nrob,b\n", None, 4),  # Nan is a name
        ("alice,a\nInfinity,a\nbob,b\nrob,b\n", None, 4),
        ("alice,a\n1_0,a\nbob,b\nrob,b\n", None, 4),
        ("title,category\nx,a\ny,a\nz,b\nw,b\n", None, 4),  # category stands in no other row
        ("title,category\nx,a\ny,a\nz,b\n", "category", 3),  # asked for
        ("x,a\ny,a\nz,b\nw,b\n", None, 4),  # the subject of the first row stands in the second
        ("x,a\ny,b\nz,b\nw,c\n", None, 4),  # others stand in one row only, too
        ("width,height,kind\n1,2,a\n3,,a\n4,1,b\n", None, 3),
        ("n/a,2,a\n3,1,a\n4,1,b\n", None, 3),  # a gap is no word
        ("1,2,a\n3,1,b\n4,1,b\n5,2,c\n5,2,c\n", None, 5),  # numbers name no column
    ],
)
def test_headers_are_told_from_first_rows(text: str, label: str | None, items: int, tmp_path: Path) -> None:
    assert len(datasets.load(table(tmp_path, text), label)) == items


def test_only_file_and_path_make_files_of_whatever_stands_below(tmp_path: Path) -> None:
    """Numbers and texts in a column called recording or image were files, none of which is there."""
    numbers = datasets.load(table(tmp_path, "label,recording\na,0.0\na,0.5\nb,1.0\nb,1.5\n"))
    assert np.array_equal(numbers.items, [[0.0], [0.5], [1.0], [1.5]])
    words = datasets.load(table(tmp_path, "image,k1\nimages,k1\nhouse,k2\nhouses,k2\n"))
    assert words.items == ["image", "images", "house", "houses"] and words.holds == "texts"
    reports = datasets.load(table(tmp_path, "name,filename\nann,one\nann,two\nbob,three\n"))
    assert reports.items == ["one", "two", "three"] and reports.subjects == ("ann", "bob")
    with pytest.raises(DatasetError, match="none of 3 files is there"):
        datasets.load(table(tmp_path, "name,path\nann,one\nann,two\nbob,three\n"))


def test_image_is_a_header_where_pictures_are_below(tmp_path: Path) -> None:
    rows = [row.replace(",s", ",kind") for row in pictures(tmp_path, "image,kind0")]  # also a subject
    assert datasets.load(table(tmp_path, "\n".join(rows))).items[0] == tmp_path / "p_0.png"
    for path in tmp_path.glob("*.png"):
        path.rename(path.with_suffix(""))
    found = datasets.load(table(tmp_path, "\n".join(rows).replace(".png", "")))
    assert len(found) == 12 and found.items[0] == tmp_path / "p_0"  # no ending, but there


@pytest.mark.parametrize("header", ["code,who\n", ""])
def test_codes_are_texts_though_most_are_digits(header: str, tmp_path: Path) -> None:
    """They were refused as words beside other columns, of which there are none."""
    codes = [*(f"{1000 + k}" for k in range(8)), "A-77", "A77"]
    rows = "".join(f"{code},s{k // 2}\n" for k, code in enumerate(codes))
    found = datasets.load(table(tmp_path, header + rows))
    assert found.items == codes and found.holds == "texts"
    assert np.array_equal(datasets.load(table(tmp_path, "code,who\n1,a\n2,a\n3,b\n")).items, [[1], [2], [3]])


class Alone:
    """An encoder that reads its items itself."""

    dim, metric, fingerprint = 8, "cosine", "alone"

    def encode(self, items: Any) -> np.ndarray:
        return made.encoder().encode(items)


def test_a_file_is_named_once(tmp_path: Path) -> None:
    """evaluate said `row 8, p-6.png: .../p-6.png: no such file`."""
    rows = pictures(tmp_path)
    rows[7] = rows[7].replace("_", "-")
    place = table(tmp_path, "\n".join(rows))
    with pytest.raises(DatasetError, match=r"1 of 12 items cannot .*\):\n  row 8, p-6.png: no such file$"):
        encoders.evaluate(made.encoder(), place)
    with pytest.raises(DatasetError, match=r"^row 8, p-6.png: no such file; take it out of the set"):
        encoders.evaluate(Alone(), place)


def test_a_name_is_told_without_its_control_characters_and_bytes(tmp_path: Path) -> None:
    """Training printed them raw, evaluate escaped: a terminal acts on them."""
    bad = tmp_path / "a\x1b[31m\udcff.png"
    data = datasets.from_arrays([bad, bad, bad, bad], [0, 0, 1, 1])
    for measured in (
        lambda: datasets.prepared(data, preprocess.InkPreprocess()),
        lambda: encoders.evaluate(made.encoder(), data),
    ):
        with pytest.raises(DatasetError, match="4 of 4 items cannot") as raised:
            measured()
        assert str(raised.value).count(r"a\x1b[31m\xff.png: no such file") == 4
    assert names.printable("\ud800\n") == r"\ud800\n", "a surrogate that stands for no byte"


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("name,person_id,x", "subjects from column name, vectors from person_id, x"),
        ("label," + ",".join(f"v{k}" for k in range(9)), "vectors from v0 to v8 (9 columns)"),
        ("a\x1b[31m,label", r"subjects from column label, vectors from a\x1b[31m"),
    ],
)
def test_the_columns_that_were_taken_are_told(header: str, told: str, tmp_path: Path) -> None:
    """A number of the person was learnt from, as `name` came first, without a word."""
    wide = header.count(",")
    subject = header.split(",").index("label" if "label" in header else "name")
    rows = [["0.5"] * (wide + 1) for _ in range(8)]
    for number, row in enumerate(rows):
        row[subject] = f"s{number // 2}"
    data = datasets.load(table(tmp_path, "\n".join([header, *map(",".join, rows)])))
    assert told in data.read_from
    assert apart.counted(data, None, outside=False) == f"4 subjects, 8 items; {data.read_from}"


@pytest.mark.parametrize(
    ("text", "items", "labels"),
    [
        ("Smith, John;p1\nSmyth, Jon;p1\nBrown, Al;p2\nBraun, Alf;p2\n", ["Smith, John", "Smyth, Jon"], "p1"),
        (
            "Smith, John\tp1\nSmyth, Jon\tp1\nBrown, Al\tp2\nBraun, Alf\tp2\n",
            ["Smith, John", "Smyth, Jon"],
            "p1",
        ),
        ('"a;b;c;d",anna\nx,anna\ny,bob\nz,bob\n', ["a;b;c;d", "x"], "anna"),
        (
            "hello, my, dear;anna\nyes, no, x;anna\nfoo;bob\nbar;bob\n",
            ["hello, my, dear", "yes, no, x"],
            "anna",
        ),
        ('text, label\n"hello, you", a\n "yes", a\nno, b\noh, b\n', ["hello, you", "yes"], "a"),
        ("text,label\n" + "x" * 140_000 + ",a\nb,a\n", ["x" * 140_000, "b"], "a"),
        ("text,label\nx,a\n,,\n   \ny,a\n", ["x", "y"], "a"),
        ("text,label,\nx,a,\ny,a,\n", ["x", "y"], "a"),
        ("text,label\nx,a,\ny,a,\n", ["x", "y"], "a"),
        ("a, b, c, d\tp1\nx, y, z, w\tp1\n", ["a, b, c, d", "x, y, z, w"], "p1"),
        ("hello,\tanna\nyes,\tanna\nfoo,\tbob\n", ["hello", "yes"], "anna"),  # it was "hello,"
        ("hello\t,anna\nyes\t\t,anna\nfoo\t,bob\n", ["hello", "yes"], "anna"),
        ("0.5,\tanna\n2,\tanna\n3,\tbob\n", [0.5, 2.0], "anna"),  # it was the text "0.5,"
        ("a, b;p1\nc, d;p1;\ne, f;p2\n", ["a, b", "c, d"], "p1"),  # it was a, of "b;p1"
        ("a, b, c;p1\nd, e, f;p1\n   \ng, h;p2\n", ["a, b, c", "d, e, f"], "p1"),
        ("a, b;i, j\nc, d;i, j\ne, f;k, l\n", ["a, b", "c, d"], "i, j"),
        ("a;b c,p1\nd;e,p1\nf;g,p2\nh,p2\n", ["a;b c", "d;e"], "p1"),
    ],
)
def test_ordinary_files_are_read(text: str, items: list[Any], labels: str, tmp_path: Path) -> None:
    found = delimited.read(table(tmp_path, text))
    assert (np.ravel(found.items[:2]).tolist(), set(found.labels[:2])) == (items, {labels})


def test_a_short_file_takes_no_cells_from_who_else_reads() -> None:
    """The csv module has one limit for all threads, and it was lowered to the length of each file."""
    usual = csv.field_size_limit()
    with csv_rows._cells_of_any_length("x,a"):
        assert csv.field_size_limit() == usual
    with csv_rows._cells_of_any_length("x" * (usual + 5)):
        assert csv.field_size_limit() > usual + 5
    assert csv.field_size_limit() == usual


def test_files_are_read_by_many_threads_at_once() -> None:
    """Each restored the limit that it had found: of a long cell, or of a short file in which one ran."""
    usual, place = csv.field_size_limit(), Path("t.csv")
    texts = [f"text,label\nx,a\n{'y' * length},a\n" for length in (9, 200_000, 9, 300_000) * 20]
    with ThreadPoolExecutor(4) as threads:
        rows = list(threads.map(lambda text: csv_rows.read(place, text), texts))
    assert all(len(found) == 3 for found in rows) and csv.field_size_limit() == usual


@pytest.mark.parametrize("begin", [0, 1])  # of pandas, of R
def test_a_column_that_counts_the_rows_is_not_learnt_from(begin: int, tmp_path: Path) -> None:
    """As pandas and R write it; of sorted rows it gives the subject away."""
    rows = [f"{k + begin},{k % 3},0.5,s{k // 4}" for k in range(12)]
    found = delimited.read(table(tmp_path, "\n".join([",x,y,label", *rows])))
    assert found.items.shape == (12, 2)
    assert found.columns.endswith("vectors from x, y, the first column only counts the rows")
    rows[3] = rows[3].replace(f"{3 + begin},", "99,", 1)
    assert delimited.read(table(tmp_path, "\n".join([",x,y,label", *rows]))).items.shape == (12, 3)


def test_a_nameless_column_that_counts_the_rows_shows_a_header(tmp_path: Path) -> None:
    """The names of the columns were the first item, and a word among the numbers of the rows."""
    found = delimited.read(table(tmp_path, ",title,category\n0,x,a\n1,y,a\n2,z,b\n"))
    assert (found.items, found.labels) == (["x", "y", "z"], ["a", "a", "b"])


def test_of_columns_with_one_name_the_one_that_is_counted_is_taken(tmp_path: Path) -> None:
    found = delimited.read(table(tmp_path, "label,x,label\n0,1,7\n0,2,7\n1,3,8\n"), "2")
    assert found.labels == ["7", "7", "8"]
