"""Layer masking as a Captum plugin: remove part of an image from a vision network without filling it in."""

import lazy_loader

# What the package offers stands in __init__.pyi. It is imported when it is first used, so that
# ``captum-layermask --help`` need not wait for torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
