"""The command line: one command a verb. It parses and prints; it decides nothing."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from encoders.errors import EncoderError
from gallery import __version__
from gallery.errors import CorruptGalleryError, GalleryError, GalleryLockedError
from gallery.options import finite
from gallery.validity import DAYS

DONE, REJECTED, MISTAKE, FAILURE = 0, 1, 2, 3

_EPILOG = """\
exit codes:
  0  done; for verify: accepted
  1  verify: rejected
  2  a mistake: wrong arguments, nothing there, an item that cannot be used, the wrong encoder
  3  a failure: the gallery is damaged or locked, the disk is full
  130  interrupted
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    arguments, unknown = parser().parse_known_args(argv)
    if unknown:
        arguments.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        # Only now: what a verb needs takes longer to import than the help takes to print.
        home, _, verb = arguments.run.rpartition(".")
        return int(getattr(import_module(f"gallery.{home or 'commands'}"), verb)(arguments))
    except (CorruptGalleryError, GalleryLockedError) as error:
        return _failed(error, FAILURE)
    except (GalleryError, EncoderError, ValueError, ImportError) as error:
        return _failed(error, MISTAKE)
    except BrokenPipeError:
        # The reader has seen enough, as `gallery list | head` has.
        sys.stderr.close()
        return DONE
    except OSError as error:
        return _failed(error, FAILURE)
    except KeyboardInterrupt:
        return _failed("stopped", 130)


def _failed(error: object, code: int) -> int:
    print(f"gallery: {error}", file=sys.stderr)
    return code


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="gallery",
        description="Enroll items under ids, and ask who is who.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"siamese-gallery {__version__}")
    verbs = top.add_subparsers(metavar="COMMAND", required=True)
    _enroll(_verb(verbs, "enroll", "enroll", "enrol a folder with one subfolder per id, or images"))
    _searches(verbs)
    _calibrate(_verb(verbs, "calibrate", "calibration_commands.calibrate", "measure a threshold"))
    _evaluate(_verb(verbs, "evaluate", "evaluation_commands.evaluate", "error rates on labelled probes"))
    _verify(_verb(verbs, "verify", "verify", "is this that subject? exit 0 accepted, 1 rejected"))
    _remove(_verb(verbs, "remove", "remove", "remove subjects and all their templates"))
    _verb(verbs, "list", "listing", "the subjects, with their number of templates and metadata")
    _verb(verbs, "info", "info", "what the gallery is and how it stands")
    check = _verb(verbs, "check", "check", "read everything and report damage; exit 3 when there is any")
    check.add_argument(
        "--repair",
        action="store_true",
        help="save all that can be saved and list the rest; exit 3 when something is lost",
    )
    _verb(verbs, "compact", "compact", "leave no byte of what was removed, and give the space back")
    log = _verb(verbs, "log", "log", "who changed what when, and the switch of that log")
    log.add_argument("--limit", metavar="N", type=int, help="only the newest N entries (default: all)")
    switch = log.add_mutually_exclusive_group()
    switch.add_argument("--off", action="store_true", help="keep no log from now on")
    switch.add_argument("--on", action="store_true", help="keep one again")
    copy = _verb(verbs, "backup", "backup", "copy a gallery in use to a new folder that opens")
    copy.add_argument("target", metavar="TARGET", help="the folder to make")
    export = _verb(verbs, "export", "export", "write everything enrolled to a new HDF5 file")
    export.add_argument("file", metavar="FILE", help="the HDF5 file to make")
    load = _verb(verbs, "import", "load", "add everything in an exported HDF5 file")
    load.add_argument("file", metavar="FILE", help="an HDF5 file made by export")
    _encoder(load, "the one the gallery was filled by; for a new gallery the one the file names")
    _migrations(verbs)
    _curation(verbs)
    _dedupe(_verb(verbs, "dedupe", "dedupe", "find copies and near copies of images", location=False))
    return top


