"""Operations that need no rule, and others of which carriers must know something."""

from __future__ import annotations

import inspect
import re

from torch import Tensor

from captum_layermask.masking.compiling import constant
from captum_layermask.masking.registry import SPACES, spellings
from captum_layermask.masking.signatures import Function

_PROPERTIES = (
    "shape ndim dtype device layout itemsize nbytes requires_grad is_leaf grad_fn is_cuda is_cpu is_meta "
    "is_mps is_xpu is_mkldnn is_quantized is_sparse is_nested grad"
)


_IN_PLACE = re.compile(r"__setitem__|__i(?!n|ter)\w+__|[a-z]\w*_")


def _all(names: str) -> set[Function]:
    return {function for name in names.split() for function in spellings(name)}


MAKERS = _all(
    "new_tensor new_zeros new_ones new_empty new_full zeros_like ones_like empty_like full_like rand_like "
    "randn_like"
)
"""They take a shape and a number type from an activation, and none of its values."""

VALUELESS = _all(
    "size dim ndimension numel nelement element_size is_contiguous stride storage_offset "
    "get_device is_floating_point is_complex is_signed is_same_size len is_inference result_type can_cast "
    "register_hook retain_grad"
) | {getattr(Tensor, name).__get__ for name in _PROPERTIES.split()}
"""They tell what a tensor is, or see its gradient, and not what is in it."""

METHODS = {f.__get__: f for f in (getattr(Tensor, name) for name in dir(Tensor)) if inspect.isfunction(f)}
"""Tensor's methods written in Python, which ``torch.compile`` (2.14) looks up as if they were properties."""

RESHAPES = _all("view reshape unflatten view_as reshape_as")

JOINS = _all("cat concat concatenate stack")
"""Their rules see which operands have seen a part of the image, though they have no positions any more."""

PERHAPS_A_VIEW = _all("contiguous reshape reshape_as flatten ravel to")
"""Whether their result shares memory with their operand depends on its layout."""

ITSELF = _all(
    "type type_as float double half bfloat16 long int bool cpu cuda requires_grad_ dropout alpha_dropout "
    "feature_alpha_dropout dropout1d dropout2d feature_dropout positive real resolve_conj resolve_neg "
    "expand_as"
)
"""They may return their operand as it is, without having written into it."""

_WRITING = {getattr(space, name) for space in SPACES for name in dir(space) if _IN_PLACE.fullmatch(name)}


@constant
def writes(function: Function) -> bool:
    """Whether a function changes its first operand."""
    return function in _WRITING
