"""The results of the storage benchmark for people, and its floors."""

from __future__ import annotations

from typing import Any

OURS, BARE = "ours", "bare SQLite"
# heading, stage, figure, how to print it
COLUMNS = (
    ("enrol/s", "enrol", "per_s", ",.0f"),
    ("bulk/s", "bulk", "per_s", ",.0f"),
    ("close s", "bulk", "close_s", ".2f"),
    ("open s", "open", "answer_s", ".3f"),
    ("+imports", "open", "with_imports_s", ".2f"),
    ("remove ms", "remove", "median_ms", ".2f"),
    ("p99", "remove", "p99_ms", ".2f"),
    ("bytes/vec", "bytes_per_vector", "kept", ",.0f"),
    ("+index", "bytes_per_vector", "index", ",.0f"),
    ("MiB bulk", "bulk_memory", "peak_mib", ",.0f"),
    ("MiB open", "open", "peak_mib", ",.0f"),
    ("private", "open", "private_mib", ",.0f"),
    ("million s", "open_million", "answer_s", ".3f"),
)


def floors(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """{what: value, limit, met}; met is None when it was not measured."""
    ours, bare = (results["contenders"].get(name, {}) for name in (OURS, BARE))

    def ratio(stage: str) -> float | None:
        a, b = _figure(ours, stage, "per_s"), _figure(bare, stage, "per_s")
        return None if a is None or b is None else round(a / b, 3)

    return {
        "enrol_of_bare": _floor(ratio("enrol"), 0.60, at_least=True),
        "bulk_of_bare": _floor(ratio("bulk"), 0.60, at_least=True),
        "open_s": _floor(_figure(ours, "open", "answer_s"), 0.5),
        "open_million_s": _floor(_figure(ours, "open_million", "answer_s"), 2.0),
        "remove_ms": _floor(_figure(ours, "remove", "median_ms"), 2.0),
        "bytes_per_vector": _floor(_figure(ours, "bytes_per_vector", "kept"), 1.1 * 4 * results["dim"]),
    }


def _floor(value: float | None, limit: float, at_least: bool = False) -> dict[str, Any]:
    met = None if value is None else (value >= limit if at_least else value <= limit)
    return {"value": value, "limit": limit, "at_least": at_least, "met": met}


def table(results: dict[str, Any]) -> str:
    """A line a contender, then the floors, then what could not be measured."""
    found = results["contenders"]
    rows = [["", *(heading for heading, *_ in COLUMNS)]]
    rows += [[name, *(_cell(figures, *column[1:]) for column in COLUMNS)] for name, figures in found.items()]
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = [
        f"{results['enrolled']:,} x {results['dim']} enrolled, medians of up to {results['rounds']} rounds; "
        f"fsync of 2 KiB {results['fsync_ms']} ms; load before {results['load_before']}; page cache warm",
        "",
        *(_line(row, widths) for row in rows),
        "",
        *_floor_lines(results),
        *(f"{name} commits with {figures['durable']}" for name, figures in found.items()),
        *(f"{name}, {stage}: {text}" for name, stage, text in _trouble(found)),
        *(f"{name} left out: {reason}" for name, reason in results["skipped"].items()),
    ]
    return "\n".join(lines)


def _floor_lines(results: dict[str, Any]) -> list[str]:
    words = {True: "met", False: "MISSED", None: "not measured"}
    return [
        f"floor {what:<17} {'-' if floor['value'] is None else floor['value']:>8} "
        f"{'>=' if floor['at_least'] else '<='} {floor['limit']:g}  {words[floor['met']]}"
        for what, floor in results["floors"].items()
    ]


def _trouble(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(contender, stage, why) of all that failed, was not measured, or was answered wrongly."""
    stages = [(name, stage, held) for name, all_ in found.items() for stage, held in all_.items()]
    held = [(name, stage, held) for name, stage, held in stages if isinstance(held, dict)]
    return [
        *((n, s, f"error: {h['error']}") for n, s, h in held if "error" in h),
        *((n, s, f"not measured: {h['not_measured']}") for n, s, h in held if "not_measured" in h),
        *((n, s, "did not find the nearest") for n, s, h in held if h.get("right") is False),
    ]


def _cell(figures: dict[str, Any], stage: str, figure: str, form: str) -> str:
    value = _figure(figures, stage, figure)
    if value is None:
        return "error" if "error" in figures.get(stage, {}) else "-"
    return format(value, form)


def _figure(figures: dict[str, Any], stage: str, figure: str) -> float | None:
    value: float | None = figures.get(stage, {}).get(figure)
    return value


def _line(row: list[str], widths: list[int]) -> str:
    name, *cells = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
    return "  ".join([name.strip().ljust(widths[0]), *cells])
