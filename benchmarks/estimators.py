"""How many forwards do estimators of Shapley values take for the same error?

    python benchmarks/estimators.py WEIGHTS IMAGES --cache FOLDER [--images 5] [--repeats 10]

WEIGHTS holds ``squeezenet1_1.safetensors`` and ``mobilenet_v2.safetensors`` (the latter with its plan in the
file's metadata); EfficientNet-Lite0 comes from its package. Of IMAGES, a folder, evenly spaced files are
taken. The game is the probability of the likeliest class by layer masking, with about 60 SLIC segments.
Every value is kept in the cache, so that a run can be stopped and goes on, and methods share what they have
in common. The reference is this package's estimate from another seed; what is left of its own error is taken
off all rows.

Printed are, for each network and method, the mean squared error over segments, images and repeats; how often
our intervals hold the reference; and how many evaluations Captum's ``KernelShap`` takes for the error of
ours, by the line through its errors, log to log. shap and shapiq are left out where they are not installed.
"""

import argparse
import json
import platform
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import date
from pathlib import Path

import numpy as np
import safetensors
import torch
import torchvision
from captum.attr import KernelShap
from safetensors.torch import load_file
from torch import nn
from tqdm import tqdm

from captum_layermask import LayerMaskedForward, VanishedWarning
from captum_layermask.explain.coalitions import Coalitions
from captum_layermask.explain.estimators.driver import run
from captum_layermask.explain.estimators.shapley import ShapleyEstimator, shapley_values
from captum_layermask.explain.segments import slic
from captum_layermask.models import Normalize, load_model, read_image

Game = Callable[[np.ndarray], np.ndarray]
Method = Callable[[Game, int, int, int], np.ndarray]

BUDGETS = (256, 512, 1024, 2048)
COVERAGE = "coverage of our 95 % intervals"
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


