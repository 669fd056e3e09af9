"""Which activations share memory, so that what is written into one is seen, or missed, in others."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from captum_layermask.masking.carrier import Carrier


class Memory:
    """The activations that certainly share their memory in the plain network: a tensor and its views.

    A map is laid out as suits its fills, so ``contiguous``, ``reshape`` and ``flatten`` may copy here and not
    there, or the other way round. Their results have a memory of their own, *kin* to that of their operand:
    once something is written into one, whatever is in the other is outdated and must not be used.

    Attributes:
        outdated: whether kin of this was written into.
    """

    def __init__(self, holder: Carrier) -> None:
        self.outdated = False
        self._holders = [weakref.ref(holder)]
        self._kin: list[weakref.ref[Memory]] | None = None

    def shared_with(self, holder: Carrier) -> list[Carrier]:
        """The other living activations in this memory."""
        living = (ref() for ref in self._holders)
        return [other for other in living if other is not None and other is not holder]

    def take_in(self, holder: Carrier) -> None:
        """Note a view."""
        self._holders.append(weakref.ref(holder))
        holder.memory = self

    def become_kin(self, other: Memory) -> None:
        """Note a memory that may be this one in the plain network."""
        kin = self._family()
        if other not in [ref() for ref in kin]:
            for ref in other._family():
                member = ref()
                if member is not None:
                    kin.append(ref)
                    member._kin = kin

    def _family(self) -> list[weakref.ref[Memory]]:
        if self._kin is None:
            self._kin = [weakref.ref(self)]
        return self._kin

    @property
    def has_kin(self) -> bool:
        """Whether any other memory may be this one."""
        return self._kin is not None

    def written(self) -> None:
        """Note that something was written here."""
        for ref in self._kin or ():
            member = ref()
            if member is not None and member is not self:
                member.outdated = True
