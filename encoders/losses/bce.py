"""Binary cross entropy of pairs, on a learnt comparison of the two embeddings.

Koch, Zemel, Salakhutdinov, "Siamese neural networks for one-shot image recognition", ICML workshop 2015.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from encoders.comparator import Comparator
from encoders.losses.distances import Distance, Euclidean
from encoders.losses.miners import Miner, hard_pairs
from encoders.losses.reducers import Reducer, mean


def bce_terms(logits: Tensor, mated: Tensor) -> Tensor:
    """One term a pair: -log sigmoid(logit) if `mated` is 1, -log sigmoid(-logit) if it is 0."""
    return F.binary_cross_entropy_with_logits(logits, mated.to(logits.dtype), reduction="none")


class PairwiseBCE(nn.Module):
    """|h1 - h2| -> dense -> sigmoid -> cross entropy: (embeddings (n, d), labels (n,)) -> scalar.

    `comparator` is the dense layer. It belongs to the network, which keeps what it learnt; `distance` is only
    what the miner looks for hard pairs with.
    """

    def __init__(
        self,
        comparator: Comparator,
        distance: Distance | None = None,
        miner: Miner = hard_pairs,
        reducer: Reducer = mean,
    ) -> None:
        super().__init__()
        self.comparator, self.distance = comparator, distance or Euclidean()
        self.miner, self.reducer = miner, reducer

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        left, right, mated = self.miner(embeddings, labels, self.distance)
        return self.reducer(bce_terms(self.comparator(embeddings[left], embeddings[right]), mated))
