"""Packages that an encoder rests on: which version is there, and what to install where one is not."""

from __future__ import annotations

from importlib import metadata


def versions(*names: str) -> dict[str, str]:
    """{package: its version} of those that are installed, by the names that pip knows them by."""
    return {name: found for name in names if (found := _version(name)) is not None}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
