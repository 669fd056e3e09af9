"""Layer masking as a Captum plugin: remove part of an image from a CNN without painting it."""

from captum_layermask.colors import Colors
from captum_layermask.errors import (
    InplaceError,
    InputError,
    LayerMaskError,
    MaskLostError,
    NoRuleError,
    NothingMissingWarning,
    PictureWarning,
    TrainingModeError,
    UnknownNameError,
    VanishedWarning,
)
from captum_layermask.layer_masking import LayerMaskedForward
from captum_layermask.missing import MISSING
from captum_layermask.registry import rule_for
from captum_layermask.removals import REMOVALS, Removal, make_forward

__all__ = [
    "MISSING",
    "REMOVALS",
    "Colors",
    "InplaceError",
    "InputError",
    "LayerMaskError",
    "LayerMaskedForward",
    "MaskLostError",
    "NoRuleError",
    "NothingMissingWarning",
    "PictureWarning",
    "Removal",
    "TrainingModeError",
    "UnknownNameError",
    "VanishedWarning",
    "make_forward",
    "rule_for",
]