class Planned(nn.Module):
    """A network that a file describes, operation by operation."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        with safetensors.safe_open(file, "pt") as opened:
            self.plan = json.loads(opened.metadata()["plan"])
        self.weights = {name: weight.float() for name, weight in load_file(file).items()}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """N×3×224×224 → logits N×1000; the first of 1001 is the background."""
        at = {0: x}
        for step in self.plan:
            at[step["out"]] = getattr(self, f"_{step['op']}")(step, at)
        return at[self.plan[-1]["out"]].flatten(1)[:, 1:]

    def _conv(self, step: dict, at: dict[int, torch.Tensor]) -> torch.Tensor:
        x = nn.functional.pad(at[step["input"]], step["zero_pad_first"])
        weight, bias = (self.weights[f"layers.{step['layer']}.{name}"] for name in ("weight", "bias"))
        x = nn.functional.conv2d(x, weight, bias, step["stride"], step["padding"], groups=step["groups"])
        return getattr(nn.functional, step["activation"])(x) if step["activation"] else x

    def _add(self, step: dict, at: dict[int, torch.Tensor]) -> torch.Tensor:
        first, second = step["inputs"]
        return at[first] + at[second]

    def _global_average_pool(self, step: dict, at: dict[int, torch.Tensor]) -> torch.Tensor:
        return at[step["input"]].mean((2, 3), keepdim=True)

    def _reshape(self, step: dict, at: dict[int, torch.Tensor]) -> torch.Tensor:
        return at[step["input"]].flatten(1)

    def _copy(self, step: dict, at: dict[int, torch.Tensor]) -> torch.Tensor:
        return at[step["input"]]


def squeezenet(folder: Path) -> nn.Module:
    """Pixels in [0, 1] → logits."""
    network = torchvision.models.squeezenet1_1()
    weights = load_file(folder / "squeezenet1_1.safetensors")
    network.load_state_dict({name: weight.float() for name, weight in weights.items()})
    return nn.Sequential(Normalize(*IMAGENET), network).eval()


def mobilenet(folder: Path) -> nn.Module:
    """Pixels in [0, 1] → logits."""
    return nn.Sequential(Normalize([0.5] * 3, [0.5] * 3), Planned(folder / "mobilenet_v2.safetensors")).eval()


NETWORKS: dict[str, Callable[[Path], nn.Module]] = {
    "SqueezeNet 1.1": squeezenet,
    "MobileNet-V2": mobilenet,
    "EfficientNet-Lite0": lambda folder: load_model("efficientnet-lite0").network,
}


class Kept:
    """A game whose values are kept in a file."""

    def __init__(self, coalitions: Coalitions, file: Path) -> None:
        self.coalitions, self.file, self.n_segments = coalitions, file, coalitions.n_segments
        self.known: dict[bytes, float] = {}
        if file.exists():
            with np.load(file) as kept:
                keys = (row.tobytes() for row in kept["rows"])
                self.known = dict(zip(keys, kept["values"].tolist(), strict=True))

    def __call__(self, visible: np.ndarray) -> np.ndarray:
        """Bool K×S → float64 K."""
        keys = [row.tobytes() for row in np.packbits(visible, axis=1)]
        new = {key: i for i, key in enumerate(keys) if key not in self.known}
        if new:
            values = self.coalitions(visible[list(new.values())])
            self.known.update(zip(new, values.tolist(), strict=True))
        return np.array([self.known[key] for key in keys])

    def save(self) -> None:
        """Write all values to the file."""
        rows = np.array([np.frombuffer(key, np.uint8) for key in self.known])
        np.savez(self.file, rows=rows, values=list(self.known.values()))


def ours(game: Game, segments: int, budget: int, seed: int) -> np.ndarray:
    return shapley_values(game, budget=budget, n_segments=segments, seed=seed).values


def captum(game: Game, segments: int, budget: int, seed: int) -> np.ndarray:
    torch.manual_seed(seed)
    method = KernelShap(lambda x: torch.from_numpy(game((x > 0).numpy())))
    shown, hidden = torch.ones(1, segments), torch.zeros(1, segments)
    return method.attribute(shown, hidden, n_samples=budget, perturbations_per_eval=16)[0].numpy()


def methods() -> dict[str, Method]:
    """What is compared, as far as it is installed; each game, S, evaluations, seed → S values."""
    found: dict[str, Method] = {"captum-layermask": ours, "Captum KernelShap": captum}
    with suppress(ImportError):
        import shap

        def shap_kernel(game: Game, segments: int, budget: int, seed: int) -> np.ndarray:
            np.random.seed(seed)
            explainer = shap.KernelExplainer(lambda rows: game(rows > 0), np.zeros((1, segments)))
            shown = np.ones((1, segments))
            return explainer.shap_values(shown, nsamples=budget - 2, l1_reg=False, silent=True)[0]

        def shap_permutation(game: Game, segments: int, budget: int, seed: int) -> np.ndarray:
            masker = shap.maskers.Independent(np.zeros((1, segments)))
            explainer = shap.PermutationExplainer(lambda rows: game(rows > 0), masker, seed=seed)
            return explainer(np.ones((1, segments)), max_evals=budget, silent=True).values[0]

        found |= {"shap KernelExplainer": shap_kernel, "shap PermutationExplainer": shap_permutation}
    with suppress(ImportError):
        import shapiq

        def of_shapiq(approximator: type) -> Method:
            def estimated(game: Game, segments: int, budget: int, seed: int) -> np.ndarray:
                made = approximator(n=segments, random_state=seed)
                return made.approximate(budget, lambda rows: game(np.atleast_2d(rows))).get_n_order_values(1)

            return estimated

        for approximator in (shapiq.KernelSHAP, shapiq.PermutationSamplingSV, shapiq.SVARM):
            found[f"shapiq {approximator.__name__}"] = of_shapiq(approximator)
    return found


def games(name: str, options: argparse.Namespace) -> Iterator[Kept]:
    """The games of a network, one for each image."""
    network = NETWORKS[name](options.weights)
    preprocess = load_model("efficientnet-lite0").preprocess  # all three take 224² pixels
    files = sorted(path for path in options.pictures.iterdir() if path.is_file())
    for path in files[:: len(files) // options.images][: options.images]:
        image = preprocess(read_image(path))
        forward = LayerMaskedForward(network)
        with torch.no_grad():
            target = int(forward(image).argmax())
        coalitions = Coalitions(forward, image, slic(image, 64), target=target, activation="softmax")
        yield Kept(coalitions, options.cache / f"{name.replace(' ', '-')}.{path.stem}.npz")


def coverage(game: Kept, truth: np.ndarray, repeats: int) -> list[float]:
    """Which share of our 95 % intervals holds the truth, at each budget."""
    shares = []
    for budget in BUDGETS:
        intervals = [shapley_values(game, budget=budget, seed=seed).interval() for seed in range(repeats)]
        shares.append(float(np.mean([(low <= truth) & (truth <= high) for low, high in intervals])))
    return shares


def errors(game: Kept, options: argparse.Namespace, methods: dict[str, Method]) -> dict[str, list[float]]:
    """Mean squared errors of each method at each budget, for one image, and the coverage of our intervals."""
    reference = run(ShapleyEstimator(game.n_segments, seed=2**32), game, budget=options.reference)
    game.save()
    own = float((reference.standard_errors**2).mean())
    found: dict[str, list[float]] = {}
    for method, function in methods.items():
        found[method] = []
        for budget in BUDGETS:
            estimates = [function(game, game.n_segments, budget, seed) for seed in range(options.repeats)]
            found[method].append(float(np.square(np.array(estimates) - reference.values).mean()) - own)
            game.save()
    found[COVERAGE] = coverage(game, reference.values, options.repeats)
    return found


def evaluations_for(error: float, found: np.ndarray) -> float:
    """How many evaluations give an error, by the line through those at all budgets, log to log."""
    slope, height = np.polyfit(np.log(BUDGETS), np.log(found), 1)
    return float(np.exp((np.log(error) - height) / slope))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--images", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--reference", type=int, default=16384, help="evaluations")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore", VanishedWarning)
    options.cache.mkdir(parents=True, exist_ok=True)

    print(
        f"{options.images} images, {options.repeats} repeats, reference {options.reference} evaluations; "
        f"{date.today()}, torch {torch.__version__}, {platform.machine()}\n"
    )
    print(
        "| network | method | " + " | ".join(map(str, BUDGETS)) + " | Captum's evaluations for ours at 512 |"
    )
    print("| --- " * (len(BUDGETS) + 3) + "|")
    for name in options.networks.split(","):
        by_image = [errors(game, options, methods()) for game in tqdm(games(name, options), unit="image")]
        mean = {method: np.mean([found[method] for found in by_image], axis=0) for method in by_image[0]}
        needed = evaluations_for(mean["captum-layermask"][BUDGETS.index(512)], mean["Captum KernelShap"])
        for method, found in mean.items():
            last = f"{needed:.0f}" if method == "Captum KernelShap" else ""
            print(f"| {name} | {method} | {' | '.join(f'{x:.2g}' for x in found)} | {last} |", flush=True)


if __name__ == "__main__":
    main()
