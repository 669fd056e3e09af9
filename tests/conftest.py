"""One thread per process: ``pytest -n`` spreads the tests, and small operations do not wait for others."""

import torch

torch.set_num_threads(1)
