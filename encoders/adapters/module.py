"""Any torch.nn.Module with its transform, as an encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from encoders import batches
from encoders.adapters.base import Adapter, Array
from encoders.adapters.prepared import Prepared, Transform, prepared
from encoders.errors import EncoderError, first_line
from encoders.network import best_device
from encoders.packages import versions
from encoders.spec import hash_of

REVISION = "module/1"


class TorchEncoder(Adapter):
    """Items -> transform -> module -> (n, dim); always in eval mode. See `from_module`.

    Every forward pass has one shape, so that an item embeds to the same bits in any company; only matrices
    with fewer than eight columns can differ in the last one, where a BLAS treats rows of a batch differently.
    """

    def __init__(
        self, module: nn.Module, transform: Prepared, *, name: str, metric: str,
        threshold: float | None = None, device: str | None = None, kind: str = REVISION,
        versions_of: Sequence[str] = (), counted: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.device = best_device(device)
        self.module = module.eval().to(self.device)
        self.transform = transform
        self.of_images = transform.of_images  # type: ignore[misc]
        probe = self._forward(np.zeros((batches.CHUNK, *transform.shape), np.float32))
        super().__init__(name, dim=probe.shape[1], metric=metric, threshold=threshold)
        weights = {k: v.detach().cpu().float().numpy() for k, v in module.state_dict().items()}
        shown = {"module": str(module), "class": f"{type(module).__module__}.{type(module).__qualname__}"}
        parts = {"weights": hash_of({}, weights), "architecture": hash_of(shown)}
        parts["preprocessing"] = hash_of({"transform": transform.described, "shape": list(transform.shape)})
        found = versions("torch", "numpy", "pillow", *versions_of)
        self.identify(kind, parts, found, *counted)

    def _read(self, item: Any) -> Array:
        return self.transform(item)

    def _embed(self, chunk: list[Array]) -> Array:
        batch = np.zeros((batches.CHUNK, *self.transform.shape), np.float32)
        batch[: len(chunk)] = chunk
        return self._forward(batch)[: len(chunk)]

    def _forward(self, batch: Array) -> Array:
        self.module.eval()  # whoever put it into train mode: batch norm must not look at the batch
        try:
            with torch.inference_mode(), batches.exact(self.device):
                found = self.module(torch.from_numpy(batch).to(self.device))
        except EncoderError:
            raise
        except Exception as exc:  # somebody else's code: modules raise anything
            said = first_line(exc)
            raise EncoderError(f"the module failed on a batch of shape {batch.shape}: {said}") from exc
        if not isinstance(found, torch.Tensor) or found.ndim != 2 or len(found) != len(batch):
            gave = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
            raise EncoderError(
                f"the module gave {gave} for a batch of shape {batch.shape}: pooled embeddings "
                f"({len(batch)}, dim) are needed; wrap it in a module that returns them"
            )
        rows: Array = found.float().cpu().numpy()
        return rows


def from_module(
    module: nn.Module,
    transform: Transform | dict[str, Any],
    *,
    name: str,
    metric: str = "cosine",
    shape: tuple[int, ...] | None = None,
    of_images: bool = True,
    revision: str | None = None,
    threshold: float | None = None,
    device: str | None = None,
) -> TorchEncoder:
    """An encoder of any torch.nn.Module that maps a batch (n, *shape) to embeddings (n, dim).

    transform   settings such as {"kind": "rgb", "size": 224}, or a callable that gives one array or tensor of
                `shape` for one item; with `of_images` it is handed an upright RGB PIL image, whatever the
                item was (path, bytes, array, image), else the item itself
    revision    what tells a callable from another one; needed where its repr does not
    threshold   the distance to recommend, if one was measured

    The fingerprint covers the weights, the module's class and repr, and the transform. EncoderError for a
    module that gives no (n, dim).
    """
    ready = prepared(transform, shape, of_images, revision)
    return TorchEncoder(module, ready, name=name, metric=metric, threshold=threshold, device=device)
