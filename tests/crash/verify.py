"""A gallery after a crash, compared with what the child said before it."""

from __future__ import annotations

from pathlib import Path

import gallery
from tests.crash.script import ENCODER, SCRIPT, Model, Said, Step, embedding, listing, model, said


def crashed(root: str, script: list[Step] | None = None) -> None:
    """Compares the gallery in `root`/g with the acknowledgements in `root`/ack."""
    ack = Path(root) / "ack"
    agrees(Path(root) / "g", said(ack.read_bytes()) if ack.exists() else [], script)


def agrees(location: Path, lines: Said, script: list[Step] | None = None, *, erased: bool = True) -> None:
    """Nothing acknowledged is lost, what was begun is whole or absent, and the gallery goes on working.

    erased: also that no byte of what was erased is in any file.
    """
    steps = SCRIPT if script is None else script
    done = sum(line[0] == "done" for line in lines)
    before = model(steps, done)
    begun = bool(lines) and lines[-1][0] != "done"
    possible = [before, before.after(steps[done])] if begun else [before]
    if erased:
        _check_erased(location, set.intersection(*(one.erased for one in possible)))
    with gallery.open(location, None if before.made else ENCODER) as people:
        found = listing(people)
        states = [one for one in possible if one.subjects == found]
        assert states, _difference(possible, found, steps[done] if begun else None)
        assert not (damage := people.check()), damage
        _check_answers(people, states[0])
        _check_goes_on(people, found, before.numbers)
    with gallery.open(location) as people:
        assert listing(people) == found, "what was enrolled and removed after the crash left something else"
        assert people.check() == []


def _check_erased(location: Path, erased: set[str]) -> None:
    files = {path: path.read_bytes() for path in location.rglob("*") if path.is_file()}
    for id in erased:
        for path, content in files.items():
            assert embedding(id).tobytes() not in content, f"{id} was erased and is in {path.name}"


def _check_answers(people: gallery.Gallery, state: Model) -> None:
    asked = [*list(state.subjects)[:6], *list(state.subjects)[-3:], *sorted(state.gone)[:3]]
    if not asked:
        return
    answers = people.identify_batch([embedding(id) for id in asked], threshold=0.0)
    for id, answer in zip(asked, answers, strict=True):
        assert [one.id for one in answer.candidates] == [id] * (id in state.subjects), (id, answer)
    for id in asked[:2]:
        if id in state.subjects:
            assert people.verify(id, embedding(id), threshold=0.0), id


def _check_goes_on(people: gallery.Gallery, found: object, numbers: int) -> None:
    added = people.enroll("afterwards", [embedding("afterwards")])
    assert min(added.templates) > numbers, f"template {added.templates} was given before"
    answer = people.identify(embedding("afterwards"), threshold=0.0)
    assert [one.id for one in answer.candidates] == ["afterwards"]
    assert people.remove("afterwards") == 1
    assert listing(people) == found


def _difference(possible: list[Model], found: dict[str, object], step: Step | None) -> str:
    expected = possible[0].subjects
    lost = {id: state for id, state in expected.items() if found.get(id) != state}
    extra = {id: state for id, state in found.items() if expected.get(id) != state}
    verb = f"in the middle of {step[0]}" if step else "at rest"
    return f"{verb}: expected {str(lost)[:300]} where there is {str(extra)[:300]}"