def _verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: str,
    help: str,
    *,
    location: bool = True,
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(
        name,
        help=help,
        description=f"{help[0].upper()}{help[1:]}.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if location:
        parser.add_argument("location", metavar="LOCATION", help="the gallery's folder")
    if name == "evaluate":
        parser.add_argument(
            "--json", metavar="FILE", nargs="?", const=True, help="all figures to FILE, or printed as JSON"
        )
    else:
        parser.add_argument("--json", action="store_true", help="print JSON for programs, and nothing else")
    parser.set_defaults(run=run, parser=parser)
    return parser


def _encoder(parser: argparse.ArgumentParser, default: str = "the one the gallery was filled by") -> None:
    parser.add_argument(
        "--encoder", metavar="NAME", help=f"a shipped encoder, or the path of one (default: {default})"
    )


def _enroll(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", metavar="FOLDER|IMAGE", nargs="+", help="a folder, or with --id images")
    parser.add_argument("--id", help="enrol the images under this id")
    parser.add_argument(
        "--metadata",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="with --id: what to keep about the subject; once for each key",
    )
    _on_error(parser, "raise enrols nothing, skip enrols the others")
    parser.add_argument(
        "--on-conflict",
        choices=("ignore", "warn", "refuse"),
        default="ignore",
        help="an image that may be another subject, is unlike its own, or a copy: warn says so, refuse "
        "enrols nothing (default: ignore, without a look)",
    )
    _quality(parser)
    parser.add_argument(
        "--keep-items",
        action="store_true",
        help="a new gallery keeps the images too, so that another encoder can embed them one day",
    )
    _encoder(parser, "the one the gallery was filled by; glyph for a new gallery")


def _quality(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--quality",
        choices=("refuse", "flag"),
        help="look at each picture first: one too small, without content or blurred is refused, or reported",
    )


def _on_error(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument(
        "--on-error",
        choices=("raise", "skip"),
        default="raise",
        help=f"an image that cannot be used: {what} (default: raise)",
    )


def _searches(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    at = "search_commands"
    identify = _verb(verbs, "identify", f"{at}.identify", "who is this? the nearest subjects, or unknown")
    _images(identify)
    identify.add_argument("-k", type=int, default=5, help="how many subjects at most (default: 5)")
    _threshold(identify)
    identify.add_argument(
        "--prior",
        metavar="P",
        type=finite,
        help="say how probable it is that the nearest is right, if that of being enrolled at all is P",
    )
    _quality(identify)
    within = _verb(verbs, "within", f"{at}.within", "every subject within a distance")
    _images(within)
    within.add_argument("--radius", type=finite, required=True, help="the distance")
    reindex = _verb(verbs, "reindex", f"{at}.reindex", "change the kind of index, and build it anew")
    reindex.add_argument(
        "kind",
        metavar="KIND",
        nargs="?",
        default="auto",
        help="auto (default), exact, or a factory string of FAISS, such as HNSW32 or IVF1024,SQ8",
    )
    recall = _verb(verbs, "recall", f"{at}.recall", "measure how many neighbours the index finds")
    recall.add_argument("--sample", type=int, default=1000, help="templates to ask about (default: 1000)")
    recall.add_argument("-k", type=int, default=5, help="how many subjects each (default: 5)")
    recall.add_argument("--seed", type=int, default=0, help="which ones are drawn (default: 0)")
    recall.add_argument("--goal", type=finite, help="first make it look as hard as such a share takes: 0.99")


def _images(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="images to ask about")
    parser.add_argument(
        "--where",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="only subjects with this metadata, as text or as JSON; twice the same KEY: either value",
    )
    _encoder(parser)


def _calibrate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "probes",
        metavar="PROBES",
        nargs="?",
        help="a folder with one subfolder per id, enrolled or not (default: the gallery against itself)",
    )
    target = parser.add_mutually_exclusive_group()
    target.add_argument(
        "--target-fmr",
        metavar="RATE",
        type=finite,
        help="false matches per comparison, for verify (default: 0.001)",
    )
    target.add_argument(
        "--target-fpir",
        metavar="RATE",
        type=finite,
        help="searches with a stranger that find somebody, for identify in a gallery of this size",
    )
    parser.add_argument("--adopt", action="store_true", help="make the gallery decide by it")
    parser.add_argument(
        "--valid-days",
        metavar="DAYS",
        help=f"with --adopt: how long it holds, or forever; past that searches warn (default: {DAYS})",
    )
    parser.add_argument(
        "--extrapolate", action="store_true", help="go beyond the data by extreme-value theory"
    )
    parser.add_argument(
        "--fusion",
        choices=("nearest", "mean2", "mean3", "centroid", "auto"),
        help="how the distances of a subject's templates become one (default: nearest)",
    )
    parser.add_argument(
        "--compare-fusions", action="store_true", help="only show what each way of fusing comes to"
    )
    parser.add_argument(
        "--misnamed",
        metavar="RATE",
        type=finite,
        help="matches that may be of somebody else; rather than more, they are ambiguous (default: 0.01)",
    )
    parser.add_argument(
        "--sample", type=int, help="without PROBES: enrolled templates to compare with all (default: 2000)"
    )
    parser.add_argument("--seed", type=int, default=0, help="which ones are drawn (default: 0)")
    _encoder(parser)
    _quality(parser)


def _evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "probes",
        metavar="PROBES",
        help="a folder with one subfolder per id; those of ids that are not enrolled are strangers",
    )
    parser.add_argument("--report", metavar="FILE", help="write an HTML page with curves and pictures")
    parser.add_argument(
        "--group", metavar="FIELD", help="errors for each value of this field of the metadata"
    )
    parser.add_argument("--worst", type=int, default=12, help="mistakes of each kind to show (default: 12)")
    parser.add_argument(
        "--seed", type=int, default=0, help="which subjects are compared with, where all are too many"
    )
    _threshold(parser)
    _encoder(parser)
    _quality(parser)


def _verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="the subject it claims to be")
    parser.add_argument("image", metavar="IMAGE", help="the image that claims it")
    _threshold(parser)
    _quality(parser)
    _encoder(parser)


def _remove(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "ids", metavar="ID", nargs="+", help="ids of subjects; one unknown id and none is removed"
    )
    parser.add_argument("--erase", action="store_true", help="leave no byte of them in any file")


def _migrations(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    where = "migration_commands"
    migrate = _verb(verbs, "migrate", f"{where}.migrate", "embed everything anew by another encoder")
    migrate.add_argument(
        "folder",
        metavar="FOLDER",
        nargs="?",
        help="the enrolled images, one subfolder per id (default: the images that the gallery kept)",
    )
    migrate.add_argument(
        "--from-sources", action="store_true", help="take the images from the paths they were enrolled from"
    )
    _on_error(migrate, "raise stops, skip removes its template at the switch")
    migrate.add_argument("--abandon", action="store_true", help="give up a migration that is not finished")
    migrate.add_argument(
        "--encoder", metavar="NAME", help="the shipped encoder, or the path of one, to go to"
    )
    rollback = _verb(verbs, "rollback", f"{where}.rollback", "go back to the encoder before the migration")
    rollback.add_argument(
        "--force", action="store_true", help="remove what was enrolled since, which has no way back"
    )
    drop = _verb(verbs, "drop-previous", f"{where}.drop_previous", "drop what is kept for a rollback")
    drop.add_argument("--erase", action="store_true", help="leave no byte of it in any file")


def _curation(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    at = "curation_commands"
    rename = _verb(verbs, "rename", f"{at}.rename", "give a subject another id")
    rename.add_argument("old", metavar="OLD", help="its id")
    rename.add_argument("new", metavar="NEW", help="an id that is free")
    merge = _verb(verbs, "merge", f"{at}.merge", "subjects that are the same become one")
    merge.add_argument("into", metavar="INTO", help="the id that stays")
    merge.add_argument("others", metavar="OTHER", nargs="+", help="ids whose templates it gets")
    split = _verb(verbs, "split", f"{at}.split", "some templates of a subject become another one")
    split.add_argument("id", metavar="ID", help="the subject that they are taken from")
    split.add_argument("new_id", metavar="NEW_ID", help="an id that is free")
    split.add_argument("templates", metavar="TEMPLATE", type=int, nargs="+", help="template numbers")
    quarantine = _verb(
        verbs, "quarantine", f"{at}.quarantine", "keep templates that are never matched, or list them"
    )
    release = _verb(verbs, "release", f"{at}.release", "let templates be matched again")
    for parser in (quarantine, release):
        parser.add_argument("id", metavar="ID", nargs="?", help="all templates of this subject")
        parser.add_argument(
            "--template", metavar="N", type=int, action="append", default=[], help="this template; repeatable"
        )
    quarantine.add_argument("--reason", metavar="TEXT", help="why, for whoever finds it there")
    differ = _verb(verbs, "differ", f"{at}.differ", "remember that two subjects are different, or list them")
    differ.add_argument("ids", metavar="ID", nargs="*", help="two ids (default: list what is remembered)")
    differ.add_argument("--forget", action="store_true", help="forget it again")
    audit = _verb(verbs, "audit", f"{at}.audit", "subjects that may be the same, wrong labels, and the zoo")
    _threshold(audit)
    audit.add_argument("--most", metavar="N", type=int, default=20, help="of each list (default: 20)")
    audit.add_argument("--seed", type=int, default=0, help="which template of each is compared (default: 0)")
    _encoder(audit)
    undo = _verb(verbs, "undo", f"{at}.undo", "take back what was put in order, or list it")
    undo.add_argument(
        "operation", metavar="OPERATION", type=int, nargs="?", help="its number (default: list them)"
    )


def _dedupe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", metavar="FOLDER", help="searched with all its subfolders; nothing is changed"
    )
    parser.add_argument("--report", metavar="FILE", help="write an HTML page with the groups as pictures")
    _threshold(parser, "the one the encoder recommends")
    _encoder(parser, "photo")


def _threshold(
    parser: argparse.ArgumentParser, default: str = "the gallery's own, else the encoder's"
) -> None:
    parser.add_argument(
        "--threshold", metavar="T", type=finite, help=f"the largest distance to accept (default: {default})"
    )


if __name__ == "__main__":
    sys.exit(main())
