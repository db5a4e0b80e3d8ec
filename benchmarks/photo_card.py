"""The model card of `photo`, from what was measured."""

from __future__ import annotations

from typing import Any

from benchmarks import photos, report
from encoders.spec import Spec

CARD = """# photo

Finds copies of photographs: resized, recompressed, cropped a little, brighter or darker, in other colours,
blurred, turned by a few degrees, with a caption or a logo. {parameters:,} parameters, {size} x {size} RGB in,
{dim} numbers out, cosine distance. A first version: small, quick, trained on few pictures.

## Recommended threshold

**{threshold:.4f}**, set for a false match rate of {fmr:.3%} per comparison on {pictures} held-out photographs
({non_mated:,} pairs, which share pictures; the nearest two different ones are at {nearest:.4f}). Those are
photographs of the same shelves and of clothes that look alike, so most collections will see fewer false
matches; one of nothing but alike pictures will see more. The rate was settled on after an earlier, smaller
run had been measured on these photographs and on the benchmark's; the distance comes from these alone.

Copies of the held-out photographs that it misses:

| made copy | missed (FNMR) |
|---|---|
{fnmr}

What it was not trained to find, of the same photographs:

| change | found |
|---|---|
{beyond}
{benchmark}
## Data and licences

The training part of the Grocery Store Dataset (Klasson et al., WACV 2019; MIT) and a clothing data set (CC0),
longest side 192: {trained:,} pictures, after one in ten was held out by a hash of its name. No label is used.
The photographs of the benchmark were never trained on.

## Recipe

`python -m benchmarks.train_photo --output photo --steps {steps} --seed {seed}`: a residual tower (widths
{widths}), two views of each of {batch} pictures a batch, half of the first views untouched; NT-Xent
loss (Chen et al., ICML 2020) at temperature {temperature}; from step {mine_every} on batches of groups of
{group} nearest neighbours, so that alike photographs are told apart; AdamW, peak learning rate {lr}, half a
cosine; averaged weights. {minutes} minutes on one core of a busy machine.

## Limits

- A mirrored picture is not meant to be a copy, nor are two photographs of one thing. Crops were trained down
  to 72 % a side; smaller ones are mostly missed.
- Aspect is not kept: a picture squeezed to another shape is taken for a copy.
- It sees 64 pixels a side: pictures that differ only in small print, such as scanned pages, look the same.
- Blank pictures in like tones are copies of each other to it.
- A lone upright thing on an empty ground is where the benchmark's false matches are.
"""


def text(spec: Spec, fingerprint: str, parameters: int) -> str:
    """The card of a finished record; the benchmark's figures are in it if they were made by these weights."""
    training, validation = spec.facts["training"], spec.facts["validation"]
    return CARD.format(
        parameters=parameters,
        size=spec.preprocess["size"],
        dim=spec.dim,
        threshold=spec.threshold,
        fmr=spec.threshold_fmr,
        pictures=validation["pictures"],
        non_mated=validation["non_mated"],
        nearest=validation["nearest_non_mated"],
        fnmr=_rows({kind: rate for kind, rate in validation["fnmr"].items() if kind not in photos.BEYOND}),
        beyond=_rows({kind: 1 - validation["fnmr"][kind] for kind in photos.BEYOND}),
        benchmark=_benchmark(spec, fingerprint),
        trained=training["pictures"],
        widths=", ".join(str(width) for width in spec.tower_args["widths"]),
        minutes=training.get("minutes", "unrecorded"),
        **{name: training[name] for name in _NAMES},
    )


_NAMES = ("steps", "seed", "batch", "temperature", "mine_every", "group", "lr")


def _rows(rates: dict[str, float]) -> str:
    return "\n".join(f"| {kind} | {rate:.2%} |" for kind, rate in rates.items())


def _benchmark(spec: Spec, fingerprint: str) -> str:
    try:
        found: dict[str, Any] = report.read("dedupe")
    except OSError:
        return ""
    if (found["encoder"]["fingerprint"], found["threshold"]) != (fingerprint, spec.threshold):
        return ""
    pairs, groups, alone = found["pairs"], found["groups"], found["originals"]
    return f"""
## Figures

`python -m benchmarks.dedupe`: {found["pictures"]} photographs of an ImageNet sample (research only, never
trained on) and four made copies of each, at the recommended threshold: recall {pairs["recall"]:.4f} at
precision {pairs["precision"]:.4f} over pairs; {groups["whole"]} of {groups["of"]} groups whole,
{groups["mixed"]} mixed. Among {alone["files"]:,} photographs, no two of them alike: {alone["groups"]} false
groups. {found["images_per_second"]:.0f} images a second, reading included, with torch on
{found["torch_threads"]} CPU thread(s).
"""
