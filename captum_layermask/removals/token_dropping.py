"""Token dropping: a vision transformer never sees the tokens of missing patches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_layermask.errors import InputError
from captum_layermask.masking.mask import Mask
from captum_layermask.masking.module_trees import with_replaced
from captum_layermask.removals.arguments import Call
from captum_layermask.removals.base import RemovalForward


@dataclass(frozen=True)
class Architecture:
    """Where a family of vision transformers makes tokens of patches.

    Attributes:
        embedding: path of the module that embeds the patches.
        tokens: path of the module that is handed all tokens, N×T×D: those that stand for no patch (class,
            distillation, register), then one for each patch, row by row, all with their positions.
        methods: what a subclass must not override, because it decides which tokens there are.
    """

    embedding: str
    tokens: str
    methods: tuple[str, ...]


#: Full name of the class → where its tokens are; timm need not be installed.
ARCHITECTURES = {
    "torchvision.models.vision_transformer.VisionTransformer": Architecture(
        "conv_proj", "encoder.layers", ("forward", "_process_input")
    ),
    "timm.models.vision_transformer.VisionTransformer": Architecture(
        "patch_embed", "patch_drop", ("forward", "forward_features")
    ),
}


class TokenDroppedForward(RemovalForward):
    """Predict with a vision transformer that is given the tokens of visible patches only.

    The source is Jain et al. (2022), "Missingness bias in model debugging", §2.2. Each patch is embedded and
    given its position; then the tokens of patches without a visible pixel are dropped, and the rest of the
    network runs on the tokens that remain. Class, distillation and register tokens always remain. Pooling
    over patches pools those that remain; where none does, the pooled feature is 0.

    A patch that is partly visible remains, and each of its missing pixels holds, per channel, the mean of its
    visible ones: that needs no colour from outside and is the same picture whether the image is normalised
    before this forward or inside the model. (The paper removes whole patches; its code drops a patch that
    misses any pixel.)

    The transformer may sit anywhere in the model, after modules that leave every pixel where it is (a
    normalisation, say; not a resize, a crop or a flip). Samples of which equally many tokens remain run
    together: a batch takes as many passes as it has different numbers. The model is not changed, and calls
    may run in several threads. What is compiled runs uncompiled.

    Args:
        model: holds one vision transformer: torchvision's ``vit_*`` or a timm ``VisionTransformer`` (ViT,
            DeiT, distilled, with registers, any pooling to one vector per image).

    Raises:
        InputError: there is no such transformer or more than one; its patches do not lie side by side; its
            class overrides how tokens are made. When called with missing pixels: the image was resized,
            cropped or batched anew before it reached the transformer; the model does not call the transformer
            exactly once, as a whole and with an image only; or this does not return one vector per image.

    Example:
        ```python
        forward = TokenDroppedForward(vit_b_16(weights="DEFAULT").eval())
        logits = forward(image, mask=visible)
        ```
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        _tokenizer_in(model)

    def predict(self, image: Tensor, mask: Mask, call: Call) -> Any:
        """Predict without the tokens of missing patches (see ``RemovalForward.predict``)."""
        if mask.full:
            return call(self.model, image)
        dropping = _TokenDropping(_tokenizer_in(self.model), mask.visible)
        twin = with_replaced(self.model, lambda module: dropping if module is dropping.transformer else None)
        output = call(twin, image)
        if not dropping.was_called:
            raise InputError(
                "no token was dropped, because the model does not call the vision transformer that is its "
                "submodule; it may hold another reference to it, which no copy of the model can replace."
            )
        return output


@dataclass(frozen=True)
class _Tokenizer:
    """How one vision transformer makes tokens.

    Attributes:
        transformer: it.
        path: of the module that is handed all tokens.
        patch: rows and columns of a patch.
        pads: whether an image is padded to whole patches; else what is over is cut off.
    """

    transformer: nn.Module
    path: str
    patch: tuple[int, int]
    pads: bool

    def visible_patches(self, visible: Tensor) -> Tensor:
        """Which patches have a visible pixel (bool, N×1×H×W → N×P)."""
        return F.max_pool2d(visible.float(), self.patch, ceil_mode=self.pads).flatten(1) > 0

    def completed(self, image: Tensor, visible: Tensor) -> Tensor:
        """The image with its patch's mean visible pixel in each missing one, 0 where none is visible."""
        rows, columns = self.patch
        image = torch.where(visible, image, 0)
        share = F.avg_pool2d(visible.to(image.dtype), self.patch, ceil_mode=True)
        mean = F.avg_pool2d(image, self.patch, ceil_mode=True) / torch.where(share > 0, share, 1)
        spread = mean.repeat_interleave(rows, 2).repeat_interleave(columns, 3)
        return torch.where(visible, image, spread[..., : image.shape[2], : image.shape[3]])

    def with_tokens_of(self, remaining: Tensor) -> nn.Module:
        """A copy of the transformer that drops tokens.

        Args:
            remaining: the patches whose tokens remain, bool, N×P, equally many in each row.
        """
        handed = self.transformer.get_submodule(self.path)
        dropping = nn.Sequential(_Drop(remaining), handed)
        twin = with_replaced(self.transformer, lambda module: dropping if module is handed else None)
        if self._pools_only_patches and not remaining.any():
            vars(twin)["pool"] = _zero_feature
        return twin

    @property
    def _pools_only_patches(self) -> bool:
        pooling = getattr(self.transformer, "global_pool", "token")
        pools_prefix = getattr(self.transformer, "pool_include_prefix", False)
        return pooling not in ("", "token") and not (pools_prefix and self.transformer.num_prefix_tokens)


