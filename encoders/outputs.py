"""Whether a checkpoint can be written where it is asked for, and loaded again by that name."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from encoders import adapters, checkpoint, shipped, state
from encoders.errors import CheckpointError
from encoders.names import written


def refuse_unusable(output: Path) -> None:
    """CheckpointError for an output that could not be written after the training, or not be loaded."""
    try:
        checkpoint.refuse_foreign(output)
        _refuse_unloadable(output)
        _refuse_unwritable(output)
    except OSError as exc:
        raise CheckpointError(f"{output} cannot be written: {exc.strerror}; choose another place") from exc


def _refuse_unloadable(output: Path) -> None:
    """`encoders.load` takes some names for something else than a folder."""
    name, suffix = os.fspath(output), output.suffix
    if name in shipped.names():
        raise CheckpointError(
            f"{name} is the name of an encoder that ships, which would be loaded instead: "
            f"choose another one, {name}-of-mine for example"
        )
    if suffix == ".safetensors" or adapters.home(name) is not None:
        file = suffix in (".safetensors", ".onnx")
        mark = suffix if file else name[: name.find(":") + 1] or name
        raise CheckpointError(
            f"{name} would not be loaded as a folder, because of {mark}: choose another name, "
            f"{output.stem.replace(':', '-')}.encoder for example"
            + (" (`encoders export` writes such a file)" if file else "")
        )
    if written(name) != name:
        raise CheckpointError(
            f"{written(name)} is not UTF-8: weights are not read from it, choose another name"
        )


def _refuse_unwritable(output: Path) -> None:
    """Makes and removes a folder where the output will be, in the nearest folder that is there."""
    beside = state.beside(output)
    if (what := _no_folder(beside)) is not None:
        raise CheckpointError(f"{beside} is {what}, the interrupted run would be kept there: move it away")
    home = next(one for one in output.absolute().parents if os.path.lexists(one))
    if (what := _no_folder(home)) is not None:
        raise CheckpointError(f"{output} cannot be written: {home} is {what}, not a folder")
    # The longest of the names that saving needs.
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.old.", dir=home):
        pass


def _no_folder(place: Path) -> str | None:
    """What is there in a folder's place; None where there is a folder, or nothing yet."""
    if place.is_dir() or not os.path.lexists(place):
        return None
    return "a file" if place.exists() else "a link to nothing"
