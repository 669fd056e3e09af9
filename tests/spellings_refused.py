"""What is refused: operation, spelling, and where ("everywhere", "everywhere but A; B", or "A; B")."""

REFUSED: dict[str, dict[str, str]] = {
    "sum of two maps": {
        "torch.add(x, y, out=torch.empty_like(x))": "everywhere",
        "into(x * 1, lambda out: torch.add(x, y, out=out))": "everywhere",
        "y + into(torch.empty_like(x), lambda out: torch.mul(x, 1, out=out))": "everywhere",
    },
    "difference of two maps": {"torch.sub(x, y, out=torch.empty_like(x))": "everywhere"},
    "product of two maps": {"torch.mul(x, y, out=torch.empty_like(x))": "everywhere"},
    "scaled map": {
        "torch.mul(x, 2, out=torch.empty_like(x))": "everywhere",
        "torch.mul(x, other=2, out=x.new_empty(x.shape))": "everywhere",
        "into(torch.empty_like(x), lambda out: torch.mul(x, 2, out=out))": "everywhere",
        "into(torch.empty_like(x), lambda out: out.copy_(x * 2))": "everywhere",
        "into(torch.zeros_like(x), lambda out: out.add_(x, alpha=2))": "everywhere",
        "into(x * 1, lambda out: torch.mul(x, 2, out=out))": "everywhere",
    },
    "relu": {"torch.clamp(x, min=0, out=torch.empty_like(x))": "everywhere"},
    "sigmoid": {"torch.sigmoid(x, out=torch.empty_like(x))": "everywhere"},
    "exponential": {
        "torch.special.exp2(x / 0.6931471805599453)": "everywhere",
        "torch.exp(x, out=torch.empty_like(x))": "everywhere",
    },
    "complex product": {
        "torch.view_as_real(torch.complex(x, torch.zeros_like(x)) * y)[..., 0]": "everywhere"
    },
    "global mean": {"torch.mean(x, (2, 3), out=x.new_empty(n, c))": "everywhere"},
    "sum over positions": {
        "torch.sum(x, (2, 3), out=x.new_empty(n, c))": "everywhere",
        "x.cumsum(3)[..., -1].sum(2)": "everywhere",
    },
    "global max": {
        "torch.amax(x, (2, 3), out=x.new_empty(n, c))": "everywhere",
        "x.flatten(2).sort(dim=2, descending=True)[0][..., 0]": "everywhere",
        "torch.aminmax(x.flatten(2), dim=2).max": "everywhere",
    },
    "norm over positions": {"torch.linalg.matrix_norm(x)": "everywhere"},
    "images one by one": {"torch.stack([x, y]).flatten(0, 1)[:n].relu()": "everywhere"},
    "two maps side by side": {"torch.cat([x, y], 1, out=x.new_empty(n, 2 * c, h, w))": "everywhere"},
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
