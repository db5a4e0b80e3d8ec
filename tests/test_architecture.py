"""The house rules, read from the source: floors, borders, sizes, and what importing costs.

Floors, from the ground: a file imports from its own floor and from those below, never from above.
"""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

FLOORS = [
    ("the ground", ["errors", "records", "measures", "findings", "tables", "page", "processes"]),
    ("arrays and folders", ["vectors", "workers", "shadows", "folders", "metadata"]),
    (
        "pure cores",
        [
            "decisions",
            "calibration",
            "crossed",
            "pairs",
            "duplicates",
            "filters",
            "extremes",
            "curves",
            "curation",
            "auditing",
            "evaluation",
            "naming",
            "fusion",
            "normalisation",
            "quality",
            "validity",
            "options",
        ],
    ),
    ("the encoder protocol", ["encoder", "canary", "originals", "unpacking"]),
    ("contracts", ["stores.base", "indexes.base", "engines.base"]),
    ("stores and indexes", ["stores", "indexes", "stores.*", "indexes.*"]),
    ("engines", ["engines", "engines.*"]),
    (
        "verbs",
        [
            "gallery",
            "bulk",
            "info",
            "columns",
            "hdf5",
            "opening",
            "migration",
            "searching",
            "calibrating",
            "curating",
            "staging",
            "repairing",
            "reading",
            "dedupe",
            "report",
            "probes",
            "pictures",
            "evaluating",
            "comparing",
            "evaluation_page",
        ],
    ),
    (
        "the face and the command line",
        [
            "",
            "cli",
            "commands",
            "migration_commands",
            "search_commands",
            "calibration_commands",
            "curation_commands",
            "evaluation_commands",
            "terminal",
        ],
    ),
]
COMMAND_LINE = {
    "gallery.cli",
    "gallery.commands",
    "gallery.migration_commands",
    "gallery.search_commands",
    "gallery.calibration_commands",
    "gallery.curation_commands",
    "gallery.evaluation_commands",
    "gallery.terminal",
    "encoders.evaluate_command",
}
SHARED = {"encoders.images", "encoders.charts", "encoders.names", "encoders.page_frame"}
"""Free of torch and of anything to do with encoders: images, lines and pages as text, names as shown."""
HEAVY = ("torch", "faiss", "h5py")
LONGEST_FILE, LONGEST_FUNCTION = 400, 50


@dataclass(frozen=True)
class Import:
    by: str
    of: str
    line: int
    at_import: bool
    """It runs when the file is imported, not when a function is called."""

    def __str__(self) -> str:
        return f"{self.by}, line {self.line}: imports {self.of}"


def modules(package: str) -> dict[str, Path]:
    """{dotted name: file} of every module of a package."""
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules("gallery") | modules("encoders")
TREES = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}


def imports(name: str) -> Iterator[Import]:
    """Every import of our own two packages in a module, wherever it stands."""
    later = {
        id(node)
        for outer in ast.walk(TREES[name])
        if isinstance(outer, (ast.FunctionDef, ast.AsyncFunctionDef))
        for node in ast.walk(outer)
    }
    for node in ast.walk(TREES[name]):
        for target in _targets(node):
            if target.split(".")[0] in ("gallery", "encoders"):
                yield Import(name, target, node.lineno, id(node) not in later)


