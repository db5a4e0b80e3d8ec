"""The axes along which a first pass looks at vectors: few, where most of what distinguishes rows lies in few.

Embeddings of trained encoders fill their space unevenly. Of the principal axes of a sample (Pearson, Phil. Mag.
2, 1901) the leading ones are kept, and of what they leave out only the length: by Cauchy and Schwarz the
product of two rests is at most the product of their lengths, which is small when both are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gallery.vectors import FloatRows

Reals = npt.NDArray[np.float64]

_SAMPLE = 4096
_LEFT_OUT = 0.01
"""Share of the squared length that may lie off the axes kept: what rounding to bytes costs is of that size."""
_WORTH_TURNING = 0.75
_LONGEST = 1024
"""Finding the axes of longer vectors takes seconds."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Some vectors along the axes; torch tensors of rows, numpy arrays of queries."""

    along: Any
    """(m, axes) float32."""
    lengths: Any
    """(m,) float64, of the whole vector from the centre."""
    blurs: Any
    """(m,) float64: `along` is no further than this from where it should be."""
    rests: Any
    """(m,) float64: what is off the axes is no longer than this."""


class Axes:
    """A centre and orthogonal axes, taken from a sample of the rows that will be looked at.

    Any would be right; good ones make the certificate tight.
    """

    def __init__(self, rows: FloatRows) -> None:
        """rows (n, dim), n >= 1."""
        self.centre = centre_of(rows)
        self.basis = _leading(rows[:: max(1, len(rows) // _SAMPLE)].astype(np.float64) - self.centre)
        """(dim, axes) float32; None where all of them are needed, and rows are not turned."""
        dim = rows.shape[1]
        if self.basis is None:
            self._blur = 2.0**-23
        else:
            wide = self.basis.astype(np.float64)
            skew = float(np.linalg.norm(wide.T @ wide - np.eye(wide.shape[1])))
            # Each coordinate is a sum of dim products in float32.
            self._blur = skew + float(np.sqrt(wide.shape[1])) * (dim + 8) * 2.0**-24

    def of_rows(self, rows: FloatRows) -> Seen:
        """rows (m, dim) from the centre, as tensors."""
        import torch

        along = torch.from_numpy(rows - self.centre)
        lengths = torch.linalg.vector_norm(along, dim=1, dtype=torch.float64) * (1 + 2.0**-22)
        blurs = self._blur * lengths
        if self.basis is None:
            return Seen(along, lengths, blurs, torch.zeros_like(lengths))
        turned = along @ torch.from_numpy(self.basis)
        kept = torch.linalg.vector_norm(turned, dim=1, dtype=torch.float64) - blurs
        rests = (lengths.square() - kept.clamp(min=0).square()).clamp(min=0).sqrt()
        return Seen(turned, lengths, blurs, rests)

    def of_queries(self, queries: FloatRows, metric: str) -> tuple[Seen, Reals]:
        """queries (m, dim): as they are under cosine, from the centre under euclidean; and the shifts.

        shifts (m,): <q, c> under cosine, |q - c|^2 under euclidean.
        """
        exact = queries.astype(np.float64)
        centre = self.centre.astype(np.float64)
        if metric == "cosine":
            shifts = exact @ centre
        else:
            exact -= centre
        lengths = np.sqrt(np.einsum("ij,ij->i", exact, exact))
        if metric == "euclidean":
            shifts = np.square(lengths)
        blurs = self._blur * lengths
        if self.basis is None:
            return Seen(exact.astype(np.float32), lengths, blurs, np.zeros_like(lengths)), shifts
        turned = exact @ self.basis
        kept = np.maximum(np.sqrt(np.einsum("ij,ij->i", turned, turned)) - blurs, 0)
        rests = np.sqrt(np.maximum(np.square(lengths) - np.square(kept), 0))
        return Seen(turned.astype(np.float32), lengths, blurs, rests), shifts


def centre_of(rows: FloatRows) -> FloatRows:
    """(dim,) about the mean of the rows."""
    some = rows[:: max(1, len(rows) // _SAMPLE)]
    mean: FloatRows = some.mean(axis=0, dtype=np.float64).astype(np.float32)
    return mean


def _leading(sample: Reals) -> FloatRows | None:
    """(dim, axes) the fewest principal axes that are worth turning rows to; None for none."""
    count, dim = sample.shape
    if dim < 16 or dim > _LONGEST or count < 2 * dim:
        return None
    scale = np.abs(sample).max()
    if not 0 < scale < np.inf:
        return None
    sample = sample / scale
    values, vectors = np.linalg.eigh(sample.T @ sample)
    left_out = np.cumsum(np.maximum(values, 0))
    axes = dim - int(np.searchsorted(left_out, _LEFT_OUT * left_out[-1], side="right"))
    axes += -axes % 8
    if axes > _WORTH_TURNING * dim:
        return None
    leading: FloatRows = np.ascontiguousarray(vectors[:, dim - axes :].astype(np.float32))
    return leading
