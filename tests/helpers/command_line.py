"""What tests of the command line share."""

import os
import re

import numpy as np
import pytest
import torch
from torch import nn

from captum_layermask.__main__ import main
from captum_layermask.models.loaded import LoadedModel
from captum_layermask.models.preprocessing import Normalize

FEW = ["--segmentation", "grid", "--n-segments", "9", "--n-samples", "12"]


def tiny_model(name, class_names=("ant", "bee", "cat")):
    """A network that is over in no time."""
    torch.manual_seed(0)
    return LoadedModel(
        name=name,
        model=nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, len(class_names))
        ).eval(),
        preprocess=lambda picture: (
            torch.from_numpy(np.array(picture.resize((32, 32)))).permute(2, 0, 1)[None] / 255
        ),
        normalize=Normalize([0.5] * 3, [0.5] * 3),
        class_names=tuple(class_names),
    )


def fails(capsys, *args):
    """Run the command, check that it fails as it should, and return its sentence."""
    before = sorted(os.listdir())
    with pytest.raises(SystemExit) as caught:
        main(args)
    assert caught.value.code == 2
    assert sorted(os.listdir()) == before
    progress, error, sentence = capsys.readouterr().err.rpartition("error: ")
    assert error
    assert not re.sub(
        r".*attribution: .*|^(model|images|colours|classes|device)  .*", "", progress, flags=re.M
    ).strip()
    assert len(sentence.splitlines()) == 1
    return sentence
