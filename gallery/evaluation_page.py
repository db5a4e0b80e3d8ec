"""An evaluation as one self-contained HTML page: curves, tables, the worst mistakes. No script, no fetch."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from encoders.charts import Axis, below, chart
from encoders.names import printable
from gallery.evaluation import Evaluation, Mistake
from gallery.measures import Rate, said_of_copies
from gallery.page import HEAD, TAIL, write_page
from gallery.tables import counted

_LOWEST = 0.0001
_HIGHEST = 0.8

_WORDS = {
    "FMR": "of comparisons with a wrong subject, accepted",
    "FNMR": "of comparisons with the right subject, rejected",
    "FPIR": "of searches with a stranger, somebody found",
    "FNIR": "of searches with somebody enrolled, not found",
}


def write_evaluation(
    evaluation: Evaluation, path: str | os.PathLike[str], *, title: str = "Evaluation"
) -> Path:
    """Writes the page, replacing `path` in one step when it is complete. Raises GalleryError if it cannot."""
    return write_page(Path(path), page(evaluation, title))


def page(found: Evaluation, title: str = "Evaluation") -> Iterator[str]:
    """The page in pieces."""
    heading = f"{title} of {printable(found.location)}"
    yield HEAD.replace("{title}", escape(heading))
    yield f"<h1>{escape(heading)}</h1>{_summary(found)}{_rates(found)}"
    yield f'<h2 class="plain">Curves</h2><div class="charts">{"".join(_charts(found))}</div>'
    yield _open_set(found)
    yield _groups(found)
    yield _mistakes(
        "Nearest to a subject that is not theirs",
        found.false_matches,
        found.threshold,
        "Each probe with the wrong subject that it is nearest to. Those within the threshold are false "
        "matches. Look for labels that are wrong: the same subject under two ids is here, too.",
    )
    yield _mistakes(
        "Farthest from their own subject",
        found.false_non_matches,
        found.threshold,
        "Those beyond the threshold are false non-matches. Look for bad items and wrong labels.",
    )
    yield TAIL


def _summary(found: Evaluation) -> str:
    figures = [
        ("subjects", f"{found.subjects:,}"),
        ("templates", f"{found.templates:,}"),
        ("probes", f"{found.probes:,}"),
        ("with their subject", f"{found.mated:,}"),
        ("strangers", f"{found.strangers:,}"),
        *([("of subjects in quarantine", f"{found.quarantined:,}")] if found.quarantined else []),
        ("threshold", "none" if found.threshold is None else f"{found.threshold:.4f}"),
        ("right one first", f"{found.cmc[0].value:.1%}" if found.cmc else "not measured"),
        ("EER", "not measured" if found.eer is None else f"{found.eer:.2%}"),
    ]
    cells = "".join(f"<div><dd>{escape(value)}</dd><dt>{name}</dt></div>" for name, value in figures)
    by = {"given": "given for this page", "gallery": "adopted by the gallery", "encoder": "the encoder's"}
    said = f"Encoder {found.encoder}, {found.metric} distance; smaller is nearer. "
    if found.threshold is not None:
        said += f"The threshold is {by[found.threshold_source]}; a distance up to it is accepted. "
    said += (
        f"Measured {found.measured:%Y-%m-%d}, seed {found.seed}. A probe was never compared with a template "
        "of the same file or the same bytes. Brackets are 95 % intervals that resample subjects."
    )
    if found.quarantined:
        said += (
            f" All templates of the subjects of {counted(found.quarantined, 'probe')} are in quarantine: no "
            "search finds them, and they count as not found."
        )
    if found.copied:
        said += f" {said_of_copies(found.copied).capitalize()}."
    return f'<dl class="figures">{cells}</dl><p class="note">{escape(said)}</p>'


def _rates(found: Evaluation) -> str:
    if found.threshold is None:
        return '<p class="note">No threshold is known, so no errors of decisions are reported.</p>'
    rows = []
    for name, words in _WORDS.items():
        rate: Rate | None = getattr(found, name.lower())
        if rate is not None:
            if name == "FPIR" and found.searched == "left out":
                words += " (no strangers among the probes: everybody asked as if not enrolled)"
            rows.append([name, words, *_cells(rate)])
    heading = f'<h2 class="plain">Errors at the threshold {found.threshold:.4f}</h2>'
    return heading + _table(["rate", "", "measured", "95 % interval", "trials", "independent"], rows)


def _cells(rate: Rate) -> list[str]:
    if not rate.trials:
        return ["not measured", "", "0", "0"]
    between = f"{rate.low:.3g} to {rate.high:.3g}"
    return [f"{rate.value:.3g}", between, f"{rate.trials:,}", f"{rate.independent:,}"]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = "".join(
        f"<tr>{''.join(f'<td>{escape(printable(cell))}</td>' for cell in row)}</tr>" for row in rows
    )
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    return f'<div class="wide"><table><tr>{names}</tr>{cells}</table></div>'


def _charts(found: Evaluation) -> Iterator[str]:
    errors = Axis("FMR", _LOWEST, _HIGHEST, "probit"), Axis("FNMR", _LOWEST, _HIGHEST, "probit")
    det = [] if found.det is None else _points(found.det.fmr.tolist(), found.det.fnmr.tolist())
    yield _chart(
        chart("DET", {"": det}, *errors),
        "Every threshold is a point: false matches to the right, false non-matches upwards. Nearer to the "
        "lower left is better.",
    )
    places = [(float(at), rate.value) for at, rate in enumerate(found.cmc, 1)]
    low = min((value for _, value in places), default=0.0)
    across = Axis("place", 1.0, float(max(2, len(places))), "whole")
    yield _chart(
        chart("CMC", {"": places}, across, Axis("right one found", max(0.0, below(low, 1.0)), 1.0)),
        "How often the right subject is among the first so many.",
    )
    curve = found.open_curve
    who = "of strangers" if found.searched == "strangers" else "as if not enrolled"
    yield _chart(
        chart(
            "FNIR at FPIR",
            {"": _points(curve.fpir, curve.fnir)},
            Axis(f"FPIR, {who}", _LOWEST, _HIGHEST, "probit"),
            Axis("FNIR", _LOWEST, _HIGHEST, "probit"),
        ),
        f"The same for searches of all {found.subjects:,} subjects; it moves to the right as they grow.",
    )
    yield _chart(_histogram(found), "Where the two overlap no threshold tells them apart.")


def _chart(drawn: str, words: str) -> str:
    return f'<figure class="chart">{drawn}<p>{escape(words)}</p></figure>'


def _points(across: Sequence[float], up: Sequence[float]) -> list[tuple[float, float]]:
    return list(zip(across, up, strict=True))


def _histogram(found: Evaluation) -> str:
    held = found.histogram
    top = max([*held.mated, *held.other], default=1.0)
    steps = {
        name: [point for at, share in enumerate(shares) for point in _step(held.edges, at, share)]
        for name, shares in (("same subject", held.mated), ("different", held.other))
        if any(shares)
    }
    if found.threshold is not None and held.edges and held.edges[0] <= found.threshold <= held.edges[-1]:
        steps["threshold"] = [(found.threshold, 0.0), (found.threshold, top)]
    ends = (held.edges[0], held.edges[-1]) if held.edges else (0.0, 1.0)
    return chart("Distances", steps, Axis("distance", *ends), Axis("share", 0.0, top))


def _step(edges: Sequence[float], at: int, share: float) -> list[tuple[float, float]]:
    return [(edges[at], share), (edges[at + 1], share)]


def _open_set(found: Evaluation) -> str:
    if not found.open_set:
        return (
            '<p class="note">There are too few searches with somebody who is not enrolled to set a threshold '
            "by FPIR: 10 show a rate of 0.3, and 300 one of 0.01.</p>"
        )
    rows = [
        [f"{one.target:g}", f"{one.threshold:.4f}", str(one.fpir), str(one.fnir), str(one.not_first)]
        for one in found.open_set
    ]
    head = ["FPIR asked for", "threshold", "FPIR", "FNIR: not found", "not found, or another one nearer"]
    return '<h2 class="plain">Searches at other thresholds</h2>' + _table(head, rows)


def _groups(found: Evaluation) -> str:
    if not found.groups:
        return ""
    rows = [
        [
            one.group,
            f"{one.subjects:,}",
            f"{one.probes:,}",
            str(one.fnmr),
            str(one.fmr_within),
            str(one.fmr),
            str(one.fpir),
        ]
        for one in found.groups
    ]
    head = [
        "",
        "subjects",
        "probes",
        "FNMR",
        "FMR with the same group",
        "FMR with everybody",
        "FPIR, were they not enrolled",
    ]
    note = (
        '<p class="note">At the threshold. Intervals that do not overlap are a difference; those that do may '
        "still hide one.</p>"
    )
    return (
        f'<h2 class="plain">Errors by {escape(printable(found.group or ""))}</h2>{_table(head, rows)}{note}'
    )


def _mistakes(title: str, mistakes: Sequence[Mistake], threshold: float | None, words: str) -> str:
    if not mistakes:
        return ""
    cards = "".join(_card(one, threshold) for one in mistakes)
    return (
        f'<h2 class="plain">{title}</h2><p class="note">{words} First the probe, then the template.</p>'
        f'<section><div class="row">{cards}</div></section>'
    )


def _card(one: Mistake, threshold: float | None) -> str:
    tags = f'<b class="tag">{one.distance:.4f}</b>'
    if one.wrong:
        tags += '<b class="tag weak">wrong</b>'
    elif threshold is not None:
        tags += '<b class="tag keep">decided rightly</b>'
    same = one.id == one.probe_id
    who = one.id if same else f"{one.probe_id} as {one.id}"
    places = one.probe, one.source or f"template {one.template}"
    paths = " / ".join(map(printable, places))
    sides = zip((one.probe_picture, one.template_picture), places, strict=True)
    # Where neither is anything to look at, their names below say all there is.
    shown = "".join(_seen(picture or Path(place).name) for picture, place in sides)
    pair = f'<div class="pair">{shown}</div>' if one.probe_picture or one.template_picture else ""
    name = f'<div class="name">{escape(printable(who))}</div>'
    return (
        f'<figure>{pair}<figcaption><div class="tags">{tags}</div>{name}'
        f'<div class="path">{escape(paths)}</div></figcaption></figure>'
    )


def _seen(picture: bytes | str) -> str:
    if isinstance(picture, str):
        return f'<div class="said">{escape(printable(picture))}</div>'
    data = base64.b64encode(picture).decode()
    return f'<div><img alt="" src="data:image/jpeg;base64,{data}"></div>'
