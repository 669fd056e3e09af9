"""Small random networks keep what layer masking promises (S1–S14), and so do those that once did not.

150 networks by default; with ``LAYERMASK_NETWORKS=2000`` as many as that. A network that fails is made as
short as it can be while it fails, and printed as code: what is printed belongs in
``networks_that_failed.py``, where it stays whatever becomes of the generator.
"""

import os

import pytest
import torch
from networks_that_failed import FAILED
from random_networks import Case, case, shrunk
from random_promises import PROMISES, Subject, refused, transcribed

from captum_layermask import LayerMaskedForward

NETWORKS = int(os.environ.get("LAYERMASK_NETWORKS", "150"))
pytestmark = [
    pytest.mark.filterwarnings("ignore::captum_layermask.VanishedWarning"),
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths"),
]


def broken(case: Case) -> dict[str, Exception]:
    """The promises that a network breaks, and how; empty for one that is refused with an error of ours."""
    found: dict[str, Exception] = {}
    try:
        if refused(case):
            return found
    except Exception as error:
        return {"crash": error}
    subject = Subject(case)
    for name, promise in PROMISES.items():
        try:
            promise(subject)
        except Exception as error:
            found[name] = error
    return found


def breaks(name: str, kind: type[Exception]):
    """Whether a network breaks this promise in this way."""

    def fails(case: Case) -> bool:
        try:
            if not refused(case) and name in PROMISES:
                PROMISES[name](Subject(case))
        except Exception as error:
            return type(error) is kind
        return False

    return fails


def report(case: Case, found: dict[str, Exception]) -> str:
    """What is wrong, with a short reproduction of each."""
    parts = []
    for name, error in found.items():
        short = shrunk(case, breaks(name, type(error)))
        error = broken(short).get(name, error)
        parts.append(f"{name}: {type(error).__name__}: {error}\n{short!r}\n{short.source()}")
    return "\n".join(parts)


@pytest.mark.parametrize("seed", range(NETWORKS))
def test_random_network(seed):
    found = broken(case(seed))
    assert not found, f"seed {seed}\n{report(case(seed), found)}"


@pytest.mark.parametrize("number", range(len(FAILED)))
def test_network_that_failed(number):
    found = broken(FAILED[number])
    assert not found, report(FAILED[number], found)
    assert not refused(FAILED[number])


def test_most_networks_run_and_many_are_compared_with_the_transcription():
    stopped, compared = {}, 0
    for seed in range(NETWORKS):
        try:
            error = refused(case(seed))
        except Exception as crash:
            error = crash
        if error:
            stopped[seed] = error
        else:
            compared += transcribed(Subject(case(seed))) is not None
    ran = 1 - len(stopped) / NETWORKS
    print(f"{ran:.1%} of {NETWORKS} networks run; {compared} are compared with the transcription")
    told = "\n".join(f"seed {seed}: {error}" for seed, error in stopped.items())
    assert ran >= 0.9, f"{ran:.1%} of the networks run; stopped are\n{told}"
    assert compared >= 0.1 * NETWORKS


SOUND = (
    "x = new(nn.LazyConv2d(4, 3))(x)",
    "x = new(nn.ReLU())(x)",
    "x = new(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))(x)",
)


class Spoilt(Subject):
    """A sound network under a forward that breaks one promise."""

    def __init__(self, spoil) -> None:
        super().__init__(Case(SOUND, propagation="paper"))
        self.spoil = spoil

    def forward(self, **options):
        spoil = self.spoil

        class Forward(LayerMaskedForward):
            def forward(self, x, **mask):
                return spoil(super().forward(x, **mask), x.clone())

            def _observed(self, x, *rest):
                return spoil(super()._observed(x, *rest), torch.tensor(0.1))

        return Forward(self.model, propagation="paper", **options)


SPOILS = {
    "identity": lambda out, x: out * 1.01,
    "pixels": lambda out, x: out + 1e-12 * x.sum(),
    "depth": lambda out, x: out + (x.dim() == 0),
    "nothing": lambda out, x: out + 1e-12 * x.sum(),
    "gradients": lambda out, x: out * 2 - out.detach(),
    "company": lambda out, x: out * len(x) if x.dim() else out,
    "number_type": lambda out, x: out * (1 + (x.dtype == torch.float32)),
    "oracle": lambda out, x: out * 1.01,
}


@pytest.mark.parametrize("name", SPOILS)
def test_a_broken_promise_is_noticed(name):
    def promise(spoil):
        subject = Spoilt(spoil)
        if name == "number_type":
            subject.case = Case(subject.case.operations, dtype="float32", propagation="paper")
            subject.model, subject.x = subject.case.network(), subject.case.pixels()
        PROMISES[name](subject)

    promise(lambda out, x: out)
    with pytest.raises(AssertionError):
        promise(SPOILS[name])
