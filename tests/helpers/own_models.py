"""Files that people have: networks fine-tuned to three classes, of each kind that can be loaded."""

import json
from pathlib import Path

import torch
import torchvision

CLASSES = ("Abbot's fox", "red, wet bee", "café")

OWN_FILE = """
import torch
from beside import WIDTH
from torch import nn
from torchvision.transforms import v2
from captum_layermask.models import LoadedModel, Normalize

def network():
    torch.manual_seed(0)
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(nn.Conv2d(3, WIDTH, 3), nn.ReLU(), *pool, nn.Linear(WIDTH, 3)).eval()

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inside = network()
    def forward(self, x):
        return self.inside(x)

ready = Net()
steps = [v2.Resize(40), v2.CenterCrop(32), v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)]
geometry = v2.Compose(steps)
normalized = v2.Compose([*steps, v2.Normalize([0.5, 0.4, 0.3], [0.2, 0.2, 0.25])])

def loaded():
    names = ("ant", "bee", "cat")
    return LoadedModel("mine", network(), lambda p: geometry(p)[None], Normalize([0.5] * 3, [0.2] * 3), names)
"""


def save_own_models(folder):
    """Write the files; return command-line options by kind."""
    torch.manual_seed(0)
    folder = Path(folder)
    (folder / "names.txt").write_text("\n".join(CLASSES) + "\n", encoding="utf-8")
    (folder / "names.json").write_text(json.dumps(dict(enumerate(CLASSES))), encoding="utf-8")
    network = torchvision.models.resnet18(num_classes=3)
    wrapped = {f"module._orig_mod.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": wrapped}, folder / "fox.pt")
    (folder / "net.py").write_text(OWN_FILE)
    (folder / "beside.py").write_text("WIDTH = 4\n")
    ours = ["--class-names", "names.txt"]
    return {
        "torchvision": ["--model", "torchvision:resnet18", "--weights", "fox.pt", *ours, "--size", "64"],
        "timm": [
            "--model",
            "timm:test_resnet",
            "--weights",
            "fox.safetensors",
            "--class-names",
            "names.json",
        ],
        "transformers": ["--model", "hf:fox"],
        "module": ["--model", "net.py:Net", "--preprocess", "net.py:normalized", *ours],
        "loaded": ["--model", "net.py:loaded", *ours],
        "installed": ["--model", "net:ready", "--size", "32", "--mean", "0.5", "--std", "0.2", *ours],
    }


def save_timm(folder):
    """Write ``fox.safetensors``, of timm's ``test_resnet``."""
    import timm
    from safetensors.torch import save_file

    save_file(timm.create_model("test_resnet", num_classes=3).state_dict(), Path(folder) / "fox.safetensors")


def save_transformers(folder):
    """Write the folder ``fox``: a ResNet of transformers and its image processor."""
    import transformers

    config = transformers.ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16],
        depths=[1, 1],
        layer_type="basic",
        id2label=dict(enumerate(CLASSES)),
    )
    transformers.ResNetForImageClassification(config).save_pretrained(Path(folder) / "fox")
    sizes = {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}, "crop_pct": 0.875}
    transformers.ConvNextImageProcessor(**sizes).save_pretrained(Path(folder) / "fox")
