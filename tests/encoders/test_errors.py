"""What is told of the errors of other people's code."""

from __future__ import annotations

import pytest

from encoders.errors import first_line


@pytest.mark.parametrize(
    ("said", "told"),
    [("\n one\ntwo", "one"), ("", "RuntimeError"), (" \n", "RuntimeError"), ("x" * 400, "x" * 300)],
)
def test_an_error_is_told_in_a_line(said: str, told: str) -> None:
    assert first_line(RuntimeError(said)) == told
    assert first_line(RuntimeError(said), 2) == told[:2]
