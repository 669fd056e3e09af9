"""Where memory is not enough, one sentence says which batch size to try."""

import dataclasses

import pytest
import torch
from command_line import FEW, fails, tiny_model
from small_evaluation import save_pictures
from torch import nn

from captum_layermask.__main__ import main

ERRORS = {
    "gpu": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "cpu": RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
    "python": MemoryError(),
}


class Large(nn.Module):
    """A classifier for which memory is enough up to so many images at once."""

    def __init__(self, inner, most, error):
        super().__init__()
        self.inner, self.most, self.error = inner, most, error

    def forward(self, x):
        if len(x) > self.most:
            raise self.error
        return self.inner(x)


@pytest.fixture
def large(monkeypatch, request):
    def use(most, error="gpu"):
        def load(name):
            loaded = tiny_model(name)
            return dataclasses.replace(loaded, model=Large(loaded.model, most, ERRORS[error]))

        monkeypatch.setattr("captum_layermask.models.load.load_model", load)

    return use


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("command", ["explain", "compare"])
def test_half_the_batch_size_is_offered(large, folder, capsys, command, error):
    large(most=5, error=error)
    removal = ["--removal" if command == "explain" else "--removals", "grey"]
    told = fails(capsys, command, *FEW, *removal)
    assert told == "there is not enough memory for --batch-size 16; give --batch-size 8.\n"


def test_where_one_image_is_too_much_another_place_is_offered(large, folder, capsys):
    large(most=0)
    told = fails(capsys, "explain", *FEW, "--removal", "grey", "--batch-size", "1")
    assert "for --batch-size 1; give --device cpu, --dtype bfloat16 or a smaller --size." in told


def test_in_a_folder_too(large, folder, capsys):
    large(most=5)
    save_pictures(folder / "in", ["a.png"])
    with pytest.raises(SystemExit) as caught:
        main(["explain", "in", *FEW, "--removal", "grey", "-o", "out"])
    assert caught.value.code == 2
    assert capsys.readouterr().err.endswith("for --batch-size 16; give --batch-size 8.\n")


def test_another_error_of_torch_is_not_taken_for_want_of_memory(large, folder, monkeypatch):
    monkeypatch.setitem(ERRORS, "gpu", RuntimeError("shapes do not fit"))
    large(most=5)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        main(["explain", *FEW, "--removal", "grey"])
