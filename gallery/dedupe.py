"""The verb `find_duplicates`: a folder of images -> what is in it twice. It changes and deletes nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from encoders.images import MAX_PIXELS
from encoders.names import printable
from gallery.decisions import checked_threshold
from gallery.duplicates import Duplicates, Evidence, Picture, grouped, preference
from gallery.encoder import Encoder, check_encoder, embed, encoder_name
from gallery.errors import InvalidItemError, NotCalibratedError
from gallery.folders import FoundFile, Unreadable, Walk, identical_files, walk
from gallery.pairs import near_pairs
from gallery.reading import Batch, read_batches
from gallery.vectors import FloatRows

Progress = Callable[[int, int | None], None]

BATCH = 64


def find_duplicates(
    folder: str | os.PathLike[str],
    encoder: Encoder | None = None,
    threshold: float | None = None,
    *,
    progress: Progress | None = None,
    batch_size: int = BATCH,
    max_pixels: int = MAX_PIXELS,
) -> Duplicates:
    """Byte-identical images and near duplicates under `folder`, in groups around the best one of each.

    encoder: is given PIL images (RGB, upright); None is the shipped encoder `photo`.
    threshold: the largest distance of a duplicate to its keeper, inclusive; None is the encoder's own.
    progress: called with (files done, files in all).
    max_pixels: larger images are not decoded.

    Only embeddings are kept in memory. Files that cannot be read or embedded are in `.unreadable`, each with
    its reason. Raises InvalidItemError for a folder that is missing, is a file or holds no image, and for a
    threshold that makes millions of pairs; NotCalibratedError when there is no threshold to go by.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be 1 or more, not {batch_size}")
    walked = _walked(folder)
    encoder = _photo() if encoder is None else encoder
    check_encoder(encoder)
    limit = _limit(encoder, threshold)
    same_bytes = identical_files(walked.files)
    scan = _Scan(encoder, {same[0].path: same[1:] for same in same_bytes})
    spare = {file for same in same_bytes for file in same[1:]}
    done, total = 0, len(walked.files)
    for batch in read_batches([f for f in walked.files if f not in spare], batch_size, max_pixels):
        done += scan.add(batch)
        if progress is not None:
            progress(done, total)
    evidence = scan.evidence(limit)
    unreadable = sorted([*walked.problems, *scan.unreadable], key=lambda item: item.path)
    return Duplicates(grouped(evidence, limit), tuple(unreadable), limit, total, evidence)


def _walked(folder: str | os.PathLike[str]) -> Walk:
    walked = walk(folder)
    if not walked.files:
        passed = ", ".join(f"{number} {reason}" for reason, number in sorted(walked.passed_over.items()))
        passed = f" (passed over: {passed})" if passed else ""
        raise InvalidItemError(f"{printable(folder)} holds no images{passed}")
    return walked


def _photo() -> Encoder:
    # The one import of `encoders` that loads torch, and only for people who bring no encoder of their own.
    import encoders

    photo: Encoder = encoders.load("photo")
    return photo


def _limit(encoder: Encoder, threshold: float | None) -> float:
    if threshold is not None:
        return checked_threshold(threshold)
    recommended = getattr(encoder, "threshold", None)
    if recommended is None:
        raise NotCalibratedError(
            f"the encoder {encoder_name(encoder)!r} recommends no threshold: pass one, a {encoder.metric} "
            "distance that copies stay within (--threshold on the command line)"
        )
    return checked_threshold(recommended)


@dataclass(slots=True)
class _Scan:
    """One scan so far: one picture of each set of equal files, its embedding, and what could not be used."""

    encoder: Encoder
    copies: dict[str, tuple[FoundFile, ...]]
    pictures: list[Picture] = field(default_factory=list)
    rows: list[FloatRows] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)

    def add(self, batch: Batch) -> int:
        """Embeds a batch; how many files it settles, the equal ones counted."""
        rows, bad = embed(self.encoder, batch.images)
        faults = [Unreadable(batch.pictures[at].path, f"cannot be embedded: {bad[at]}") for at in bad]
        refused = [*batch.refused, *faults]
        self.rows.append(rows)
        self.pictures.extend(picture for at, picture in enumerate(batch.pictures) if at not in bad)
        self.unreadable.extend(refused)
        self.unreadable.extend(
            Unreadable(file.path, item.reason) for item in refused for file in self.copies.get(item.path, ())
        )
        paths = [picture.path for picture in batch.pictures] + [item.path for item in batch.refused]
        return sum(1 + len(self.copies.get(path, ())) for path in paths)

    def evidence(self, threshold: float) -> Evidence:
        """What was seen, in order of preference, with every pair within the threshold."""
        order = sorted(range(len(self.pictures)), key=lambda at: preference(self.pictures[at]))
        pictures = tuple(self.pictures[at] for at in order)
        rows = np.concatenate([np.empty((0, self.encoder.dim), np.float32), *self.rows])[order]
        same = {at: self._same(picture) for at, picture in enumerate(pictures) if picture.path in self.copies}
        return Evidence(pictures, near_pairs(rows, self.encoder.metric, threshold), same)

    def _same(self, picture: Picture) -> tuple[Picture, ...]:
        return tuple(replace(picture, path=file.path) for file in self.copies[picture.path])
