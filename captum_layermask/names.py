"""What can be chosen by name, known without importing what does it."""

from __future__ import annotations

__all__ = [
    "DEFAULT_REMOVALS",
    "DEVICES",
    "DTYPES",
    "INTERPOLATIONS",
    "METHODS",
    "ORDERS",
    "REMOVAL_NAMES",
    "SEGMENTATION_NAMES",
]

METHODS: dict[str, tuple[str, int | None]] = {
    "lime": ("LIME", 500),
    "kernel-shap": ("Kernel SHAP", 500),
    "feature-ablation": ("feature ablation", None),
    "occlusion": ("occlusion", None),
    "shapley-sampling": ("Shapley value sampling", 10),
}
"""Name → title and default ``n_samples`` (None: the method draws no samples)."""

#: Order in which segments are removed: name → title.
ORDERS: dict[str, str] = {
    "random": "random",
    "most-salient": "most salient first",
    "least-salient": "least salient first",
}

#: The keys of ``REMOVALS``.
REMOVAL_NAMES = (
    "layer",
    "layer-paper",
    "grey",
    "black",
    "white",
    "uniform-noise",
    "gaussian-noise",
    "neighbor",
    "visible-blur",
    "blur",
    "segment-mean",
    "telea",
    "navier-stokes",
    "road",
    "layer-zero",
    "layer-first",
    "partial-conv",
    "drop-tokens",
)

#: The keys of ``SEGMENTATIONS``.
SEGMENTATION_NAMES = ("grid", "slic", "quickshift")

DEFAULT_REMOVALS = ("layer", "grey", "black", "blur")
"""What is compared unless told otherwise."""

#: How pictures are resized.
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")

#: A regular expression of where networks run; ``auto`` is the best that is there.
DEVICES = r"auto|cpu|mps|cuda(:\d+)?"

#: What networks compute in.
DTYPES = ("float32", "bfloat16", "float16")
