"""Every torchvision CNN and one small member of each timm family: S1, S2, S5 and S10 (check_model)."""

import pytest
import torch
import torchvision

from captum_layermask.testing import check_model

TORCHVISION = [
    name
    for name in torchvision.models.list_models(module=torchvision.models)
    if not name.startswith(("vit_", "swin", "maxvit"))
]
TIMM = """
    resnet18d resnet26t ecaresnet26t gcresnet33ts resnetblur18 skresnet18 resnest14d resnetv2_18
    resnetv2_50x1_bit regnety_002 mixnet_s tf_efficientnet_b0 efficientnet_b0_gn mobilenetv3_small_050
    mobilenetv4_conv_small_035 convnext_atto convnextv2_atto densenet121 dla46_c vgg11 ese_vovnet19b_slim
    hrnet_w18_small cspdarknet53 dpn48b res2net50_14w_8s legacy_seresnet18 nf_resnet26 dm_nfnet_f0
    ghostnet_050 ghostnetv2_100 repvgg_a0 mobileone_s0 rexnet_100 tresnet_m xception41 inception_v4 hgnet_tiny
    fasternet_t0 starnet_s050 inception_next_atto convmixer_768_32 rdnet_tiny selecsls42 repghostnet_050
    hardcorenas_a poolformer_s12 convformer_s18 focalnet_tiny_srf mambaout_femto repvit_m0_9 fastvit_t8
    tinynet_e lcnet_035 cspnext_tiny gernet_s
"""


def check(model, size):
    verdict = check_model(model, size, torch.float32)
    if not verdict.passes(1e-5):
        verdict = check_model(model, size, torch.float64)
        assert verdict.passes(1e-9), verdict


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision(name):
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    model = torchvision.models.get_model(name, num_classes=10, **options).eval()
    check(model, 96 if name == "inception_v3" else 64)


@pytest.mark.parametrize("transform_input", [False, True])
@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_transform_input(name, transform_input):
    options = {"init_weights": False, "transform_input": transform_input}
    check(torchvision.models.get_model(name, num_classes=10, **options).eval(), 96)


@pytest.mark.parametrize("name", TIMM.split())
def test_timm(name):
    timm = pytest.importorskip("timm", reason="needs timm: pip install 'captum-layermask[timm]'")
    model = timm.create_model(name, pretrained=False, num_classes=10).eval()
    check(model, 96 if "inception_v4" in name else 64)


def test_a_rule_for_a_module_class_replaces_its_forward_and_leaves_the_model_alone():
    from torch import nn

    from captum_layermask import LayerMaskedForward, rule_for
    from captum_layermask.masking.registry import MODULE_RULES

    class Opaque(nn.Module):
        def forward(self, x):
            return torch.fft.ifft2(torch.fft.fft2(x)).real * 2

    model = nn.Sequential(nn.Conv2d(3, 4, 3), Opaque(), nn.AdaptiveAvgPool2d(1)).eval()
    x, mask = torch.randn(1, 3, 8, 8), torch.ones(8, 8)
    mask[:4] = 0

    @rule_for(Opaque)
    def doubled(module, x):
        assert isinstance(module, Opaque)
        return x.like(x.raw * 2)

    try:
        with torch.no_grad():
            masked = LayerMaskedForward(model)(x, mask=mask)
            expected = LayerMaskedForward(nn.Sequential(model[0], model[2]))(x, mask=mask) * 2
        torch.testing.assert_close(masked, expected)
        assert [type(m) for m in model] == [nn.Conv2d, Opaque, nn.AdaptiveAvgPool2d]
    finally:
        del MODULE_RULES[Opaque]


def test_union_keeps_what_either_map_shows():
    from torch import nn
    from torch.nn import functional as F

    from captum_layermask import LayerMaskedForward

    class Sides(nn.Module):
        def forward(self, x):
            return torch.cat([x, F.pad(x[..., 1:], (0, 1))], 1)

    x, mask = torch.ones(1, 1, 1, 4), torch.tensor([[1, 0, 0, 1]])
    both = LayerMaskedForward(Sides())(x, mask=mask)[0, :, 0]
    either = LayerMaskedForward(Sides(), concat="union")(x, mask=mask)[0, :, 0]
    assert both.tolist() == [[0, 0, 0, 1], [0, 0, 0, 0]]
    assert either.tolist() == [[1, 0, 0, 1], [0, 0, 1, 0]]
