"""Small vision transformers of torchvision and timm, with every parameter drawn anew."""

from support import redraw
from timm.models import deit, vision_transformer
from torchvision.models.vision_transformer import VisionTransformer

SIZE, PATCH = 32, 8


def torchvision_vit(**options):
    return redraw(VisionTransformer(SIZE, PATCH, 2, 2, 16, 24, num_classes=5, **options)).double()


def timm_vit(make=vision_transformer.VisionTransformer, **options):
    sizes = {"img_size": SIZE, "patch_size": PATCH, "embed_dim": 16, "depth": 2, "num_heads": 2}
    return redraw(make(**sizes, num_classes=5, **options)).double()


TIMM = {
    "class token": {},
    "distilled": {"make": deit.VisionTransformerDistilled},
    "registers": {"reg_tokens": 2, "no_embed_class": True, "init_values": 0.5},
    "pre-norm": {"pre_norm": True, "qk_norm": True},
    "no position": {"pos_embed": "none"},
    "avg": {"global_pool": "avg"},
    "avg, registers": {"global_pool": "avg", "reg_tokens": 1},
    "avg, no class token": {"global_pool": "avg", "class_token": False},
    "avg of all tokens": {"global_pool": "avg", "pool_include_prefix": True},
    "max": {"global_pool": "max"},
    "avgmax": {"global_pool": "avgmax"},
    "attention pool": {"global_pool": "map", "class_token": False},
    "position-aware pool": {"global_pool": "prr"},
    "any image size": {"dynamic_img_size": True},
}
