"""Removals: a forward removes what is ``MISSING``, and predicts; a file for each family."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
