"""Which networks run under layer masking, and what stops the others?

    python benchmarks/support_matrix.py run RECORDS [--part 0/2]       # one JSON line per network; resumes
    python benchmarks/support_matrix.py compile RECORDS [--part 0/2]   # torchvision under torch.compile
    python benchmarks/support_matrix.py write RECORDS                  # docs/support.md from the records

Every torchvision classifier and every name in ``benchmarks/timm_models.txt`` is built with random weights,
every parameter, gain and buffer is drawn anew, and S1, S2, S5 and S10 are checked on the smallest images that
the network takes. A name of timm with more than 400 million parameters is not run, and counts as a failure.
"""

import gc
import warnings
from datetime import date
from pathlib import Path

import timm
import torch
import torchvision
from common import parser, part
from networks import TOLERANCE, ZOO, append, read, smallest_size, write_part

from captum_layermask import LayerMaskedForward
from captum_layermask.testing import check_model, redraw

HERE = Path(__file__).parent
SIZES = (64, 96, 160, 224, 256)


LARGEST = 400e6
"""Parameters of a network of timm that is run."""


def torchvision_classifiers() -> list[str]:
    """The names of torchvision's classification models."""
    return torchvision.models.list_models(module=torchvision.models)


def timm_classifiers() -> list[str]:
    """The names of ``benchmarks/timm_models.txt``."""
    return (HERE / "timm_models.txt").read_text().split()


def sizes(library: str, name: str) -> list[int]:
    """The sides of images to try, the smallest first; a network's own last."""
    if library != "timm":
        return list(SIZES)
    own = max(timm.get_pretrained_cfg(name, allow_unregistered=True).input_size[1:])
    return [*(size for size in SIZES if size < own), own]


def require_moderate(library: str, name: str) -> None:
    """Raise for a network of timm that is too large to be run."""
    if library == "timm":
        with torch.device("meta"):
            count = sum(p.numel() for p in timm.create_model(name, pretrained=False).parameters())
        if count > LARGEST:
            raise MemoryError(f"{count / 1e6:.0f} million parameters")


def build(library: str, name: str) -> torch.nn.Module:
    """A network with random weights, in eval mode."""
    if library == "timm":
        return timm.create_model(name, pretrained=False, num_classes=10).eval()
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    return torchvision.models.get_model(name, num_classes=10, **options).eval()


def record(library: str, name: str) -> dict:
    """What happened to one network, first in float32, in float64 where rounding may be the reason."""
    found: dict = {"library": library, "name": name}
    try:
        require_moderate(library, name)
        plain = build(library, name)
        size = smallest_size(lambda _: plain, sizes(library, name))
        for dtype, tolerance in TOLERANCE.items():
            verdict = check_model(build(library, name), size, dtype)
            found |= vars(verdict) | {"size": size, "dtype": str(dtype), "works": verdict.passes(tolerance)}
            if found["works"]:
                break
    except Exception as error:
        found |= {"works": False, "error": f"{type(error).__name__}: {error}".split("\n")[0]}
    return found


def run(path: Path, chosen: slice) -> None:
    """Append the records that are not there yet."""
    warnings.simplefilter("ignore")
    done = {(r["library"], r["name"]) for r in read(path)} if path.exists() else set()
    jobs = [("torchvision", name) for name in torchvision_classifiers()]
    jobs += [("timm", name) for name in timm_classifiers()]
    for library, name in jobs[chosen]:
        if (library, name) not in done:
            append(path, record(library, name))
            gc.collect()


class Counting:
    """A backend that runs graphs as they are, and counts them."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: torch.fx.GraphModule, example_inputs: list) -> torch.fx.GraphModule:
        """Take a graph."""
        self.graphs += 1
        return graph


def compiled(name: str) -> dict:
    """Whether the compiled forward is one graph and gives the output of the eager one."""
    torch.compiler.reset()
    found: dict = {"library": "compiled", "name": name}
    try:
        model = redraw(build("torchvision", name))
        size = smallest_size(lambda _: model, SIZES)
        x = torch.randn(2, 3, size, size)
        mask = torch.rand(2, 1, size, size) > 0.3
        forward, counting = LayerMaskedForward(model), Counting()
        with torch.inference_mode():
            same = torch.equal(torch.compile(forward, backend=counting)(x, mask=mask), forward(x, mask=mask))
        return found | {"works": same and counting.graphs == 1, "graphs": counting.graphs, "same": same}
    except Exception as error:
        return found | {"works": False, "error": f"{type(error).__name__}: {error}".split("\n")[0]}


def run_compiled(path: Path, chosen: slice) -> None:
    """Append the records of compiled forwards that are not there yet."""
    warnings.simplefilter("ignore")
    done = {(r["library"], r["name"]) for r in read(path)} if path.exists() else set()
    for name in torchvision_classifiers()[chosen]:
        if ("compiled", name) not in done:
            append(path, compiled(name))
            gc.collect()


def write(path: Path) -> None:
    """Write docs/support.md."""
    records = {(r["library"], r["name"]): r for r in read(path)}
    wanted = {"torchvision": torchvision_classifiers(), "timm": timm_classifiers()}
    lines = ["# Support matrix", "", __doc__.split("\n\n")[-1].strip().replace("\n", " "), ""]
    lines += [
        f"`python benchmarks/support_matrix.py`, {date.today()}, torch {torch.__version__}, torchvision "
        f"{torchvision.__version__}, timm {timm.__version__}, CPU.",
        "",
        "S1 is the relative error with nothing masked; S2 passes when NaN in masked pixels leaves every bit "
        "and scrambling the missing cells after every operation changes nothing beyond rounding (1e-5 in "
        "float32, 1e-9 in float64). A name that was not run counts as a failure. A network *compiles* if "
        "its forward under `torch.compile` is one graph (backend `eager`) and gives the eager output.",
    ]
    for library, names in wanted.items():
        works = [name for name in names if records.get((library, name), {}).get("works")]
        lines += ["", f"## {library}: {len(works)} of {len(names)}", ""]
        tried = library == "torchvision"
        lines += ["| name | works | S1 error | S2 |" + " compiles |" * tried + " what stops it |"]
        lines += ["| --- | --- | --- | --- |" + " --- |" * tried + " --- |"]
        for name in sorted(names, key=lambda n: (n in works, n)):
            r = records.get((library, name), {"works": False, "error": "not run"})
            compiles = records.get(("compiled", name), {"works": False, "error": "not run"})
            error = r.get("error", compiles.get("error", "") if tried else "").replace("|", "\\|")
            s1 = f"{r['identity']:.0e}" if "identity" in r else ""
            s2 = "pass" if r["works"] else ("fail" if "depth" in r else "")
            cells = [name, "yes" if r["works"] else "no", s1, s2]
            cells += [("yes" if compiles["works"] else "no")] * tried + [error]
            lines.append(f"| {' | '.join(cells)} |")
    write_part("\n".join(lines), "# Support matrix", ZOO)


if __name__ == "__main__":
    arguments = parser(__doc__, threads=1)
    arguments.add_argument("action", choices=["run", "compile", "write"])
    arguments.add_argument("records", type=Path)
    arguments.add_argument("--part", type=part, default="0/1", help="i/n: every n-th network, from the i-th")
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    if options.action == "compile":
        run_compiled(options.records, options.part)
    elif options.action == "run":
        run(options.records, options.part)
    else:
        write(options.records)
