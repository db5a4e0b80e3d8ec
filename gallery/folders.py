"""Walking a folder of items, and telling equal files by their bytes.

What a walk takes: regular files with an image's suffix, in any case, in any subfolder, sorted by path. What
it passes over, and counts: hidden names (a leading dot; a hidden folder is not entered), other suffixes,
symbolic links unless `links`, and further names of one file (hard links, links). What it reports as a
problem: folders that cannot be listed and files that vanish meanwhile. Nothing is ever changed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from encoders.names import printable
from gallery.errors import GalleryError, InvalidItemError

IMAGE_SUFFIXES = frozenset(
    {".apng", ".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg"}
    | {".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"}
)
HASH_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file of a walk: its path, as the folder was given, and its size in bytes."""

    path: str
    size: int


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file or folder that could not be read, and why."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{printable(self.path)}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Walk:
    """What a walk found. `passed_over` counts what was left out on purpose: {reason: number}."""

    files: tuple[FoundFile, ...]
    problems: tuple[Unreadable, ...] = ()
    passed_over: Mapping[str, int] = field(default_factory=dict)


def walk(
    folder: str | os.PathLike[str], *, suffixes: frozenset[str] | None = IMAGE_SUFFIXES, links: bool = False
) -> Walk:
    """Every item under `folder`, recursively, sorted by path.

    suffixes: lower-case suffixes to take, None for every file. links: follow symbolic links to files and
    folders; each folder is entered and each file taken once, so loops end. Raises InvalidItemError for a
    `folder` that is missing, no folder or not to be listed.
    """
    walker = _Walker(suffixes, links)
    root = os.fspath(folder)
    walker.enter(checked_folder(root))
    if walker.problems and walker.problems[0].path == root:
        raise InvalidItemError(f"{printable(root)} cannot be listed: {walker.problems[0].reason}")
    return walker.result()


def checked_folder(folder: str | os.PathLike[str]) -> str:
    """The folder's path as text, or InvalidItemError for one that is missing or is a file."""
    path = os.fspath(folder)
    if not Path(path).exists():
        raise InvalidItemError(f"{printable(path)}: no such folder")
    if not Path(path).is_dir():
        raise InvalidItemError(f"{printable(path)} is a file; a folder of items is needed")
    return path


def subject_folders(
    folder: str | os.PathLike[str], *, suffixes: frozenset[str] | None = IMAGE_SUFFIXES
) -> list[tuple[str, list[str]]]:
    """(id, paths of its items) with one subfolder per id, sorted by id; those without items are left out.

    Raises InvalidItemError as `subject_walks` does, and when no subfolder holds an item.
    """
    walks = subject_walks(folder, suffixes=suffixes)
    found = [(id, [file.path for file in walked.files]) for id, walked in walks.items() if walked.files]
    if not found:
        what = "image" if suffixes is IMAGE_SUFFIXES else f"{' or '.join(sorted(suffixes or ()))} file"
        where = "the one subfolder" if len(walks) == 1 else f"any of the {len(walks)} subfolders"
        raise InvalidItemError(f"no {what} is in {where} of {printable(folder)}")
    return found


def loose_items(folder: str | os.PathLike[str], *, suffixes: frozenset[str] = IMAGE_SUFFIXES) -> list[str]:
    """Items that lie beside the subfolders, sorted by path: they belong to no id."""
    return sorted(
        str(path)
        for path in Path(folder).iterdir()
        if path.suffix.lower() in suffixes and path.is_file() and not _hidden(path.name)
    )


def subject_walks(
    folder: str | os.PathLike[str], *, suffixes: frozenset[str] | None = IMAGE_SUFFIXES
) -> dict[str, Walk]:
    """{id: what its subfolder holds}, sorted by id; links are followed, hidden subfolders are not entered.

    Raises InvalidItemError when there are no subfolders, and for a name that is not UTF-8: it can't be an id.
    """
    root = checked_folder(folder)
    names = sorted(entry.name for entry in Path(root).iterdir() if not _hidden(entry.name) and entry.is_dir())
    if not names:
        shown = printable(root)
        raise InvalidItemError(f"{shown} has no subfolders: make one for each id, with its items in it")
    for name in names:
        if not _is_text(name):
            shown = printable(name)
            raise InvalidItemError(f"the folder name {shown} in {printable(root)} is not UTF-8: rename it")
    return {name: walk(str(Path(root, name)), suffixes=suffixes, links=True) for name in names}