def _targets(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    assert node.level == 0, "imports are absolute"
    # `from gallery.stores import catalog` imports the file, `from gallery import Gallery` the face.
    return [
        f"{node.module}.{alias.name}" if f"{node.module}.{alias.name}" in MODULES else str(node.module)
        for alias in node.names
    ]


IMPORTS = [one for name in MODULES for one in imports(name)]


def floor(module: str) -> int:
    inner = module.removeprefix("gallery").removeprefix(".")
    for exactly in (True, False):
        for number, (_, patterns) in enumerate(FLOORS):
            if any(inner == one if exactly else fnmatch(inner, one) for one in patterns):
                return number
    raise AssertionError(f"{module} is on no floor: say in FLOORS where it lives")


def test_there_is_something_to_look_at():
    assert {"gallery.gallery", "gallery.stores.sqlite", "encoders.images"} <= set(MODULES)
    assert any(str(one) == f"gallery.gallery, line {one.line}: imports gallery.bulk" for one in IMPORTS)


@pytest.mark.parametrize("module", [name for name in MODULES if name.split(".")[0] == "gallery"])
def test_a_file_imports_from_its_own_floor_and_below(module):
    mine = floor(module)
    above = [
        f"{one}, which is above ({FLOORS[floor(one.of)][0]} above {FLOORS[mine][0]})"
        for one in IMPORTS
        if one.by == module and one.of.split(".")[0] == "gallery" and floor(one.of) > mine
    ]
    assert above == []


def test_siblings_are_imported_by_their_file_and_not_through_the_face():
    assert [
        str(one) for one in IMPORTS if one.of == one.by.split(".")[0] and one.by not in COMMAND_LINE
    ] == []


def test_encoders_never_import_gallery():
    assert [
        str(one) for one in IMPORTS if one.by.startswith("encoders") and one.of.startswith("gallery")
    ] == []


def test_gallery_shares_with_encoders_only_the_reading_of_images_charts_and_names():
    foreign = [one for one in IMPORTS if one.by.startswith("gallery") and one.of.startswith("encoders")]
    assert [
        str(one)
        for one in foreign
        if one.of not in SHARED
        and one.by not in COMMAND_LINE
        # The default encoder of `find_duplicates`, loaded when none was given.
        and not (one.by == "gallery.dedupe" and one.of == "encoders" and not one.at_import)
    ] == []


@pytest.mark.parametrize("package", ["gallery", "encoders"])
def test_no_import_goes_in_circles(package):
    graph = {
        name: {one.of for one in IMPORTS if one.by == name and one.of.split(".")[0] == package} - {name}
        for name in MODULES
        if name.split(".")[0] == package
    }
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join([*way[way.index(name) :], name])
        if name not in done:
            for following in sorted(graph.get(name, ())):
                visit(following, (*way, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("module", MODULES)
def test_nothing_is_imported_for_a_type_checker_only(module):
    assert "TYPE_CHECKING" not in MODULES[module].read_text()


@pytest.mark.parametrize("module", MODULES)
def test_sizes(module):
    lines = len(MODULES[module].read_text().splitlines())
    assert lines <= LONGEST_FILE, f"{module} has {lines} lines"
    for node in ast.walk(TREES[module]):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = node.end_lineno - node.lineno + 1
            assert length <= LONGEST_FUNCTION, f"{module}.{node.name} has {length} lines"


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_is(module):
    assert ast.get_docstring(TREES[module]), f"{MODULES[module]} has no docstring"


@pytest.mark.parametrize("module", MODULES)
def test_no_pickle(module):
    loaded = {
        alias.name.split(".")[0]
        for node in ast.walk(TREES[module])
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in ([ast.alias(str(node.module))] if isinstance(node, ast.ImportFrom) else node.names)
    }
    assert loaded.isdisjoint({"pickle", "joblib", "dill", "shelve", "marshal"})


@pytest.mark.parametrize("package", ["gallery", "encoders"])
def test_the_face(package):
    face = importlib.import_module(package)
    assert list(face.__all__) == sorted(face.__all__)
    assert len(set(face.__all__)) == len(face.__all__)
    for name in face.__all__:
        thing = getattr(face, name)
        assert (thing.__doc__ or "").strip(), f"{package}.{name} has no docstring"
        assert not thing.__doc__.startswith(f"{name}("), f"{package}.{name} has only a generated docstring"


@pytest.mark.parametrize("stub", sorted(ROOT.glob("*/__init__.pyi")), ids=str)
def test_a_stub_names_what_its_face_has(stub):
    package = stub.parent.name
    nodes = ast.parse(stub.read_text()).body
    named = {
        alias.asname or alias.name
        for node in nodes
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    named |= {node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    assert set(importlib.import_module(package).__all__) <= named


@pytest.mark.parametrize(
    "statement",
    [
        "import gallery",
        "import encoders",
        "import gallery.gallery, gallery.opening, gallery.dedupe, gallery.hdf5",
        "import gallery.cli\ntry: gallery.cli.main(['--help'])\nexcept SystemExit: pass",
        "import encoders.cli\ntry: encoders.cli.main(['--help'])\nexcept SystemExit: pass",
        "import gallery as g, tempfile\ng.open(tempfile.mkdtemp(), g.Precomputed(1)).enroll('a', [[1]])",
    ],
)
def test_importing_loads_nothing_heavy(statement):
    code = f"{statement}\nimport sys\nprint([one for one in {HEAVY} if one in sys.modules], file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stderr.strip() == "[]"
