"""One training run with its data, its files and its best weights so far."""

from __future__ import annotations

import hashlib
import json
import math
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from encoders import apart, checkpoint, choosing, datasets, evaluation, evidence, preprocess, state, towers
from encoders.datasets import LabelledSet
from encoders.errors import TrainingError
from encoders.history import History
from encoders.mistakes import MOST_ITEMS, records, worst
from encoders.names import written
from encoders.network import SiameseNetwork
from encoders.pacing import Pace, measured, planned
from encoders.pictures import piece
from encoders.progress import Progress, held_back
from encoders.settings import Settings
from encoders.siamese import SiameseEncoder
from encoders.spec import Spec
from encoders.trainer import Trainer
from encoders.validation import Validation, measure, validate

SAVE_SECONDS = 60.0  # between saved states; when they are written changes nothing in the result
LOG_EVERY = 50  # steps at most; a short run logs about 50 times
HINTS = {"ink": "ink (grey, cropped to the ink; for photographs use --preprocess rgb)"}


class Run:
    """A run with its data, its files and its best weights so far."""

    def __init__(
        self,
        data: LabelledSet,
        held: LabelledSet | None,
        settings: Settings,
        output: Path,
        name: str | None,
        device: str | None,
        outside: bool = False,
    ) -> None:
        """outside: `held` is a set of its own, not a part of what was given to train on."""
        settings = _drawable(settings, data)
        self.settings, self.output, self.device, self.outside = settings, output, device, outside
        self.folder = state.beside(output)
        self.digest = _digest(data, held)
        self.data, self.held = data, held
        self.spec = _spec(written(name or output.stem), settings)
        self.best: dict[str, Tensor] = {}
        self.errors: dict[str, Tensor] = {}  # of the held-out subjects, at the first and the best validation
        self.recent: list[float] = []  # losses since the last log line
        self.pace, self.spent, self.until = Pace(0.0, 0.0), 0.0, math.inf  # seconds
        self.validated = -1  # the step that was validated last

    def choose_steps(self, minutes: float | None, epochs: float | None, resume: bool) -> None:
        """Fixes the number of steps, makes the trainer, and restores it when resuming."""
        saved = state.read(self.folder) if resume else None
        if saved is not None:
            free = {"steps", "validate_every"} if minutes is not None else set()
            free |= {"steps"} if epochs is not None else set()
            self._refuse_another_run(saved[1], free)
            self.settings = self._saved_settings(saved[1])
        elif epochs is not None:
            self.settings = replace(self.settings, steps=_steps_of(epochs, self.data, self.settings))
        elif minutes is not None:
            self._plan(60.0 * minutes)
        self.until = math.inf if minutes is None else 60.0 * minutes
        _refuse_unlearnt(self.settings)
        self.trainer = Trainer(self.data, self.spec, self.settings, self.device)
        part = self.spec.embedding_part()
        used = json.loads(json.dumps({name: part[name] for name in ("tower_args", "preprocess")}))
        self.history = History(self.settings.to_json(), output=self.output.name, used=used)
        if saved is not None:
            self._restore(*saved)

    def _plan(self, seconds: float) -> None:
        """Settles how many steps and validations fit, from the pace of a trainer that is thrown away."""
        begun = time.perf_counter()
        trainer = Trainer(self.data, self.spec, self.settings, self.device)
        made = time.perf_counter() - begun
        self.pace = measured(trainer.step, lambda: self._measured(trainer), seconds)
        self.spent = time.perf_counter() - begun
        # A head that is analysed takes its time once more in the run, and is validated before it is trained.
        first = made + self.pace.validation if self._begins_somewhere() else 0.0
        steps, every = planned(seconds - self.spent - first, self.pace, self.settings.validate_every)
        self.settings = replace(self.settings, steps=steps, validate_every=every)

    def _measured(self, trainer: Trainer) -> Validation | None:
        """The validation of a trainer's averaged network, where there are subjects to validate on."""
        if self.held is None:
            return None
        return measure(self._encoder(trainer.average), self.held, self.settings.fmr)

    def _saved_settings(self, record: dict[str, Any]) -> Settings:
        try:
            return Settings(**record["settings"])
        except TypeError as exc:
            raise state.damaged(self.folder, exc) from exc

    def _refuse_another_run(self, record: dict[str, Any], free: set[str]) -> None:
        mine, theirs = self.settings.to_json(), record["settings"]
        other = [k for k in mine if mine[k] != theirs.get(k) and k not in free]
        if other:
            told = ", ".join(f"{k} was {theirs.get(k)!r}, now {mine[k]!r}" for k in other)
            raise TrainingError(f"cannot resume {self.folder} with other settings: {told}")
        if record["data"] != self.digest:
            why = "it was begun on other data"
            if record.get("split") != datasets.SPLIT and not self.outside:
                why += ", or by an older version, which held out other subjects: --overwrite starts anew"
            raise TrainingError(f"cannot resume {self.folder}: {why}")

    def _restore(self, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:
        try:
            self.trainer.restore(tensors, record)
            self.history = History(**record["history"])
            self.recent = [float(loss) for loss in record["recent"]]
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as exc:
            raise state.damaged(self.folder, exc) from exc
        self.validated = next((int(one["step"]) for one in self.history.validations[-1:]), -1)
        self.best = {k.removeprefix("best/"): v for k, v in tensors.items() if k.startswith("best/")}
        self.errors = {k.removeprefix("errors/"): v for k, v in tensors.items() if k.startswith("errors/")}
        whole = {k: v.shape for k, v in self.trainer.average.state_dict().items()}
        if self.best and {k: v.shape for k, v in self.best.items()} != whole:
            raise state.damaged(self.folder, "its best weights are not whole")

    def go(self, progress: bool) -> History:
        """Runs to the last step, then writes the checkpoint and removes the saved state."""
        steps, begun = self.settings.steps, time.monotonic()
        past = self.history.seconds + self.spent
        saved, begins_anew = begun, self.trainer.done == 0
        with Progress(steps, self.trainer.done, progress) as shown, held_back() as stop:
            shown.tell(self._introduced())
            if self._begins_somewhere() and not self.best:
                self._validate(shown)  # training has to beat where it starts from
            while self.trainer.done < steps and not self._given_up() and self._in_time():
                self._advance(shown)
                if begins_anew:
                    # Not before a step was taken: what is refused at the first one costs no saved run.
                    state.remove(self.folder)
                    begins_anew = False
                self.history.seconds = past + time.monotonic() - begun
                if stop.asked or time.monotonic() - saved > SAVE_SECONDS:
                    self.save_state()
                    saved = time.monotonic()
                if stop.asked:
                    told = f"step {self.trainer.done:,} is saved; --resume, with the same data and output,"
                    raise KeyboardInterrupt(f"{told} goes on from it")
            if self.validated < self.trainer.done < steps and self.history.ended:
                self._validate(shown)  # what the steps since the last one have brought
        return self._finish(past - begun)

    def _begins_somewhere(self) -> bool:
        return self.settings.start != "random" or self.settings.base is not None

    def _given_up(self) -> bool:
        settings = self.settings
        return choosing.given_up(self.history.validations, settings.steps, settings.patience)

    def _in_time(self) -> bool:
        """Whether the next step, its validation and the end of the run fit into the time that was given."""
        if self.trainer.done == 0 or self.pace.fits(self.until - self.history.seconds):
            return True
        self.history.ended = f"the next step would not have fitted into {self.until / 60:g} minutes"
        return False

    def _introduced(self) -> str:
        """What the run does, in one line."""
        settings = self.settings
        told = apart.counted(self.data, self.held, self.outside)
        kind = str(self.spec.preprocess["kind"])
        begun = [] if settings.start == "random" else [f"start {settings.start}"]
        begun += [] if settings.base is None else [f"from {settings.base}"]
        taught = ", ".join([*begun, f"loss {settings.loss}"] if settings.steps else begun)
        return (
            f"{told}; tower {settings.tower}, {taught}, "
            f"preprocess {kind if settings.base else HINTS.get(kind, kind)}"
        )

    def _advance(self, shown: Progress) -> None:
        """One step, and the log entry and validation that are due after it."""
        begun = time.perf_counter()
        self.recent.append(self.trainer.step())
        self.pace.stepped(time.perf_counter() - begun)
        shown.advance()
        done, steps = self.trainer.done, self.settings.steps
        if done % min(LOG_EVERY, max(1, steps // 50)) == 0 or done == steps:
            self._log(shown)
        if done % (self.settings.validate_every or max(1, round(steps / 20))) == 0 or done == steps:
            self._validate(shown)

    def _log(self, shown: Progress) -> None:
        mean, seconds = float(np.mean(self.recent)), round(self.history.seconds, 1)
        self.history.losses.append({"step": self.trainer.done, "loss": round(mean, 5), "seconds": seconds})
        self.recent = []
        shown.loss(mean)

    def _validate(self, shown: Progress) -> None:
        step = f"step {self.trainer.done:,} of {self.settings.steps:,}"
        begun, self.validated = time.perf_counter(), self.trainer.done
        found = self._measured(self.trainer)
        if found is None:
            if self.history.losses:
                shown.tell(f"{step}: loss {self.history.losses[-1]['loss']:.3f}; {shown.pace()}")
            self.best = _copied(self.trainer.average)
            return
        self.pace.validation = time.perf_counter() - begun
        entry = {"step": self.trainer.done, "eer": found.eer, "one_shot_error": found.one_shot_error}
        if (before := self.errors.get("best")) is not None:
            entry["worse"] = choosing.better(before.numpy(), found.errors, found.mated)
        if not self.history.validations:
            self.errors["first"] = torch.from_numpy(found.errors)
        self.history.validations.append(entry)
        pace = f"; {shown.pace()}" if self.trainer.done else ""
        shown.tell(f"{step}: {evidence.rates_told(entry)}{pace}")
        if choosing.is_best(entry, self.history.best):
            self.history.best, self.best = entry, _copied(self.trainer.average)
            self.errors["best"] = torch.from_numpy(found.errors)

    def save_state(self) -> None:
        """Writes everything that a resumed run needs."""
        record = self.trainer.record() | {
            "settings": self.settings.to_json(),
            "data": self.digest,
            "split": datasets.SPLIT,
            "history": self.history.to_json(),
            "recent": self.recent,
        }
        best = {f"best/{k}": v for k, v in self.best.items()}
        errors = {f"errors/{k}": v for k, v in self.errors.items()}
        state.write(self.folder, self.trainer.tensors() | best | errors, record)

    def _encoder(self, network: SiameseNetwork, spec: Spec | None = None) -> SiameseEncoder:
        return SiameseEncoder(spec or self.spec, network, device=self.device)

    def _finish(self, since: float) -> History:
        """Writes the checkpoint; the run took `since` and what the clock says by now."""
        if self.trainer.done < self.settings.steps:
            self.history.stopped = self.trainer.done
        self._choose()
        spec = self.spec
        if self.held is not None:
            encoder = self._encoder(self.trainer.average)
            embeddings = encoder.encode_prepared(self.held.items)
            found = validate(embeddings, self.held, encoder.metric, self.settings.fmr)
            self._conclude(found)
            self._show_mistakes(embeddings, encoder)
            threshold, fmr = self.history.threshold, self.history.threshold_fmr
            facts = found.facts(with_threshold=threshold is not None, unsure=bool(self.history.doubt))
            spec = replace(spec, threshold=threshold, threshold_fmr=fmr, facts=facts)
        encoder = self._encoder(self.trainer.average, spec)
        self.history.seconds = since + time.monotonic()
        checkpoint.save(encoder, self.output, history=self.history.to_json())
        state.remove(self.folder)
        return self.history

    def _choose(self) -> None:
        """Puts the weights that are kept into the average, where those of the end are."""
        best, validations = self.history.best, self.history.validations
        if best is None:
            return
        kept = choosing.kept(validations, best)
        if kept is best and best["step"] < self.trainer.done:
            self.trainer.average.load_state_dict(self.best)
        self.history.best = kept

    def _show_mistakes(self, embeddings: NDArray[np.float32], encoder: SiameseEncoder) -> None:
        """Keeps the pairs on the wrong side of the threshold (of the EER's, where none is recommended)."""
        held = self.held
        assert held is not None
        pairs = evaluation.comparisons(embeddings[:MOST_ITEMS], held.labels[:MOST_ITEMS], encoder.metric)
        at = self.history.threshold
        if at is None:
            at = evaluation.eer(*pairs)[1] if all(map(len, pairs)) else 0.0
        found = worst(embeddings, held, encoder.metric, at)
        self.history.mistakes = records(found, held)
        see = [[piece(encoder.preprocess, held.items[k]) for k in (one.left, one.right)] for one in found]
        self.history.pictures = [(left, right) for left, right in see]

    def _conclude(self, found: Validation) -> None:
        """Recommends a threshold where there are subjects enough for its FMR; else a note says why not."""
        self.history.note = found.doubt_of_threshold(self.settings.fmr)
        if not self.history.note:
            self.history.threshold, self.history.threshold_fmr = found.threshold, self.settings.fmr
            self.history.threshold_fnmr = found.fnmr
        if self.outside and self.held is not None:
            self.history.doubt = apart.doubt(self.data, self.held)
        self.history.evidence = {k: getattr(found, k) for k in ("subjects", "mated", "non_mated")}
        first = self.errors.get("first")
        if first is not None and len(self.history.validations) > 1:
            self.history.learnt = choosing.better(found.errors, first.numpy(), found.mated, choosing.SINGLE)


def _copied(network: SiameseNetwork) -> dict[str, Tensor]:
    return {k: v.detach().cpu().clone() for k, v in network.state_dict().items()}


def _drawable(settings: Settings, data: LabelledSet) -> Settings:
    """The settings with P as it is drawn: no more than there are subjects with two items or more."""
    turns = 4 if settings.quarter_turns else 1
    most = max(2, turns * len(datasets.repeated(data.labels)))
    return replace(settings, subjects=min(settings.subjects, most))


def _steps_of(epochs: float, data: LabelledSet, settings: Settings) -> int:
    """The batches in so many passes over the items that batches are made of; at least one."""
    items = int(np.isin(data.labels, datasets.repeated(data.labels)).sum())
    return max(1, round(epochs * items / (settings.subjects * settings.items)))


def _refuse_unlearnt(settings: Settings) -> None:
    """TrainingError for a comparator that no step would teach what a head that was just found embeds."""
    if settings.loss == "bce" and settings.start != "random" and settings.steps == 0:
        raise TrainingError(
            f"loss bce with start {settings.start} and steps 0: its comparator would have learnt nothing of "
            "these embeddings; give --steps, or leave out --loss"
        )


def _spec(name: str, settings: Settings) -> Spec:
    prepare = preprocess.build(settings.preprocess)
    towers.check(settings.tower, prepare.kind)
    versions = {package: version(package) for package in ("numpy", "pillow", "torch")}
    return Spec(
        name,
        settings.tower,
        towers.complete(settings.tower, settings.tower_args, prepare),
        preprocess.settings_of(prepare),
        settings.dim,
        settings.metric,
        versions=versions,
        comparator=settings.loss == "bce",
    )


def _digest(*parts: LabelledSet | None) -> str:
    digest = hashlib.sha256()
    for data in parts:
        if data is not None:
            digest.update(np.ascontiguousarray(data.items).tobytes())
            digest.update(np.ascontiguousarray(data.labels).tobytes())
    return digest.hexdigest()
