"""Every error of the gallery, each of them also the built-in one where there is one.

GalleryError
├── GalleryExistsError      (FileExistsError)     create() where a gallery already is
├── GalleryNotFoundError    (FileNotFoundError)   nothing to open
├── GalleryLockedError      (TimeoutError)        another writer held the gallery for too long
├── CorruptGalleryError                           damage was found; the message names it
├── EncoderMismatchError                          the gallery was filled by another encoder
├── UnknownSubjectError     (KeyError)            no subject of that id is enrolled
├── ConflictError                                 what the gallery knows speaks against it
├── QuarantinedError                              all that could be matched is in quarantine
├── InvalidItemError        (ValueError)          an item or embedding that cannot be used
├── NotCalibratedError                            a decision was asked for, and there is no threshold
├── NotEnoughDataError      (ValueError)          a calibration that the data cannot support
└── MissingExtraError       (ImportError)         an optional package is missing; gives the pip line

StaleCalibrationWarning     (UserWarning)         a threshold is used that was measured in other conditions
"""

from __future__ import annotations

from typing import Any


class GalleryError(Exception):
    """The root of every error that the gallery raises on purpose."""


class GalleryExistsError(GalleryError, FileExistsError):
    """A gallery, or something else, is already where one was to be created."""


class GalleryNotFoundError(GalleryError, FileNotFoundError):
    """No gallery is at the location."""


class GalleryLockedError(GalleryError, TimeoutError):
    """Another process or thread held the write lock for longer than the timeout."""


class CorruptGalleryError(GalleryError):
    """Something stored does not agree with its checksum or with the format."""


class EncoderMismatchError(GalleryError):
    """The encoder is not the one whose embeddings the gallery holds."""


class UnknownSubjectError(GalleryError, KeyError):
    """No subject of that id is enrolled."""

    # KeyError prints the repr of its argument, which would quote and escape a whole sentence.
    __str__ = Exception.__str__


class InvalidItemError(GalleryError, ValueError):
    """An item or embedding was refused; `index` is its position in what was passed in, where it has one."""

    def __init__(self, message: str, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index

    @classmethod
    def unusable(cls, position: int, total: int, reason: str) -> InvalidItemError:
        """One of the `total` items that were asked about cannot be used."""
        which = f"item {position} of {total}" if total > 1 else "the item"
        return cls(f"{which} cannot be used: {reason}", position)


class ConflictError(GalleryError):
    """What the gallery knows speaks against it, so nothing was written; `conflicts` has what was noticed."""

    def __init__(self, message: str, conflicts: tuple[Any, ...] = ()) -> None:
        super().__init__(message)
        self.conflicts = conflicts
        """Of an enrolment: `Conflict` records."""


class QuarantinedError(GalleryError):
    """All templates of the subject are in quarantine, so it can be compared with nothing."""


class NotCalibratedError(GalleryError):
    """There is no threshold to decide by."""


class NotEnoughDataError(GalleryError, ValueError):
    """The data cannot support the calibration that was asked for."""


class StaleCalibrationWarning(UserWarning):
    """The adopted threshold was measured in a gallery of quite another size."""


class MissingExtraError(GalleryError, ImportError):
    """An optional package is not installed."""
