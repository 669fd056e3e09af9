"""A trace lists what one masked forward did, operation by operation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

from torch import Tensor

from captum_layermask.masking.activation import MaskedMap
from captum_layermask.masking.carrier import Carrier
from captum_layermask.masking.run import Run, function_name
from captum_layermask.masking.signatures import Function
from captum_layermask.masking.trees import instances
from captum_layermask.text import text_table


@dataclass(frozen=True)
class Step:
    """One operation on a masked activation.

    Attributes:
        module: path of the innermost module that called it, "" for the model itself.
        operation: PyTorch's name of the function.
        rule: name of the rule that ran it, or "as usual" once the activation had no positions left.
        shape: of its first output.
        visible: share of visible cells in the output's mask (over the batch), None without positions.
        padded: whether missing cells were filled from their neighbours.
        output: a copy of the first output with 0 in missing cells, where outputs were requested.
        mask: which cells of the output are visible (bool, N×1×H×W), where outputs were requested.
        present: which values of the output belong to cells that are not missing, laid out so that it
            broadcasts against the output (bool): the mask of anchors, tokens or channels-last maps.
    """

    module: str
    operation: str
    rule: str
    shape: tuple[int, ...]
    visible: float | None
    padded: bool
    output: Tensor | None = field(default=None, repr=False)
    mask: Tensor | None = field(default=None, repr=False)
    present: Tensor | None = field(default=None, repr=False)


class Trace(Sequence[Step]):
    """The steps of one masked forward in the order they ran; ``print`` it to see them as a table.

    Example:
        ```python
        trace = LayerMaskedForward(model).trace(image, mask=mask)
        print(trace)
        vanishing = [step.module for step in trace if step.visible == 0]
        ```
    """

    def __init__(self, outputs: bool = False) -> None:
        self._steps: list[Step] = []
        self._outputs = outputs

    def observe(self, run: Run, function: Function, rule: str, result: Any) -> None:
        """Append a step."""
        carrier = next(instances(result, Carrier), None)
        if carrier is None:
            return
        output = mask = present = visible = None
        if isinstance(carrier, MaskedMap):
            visible = float(carrier.mask.visible.float().mean())
            if self._outputs:
                mask, present = carrier.mask.visible, carrier.present
        if self._outputs:
            output = (carrier.zeroed() if isinstance(carrier, MaskedMap) else carrier.raw).detach().clone()
        name, shape = function_name(function), tuple(carrier.raw.shape)
        self._steps.append(Step(run.here(), name, rule, shape, visible, run.padded, output, mask, present))

    @overload
    def __getitem__(self, index: int) -> Step: ...
    @overload
    def __getitem__(self, index: slice) -> list[Step]: ...
    def __getitem__(self, index: int | slice) -> Step | list[Step]:
        return self._steps[index]

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[Step]:
        return iter(self._steps)

    def __str__(self) -> str:
        rows = [("module", "operation", "rule", "shape", "visible", "padded")]
        for step in self:
            visible = "" if step.visible is None else f"{step.visible:.1%}"
            shape = "×".join(map(str, step.shape))
            rows.append(
                (step.module, step.operation, step.rule, shape, visible, "yes" if step.padded else "")
            )
        return text_table(rows)
