"""Token dropping, against vision transformers that are run by hand on the tokens of visible patches."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from support import SmallVGG, mask_families, redraw
from timm.layers import HybridEmbed, resample_abs_pos_embed
from timm.models import swin_transformer, vision_transformer
from torch import nn
from torchvision.models.vision_transformer import ConvStemConfig, VisionTransformer
from vision_transformers import PATCH, SIZE, TIMM, timm_vit, torchvision_vit

from captum_layermask import MISSING, InputError
from captum_layermask.removals.token_dropping import TokenDroppedForward

IMAGES = torch.randn(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3), dtype=torch.double)
FAMILIES = mask_families(SIZE)
VISIBLE = torch.stack([FAMILIES[name] for name in ("patches", "one pixel", "all", "none")])[:, None]
EMPTY = torch.zeros(SIZE, SIZE)


POOLS_PATCHES = ["avg", "avg, registers", "avg, no class token", "max", "avgmax", "attention pool"]
MODELS = ["torchvision", *TIMM]


@pytest.fixture(scope="module")
def models():
    return {"torchvision": torchvision_vit()} | {name: timm_vit(**options) for name, options in TIMM.items()}


def boxes(height, width):
    """The patches, row by row, as pairs of slices."""
    for top in range(0, height, PATCH):
        for left in range(0, width, PATCH):
            yield slice(top, top + PATCH), slice(left, left + PATCH)


def embedded(convolution, image, visible):
    """Numbers of the patches with a visible pixel, and the products of those patches with the weights."""
    numbers, vectors = [], []
    for number, (rows, columns) in enumerate(boxes(*image.shape[1:])):
        seen = visible[rows, columns]
        if not seen.any():
            continue
        patch = image[:, rows, columns].clone()
        for channel in patch:
            channel[~seen] = channel[seen].mean()
        vector = convolution.weight.flatten(1) @ patch.flatten()
        numbers.append(number)
        vectors.append(vector if convolution.bias is None else vector + convolution.bias)
    return numbers, torch.stack(vectors) if vectors else convolution.weight.new_zeros(0, 16)


def torchvision_by_hand(vit, image, visible):
    numbers, patches = embedded(vit.conv_proj, image, visible)
    position = vit.encoder.pos_embedding[0]
    tokens = torch.cat([vit.class_token[0] + position[:1], patches + position[1:][numbers]])[None]
    for layer in vit.encoder.layers:
        tokens = layer(tokens)
    return vit.heads(vit.encoder.ln(tokens)[:, 0])[0]


def timm_by_hand(vit, image, visible):
    numbers, patches = embedded(vit.patch_embed.proj, image, visible)
    names = ("cls_token", "dist_token", "reg_token")
    prefix = [getattr(vit, name)[0] for name in names if getattr(vit, name, None) is not None]
    prefix = torch.cat(prefix) if prefix else patches[:0]
    if vit.pos_embed is not None:
        grid = [side // PATCH for side in image.shape[1:]]
        owned = 0 if vit.no_embed_class else len(prefix)
        position = resample_abs_pos_embed(vit.pos_embed, grid, vit.patch_embed.grid_size, owned)[0]
        patches = patches + position[owned:][numbers]
        prefix = prefix + position[:owned] if owned else prefix
    tokens = vit.norm_pre(torch.cat([prefix, patches])[None])
    for block in vit.blocks:
        tokens = block(tokens)
    tokens = vit.norm(tokens)
    if hasattr(vit, "head_dist"):
        return (vit.head(tokens[0, 0]) + vit.head_dist(tokens[0, 1])) / 2
    return vit.head(vit.fc_norm(pooled(vit, tokens, len(prefix))))[0]


def pooled(vit, tokens, prefix):
    if vit.global_pool == "token":
        return tokens[:, 0]
    if not vit.pool_include_prefix:
        tokens = tokens[:, prefix:]
    if not tokens.shape[1]:
        return torch.zeros_like(tokens.sum(1))
    if vit.attn_pool is not None:
        return vit.attn_pool(tokens)
    average, largest = tokens.sum(1) / tokens.shape[1], tokens.max(1).values
    return {"avg": average, "max": largest, "avgmax": (average + largest) / 2}[vit.global_pool]


def by_hand(vit, images, visible):
    run = torchvision_by_hand if isinstance(vit, VisionTransformer) else timm_by_hand
    return torch.stack([run(vit, image, seen[0]) for image, seen in zip(images, visible, strict=True)])


@pytest.mark.parametrize("name", MODELS)
def test_the_rest_of_the_network_runs_on_the_tokens_of_visible_patches(name, models):
    with torch.no_grad():
        expected = by_hand(models[name], IMAGES, VISIBLE)
        masked = TokenDroppedForward(models[name])(IMAGES, mask=VISIBLE)
    torch.testing.assert_close(masked, expected, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(masked[:2], models[name](IMAGES[:2]), atol=1e-3)


@pytest.mark.parametrize("name", ["torchvision", "avg, registers"])
def test_single_precision(name):
    model = (torchvision_vit() if name == "torchvision" else timm_vit(**TIMM[name])).float()
    masked = TokenDroppedForward(model)(IMAGES.float(), mask=VISIBLE)
    torch.testing.assert_close(masked, by_hand(model, IMAGES.float(), VISIBLE), rtol=1e-5, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 2**16 - 1), min_size=1, max_size=5), st.sampled_from(["torchvision", "avg"]))
def test_any_batch_of_any_patches(models, codes, name):
    patches = torch.tensor([[code >> bit & 1 for bit in range(16)] for code in codes]).view(-1, 1, 4, 4)
    visible = patches.bool().repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3)
    images = IMAGES.repeat(2, 1, 1, 1)[: len(codes)]
    with torch.no_grad():
        masked = TokenDroppedForward(models[name])(images, mask=visible)
        torch.testing.assert_close(masked, by_hand(models[name], images, visible), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", MODELS)
def test_nothing_missing_changes_nothing(name, models):
    forward, plain = TokenDroppedForward(models[name]), models[name](IMAGES)
    assert torch.equal(forward(IMAGES), plain)
    assert torch.equal(forward(IMAGES, mask=torch.ones(SIZE, SIZE)), plain)
    torch.testing.assert_close(forward(IMAGES, mask=VISIBLE)[2], plain[2], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", MODELS)
def test_missing_pixels_change_nothing(name, models):
    forward = TokenDroppedForward(models[name])
    masked = forward(IMAGES, mask=VISIBLE)
    for value in (torch.nan, torch.inf, 7.0):
        assert torch.equal(forward(torch.where(VISIBLE, IMAGES, value), mask=VISIBLE), masked)
    assert torch.equal(forward(torch.where(VISIBLE, IMAGES, MISSING)), masked)
    assert not torch.allclose(forward(-IMAGES, mask=VISIBLE)[:3], masked[:3])


@pytest.mark.parametrize("name", MODELS)
def test_an_empty_image_is_finite_and_always_the_same(name, models):
    empty = TokenDroppedForward(models[name])(IMAGES, mask=EMPTY)
    assert empty.isfinite().all()
    torch.testing.assert_close(empty, empty[:1].expand_as(empty), rtol=1e-12, atol=1e-12)
    assert torch.equal(TokenDroppedForward(models[name])(1 - IMAGES, mask=EMPTY), empty)


@pytest.mark.parametrize("name", POOLS_PATCHES)
def test_no_patch_pools_to_zero(name, models):
    model = models[name]
    head = model.head(model.fc_norm(torch.zeros(1, 16, dtype=torch.double)))
    torch.testing.assert_close(TokenDroppedForward(model)(IMAGES[:1], mask=EMPTY), head, rtol=1e-12, atol=0)


def test_images_of_another_size_that_are_padded_to_whole_patches():
    images = IMAGES.repeat(1, 1, 1, 2)[..., :29, :51]
    patches = torch.rand(4, 1, 4, 7, generator=torch.Generator().manual_seed(0)) > 0.5
    visible = patches.repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3)
    model = timm_vit(dynamic_img_size=True, dynamic_img_pad=True)
    masked = TokenDroppedForward(model)(images, mask=visible[..., :29, :51])
    expected = by_hand(model, F.pad(images, (0, 5, 0, 3)), visible)
    torch.testing.assert_close(masked, expected, rtol=1e-9, atol=1e-9)


def test_pixels_that_belong_to_no_patch_are_ignored():
    model = redraw(vision_transformer.VisionTransformer(29, PATCH, depth=1, embed_dim=16, num_heads=2))
    images, edge = IMAGES[..., :29, :29].float(), torch.zeros(29, 29)
    edge[:, 24:] = 1
    forward = TokenDroppedForward(model)
    assert torch.equal(forward(images, mask=edge), forward(images, mask=torch.zeros(29, 29)))
    torch.testing.assert_close(forward(images, mask=1 - edge), model(images), rtol=1e-5, atol=1e-5)


class Normalized(nn.Module):
    """Normalises, and adds what else it is given."""

    def __init__(self, vit):
        super().__init__()
        self.inner = nn.ModuleDict({"vit": vit})
        self.alias = self.inner["vit"]

    def forward(self, x, offset=0, scale=1):
        assert not self.alias.training
        return self.alias(normalize(x)) * scale + offset


def normalize(x):
    return (x - 0.4) / 0.3


@pytest.mark.parametrize("name", ["torchvision", "distilled", "avg"])
def test_a_transformer_inside_a_wrapper(name, models):
    wrapper, offset = Normalized(models[name]), torch.arange(20.0).view(4, 5)
    outside = TokenDroppedForward(models[name])(normalize(IMAGES), mask=VISIBLE)
    inside = TokenDroppedForward(wrapper)(IMAGES, offset, 3, mask=VISIBLE)
    torch.testing.assert_close(inside, outside * 3 + offset, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(inside, by_hand(models[name], normalize(IMAGES), VISIBLE) * 3 + offset)
    assert torch.equal(
        TokenDroppedForward(nn.Sequential(nn.Identity(), models[name]))(IMAGES, mask=VISIBLE),
        TokenDroppedForward(models[name])(IMAGES, mask=VISIBLE),
    )


@pytest.mark.parametrize("name", ["torchvision", "avg"])
def test_gradients_reach_visible_pixels_only(name, models):
    images = IMAGES.clone().requires_grad_()
    with torch.autograd.set_detect_anomaly(True):  # fails on a NaN that a later mask would hide
        forward = TokenDroppedForward(models[name])
        forward(torch.where(VISIBLE, images, torch.nan), mask=VISIBLE).sum().backward()
    seen = VISIBLE.expand_as(images)
    assert images.grad.isfinite().all()
    assert (images.grad[seen] != 0).all()
    assert (images.grad[~seen] == 0).all()


@pytest.mark.parametrize("name", ["torchvision", "distilled", "avg, no class token"])
def test_the_model_is_not_changed_and_threads_may_share_it(name):
    vit = torchvision_vit() if name == "torchvision" else timm_vit(**TIMM[name])
    model = Normalized(vit).eval()
    model.inner["vit"].register_forward_hook(lambda *_: None)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    before = facts(model)
    forward = TokenDroppedForward(model)
    masks = [FAMILIES[name] for name in ("patches", "none", "speckle", "one pixel", "blobs")] * 4
    alone = [forward(IMAGES, mask=mask) for mask in masks]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda mask: forward(IMAGES, mask=mask), masks))
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))
    assert facts(model) == before
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())


def facts(model):
    """Which modules, attributes, parameters and hooks there are, by identity."""
    return {
        name: (
            id(module),
            module.training,
            {key: id(value) for key, value in vars(module).items()},
            {key: id(value) for key, value in module._parameters.items()},
            {key: id(value) for key, value in module._modules.items()},
            {key: list(value) for key, value in vars(module).items() if key.endswith("hooks")},
        )
        for name, module in model.named_modules(remove_duplicate=False)
    }


class CallsForwardFeatures(Normalized):
    def forward(self, x):
        assert self.alias.num_prefix_tokens == 1
        return self.alias.forward_features(x).mean(1)


class CallsTwice(Normalized):
    def forward(self, x):
        return self.alias(x) + self.alias(x.flip(3))


class CallsAnotherReference(nn.Module):
    def __init__(self, vit):
        super().__init__()
        self.vit, self.references = vit, [vit]

    def forward(self, x):
        return self.references[0](x)


class OtherTokens(vision_transformer.VisionTransformer):
    def forward_features(self, x, attn_mask=None, is_causal=False):
        return super().forward_features(x.roll(PATCH, 3))


def conv_stem():
    stem = [ConvStemConfig(8, 3, 2), ConvStemConfig(8, 3, 2), ConvStemConfig(8, 3, 2)]
    return torchvision_vit(conv_stem_configs=stem)


def other_patches(*convolution):
    vit = torchvision_vit()
    vit.conv_proj = nn.Conv2d(3, 16, *convolution)
    return vit


def hybrid():
    backbone = nn.Sequential(nn.Conv2d(3, 8, 8, 8))
    return timm_vit(embed_layer=lambda patch_size, **options: HybridEmbed(backbone, patch_size=1, **options))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (SmallVGG, "needs a vision transformer .* use LayerMaskedForward"),
        (lambda: swin_transformer.SwinTransformer(SIZE, 2, window_size=4, depths=(1,)), "needs a vision tr"),
        (lambda: nn.ModuleList([torchvision_vit(), timm_vit()]), "2 vision transformers"),
        (conv_stem, "side by side"),
        (hybrid, "side by side"),
        (lambda: other_patches(8, 4), "side by side"),
        (lambda: other_patches(8, 8, 1), "side by side"),
        (lambda: other_patches(8, 8, 0, 2), "side by side"),
        (lambda: timm_vit(OtherTokens), "OtherTokens overrides 'forward_features'"),
    ],
    ids=["CNN", "Swin", "two", "convolutional stem", "hybrid", "overlap", "padding", "dilation", "subclass"],
)
def test_models_whose_tokens_cannot_be_dropped(make, message):
    with pytest.raises(InputError, match=message):
        TokenDroppedForward(make())


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (lambda vit: nn.Sequential(nn.Upsample((SIZE, SIZE)), vit), "resize, crop and batch it before"),
        (CallsForwardFeatures, "uses 'forward_features'"),
        (CallsTwice, "more than once"),
        (CallsAnotherReference, "another reference"),
    ],
    ids=["resize", "parts", "twice", "another reference"],
)
def test_wrappers_that_hide_which_tokens_are_missing(wrap, message):
    model = wrap(timm_vit())
    before = facts(model)
    side = SIZE // 2 if "resize" in message else SIZE
    with pytest.raises(InputError, match=message):
        TokenDroppedForward(model)(IMAGES[..., :side, :side], mask=torch.zeros(side, side))
    assert facts(model) == before


@pytest.mark.parametrize("inside", [False, True], ids=["the transformer", "a block"])
def test_what_is_compiled_runs_uncompiled(inside):
    vit = timm_vit()
    expected = TokenDroppedForward(vit)(IMAGES, mask=VISIBLE)
    if inside:
        vit.blocks[0] = torch.compile(vit.blocks[0], backend="eager")
        vit.blocks[1].compile(backend="eager")
    model = vit if inside else torch.compile(vit, backend="eager")
    before = facts(model)
    assert torch.equal(TokenDroppedForward(model)(IMAGES, mask=VISIBLE), expected)
    assert facts(model) == before


def test_an_attention_mask_and_unpooled_tokens_are_refused():
    attention = torch.ones(17, 17, dtype=torch.bool)
    forward = TokenDroppedForward(timm_vit())
    assert torch.equal(forward(IMAGES, attention), forward.model(IMAGES, attention))
    with pytest.raises(InputError, match="attention mask"):
        forward(IMAGES, attention, mask=VISIBLE)
    assert torch.equal(forward(IMAGES, None, False, mask=VISIBLE), forward(IMAGES, mask=VISIBLE))
    with pytest.raises(InputError, match="one vector per image"):
        TokenDroppedForward(timm_vit(global_pool=""))(IMAGES, mask=VISIBLE)


def test_a_subclass_with_another_head_is_accepted():
    class Doubled(vision_transformer.VisionTransformer):
        def forward_head(self, x, pre_logits=False):
            return 2 * super().forward_head(x, pre_logits)

    expected = 2 * by_hand(timm_vit(), IMAGES, VISIBLE)
    masked = TokenDroppedForward(timm_vit(Doubled))(IMAGES, mask=VISIBLE)
    torch.testing.assert_close(masked, expected, rtol=1e-9, atol=1e-9)