class _TokenDropping(nn.Module):
    """Stands in for a vision transformer during one call."""

    def __init__(self, tokenizer: _Tokenizer, visible: Tensor) -> None:
        super().__init__()
        self.training = tokenizer.transformer.training
        self.transformer = tokenizer.transformer
        self.tokenizer = tokenizer
        self.visible = visible
        self.was_called = False

    def __getattr__(self, name: str) -> Any:
        transformer = super().__getattr__("transformer")
        if name == "transformer":
            return transformer
        value = getattr(transformer, name)
        if callable(value):
            raise InputError(
                f"the model uses {name!r} of its vision transformer; to drop tokens, the transformer must be "
                "called as a whole."
            )
        return value

    def forward(self, image: Tensor, *options: Any, **more_options: Any) -> Tensor:
        """What the transformer returns for each image without the tokens of its missing patches (N×K)."""
        self._check_call(image, (*options, *more_options.values()))
        image = self.tokenizer.completed(image, self.visible)
        remaining = self.tokenizer.visible_patches(self.visible)
        counts = remaining.sum(1)
        groups = [(counts == count).nonzero()[:, 0] for count in counts.unique()]
        outputs = [self.tokenizer.with_tokens_of(remaining[group])(image[group]) for group in groups]
        if any(not isinstance(output, Tensor) or output.dim() != 2 for output in outputs):
            raise InputError(
                "the vision transformer must return one vector per image, not tokens or several outputs; "
                "give it a pooling ('token' or 'avg') and call model.eval()."
            )
        return torch.cat(outputs)[torch.cat(groups).argsort()]

    def _check_call(self, image: Tensor, options: tuple[Any, ...]) -> None:
        found, expected = tuple(image[:, :1].shape), tuple(self.visible.shape)
        if found != expected:
            raise InputError(
                f"the image was {_shape(expected)} (N×1×H×W) when its pixels were removed and "
                f"{_shape(found)} when it reached the vision transformer; resize, crop and batch it before "
                "this forward."
            )
        if any(option is not None and option is not False for option in options):
            raise InputError(
                "an attention mask is for all tokens, and some are dropped; call the vision transformer with "
                "the image only."
            )
        if self.was_called:
            raise InputError(
                "the model calls its vision transformer more than once, and it is not known which pixels are "
                "missing the second time; make the calls from outside, each through this forward."
            )
        self.was_called = True


class _Drop(nn.Module):
    """Drops the tokens of missing patches, and never those that stand for no patch."""

    def __init__(self, remaining: Tensor) -> None:
        super().__init__()
        self.remaining = remaining

    def forward(self, tokens: Tensor) -> Tensor:
        """N×T×D → N×T'×D."""
        remaining = F.pad(self.remaining, (tokens.shape[1] - self.remaining.shape[1], 0), value=True)
        return tokens[remaining].view(len(remaining), int(remaining[0].sum()), tokens.shape[2])


def _zero_feature(tokens: Tensor) -> Tensor:
    """The pool of no patch (N×T×D → N×D)."""
    return tokens.new_zeros(tokens.shape[0], tokens.shape[2])


def _tokenizer_in(model: nn.Module) -> _Tokenizer:
    """How the model's vision transformer makes tokens.

    Raises:
        InputError: it is not known, or there is not exactly one transformer.
    """
    found = [(module, known) for module in model.modules() if (known := _known_class(module)) is not None]
    if not found:
        raise InputError(
            "token dropping needs a vision transformer (torchvision vit_*, timm VisionTransformer), and the "
            "model holds none; for a CNN use LayerMaskedForward."
        )
    if len(found) > 1:
        raise InputError(
            f"the model holds {len(found)} vision transformers; drop tokens from each in a forward of its "
            "own and combine what they return."
        )
    return _tokenizer(*found[0])


def _known_class(module: nn.Module) -> type | None:
    return next((kind for kind in type(module).__mro__ if _name(kind) in ARCHITECTURES), None)


def _tokenizer(transformer: nn.Module, known: type) -> _Tokenizer:
    architecture = ARCHITECTURES[_name(known)]
    for method in architecture.methods:
        if getattr(getattr(transformer, method), "__func__", None) is not getattr(known, method):
            raise InputError(
                f"this {type(transformer).__name__} overrides {method!r}, so its tokens may be others than "
                f"those of {_name(known)}; use that class itself, inside a wrapper."
            )
    embedding = transformer.get_submodule(architecture.embedding)
    convolutions = [module for module in embedding.modules() if isinstance(module, nn.Conv2d)]
    if len(convolutions) != 1 or not _tiles(convolutions[0]):
        raise InputError(
            "this vision transformer does not cut its image into patches that lie side by side (it may start "
            "with a CNN), so no token stands for its own pixels only; use one with a plain patch embedding."
        )
    rows, columns = convolutions[0].kernel_size
    return _Tokenizer(
        transformer, architecture.tokens, (rows, columns), getattr(embedding, "dynamic_img_pad", False)
    )


def _tiles(convolution: nn.Conv2d) -> bool:
    """Whether the windows lie side by side."""
    dense = convolution.dilation == (1, 1) and convolution.padding in ((0, 0), "valid")
    return dense and convolution.kernel_size == convolution.stride


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _shape(sizes: tuple[int, ...]) -> str:
    return "×".join(map(str, sizes))
