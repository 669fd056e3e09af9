"""Where does the time of a layer-masked forward go, and of the plain one?

    python benchmarks/profile_forward.py [MODEL] [--batch 16] [--threads 2] [--rows 12]

MODEL is a classifier of torchvision (random weights). Half of the 16×16 patches of 224×224 pixels are masked.
Printed are PyTorch's operations by the time that each takes itself, layer masking beside the plain network.
"""

from collections import defaultdict
from collections.abc import Callable

import torch
import torchvision
from common import head, header, parser, patches
from torch.profiler import ProfilerActivity, profile

from captum_layermask import LayerMaskedForward

REPEATS = 3
SIZE = 224


def times(run: Callable[[], object]) -> dict[str, float]:
    """Milliseconds per call and operation."""
    run()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(REPEATS):
            run()
    spent = defaultdict(float)
    for event in profiler.key_averages():
        spent[event.key] += event.self_cpu_time_total / 1000 / REPEATS
    return spent


@torch.inference_mode()
def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("model", nargs="?", default="resnet50")
    arguments.add_argument("--batch", type=int, default=16)
    arguments.add_argument("--rows", type=int, default=12)
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    generator = torch.Generator().manual_seed(0)
    model = torchvision.models.get_model(options.model).eval()
    forward = LayerMaskedForward(model)
    x = torch.randn(options.batch, 3, SIZE, SIZE, generator=generator).to(memory_format=torch.channels_last)
    plain = times(lambda: model(x))
    masked = times(lambda: forward(x, mask=patches(options.batch, SIZE, generator)))
    print(header(options.model, f"batch {options.batch}") + "\n")
    print(head(["operation", "plain, ms", "masked, ms", "more, ms"]))
    for name in sorted(masked, key=lambda name: plain[name] - masked[name])[: options.rows]:
        more = masked[name] - plain[name]
        print(f"| `{name}` | {plain[name]:.1f} | {masked[name]:.1f} | {more:.1f} |")
    whole = sum(plain.values()), sum(masked.values())
    print(f"| all | {whole[0]:.1f} | {whole[1]:.1f} | {whole[1] - whole[0]:.1f} |")


if __name__ == "__main__":
    main()
