"""Does importance lie where the object is?"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_layermask.metrics.checks import check_importance, check_mask, scaled
from captum_layermask.metrics.mean import Mean

__all__ = ["AlignmentScore", "alignment_score"]


@torch.no_grad()
def alignment_score(importance: Tensor, segments: Tensor, mask: Tensor) -> Tensor:
    """Cosine of the importance and of how much of the object each segment holds, in [−1, 1].

    The second vector is gᵢ = Σ (m[u, v] − mean of m) over the pixels of segment i. Where either vector is
    zero (an importance of zeros, a mask that is the same everywhere) the cosine is 0.

    Args:
        importance: float N×K or K.
        segments: LongTensor N×1×H×W.
        mask: bool or float in [0, 1], N×1×H×W.

    Returns:
        float64 N.

    Raises:
        InputError: shapes, types or ranges do not fit, or an importance is not finite.

    Example:
        ```python
        segments = torch.tensor([[[[0, 0, 1, 1], [2, 2, 3, 3]]]])
        importance = torch.tensor([0.1, 0.8, 0.0, -0.3])
        alignment_score(importance, segments, mask=segments % 2 == 1)  # 0.2325
        ```

    Source: §4.4.2 (b) of Balasubramanian & Feizi.
    """
    importance, sizes = check_importance(importance, segments)
    pixels = check_mask(mask, segments).flatten(1)
    mass = torch.zeros_like(importance).scatter_add(1, segments.flatten(1), pixels)
    centred = mass - sizes * pixels.mean(1, keepdim=True)
    even = pixels.amin(1, keepdim=True) == pixels.amax(1, keepdim=True)
    cosine = F.cosine_similarity(scaled(importance), scaled(centred.masked_fill(even, 0)), dim=1)
    return cosine.clamp(-1, 1)


class AlignmentScore(Mean):
    """Mean of ``alignment_score`` over images, in [−1, 1].

    Example:
        ```python
        segments = torch.tensor([[[[0, 0, 1, 1], [2, 2, 3, 3]]]])
        alignment = AlignmentScore()
        alignment.update(torch.tensor([0.1, 0.8, 0.0, -0.3]), segments, mask=segments % 2 == 1)
        alignment.compute()  # 0.2325
        ```

    Source: §4.4.2 (b) of Balasubramanian & Feizi.
    """

    is_differentiable = False
    higher_is_better = True

    def update(self, importance: Tensor, segments: Tensor, mask: Tensor) -> None:
        """Add explanations; arguments and errors are those of ``alignment_score``."""
        super().update(alignment_score(importance, segments, mask))
