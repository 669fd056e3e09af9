"""List timm's convolutional networks.

    python benchmarks/timm_convnets.py > benchmarks/timm_convnets.txt

A name is out if a class of timm among its modules multiplies queries by keys, mixes tokens with a
linear layer, or scans a sequence. Everything else is in. The test is textual: the patterns below are
searched in the source of each class; what they find goes to standard error.
"""

import inspect
import re
import sys
import warnings

import timm
import torch
from common import parser

QUERY_KEY = r"\bqkv?\b|scaled_dot_product|\bq ?@|@ ?k\b|\bquery|\bself\.[qk]\b|\bto_[qk]\b|\bkv\b|\bqk\b"
TOKEN_MIXING = r"\bmlp_tokens\b|\bSpatialGatingUnit\b|RandomMixing|\blinear_tokens\b"
SCAN = r"\bLSTM\b|\bssm\b|\bself\.dt\b|selective_scan|HSMSSD"
OUT = re.compile("|".join([QUERY_KEY, TOKEN_MIXING, SCAN]))

verdicts: dict[type, bool] = {}


def sees_everything(kind: type) -> bool:
    """Whether a module class matches one of the patterns."""
    if kind not in verdicts:
        source = inspect.getsource(kind) if kind.__module__.startswith("timm.") else ""
        verdicts[kind] = OUT.search(source) is not None
    return verdicts[kind]


def main() -> None:
    parser(__doc__, threads=None).parse_args()
    warnings.simplefilter("ignore")
    for name in timm.list_models(pretrained=False):
        try:
            with torch.device("meta"):
                model = timm.create_model(name, pretrained=False)
        except Exception:
            model = timm.create_model(name, pretrained=False)
        culprits = sorted({type(m).__name__ for m in model.modules() if sees_everything(type(m))})
        if culprits:
            print(f"{name}: {', '.join(culprits)}", file=sys.stderr)
        else:
            print(name, flush=True)


if __name__ == "__main__":
    main()
