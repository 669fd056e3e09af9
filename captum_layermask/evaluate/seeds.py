"""Every piece of work has its own seed."""

from __future__ import annotations

import hashlib
import json

__all__ = ["stable_seed"]


def stable_seed(*parts: str | int) -> int:
    """A seed from 0 to 2⁶³ − 1 that depends on the parts alone, in every process and on every machine.

    Args:
        *parts: what the piece of work is called, such as the user's seed, the image and the segmentation.
    """
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
