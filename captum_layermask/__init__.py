"""Layer masking as a Captum plugin: remove part of an image from a CNN without painting it."""

from captum_layermask.errors import (
    InplaceError,
    InputError,
    LayerMaskError,
    MaskLostError,
    NoRuleError,
    NothingMissingWarning,
    TrainingModeError,
    UnknownNameError,
    VanishedWarning,
)
from captum_layermask.layer_masking import LayerMaskedForward
from captum_layermask.missing import MISSING
from captum_layermask.registry import rule_for

__all__ = [
    "MISSING",
    "InplaceError",
    "InputError",
    "LayerMaskError",
    "LayerMaskedForward",
    "MaskLostError",
    "NoRuleError",
    "NothingMissingWarning",
    "TrainingModeError",
    "UnknownNameError",
    "VanishedWarning",
    "rule_for",
]
