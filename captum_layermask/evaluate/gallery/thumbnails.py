"""An explanation becomes a small picture: the image, and its map beside it."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from captum_layermask.explain.explanation import Explanation
from captum_layermask.plots.explanation import DIVERGING

__all__ = ["thumbnail"]

_SIDE, _GAP = 128, 4


def thumbnail(explanation: Explanation) -> bytes:
    """The image and its attributions, side by side in a JPEG file, 128 pixels high.

    Example:
        ```python
        Path("small.jpg").write_bytes(thumbnail(explanation))
        ```
    """
    image = explanation.pixels[0].permute(1, 2, 0).cpu().numpy()
    values = explanation.attributions[0, 0].float().cpu().numpy()
    limit = float(np.abs(values).max()) or 1.0
    parts = [image, DIVERGING((values / limit + 1) / 2)[..., :3]]
    width = max(1, round(_SIDE * image.shape[1] / image.shape[0]))
    paper = Image.new("RGB", (2 * width + _GAP, _SIDE), "white")
    for place, part in enumerate(parts):
        small = Image.fromarray(np.rint(part.clip(0, 1) * 255).astype(np.uint8)).resize((width, _SIDE))
        paper.paste(small, (place * (width + _GAP), 0))
    content = io.BytesIO()
    paper.save(content, format="JPEG", quality=82)
    return content.getvalue()
