"""Packages that an encoder rests on: which version is there, and what to install where one is not."""

from __future__ import annotations

from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from encoders.errors import MissingExtraError


def versions(*names: str) -> dict[str, str]:
    """{package: its version} of those that are installed, by the names that pip knows them by."""
    return {name: found for name in names if (found := _version(name)) is not None}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def are_there(*modules: str) -> bool:
    """Whether these modules are installed, as far as can be told without running them."""
    return all(find_spec(module) is not None for module in modules)


def needed(module: str, extra: str) -> Any:
    """The module of an optional package; MissingExtraError with the pip line where it is not there."""
    try:
        return import_module(module)
    except ImportError as exc:
        raise _missing(module, extra, f" ({exc})" if exc.name != module else "") from exc


def files_of(module: str, extra: str, lighter: str = "") -> Path:
    """The folder of an installed package that is there for its files; its code is not run.

    Some packages that carry weights cannot be imported any more, and none needs to be. lighter: a command
    that installs the files alone.
    """
    found = find_spec(module)
    if found is None or not found.submodule_search_locations:
        raise _missing(module, extra, hint=f" (or, for its files alone: {lighter})" if lighter else "")
    return Path(next(iter(found.submodule_search_locations)))


def _missing(module: str, extra: str, why: str = "", hint: str = "") -> MissingExtraError:
    return MissingExtraError(f"{module} is not installed{why}: pip install 'siamese-gallery[{extra}]'{hint}")
