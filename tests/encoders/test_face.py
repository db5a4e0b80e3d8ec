"""`import encoders` costs nothing, and its face is complete."""

from __future__ import annotations

import subprocess
import sys

import pytest

import encoders


def test_importing_loads_nothing_heavy() -> None:
    code = "import sys, encoders, encoders.cli, encoders.errors; encoders.list(); "
    code += "print(sorted({'torch', 'faiss', 'h5py', 'gallery', 'safetensors', 'tqdm'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == "[]"


def test_all_is_sorted_and_every_name_is_there() -> None:
    assert sorted(encoders.__all__) == encoders.__all__
    assert all(getattr(encoders, name) is not None for name in encoders.__all__)
    assert set(encoders.__all__) <= set(dir(encoders))


def test_errors_are_the_built_in_ones_too() -> None:
    kinds = {"TrainingError": ValueError, "EncodeError": ValueError, "UnknownEncoderError": KeyError}
    kinds |= {"DatasetError": ValueError, "MissingExtraError": ImportError, "CheckpointError": Exception}
    for name, kind in kinds.items():
        assert issubclass(getattr(encoders, name), kind) and issubclass(
            getattr(encoders, name), encoders.EncoderError
        )
    assert str(encoders.UnknownEncoderError("plain words")) == "plain words"


def test_an_unknown_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        encoders.lode  # noqa: B018
