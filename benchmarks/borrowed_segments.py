"""Is grey helped by superpixels because they follow the edges of the image that they remove?

    python benchmarks/borrowed_segments.py FOLDER [--segmentations quickshift,slic] [--removals layer,grey]

Segments are removed at random from each image: once the image's own, once those of the next image, which
have the same sizes and shapes but follow nothing in it. If what helps a removal are missing regions whose
boundary follows objects, it must lose by borrowing. FOLDER as in ``benchmarks/propagation.py``; every second
of its images is used (the half on which no policy of mask propagation was chosen). The accuracy is the mean
over the fractions, with 95 % bootstrap intervals over images.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from common import head, header, imagenet, names, parser
from torch import Tensor
from tqdm import tqdm

from captum_layermask import make_forward
from captum_layermask.evaluate.report.bootstrap import bootstrap, mean
from captum_layermask.explain.coalitions import Coalitions
from captum_layermask.explain.segments import SEGMENTATIONS

FRACTIONS = (0.3, 0.5, 0.7)


def visible_at_random(segments: Tensor, generator: torch.Generator) -> Tensor:
    """Visible segments, bool, fractions × segments: a fraction of them is missing, more and more."""
    count = int(segments.max()) + 1
    place = torch.randperm(count, generator=generator).argsort()
    return place >= torch.tensor([round(f * count) for f in FRACTIONS])[:, None]


@torch.inference_mode()
def main() -> None:
    """Print the table."""
    arguments = parser(__doc__)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--segmentations", type=names, default=["quickshift", "slic"])
    arguments.add_argument("--removals", type=names, default=["layer", "grey"])
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)

    network, colors, images, classes = imagenet("efficientnet-lite0", options.folder, slice(1, None, 2))
    forwards = {name: make_forward(name, network, colors=colors) for name in options.removals}

    print(header(f"{len(images)} images", f"fractions {FRACTIONS}") + "\n")
    print(head(["segments", "removal", "its own", "another image's", "own less another's"]))
    for name in options.segmentations:
        segments = [SEGMENTATIONS[name](x, n_segments=196) for x in tqdm(images.split(1), file=sys.stderr)]
        right = {removal: np.empty((len(images), 2)) for removal in forwards}
        for i, x in enumerate(tqdm(images.split(1), file=sys.stderr)):
            for borrowed in (0, 1):
                regions = segments[(i + borrowed) % len(images)]
                visible = visible_at_random(regions, torch.Generator().manual_seed(i))
                for removal, forward in forwards.items():
                    coalitions = Coalitions(forward, x, regions, batch_size=len(FRACTIONS))
                    predictions = coalitions(visible).argmax(1)
                    right[removal][i, borrowed] = (predictions == classes[i]).double().mean()
        first, *others = forwards
        leads = {f"{first} less {removal}": right[first] - right[removal] for removal in others}
        for removal, shares in (right | leads).items():
            form = "+.3f" if removal in leads else ".3f"
            accuracies = [f"{bootstrap(mean(column), len(images)):{form}}" for column in shares.T]
            gain = bootstrap(mean(shares[:, 0] - shares[:, 1]), len(images))
            print(f"| {name} | {removal} | {' | '.join(accuracies)} | {gain:+.3f} |", flush=True)


if __name__ == "__main__":
    main()
