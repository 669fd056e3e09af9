"""Image classifiers of transformers, small ones with every parameter drawn anew, keep every promise."""

import pytest
from torch import nn

from captum_layermask.testing import check_model

transformers = pytest.importorskip("transformers", reason="needs transformers")

TOKENS = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "image_size": 64,
    "patch_size": 8,
}
STAGES = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}
WINDOWS = {"image_size": 64, "patch_size": 4, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4]}
NETWORKS = {
    "ViT": TOKENS | {"attn_implementation": "eager"},
    "DeiT": TOKENS | {"attn_implementation": "sdpa"},
    "Beit": TOKENS | {"use_relative_position_bias": True},
    "Swin": WINDOWS | {"window_size": 5},
    "Swinv2": WINDOWS | {"window_size": 4},
    "ConvNextV2": STAGES,
    "Levit": {
        "image_size": 64,
        "hidden_sizes": [16, 24, 32],
        "num_attention_heads": [2, 3, 4],
        "depths": [1, 1, 1],
        "key_dim": [8, 8, 8],
    },
    "MobileViT": {"hidden_sizes": [16, 24, 32], "neck_hidden_sizes": [8, 8, 16, 16, 24, 32, 48]},
    "Segformer": STAGES,
    "PoolFormer": STAGES,
    "Bit": {"embedding_size": 16, "hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 1, 1], "num_groups": 4},
}


class Logits(nn.Module):
    """The logits of a model of transformers."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x).logits


@pytest.mark.parametrize("name", NETWORKS)
def test_an_image_classifier(name):
    config = getattr(transformers, f"{name}Config")(**NETWORKS[name], num_labels=5)
    model = Logits(getattr(transformers, f"{name}ForImageClassification")(config)).eval()
    verdict = check_model(model, 64)
    assert verdict.passes(1e-9), verdict
