"""Do predictions stay those on the original images?"""

from __future__ import annotations

from torch import Tensor

from captum_layermask.metrics.checks import check_pair
from captum_layermask.metrics.mean import Mean

__all__ = ["UnchangedPredictions"]


class UnchangedPredictions(Mean):
    """Share of predictions that equal the one on the original image, in [0, 1].

    Example:
        ```python
        unchanged = UnchangedPredictions()
        unchanged.update(torch.tensor([1, 1, 8]), original=torch.tensor([0, 1, 8]))
        unchanged.compute()  # 0.6667
        ```

    Source: §4.1 of Balasubramanian & Feizi.
    """

    is_differentiable = False
    higher_is_better = True

    def update(self, predictions: Tensor, original: Tensor) -> None:
        """Compare predictions.

        Args:
            predictions: integers N, class indices.
            original: integers N, the classes predicted for the same images with nothing removed.

        Raises:
            InputError: the two are not such indices, or of different lengths.
        """
        check_pair(("predictions", predictions), ("original predictions", original))
        super().update((predictions == original).double())
