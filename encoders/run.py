"""One training run with its data, its files and its best weights so far."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from tqdm import tqdm

from encoders import checkpoint, datasets, preprocess, state, towers
from encoders.datasets import LabelledSet
from encoders.errors import TrainingError
from encoders.history import History
from encoders.network import SiameseNetwork
from encoders.settings import Settings
from encoders.siamese import SiameseEncoder
from encoders.spec import Spec
from encoders.trainer import Trainer
from encoders.validation import Validation, validate

SAVE_SECONDS = 60.0  # between saved states; when they are written changes nothing in the result
LOG_EVERY = 50


class Run:
    """A run with its data, its files and its best weights so far."""

    def __init__(
        self, data: LabelledSet, settings: Settings, output: Path, name: str | None, device: str | None
    ) -> None:
        self.settings, self.output, self.device = settings, output, device
        self.folder = output.with_name(output.name + ".state")
        self.digest = _digest(data)
        self.data, self.held = _split(data, settings)
        self.spec = _spec(name or output.stem, settings)
        self.best: dict[str, Tensor] = {}
        self.recent: list[float] = []  # losses since the last log line

    def choose_steps(self, minutes: float | None, epochs: float | None, resume: bool) -> None:
        """Fixes the number of steps, makes the trainer, and restores it when resuming."""
        saved = state.read(self.folder) if resume else None
        if saved is not None:
            derived = minutes is not None or epochs is not None
            self._refuse_another_run(saved[1], free={"steps"} if derived else set())
            self.settings = Settings(**saved[1]["settings"])
        elif epochs is not None:
            batch = self.settings.subjects * self.settings.items
            self.settings = replace(self.settings, steps=max(1, round(epochs * len(self.data) / batch)))
        elif minutes is not None:
            steps = _steps_in(minutes, Trainer(self.data, self.spec, self.settings, self.device))
            self.settings = replace(self.settings, steps=steps)
        self.trainer = Trainer(self.data, self.spec, self.settings, self.device)
        self.history = History(self.settings.to_json(), output=self.output.name)
        if saved is not None:
            self._restore(*saved)

    def _refuse_another_run(self, record: dict[str, Any], free: set[str]) -> None:
        if record["data"] != self.digest:
            raise TrainingError(f"cannot resume {self.folder}: it was begun on other data")
        mine, theirs = self.settings.to_json(), record["settings"]
        other = [k for k in mine if mine[k] != theirs.get(k) and k not in free]
        if other:
            told = ", ".join(f"{k} was {theirs.get(k)!r}, now {mine[k]!r}" for k in other)
            raise TrainingError(f"cannot resume {self.folder} with other settings: {told}")

    def _restore(self, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:
        self.trainer.restore(tensors, record)
        self.best = {k.removeprefix("best/"): v for k, v in tensors.items() if k.startswith("best/")}
        self.history, self.recent = History(**record["history"]), list(record["recent"])

    def go(self, progress: bool) -> History:
        """Runs to the last step, then writes the checkpoint and removes the saved state."""
        steps, begun, past = self.settings.steps, time.monotonic(), self.history.seconds
        bar = tqdm(total=steps, initial=self.trainer.done, disable=not progress, unit="step", file=sys.stderr)
        saved = begun
        with bar:
            while self.trainer.done < steps:
                self._advance(bar)
                self.history.seconds = past + time.monotonic() - begun
                if time.monotonic() - saved > SAVE_SECONDS:
                    self.save_state()
                    saved = time.monotonic()
        return self._finish()

    def _advance(self, bar: Any) -> None:
        """One step, and the log line and validation that are due after it."""
        self.recent.append(self.trainer.step())
        bar.update()
        done, last = self.trainer.done, self.trainer.done == self.settings.steps
        if done % LOG_EVERY == 0 or last:
            self._log(bar)
        if done % self.settings.validate_every == 0 or last:
            self._validate(bar)

    def _log(self, bar: Any) -> None:
        mean, seconds = float(np.mean(self.recent)), round(self.history.seconds, 1)
        self.history.losses.append({"step": self.trainer.done, "loss": round(mean, 5), "seconds": seconds})
        self.recent = []
        bar.set_postfix_str(f"loss {mean:.3f}")

    def _validate(self, bar: Any) -> None:
        if self.held is None:
            self.best = _copied(self.trainer.average)
            return
        found = measure(self._encoder(self.trainer.average), self.held, self.settings)
        entry = {"step": self.trainer.done, "eer": found.eer, "one_shot_error": found.one_shot_error}
        self.history.validations.append(entry)
        if not bar.disable:
            rates = f"EER {found.eer:.2%}, one-shot error {found.one_shot_error:.2%}"
            bar.write(f"step {self.trainer.done:,}: {rates}", file=sys.stderr)
        best = self.history.best
        if best is None or _rank(entry) <= _rank(best):
            self.history.best, self.best = entry, _copied(self.trainer.average)

    def save_state(self) -> None:
        """Writes everything that a resumed run needs."""
        record = self.trainer.record() | {
            "settings": self.settings.to_json(),
            "data": self.digest,
            "history": self.history.to_json(),
            "recent": self.recent,
        }
        best = {f"best/{k}": v for k, v in self.best.items()}
        state.write(self.folder, self.trainer.tensors() | best, record)

    def _encoder(self, network: SiameseNetwork, spec: Spec | None = None) -> SiameseEncoder:
        return SiameseEncoder(spec or self.spec, network, device=self.device)

    def _finish(self) -> History:
        self.trainer.average.load_state_dict(self.best)
        spec = self.spec
        if self.held is not None:
            found = measure(self._encoder(self.trainer.average), self.held, self.settings)
            spec = replace(
                spec, threshold=found.threshold, threshold_fmr=self.settings.fmr, facts=_facts(found)
            )
            self.history.threshold, self.history.threshold_fmr = found.threshold, self.settings.fmr
            counted = ("subjects", "mated", "non_mated")
            self.history.evidence = {k: v for k, v in asdict(found).items() if k in counted}
        encoder = self._encoder(self.trainer.average, spec)
        checkpoint.save(encoder, self.output, history=self.history.to_json())
        state.remove(self.folder)
        return self.history


def measure(encoder: SiameseEncoder, held: LabelledSet, settings: Settings) -> Validation:
    """The validation of an encoder on a preprocessed set."""
    return validate(encoder.encode_prepared(held.items), held, encoder.metric, settings.fmr)


def _rank(entry: dict[str, float]) -> tuple[float, float]:
    return entry["one_shot_error"], entry["eer"]


def _copied(network: SiameseNetwork) -> dict[str, Tensor]:
    return {k: v.detach().cpu().clone() for k, v in network.state_dict().items()}


def _split(data: LabelledSet, settings: Settings) -> tuple[LabelledSet, LabelledSet | None]:
    if settings.holdout == 0.0:
        return data, None
    return datasets.split(data, settings.holdout, np.random.default_rng(settings.seed))


def _spec(name: str, settings: Settings) -> Spec:
    made = preprocess.settings_of(preprocess.build(settings.preprocess))
    versions = {package: version(package) for package in ("numpy", "pillow", "torch")}
    return Spec(
        name,
        settings.tower,
        towers.complete(settings.tower, settings.tower_args),
        made,
        settings.dim,
        settings.metric,
        versions=versions,
    )


def _facts(found: Validation) -> dict[str, Any]:
    return {"validation": {k: v if isinstance(v, int) else round(v, 6) for k, v in asdict(found).items()}}


def _digest(data: LabelledSet) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(data.items).tobytes())
    digest.update(np.ascontiguousarray(data.labels).tobytes())
    return digest.hexdigest()


def _steps_in(minutes: float, trainer: Trainer, clock: Callable[[], float] = time.perf_counter) -> int:
    """How many steps fit into `minutes`, from the time of ten of them."""
    for _ in range(2):
        trainer.step()
    begun = clock()
    for _ in range(10):
        trainer.step()
    return max(1, int(60.0 * minutes / max((clock() - begun) / 10, 1e-9)))
