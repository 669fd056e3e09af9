"""What is refused: operation, spelling, and where ("everywhere", "everywhere but A; B", or "A; B")."""

REFUSED: dict[str, dict[str, str]] = {
    "exponential": {"torch.special.exp2(x / 0.6931471805599453)": "everywhere"},
    "complex product": {
        "torch.view_as_real(torch.complex(x, torch.zeros_like(x)) * y)[..., 0]": "everywhere"
    },
    "sum over positions": {"x.cumsum(3)[..., -1].sum(2)": "everywhere"},
    "global max": {
        "x.flatten(2).sort(dim=2, descending=True)[0][..., 0]": "everywhere",
        "torch.aminmax(x.flatten(2), dim=2).max": "everywhere",
    },
    "norm over positions": {"torch.linalg.matrix_norm(x)": "everywhere"},
    "images one by one": {"torch.stack([x, y]).flatten(0, 1)[:n].relu()": "everywhere"},
    "zero border": {"torch.constant_pad_nd(x, (1, 2, 1, 0))": "everywhere"},
    "convolution": {
        "torch.convolution(x, kernel, bias, [1, 1], [1, 1], [1, 1], False, [0, 0], 1)": "everywhere"
    },
    "1x1 convolution": {
        "torch.tensordot(x, point, dims=([1], [1])).add(bias).permute(0, 3, 1, 2)": "everywhere"
    },
    "overlapping max pool": {
        "-F.pad(-x, (1, 1, 1, 1), value=torch.inf).unfold(2, 3, 2).unfold(3, 3, 2).amin((4, 5))": "everywhere"
    },
}
