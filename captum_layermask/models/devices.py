"""Where a network runs, and in which type."""

from __future__ import annotations

import os
import re

import torch

from captum_layermask.errors import InputError
from captum_layermask.names import DEVICES

__all__ = ["find_device"]


def find_device(name: str = "auto") -> torch.device:
    """The device of a name.

    Of several processes that torchrun started on a machine, the first takes the first GPU for ``cuda`` and
    ``auto``, the second the second, and so on.

    Args:
        name: ``cpu``, ``cuda``, ``cuda:N``, ``mps``, or ``auto``: the best of them that is there.

    Raises:
        InputError: it is not there, there is no such name, or there are more processes than GPUs.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if not re.fullmatch(DEVICES, name):
        raise InputError(f"unknown device {name!r}; give auto, cpu, cuda, cuda:N or mps.")
    if name == "mps" and not torch.backends.mps.is_available():
        raise InputError("this machine, or this torch, has no MPS; give --device cpu, or leave it out.")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InputError("this machine, or this torch, has no CUDA; give --device cpu, or leave it out.")
    if name == "cuda":
        return _gpu_of_this_process()
    device = torch.device(name)
    if device.type == "cuda" and device.index >= (count := torch.cuda.device_count()):
        raise InputError(f"there is no {name}; give one from cuda:0 to cuda:{count - 1}.")
    return device


def _gpu_of_this_process() -> torch.device:
    place = os.environ.get("LOCAL_RANK", "")
    if os.environ.get("LOCAL_WORLD_SIZE", "1") == "1" or not place.isdecimal():
        return torch.device("cuda")
    if int(place) >= (count := torch.cuda.device_count()):
        raise InputError(
            f"there is no GPU for process {place} of this machine, which has {count}; start at most {count} "
            "processes, or give --device cpu."
        )
    return torch.device("cuda", int(place))
