"""Where does the time of a layer-masked forward go, and of the plain one?

    python benchmarks/profile_forward.py [MODEL] [--batch 16] [--threads 2] [--rows 12]

MODEL is a classifier of torchvision (random weights). Half of the 16×16 patches of 224×224 pixels are masked.
Printed are PyTorch's operations by the time that each takes itself, layer masking beside the plain network.
"""

import argparse
from collections import defaultdict

import torch
import torchvision
from performance import SIZE, patches
from torch.profiler import ProfilerActivity, profile

from captum_layermask import LayerMaskedForward

REPEATS = 3


def times(run) -> dict[str, float]:
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", nargs="?", default="resnet50")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rows", type=int, default=12)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    generator = torch.Generator().manual_seed(0)
    model = torchvision.models.get_model(options.model).eval()
    forward = LayerMaskedForward(model)
    x = torch.randn(options.batch, 3, SIZE, SIZE, generator=generator).to(memory_format=torch.channels_last)
    plain = times(lambda: model(x))
    masked = times(lambda: forward(x, mask=patches(options.batch, generator)))
    print("| operation | plain, ms | masked, ms | more, ms |\n| --- | --- | --- | --- |")
    for name in sorted(masked, key=lambda name: plain[name] - masked[name])[: options.rows]:
        more = masked[name] - plain[name]
        print(f"| `{name}` | {plain[name]:.1f} | {masked[name]:.1f} | {more:.1f} |")
    whole = sum(plain.values()), sum(masked.values())
    print(f"| all | {whole[0]:.1f} | {whole[1]:.1f} | {whole[1] - whole[0]:.1f} |")


if __name__ == "__main__":
    main()