def file_hash(path: str | os.PathLike[str]) -> str:
    """SHA-256 of the file's bytes, in hexadecimal; OSError where it cannot be read."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while chunk := stream.read(HASH_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def identical_files(files: Iterable[FoundFile]) -> list[tuple[FoundFile, ...]]:
    """Sets of two or more files with the same bytes, each sorted by path, the sets by their first path.

    Only files whose size another one has too are read. Empty files, and files that cannot be read now, are
    in no set.
    """
    by_size: dict[int, list[FoundFile]] = defaultdict(list)
    for file in files:
        by_size[file.size].append(file)
    sets = [found for size, same in by_size.items() if size and len(same) > 1 for found in _same_bytes(same)]
    return sorted(sets, key=lambda found: found[0].path)


def _same_bytes(files: list[FoundFile]) -> list[tuple[FoundFile, ...]]:
    by_hash: dict[str, list[FoundFile]] = defaultdict(list)
    for file in files:
        try:
            by_hash[file_hash(file.path)].append(file)
        except OSError:
            continue  # whoever reads it as an item will report it
    return [tuple(sorted(same, key=lambda f: f.path)) for same in by_hash.values() if len(same) > 1]


def os_reason(error: OSError) -> str:
    """An operating system error in a few plain words."""
    if isinstance(error, FileNotFoundError):
        return "vanished while the folder was read"
    return (error.strerror or type(error).__name__).lower()


def absolute_path(path: str | os.PathLike[str]) -> Path:
    """A path from the root on, which stays the same when the process goes to another folder.

    GalleryError for what is the name of nothing, for which Python's own words are a ValueError.
    """
    try:
        found = Path(os.fsdecode(path)).absolute()
        try:
            found.lstat()
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise
    except (ValueError, OSError) as error:
        # A folder of the process that is gone is an OSError.
        raise GalleryError(
            f"{os.fspath(path)!r} can be the name of no file or folder here: {error}"
        ) from error
    return found


def _hidden(name: str) -> bool:
    return name.startswith(".")


def _is_text(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


class _Walker:
    """One walk: what it has found so far, and which folders and files it has already seen."""

    def __init__(self, suffixes: frozenset[str] | None, links: bool) -> None:
        self._suffixes, self._links = suffixes, links
        self._files: list[FoundFile] = []
        self.problems: list[Unreadable] = []
        self._passed: Counter[str] = Counter()
        self._seen: set[tuple[int, int]] = set()

    def result(self) -> Walk:
        files = sorted(self._files, key=lambda file: Path(file.path).parts)
        return Walk(tuple(files), tuple(self.problems), dict(self._passed))

    def enter(self, root: str) -> None:
        """Visits everything from `root` on, on a list of our own: depth is not bounded by Python's stack.

        Links come last, so that an item is named by its real path where it has one.
        """
        pending, linked = [root], deque[str]()
        while pending or linked:
            path = pending.pop() if pending else linked.popleft()
            try:
                status = Path(path).stat()
                if not stat.S_ISDIR(status.st_mode):
                    self._take(path, status)
                elif self._first_time(status, "folder reached by another path"):
                    pending.extend(reversed(list(self._listed(path, linked))))
            except OSError as error:
                broken = Path(path).is_symlink()
                reason = "is a link to nothing, or to itself" if broken else os_reason(error)
                self.problems.append(Unreadable(path, reason))

    def _listed(self, folder: str, linked: deque[str]) -> Iterator[str]:
        """What is to be visited in a folder, by name; its links are put off to `linked`."""
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
        for entry in entries:
            if _hidden(entry.name):
                self._passed["hidden"] += 1
            elif not entry.is_symlink():
                yield entry.path
            elif self._links:
                linked.append(entry.path)
            else:
                self._passed["symbolic link"] += 1

    def _take(self, path: str, status: os.stat_result) -> None:
        if self._suffixes is not None and Path(path).suffix.lower() not in self._suffixes:
            self._passed["other kind of file"] += 1
        elif not stat.S_ISREG(status.st_mode):
            self._passed["not a regular file"] += 1
        elif self._first_time(status, "another name of a file already taken"):
            self._files.append(FoundFile(path, status.st_size))

    def _first_time(self, status: os.stat_result, otherwise: str) -> bool:
        key = (status.st_dev, status.st_ino)
        if status.st_ino and key in self._seen:  # some file systems have no numbers
            self._passed[otherwise] += 1
            return False
        self._seen.add(key)
        return True
