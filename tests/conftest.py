"""One thread per process: ``pytest -n`` spreads the tests, and small operations do not wait for others."""

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder, the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def tiny(monkeypatch):
    """A network that is over in no time, under every name."""
    from command_line import tiny_model

    monkeypatch.setattr("captum_layermask.models.load.load_model", tiny_model)
