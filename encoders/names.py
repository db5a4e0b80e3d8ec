"""Names of items and subjects as text that any file takes."""

from __future__ import annotations


def written(name: str) -> str:
    r"""The name with each byte that is not UTF-8 as \xNN, as a file name on Linux may have them.

    Python keeps such bytes as lone surrogates, which no UTF-8 file can hold.
    """
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        return name.encode("utf-8", "backslashreplace").decode()
