"""Explanations, comparisons, and the inside of layer masking become figures."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
