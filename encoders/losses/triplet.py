"""The triplet loss. Schroff, Kalenichenko, Philbin, "FaceNet", CVPR 2015, eq. 2."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from encoders.losses.distances import Distance, SquaredEuclidean
from encoders.losses.miners import Miner, of_triplets
from encoders.losses.reducers import Reducer, mean


def triplet_terms(near: Tensor, far: Tensor, margin: float = 0.2) -> Tensor:
    """One term a triplet: max(0, d(a, p) - d(a, n) + margin); (t,). In FaceNet both d are squared L2."""
    return F.relu(near - far + margin)


class Triplet(nn.Module):
    """The triplet loss of a batch: (embeddings (n, d), labels (n,)) -> scalar; 0 when nothing is mined."""

    def __init__(
        self,
        margin: float = 0.2,
        distance: Distance | None = None,
        miner: Miner | None = None,
        reducer: Reducer = mean,
    ) -> None:
        super().__init__()
        self.margin, self.distance = margin, distance or SquaredEuclidean()
        self.miner, self.reducer = miner or of_triplets("semi-hard", margin), reducer

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        a, p, n = self.miner(embeddings, labels, self.distance)
        if not len(a):
            return embeddings.sum() * 0.0
        # One table instead of three gathered copies: all triplets of a batch are many.
        apart = self.distance.table(embeddings, embeddings)
        return self.reducer(triplet_terms(apart[a, p], apart[a, n], self.margin))
