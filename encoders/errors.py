"""Errors of the encoders package.

EncoderError
├── CheckpointError              a folder that is not a whole, known, safe checkpoint
├── DatasetError      ValueError data that cannot be trained or measured on
├── EncodeError       ValueError an item that cannot be embedded; `.index`, `.reason`
├── MissingExtraError ImportError a package that is not installed; the message gives the pip line
├── TrainingError     ValueError settings that make no sense, or a loss that is no longer a number
└── UnknownEncoderError KeyError a name that no shipped encoder and no folder has

PassedOverWarning (UserWarning): part of a folder is no item, and was left out.
"""

from __future__ import annotations


class EncoderError(Exception):
    """The root of every error that this package raises on purpose."""


class CheckpointError(EncoderError):
    """A checkpoint folder is missing a part, damaged, unsafe or of a newer format."""


class DatasetError(EncoderError, ValueError):
    """A labelled set cannot be used as asked; the message has the numbers."""


class EncodeError(EncoderError, ValueError):
    """One item cannot be embedded."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(f"item {index}: {reason}")
        self.index = index
        self.reason = reason


class MissingExtraError(EncoderError, ImportError):
    """An optional package is needed and absent."""


class TrainingError(EncoderError, ValueError):
    """A training run was asked for something impossible, or went wrong at a stated step."""


class PassedOverWarning(UserWarning):
    """Something in a folder of labelled items is no item; the message has how many, and the first."""


class UnknownEncoderError(EncoderError, KeyError):
    """No shipped encoder and no checkpoint folder has this name."""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would print the repr


def first_line(error: BaseException, longest: int = 300) -> str:
    """What an error of somebody else's code says, fit for a sentence; its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:longest]
