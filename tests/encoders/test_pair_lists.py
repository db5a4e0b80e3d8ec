"""Lists of pairs as people have them: a comma too many, a cell too few, folds that begin anywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from encoders import pair_lists


@pytest.mark.parametrize(
    ("header", "rows", "folds"),
    [
        ("left,right,same", ["a/1,a/2,1,", "a/1,b/1,0,,"], [0, 0]),
        ("left,right,same,note", ["a/1,a/2,1", "a/1,b/1,0,seen twice"], [0, 0]),
        ("left,right,same,fold", ["a/1,a/2,1,2", "a/1,b/1,0,-1"], [1, 0]),
        ("left;right;same;fold;by;when", ["a/1;a/2;1;7", "a/1;b/1;0;3;me"], [1, 0]),
    ],
)
def test_rows_whose_meaning_is_clear_are_read(
    header: str, rows: list[str], folds: list[int], tmp_path: Path
) -> None:
    """They were read, then refused for the number of cells, or for a fold below 0."""
    for name in ("a/1", "a/2", "b/1"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.png").touch()
    (tmp_path / "pairs.csv").write_text("\n".join([header, *rows]))
    listed = pair_lists.read(tmp_path / "pairs.csv", tmp_path)
    assert (listed.mated.tolist(), listed.fold.tolist()) == ([True, False], folds)
    assert (listed.left.tolist(), listed.right.tolist(), listed.subjects) == ([0, 0], [1, 2], ["a", "a", "b"])
