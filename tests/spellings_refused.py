"""What is refused: operation, spelling, and where ("everywhere", "everywhere but A; B", or "A; B")."""

REFUSED: dict[str, dict[str, str]] = {
    "sum of two maps": {
        "torch.add(x, y, out=torch.empty_like(x))": "tokens, plain; tokens, frame; tokens, channels-last; tokens, N=1; tokens, C=1; tokens, nothing seen; tokens, half; tokens, bfloat16",
        "y + into(torch.empty_like(x), lambda out: torch.mul(x, 1, out=out))": "tokens, plain; tokens, frame; tokens, channels-last; tokens, N=1; tokens, C=1; tokens, nothing seen; tokens, half; tokens, bfloat16",
    },
    "difference of two maps": {
        "torch.sub(x, y, out=torch.empty_like(x))": "tokens, plain; tokens, frame; tokens, channels-last; tokens, N=1; tokens, C=1; tokens, nothing seen; tokens, half; tokens, bfloat16"
    },
    "product of two maps": {
        "torch.mul(x, y, out=torch.empty_like(x))": "tokens, plain; tokens, frame; tokens, channels-last; tokens, N=1; tokens, C=1; tokens, nothing seen; tokens, half; tokens, bfloat16"
    },
    "scaled map": {
        "torch.mul(x, 2, out=torch.empty_like(x))": "tokens, plain; tokens, frame; tokens, channels-last; tokens, N=1; tokens, C=1; tokens, nothing seen; tokens, half; tokens, bfloat16",
        "torch.mul(x, other=2, out=x.new_empty(x.shape))": "tokens, plain; tokens, frame; tokens, channels-last; tokens, N=1; tokens, C=1; tokens, nothing seen; tokens, half; tokens, bfloat16",
        "into(torch.empty_like(x), lambda out: torch.mul(x, 2, out=out))": "tokens, plain; tokens, frame; tokens, channels-last; tokens, N=1; tokens, C=1; tokens, nothing seen; tokens, half; tokens, bfloat16",
        "into(torch.empty_like(x), lambda out: out.copy_(x * 2))": "tokens, plain; tokens, frame; tokens, channels-last; tokens, N=1; tokens, C=1; tokens, nothing seen; tokens, half; tokens, bfloat16",
        "into(torch.zeros_like(x), lambda out: out.add_(x, alpha=2))": "tokens, plain; tokens, frame; tokens, channels-last; tokens, N=1; tokens, C=1; tokens, nothing seen; tokens, half; tokens, bfloat16",
    },
    "relu": {
        "torch.clamp(x, min=0, out=torch.empty_like(x))": "tokens, plain; tokens, frame; tokens, channels-last; tokens, N=1; tokens, C=1; tokens, nothing seen; tokens, half; tokens, bfloat16"
    },
    "sigmoid": {
        "torch.sigmoid(x, out=torch.empty_like(x))": "tokens, plain; tokens, frame; tokens, channels-last; tokens, N=1; tokens, C=1; tokens, nothing seen; tokens, half; tokens, bfloat16"
    },
    "exponential": {
        "torch.special.exp2(x / 0.6931471805599453)": "everywhere",
        "torch.exp(x, out=torch.empty_like(x))": "tokens, plain; tokens, frame; tokens, channels-last; tokens, N=1; tokens, C=1; tokens, nothing seen; tokens, half; tokens, bfloat16",
    },
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
