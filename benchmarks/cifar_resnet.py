"""The CIFAR-10 ResNets of He et al. (2016, §4.2), for weights with torchvision's parameter names."""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from captum_layermask.models.preprocessing import Normalize

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Block(nn.Module):
    """Two 3×3 convolutions; the shortcut has no parameters (option A)."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.stride = out // width
        self.conv1 = nn.Conv2d(width, out, 3, self.stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W → N×C'×H/s×W/s."""
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.stride > 1:
            quarter = x.shape[1] // 2
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, quarter, quarter))
        return F.relu(x + y)


class ResNet(nn.Module):
    """Three stages of n blocks with 16, 32 and 64 channels, and a global average pool."""

    def __init__(self, n: int, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*(Block(16, 16) for _ in range(n)))
        self.layer2 = nn.Sequential(Block(16, 32), *(Block(32, 32) for _ in range(n - 1)))
        self.layer3 = nn.Sequential(Block(32, 64), *(Block(64, 64) for _ in range(n - 1)))
        self.linear = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        """N×3×32×32 → logits N×10."""
        x = F.relu(self.bn1(self.conv1(x)))
        return self.linear(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))


def load(weights: Path) -> nn.Module:
    """The network of a file of weights, pixels in [0, 1] → logits; its depth is read from the names."""
    state = load_file(weights)
    network = geometry(1 + max(int(name.split(".")[1]) for name in state if name.startswith("layer1.")))
    network[1].load_state_dict(state)
    return network


def geometry(n: int) -> nn.Sequential:
    """The same with n blocks in a stage and random weights."""
    torch.manual_seed(0)
    return nn.Sequential(Normalize(*IMAGENET), ResNet(n)).eval()
