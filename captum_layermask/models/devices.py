"""Where a network runs, and in which type."""

from __future__ import annotations

import re

import torch

from captum_layermask.errors import InputError
from captum_layermask.names import DEVICES

__all__ = ["find_device"]


def find_device(name: str = "auto") -> torch.device:
    """The device of a name.

    Args:
        name: ``cpu``, ``cuda``, ``cuda:N``, ``mps``, or ``auto``: the best of them that is there.

    Raises:
        InputError: it is not there, or there is no such name.
    """
    if name == "auto":
        best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device(best)
    if not re.fullmatch(DEVICES, name):
        raise InputError(f"unknown device {name!r}; give auto, cpu, cuda, cuda:N or mps.")
    if name == "mps" and not torch.backends.mps.is_available():
        raise InputError("this machine, or this torch, has no MPS; give --device cpu, or leave it out.")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InputError("this machine, or this torch, has no CUDA; give --device cpu, or leave it out.")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= (count := torch.cuda.device_count()):
        raise InputError(f"there is no {name}; give one from cuda:0 to cuda:{count - 1}.")
    return device
