"""Does layer masking run whatever people write? One or two networks of every architecture file of pytorchcv.

    pip install pytorchcv
    python benchmarks/zoo.py choose                        # benchmarks/pytorchcv_networks.txt
    python benchmarks/zoo.py run RECORDS [--part 0/2]      # one JSON line per network; resumes
    python benchmarks/zoo.py write RECORDS                 # the section of docs/support.md

The networks are built without weights, every parameter, gain and buffer is drawn anew, and S1, S2, S5, S10
and S14 (an image alone and two of three images, against the whole batch) are checked on small images.
"""

import multiprocessing
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from common import parser, part
from networks import TOLERANCE, ZOO, append, read, smallest_size, write_part
from torch import Tensor, nn

from captum_layermask import LayerMaskedForward, LayerMaskError
from captum_layermask.testing import apart, check_model, images_and_masks, redraw, rows, tensors

HERE = Path(__file__).parent
CHOSEN = HERE / "pytorchcv_networks.txt"
SIZES = (64, 96, 128, 160, 224, 256, 299, 320, 331, 448)
MOST_PARAMETERS = 40e6
SECONDS = 60
OUTCOMES = ("runs", "refused", "crashes", "silently wrong", "not judged")
COLUMNS = {"pfpcnet": 240}  # made for 320 × 240
OTHER_INPUT = {
    "audio": ("jasper", "jasperdr", "nvpattexp", "quartznet", "visemenet", "voca"),
    "pairs of frames": ("raft",),
    "video": (
        *("propainter", "propainter_ip", "propainter_rfc"),
        *("propainter_stream", "propainter_ip_stream", "propainter_rfc_stream", "raft_stream"),
    ),
}


class Cut(nn.Module):
    """A network for images of one channel or of fewer columns, on these."""

    def __init__(self, model: nn.Module, channels: int, columns: int | None) -> None:
        super().__init__()
        self.model, self.channels, self.columns = model, channels, columns

    def forward(self, x: Tensor) -> object:
        """The output for a part of the image."""
        return self.model(x[:, : self.channels, :, : self.columns])


class Seeded(nn.Module):
    """A network whose random numbers are the same at every call."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> object:
        """The output, after seeding."""
        torch.manual_seed(0)
        np.random.seed(0)
        return self.model(x)


def builder(name: str) -> Callable[..., nn.Module]:
    """The function of pytorchcv that builds a network."""
    from pytorchcv.model_provider import _models

    return _models[name]


def build(name: str, size: int) -> nn.Module:
    """A network with random weights for images of ``size`` × ``size`` pixels, in eval mode."""
    try:
        model = builder(name)(in_size=(size, size))
    except TypeError:
        model = builder(name)()
    for buffer_name, buffer in model.named_buffers():
        if buffer_name.endswith("index"):  # CondenseNet: which channels a layer reads, all 0 without weights
            buffer.copy_(torch.arange(len(buffer)))
    channels = next(m for m in model.modules() if isinstance(m, nn.Conv2d)).in_channels
    columns = COLUMNS.get(name)
    return Seeded(model if channels == 3 and not columns else Cut(model, channels, columns)).eval()


def sizes(name: str) -> tuple[int, ...]:
    """Images of which sizes to try: as small as the CIFAR ones only where the network is made for those."""
    small = getattr(builder(name)(), "in_size", None) == (32, 32)
    return (32, *SIZES) if small else SIZES


def choose() -> None:
    """List, for every file, its smallest network and the one that has most kinds of module besides."""
    from pytorchcv import models
    from pytorchcv.model_provider import _models

    without_images = {file for files in OTHER_INPUT.values() for file in files}
    members: dict[str, list[tuple[int, set[str], str]]] = {}
    for name, make in _models.items():
        file = make.__module__.rsplit(".", 1)[-1]
        if file in without_images:
            continue
        with torch.device("meta"):
            model = make()
        kinds = {type(module).__name__ for module in model.modules()}
        members.setdefault(file, []).append((sum(p.numel() for p in model.parameters()), kinds, name))
    lines = []
    files = {path.stem for path in Path(models.__path__[0]).glob("*.py")} - {"__init__"}
    assert set(members) | without_images == files, "a new file: does it take images?"
    for file, found in sorted(members.items()):
        found.sort(key=lambda member: member[0])
        least = found[0]
        small = [member for member in found if member[0] <= MOST_PARAMETERS and member[1] - least[1]]
        more = max(small, key=lambda member: len(member[1] - least[1]), default=None)
        lines += [f"{file} {member[2]}" for member in (least, more) if member]
    CHOSEN.write_text("\n".join(lines) + "\n")


def alone(model: nn.Module, size: int, dtype: torch.dtype) -> dict:
    """How far the outputs for one image and for two are from those for three (S14), and the plain ones."""
    model = redraw(model).to(dtype)
    forward = LayerMaskedForward(model)
    found = {}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x, visible = images_and_masks(model, size, dtype)
        plain, masked = model(x), forward(x, mask=visible)
        for images, some in ((1, slice(1, 2)), (2, slice(1, 3))):
            whole = slice(0, images)
            few, plain_few = forward(x[some], mask=visible[some]), model(x[some])
            found[f"n{images}"] = apart(rows(few, whole, images), rows(masked, some))
            found[f"plain_n{images}"] = apart(rows(plain_few, whole, images), rows(plain, some))
    return found | {"finite": all(bool(tensor.isfinite().all()) for tensor in tensors(plain))}


def judge(name: str) -> dict:
    """What happened to one network, first in float32, in float64 where rounding may be the reason."""
    try:
        size = smallest_size(lambda size: build(name, size), sizes(name))
        found: dict = {"size": size}
    except Exception as error:
        return {"outcome": "not judged", **blame(error)}
    try:
        for dtype, tolerance in TOLERANCE.items():
            verdict = check_model(build(name, size), size, dtype)
            found |= vars(verdict) | {"dtype": str(dtype)} | alone(build(name, size), size, dtype)
            batches = all(found[f"n{n}"] <= max(tolerance, 10 * found[f"plain_n{n}"]) for n in (1, 2))
            if verdict.passes(tolerance) and batches:
                return found | {"outcome": "runs"}
        if not found["finite"]:
            return found | {
                "outcome": "not judged",
                "error": "random parameters make its plain output NaN or Inf",
            }
        return found | {"outcome": "silently wrong"}
    except LayerMaskError as error:
        return found | {"outcome": "refused", **blame(error)}
    except Exception as error:
        return found | {"outcome": "crashes", **blame(error)}


def blame(error: Exception) -> dict:
    """An error, and the last line of pytorchcv that ran."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "pytorchcv" in f.filename]
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}: {frames[-1].line}" if frames else ""
    return {"error": f"{type(error).__name__}: {error}".split("\n")[0], "where": where}


