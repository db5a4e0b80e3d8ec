"""An enrollment gallery for anything an encoder can embed: enroll, identify, verify, remove, dedupe.

    import gallery, encoders

    people = gallery.open("people.gallery", encoders.load("glyph"))
    people.enroll("alice", ["a1.png", "a2.png"])
    people.identify("probe.png").best

Importing this package costs nothing; a name loads what it needs when it is first used.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Animal": "gallery.findings",
    "Audit": "gallery.findings",
    "BulkEnrollment": "gallery.records",
    "Calibration": "gallery.measures",
    "Candidate": "gallery.records",
    "Conflict": "gallery.findings",
    "ConflictError": "gallery.errors",
    "CorruptGalleryError": "gallery.errors",
    "DuplicateGroup": "gallery.duplicates",
    "DuplicateMember": "gallery.duplicates",
    "Duplicates": "gallery.duplicates",
    "Encoder": "gallery.encoder",
    "EncoderMismatchError": "gallery.errors",
    "Enrollment": "gallery.records",
    "Evaluation": "gallery.evaluation",
    "FusionErrors": "gallery.measures",
    "Gallery": "gallery.gallery",
    "GalleryError": "gallery.errors",
    "GalleryExistsError": "gallery.errors",
    "GalleryLockedError": "gallery.errors",
    "GalleryNotFoundError": "gallery.errors",
    "Generation": "gallery.records",
    "Identification": "gallery.records",
    "ImageQuality": "gallery.quality",
    "Info": "gallery.info",
    "InvalidItemError": "gallery.errors",
    "LikelySame": "gallery.findings",
    "Migration": "gallery.records",
    "Mislabelled": "gallery.findings",
    "MissingExtraError": "gallery.errors",
    "NotCalibratedError": "gallery.errors",
    "NotEnoughDataError": "gallery.errors",
    "Operation": "gallery.findings",
    "Precomputed": "gallery.encoder",
    "Problem": "gallery.records",
    "Quarantined": "gallery.findings",
    "QuarantinedError": "gallery.errors",
    "Rate": "gallery.measures",
    "Recall": "gallery.measures",
    "Refusal": "gallery.records",
    "Repair": "gallery.records",
    "StaleCalibrationWarning": "gallery.errors",
    "Subject": "gallery.records",
    "Template": "gallery.records",
    "UnknownSubjectError": "gallery.errors",
    "Verification": "gallery.records",
    "check": "gallery.repairing",
    "create": "gallery.opening",
    "find_duplicates": "gallery.dedupe",
    "open": "gallery.opening",
    "repair": "gallery.repairing",
    "write_evaluation": "gallery.evaluation_page",
    "write_report": "gallery.report",
}

__all__ = [
    "Animal",
    "Audit",
    "BulkEnrollment",
    "Calibration",
    "Candidate",
    "Conflict",
    "ConflictError",
    "CorruptGalleryError",
    "DuplicateGroup",
    "DuplicateMember",
    "Duplicates",
    "Encoder",
    "EncoderMismatchError",
    "Enrollment",
    "Evaluation",
    "FusionErrors",
    "Gallery",
    "GalleryError",
    "GalleryExistsError",
    "GalleryLockedError",
    "GalleryNotFoundError",
    "Generation",
    "Identification",
    "ImageQuality",
    "Info",
    "InvalidItemError",
    "LikelySame",
    "Migration",
    "Mislabelled",
    "MissingExtraError",
    "NotCalibratedError",
    "NotEnoughDataError",
    "Operation",
    "Precomputed",
    "Problem",
    "Quarantined",
    "QuarantinedError",
    "Rate",
    "Recall",
    "Refusal",
    "Repair",
    "StaleCalibrationWarning",
    "Subject",
    "Template",
    "UnknownSubjectError",
    "Verification",
    "check",
    "create",
    "find_duplicates",
    "open",
    "repair",
    "write_evaluation",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'gallery' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
