"""Missing cells have no weight in statistics (S8): the plain operation on the visible cells of each image."""

import pytest
import torch
import torch.nn.functional as F
from small_models import VISIBLE, X, point, run
from styles import attend_to_squeezed, channel_attention, global_context, response_norm
from support import relative

pytestmark = pytest.mark.filterwarnings("ignore::captum_layermask.VanishedWarning")


def over_what_is_there(operation):
    """For every image with its visible cells in one row, what the operation makes of them, put back."""
    out = torch.zeros_like(X)
    for image, mask, result in zip(X, VISIBLE[:, 0], out, strict=True):
        result[:, mask] = operation(image[:, mask][None])[0]
    return out


WEIGHTLESS = {
    "group norm": (lambda x: F.group_norm(x, 2), lambda cells: F.group_norm(cells, 2)),
    "instance norm": (F.instance_norm, F.instance_norm),
    "layer norm": (
        lambda x: F.layer_norm(x, x.shape[1:]),
        lambda cells: F.layer_norm(cells, cells.shape[1:]),
    ),
    "global response norm": (
        response_norm,
        lambda cells: response_norm(cells[..., None])[..., 0],
    ),
    "squeeze and excite": (attend_to_squeezed, lambda cells: attend_to_squeezed(cells[..., None])[..., 0]),
    "channel attention": (channel_attention, lambda cells: channel_attention(cells[..., None])[..., 0]),
    "softmax context": (global_context, lambda cells: global_context(cells[..., None])[..., 0]),
    "softmax context by sum": (
        lambda x: x + (x.flatten(2) * point(x).flatten(2).softmax(2)).sum(2)[..., None, None],
        lambda cells: global_context(cells[..., None])[..., 0],
    ),
}


@pytest.mark.parametrize("name", WEIGHTLESS)
@torch.no_grad()
def test_missing_cells_have_no_weight_in_statistics(name):
    masked, plain = WEIGHTLESS[name]
    assert relative(run(masked), over_what_is_there(plain)) <= 1e-10
