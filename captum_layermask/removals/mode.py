"""Training mode belongs to the network, not to what is wrapped around it."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

__all__ = ["Wrapper"]


class Wrapper(nn.Module):
    """A module whose mode is that of the network inside it, in both directions of ``train(mode)``.

    Tools save ``training``, call ``eval()``, and restore the mode by ``train(saved)``. A flag of the
    wrapper's own, True from birth, would put the network inside into training.
    """

    #: Name of the module that holds the network.
    inside: ClassVar[str] = "model"

    @property
    def training(self) -> bool:
        """Whether the network inside is in training mode."""
        network = self._modules.get(self.inside)
        return network is not None and network.training

    @training.setter
    def training(self, mode: bool) -> None:
        """Nothing to note: ``train(mode)`` sets the network, and this is its mode."""
