"""What a table of equal spellings is made of."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Operation:
    """Expressions that give the same on plain tensors.

    Args:
        text: one Python expression a line, of the names in ``test_spellings.names``: the maps ``x`` and ``y``
            (the same shape, other masks), the sizes ``n c h w`` of the image, parameters. The first is the
            one with which the others are compared.
        layouts: how the axes of ``x`` and ``y`` are laid out: "map" N×C×H×W, "tokens" N×S×C, "grouped"
            N×G×C×H×W, "last" N×H×W×C; each is tried.
        without: the contexts in which PyTorch itself gives the expressions no common meaning.
        differs: the expressions whose masked output is another one by definition, and why.
    """

    text: str
    layouts: str = "map"
    without: str = ""
    differs: dict[str, str] = field(default_factory=dict)

    @property
    def spellings(self) -> list[str]:
        """The expressions, in order."""
        return [line.strip() for line in self.text.splitlines() if line.strip()]
