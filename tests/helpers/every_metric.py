"""A metric of each kind, batches for it, and a process that computes some of them."""

import torch

from captum_layermask.metrics import (
    AlignmentScore,
    ClassEntropy,
    GridPointingGame,
    TopKAblation,
    TopKJaccard,
    UnchangedPredictions,
    WordNetSimilarity,
)


def a_metric_of_each_kind():
    return [
        ClassEntropy(3),
        UnchangedPredictions(),
        WordNetSimilarity(),
        TopKAblation(),
        AlignmentScore(),
        TopKJaccard(k=2),
        GridPointingGame(),
    ]


def batches_for(metric):
    """Three batches of other sizes, the same in every process."""
    generator = torch.Generator().manual_seed(5)
    for count in (1, 4, 2):
        labels = torch.randint(1000, (2, count), generator=generator)
        labels[1, 0] = labels[0, 0]
        importance = torch.randn(count, 6, generator=generator)
        segments = torch.randint(6, (count, 1, 8, 8), generator=generator)
        mask = torch.rand(count, 1, 8, 8, generator=generator) < 0.4
        attributions = torch.randn(count, 3, 8, 8, generator=generator)
        if isinstance(metric, ClassEntropy):
            yield (labels[0] % 3,)
        elif isinstance(metric, (AlignmentScore, TopKJaccard)):
            yield importance, segments, mask
        elif isinstance(metric, GridPointingGame):
            yield attributions, labels[0] % 4
        else:
            yield tuple(labels)


def of_all_batches(metric):
    for batch in batches_for(metric):
        metric.update(*batch)
    return metric.compute().item()


def compute_in_a_process(rank, world_size, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world_size
    )
    values = []
    for metric in a_metric_of_each_kind():
        for i, batch in enumerate(batches_for(metric)):
            if i % world_size == rank:
                metric.update(*batch)
        values.append(metric.compute().item())
    torch.save(values, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()