def within(seconds: float, name: str) -> dict:
    """``judge`` in a process of its own that ends after some time."""
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=lambda: send.send(judge(name)))
    process.start()
    send.close()
    try:
        found = receive.recv() if receive.poll(seconds) else None
    except EOFError:
        found = {"outcome": "not judged", "error": "its process died (memory?)"}
    process.kill()
    process.join()
    return found or {"outcome": "not judged", "error": f"took more than {seconds:.0f} s"}


def run(path: Path, chosen: slice, seconds: float) -> None:
    """Append the records that are not there yet."""
    done = {record["name"] for record in read(path)} if path.exists() else set()
    for line in CHOSEN.read_text().splitlines()[chosen]:
        file, name = line.split()
        if name not in done:
            append(path, {"file": file, "name": name, **within(seconds, name)})


def write(path: Path) -> None:
    """Write the section of docs/support.md."""
    records = {record["name"]: record for record in read(path)}  # of two, the later one
    chosen = [line.split() for line in CHOSEN.read_text().splitlines()]
    not_run = {"outcome": "not judged", "error": "not run"}
    found = [(file, name, records.get(name, not_run)) for file, name in chosen]
    counts = Counter(record["outcome"] for _, _, record in found)
    judged = len(found) - counts["not judged"]
    command = "`python benchmarks/zoo.py choose`, `run` and `write`"
    lines = [
        ZOO,
        "",
        __doc__.split("\n\n")[-1].strip().replace("\n", " "),
        "",
        f"{command}, {date.today()}, pytorchcv {version('pytorchcv')}, torch {torch.__version__}, CPU.",
        "",
        f"{counts['runs']} of {judged} networks run ({counts['runs'] / max(judged, 1):.1%}): "
        + ", ".join(f"{outcome} {counts[outcome]}" for outcome in OUTCOMES)
        + f". They come from {len({file for file, _ in chosen})} files.",
        "",
        "*runs*: every property holds, to 1e-5 in float32 or to 1e-9 in float64. *refused*: a typed error "
        "says why. *crashes*: any other error. *silently wrong*: an output that breaks a property. *not "
        "judged*: the plain network gives no output to judge.",
    ]
    lines += ["", "| file | network | image | outcome | reason |", "| --- | --- | --- | --- | --- |"]
    for file, name, record in sorted(found, key=lambda row: (row[2]["outcome"] == "runs", row[0])):
        size = record.get("size", "")
        lines.append(f"| {file} | {name} | {size} | {record['outcome']} | {reason(record)} |")
    lines += ["", "Files whose networks take no image:", ""]
    lines += [f"* {takes}: {', '.join(files)}" for takes, files in OTHER_INPUT.items()]
    write_part("\n".join(lines), ZOO, None)


def reason(record: dict) -> str:
    """What stopped a network, or which properties it broke, fit for a cell of a table."""
    if record["outcome"] == "silently wrong":
        broken = [name for name in ("pixels", "nothing", "alive") if not record[name]]
        far = [f"{name} {record[name]:.0e}" for name in ("identity", "depth", "n1", "n2")]
        return ", ".join(broken + far)
    return record.get("error", "").replace("|", "\\|")


if __name__ == "__main__":
    arguments = parser(__doc__, threads=1)
    arguments.add_argument("action", choices=["choose", "run", "write"])
    arguments.add_argument("records", type=Path, nargs="?")
    arguments.add_argument("--part", type=part, default="0/1", help="i/n: every n-th network, from the i-th")
    arguments.add_argument("--seconds", type=float, default=SECONDS, help="time for each network")
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    if options.action == "choose":
        choose()
    elif options.action == "run":
        run(options.records, options.part, options.seconds)
    else:
        write(options.records)
