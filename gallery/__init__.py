"""An enrollment gallery for anything an encoder can embed: enroll, identify, verify, remove, dedupe.

import gallery, encoders

people = gallery.open("people.gallery", encoders.load("glyph"))
people.enroll("alice", ["a1.png", "a2.png"])
people.identify("probe.png").best
"""

from gallery.encoder import Encoder, Precomputed
from gallery.errors import (
    CorruptGalleryError,
    EncoderMismatchError,
    GalleryError,
    GalleryExistsError,
    GalleryLockedError,
    GalleryNotFoundError,
    InvalidItemError,
    MissingExtraError,
    NotCalibratedError,
    NotEnoughDataError,
    UnknownSubjectError,
)
from gallery.gallery import Gallery
from gallery.info import Info
from gallery.opening import create_gallery as create
from gallery.opening import open_gallery as open
from gallery.records import (
    BulkEnrollment,
    Candidate,
    Enrollment,
    Identification,
    Problem,
    Refusal,
    Template,
    Verification,
)

__version__ = "0.1.0"

__all__ = [
    "BulkEnrollment",
    "Candidate",
    "CorruptGalleryError",
    "Encoder",
    "EncoderMismatchError",
    "Enrollment",
    "Gallery",
    "GalleryError",
    "GalleryExistsError",
    "GalleryLockedError",
    "GalleryNotFoundError",
    "Identification",
    "Info",
    "InvalidItemError",
    "MissingExtraError",
    "NotCalibratedError",
    "NotEnoughDataError",
    "Precomputed",
    "Problem",
    "Refusal",
    "Template",
    "UnknownSubjectError",
    "Verification",
    "create",
    "open",
]
