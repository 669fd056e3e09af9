"""What tests need that not every version allowed by pyproject.toml has."""

import PIL
import pytest
import torch
from packaging.version import Version

compiles = pytest.mark.skipif(
    Version(torch.__version__) < Version("2.13"),
    reason="torch.compile traces the forward from torch 2.13 on",
)
infinite_norms = pytest.mark.skipif(
    Version(torch.__version__) < Version("2.13"),
    reason="PyTorch's own lp_pool2d gives 1 for infinite norms before torch 2.13",
)
reads_all_modes = pytest.mark.skipif(
    Version(PIL.__version__) < Version("13"),
    reason="Pillow reads YCbCr and premultiplied greys in TIFF from version 13 on, and refuses them before",
)
