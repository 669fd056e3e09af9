"""How near are predictions to the truth, by WordNet?"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from captum_layermask.metrics.checks import check_pair
from captum_layermask.metrics.mean import Mean
from captum_layermask.metrics.wordnet import wu_palmer_table

__all__ = ["WordNetSimilarity"]


class WordNetSimilarity(Mean):
    """Mean Wu–Palmer similarity of predicted and true ImageNet classes, in (0, 1].

    A near miss counts more than a far one. An exact hit counts 1 for 893 of the classes, and 0.72
    to 0.93 for the others; see ``captum_layermask.metrics.wordnet.wu_palmer``, which follows nltk.

    Example:
        ```python
        tench, goldfish, airliner, warplane = 0, 1, 404, 895
        similarity = WordNetSimilarity()
        similarity.update(torch.tensor([goldfish, warplane]), labels=torch.tensor([tench, airliner]))
        similarity.compute()  # 0.9106, of 32/34 and 22/25
        ```

    Source: §4.1 of Balasubramanian & Feizi.
    """

    is_differentiable = False
    higher_is_better = True

    table: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.register_buffer("table", torch.tensor(wu_palmer_table()), persistent=False)

    def update(self, predictions: Tensor, labels: Tensor) -> None:
        """Look similarities up.

        Args:
            predictions: integers N, indices of ImageNet classes, 0 to 999.
            labels: integers N, those of the true classes.

        Raises:
            InputError: the two are not such indices, or of different lengths.
        """
        check_pair(("predictions", predictions), ("labels", labels), num_classes=len(self.table))
        super().update(self.table[predictions.long(), labels.long()])
