"""Equal spellings of operations on single cells and on pairs of maps."""

from spelled import Operation

EVERY_LAYOUT = "map tokens grouped last"

POINTWISE = {
    "sum of two maps": Operation(
        """
        x + y
        x.add(y)
        x.add(other=y)
        torch.add(x, y)
        torch.add(input=x, other=y)
        torch.add(x1=x, x2=y)
        torch.add(x, y, alpha=1)
        torch.add(x, y, out=torch.empty_like(x))
        into(x * 1, lambda out: torch.add(x, y, out=out))
        y + into(torch.empty_like(x), lambda out: torch.mul(x, 1, out=out))
        into(x * 1, lambda out: out.add_(y))
        (x * 1).add_(y)
        sum([x, y])
        x - (-y)
        torch.stack([x, y]).sum(0)
        """,
        layouts=EVERY_LAYOUT,
    ),
    "difference of two maps": Operation(
        """
        x - y
        x.sub(y)
        torch.sub(input=x, other=y)
        torch.subtract(x, y)
        torch.rsub(y, x)
        (x * 1).sub_(y)
        torch.sub(x, y, out=torch.empty_like(x))
        """,
        layouts=EVERY_LAYOUT,
    ),
    "product of two maps": Operation(
        """
        x * y
        x.mul(y)
        x.mul(other=y)
        torch.mul(input=x, other=y)
        torch.multiply(x, y)
        torch.mul(x1=x, x2=y)
        torch.mul(x, y, out=torch.empty_like(x))
        (x * 1).mul_(y)
        torch.addcmul(torch.zeros_like(x), x, y)
        torch.stack([x, y]).prod(0)
        """,
        layouts=EVERY_LAYOUT,
    ),
    "larger of two maps": Operation(
        """
        torch.maximum(x, y)
        torch.maximum(input=x, other=y)
        torch.max(x, y)
        torch.max(input=x, other=y)
        x.maximum(y)
        x.max(y)
        x.clamp(min=y)
        torch.fmax(x, y)
        torch.where(x > y, x, y)
        x.where(x > y, y)
        torch.stack([x, y]).amax(0)
        """,
        layouts=EVERY_LAYOUT,
    ),
    "scaled map": Operation(
        """
        x * 2
        2 * x
        x + x
        x.mul(2)
        torch.mul(x, 2)
        torch.mul(input=x, other=2)
        torch.mul(x, 2, out=torch.empty_like(x))
        torch.mul(x, other=2, out=x.new_empty(x.shape))
        into(torch.empty_like(x), lambda out: torch.mul(x, 2, out=out))
        into(torch.empty_like(x), lambda out: out.copy_(x * 2))
        into(torch.zeros_like(x), lambda out: out.add_(x, alpha=2))
        into(x * 1, lambda out: torch.mul(x, 2, out=out))
        into(x * 1, lambda out: out.mul_(2))
        (x * 1).mul_(2)
        x / 0.5
        torch.div(input=x, other=0.5)
        torch.lerp(torch.zeros_like(x), x, 2.0)
        x * torch.full_like(x, 2)
        torch.full_like(x, 2) * x
        x * torch.full((), 2.0).to(x)
        x * torch.full((), 2.0).type_as(x)
        """,
        layouts=EVERY_LAYOUT,
    ),
    "constant taken to the map": Operation(
        """
        x * gain.to(x.dtype)
        x * gain.to(x)
        x * gain.to(device=x.device, dtype=x.dtype)
        x * gain.type_as(x)
        x * gain.type_as(other=x)
        x * gain.to(x.dtype).expand_as(x)
        x.mul(gain.to(x))
        gain.to(x).expand_as(x) * x
        torch.mul(gain.to(x), x)
        x * torch.as_tensor(gain, dtype=x.dtype)
        """
    ),
    "constant kernel taken to the map": Operation(
        """
        F.conv2d(x, kernel, padding=1)
        F.conv2d(x, kernel.to(x), padding=1)
        F.conv2d(x, kernel.type_as(x), padding=1)
        """
    ),
    "relu": Operation(
        """
        F.relu(x)
        F.relu(input=x)
        x.relu()
        torch.relu(x)
        torch.relu(input=x)
        nn.ReLU()(x)
        nn.ReLU(inplace=True)(x * 1)
        F.relu_(x * 1)
        torch.relu_(x * 1)
        (x * 1).relu_()
        x.clamp(min=0)
        x.clamp(0)
        x.clamp_min(0)
        torch.clamp(input=x, min=0)
        torch.clamp_min(x, 0)
        torch.clip(x, min=0)
        x.clip(0)
        (x * 1).clamp_(min=0)
        F.threshold(x, 0, 0)
        F.leaky_relu(x, 0.0)
        x * (x > 0)
        torch.where(x > 0, x, 0)
        x.masked_fill(x < 0, 0)
        x.maximum(torch.zeros_like(x))
        torch.clamp(x, min=0, out=torch.empty_like(x))
        """,
        layouts=EVERY_LAYOUT,
    ),
    "clamp to an interval": Operation(
        """
        x.clamp(-0.5, 0.5)
        x.clamp(min=-0.5, max=0.5)
        torch.clamp(x, -0.5, 0.5)
        torch.clip(input=x, min=-0.5, max=0.5)
        (x * 1).clamp_(-0.5, 0.5)
        F.hardtanh(x, -0.5, 0.5)
        nn.Hardtanh(-0.5, 0.5)(x)
        F.hardtanh_(x * 1, -0.5, 0.5)
        x.clamp_min(-0.5).clamp_max(0.5)
        x.clamp(max=0.5).clamp(min=-0.5)
        """,
        layouts=EVERY_LAYOUT,
    ),
    "sigmoid": Operation(
        """
        x.sigmoid()
        torch.sigmoid(x)
        torch.sigmoid(input=x)
        F.sigmoid(x)
        nn.Sigmoid()(x)
        torch.special.expit(x)
        torch.special.expit(input=x)
        (x * 1).sigmoid_()
        torch.sigmoid(x, out=torch.empty_like(x))
        1 / (1 + (-x).exp())
        F.logsigmoid(x).exp()
        (x / 2).tanh() / 2 + 0.5
        torch.stack([x, torch.zeros_like(x)]).softmax(0)[0]
        """,
        layouts=EVERY_LAYOUT,
    ),
    "swish": Operation(
        """
        F.silu(x)
        F.silu(input=x)
        nn.SiLU()(x)
        nn.SiLU(inplace=True)(x * 1)
        x * x.sigmoid()
        x.mul(torch.sigmoid(x))
        torch.special.expit(x) * x
        """,
        layouts=EVERY_LAYOUT,
    ),
    "gelu": Operation(
        """
        F.gelu(x)
        F.gelu(input=x)
        nn.GELU()(x)
        F.gelu(x, approximate="none")
        x * 0.5 * (1 + torch.erf(x / 2**0.5))
        x * torch.special.ndtr(x)
        0.5 * x * (1 + torch.special.erf(input=x / 2**0.5))
        """,
        layouts=EVERY_LAYOUT,
    ),
    "exponential": Operation(
        """
        x.exp()
        torch.exp(x)
        torch.exp(input=x)
        (x * 1).exp_()
        torch.special.expm1(x) + 1
        torch.special.exp2(x / 0.6931471805599453)
        torch.exp(x, out=torch.empty_like(x))
        """,
        layouts=EVERY_LAYOUT,
    ),
    "square root of squares": Operation(
        """
        (x * x + 1).sqrt()
        x.square().add(1).sqrt()
        x.pow(2).add_(1).sqrt_()
        torch.pow(x, 2).add(other=1).pow(0.5)
        torch.pow(input=x, exponent=2).add(1) ** 0.5
        (x**2 + 1).rsqrt().reciprocal()
        torch.hypot(x, torch.ones_like(x))
        torch.sqrt(torch.addcmul(torch.ones_like(x), x, x))
        """,
        layouts=EVERY_LAYOUT,
    ),
    "complex product": Operation(
        """
        x * y
        (torch.complex(x, torch.zeros_like(x)) * y).real
        torch.view_as_real(torch.complex(x, torch.zeros_like(x)) * y)[..., 0]
        """,
        without="half bfloat16",
    ),
    "squeeze and excitation": Operation(
        """
        x * x.mean((2, 3), keepdim=True).sigmoid()
        x * x.mean(axis=(2, 3), keepdims=True).sigmoid()
        x * F.adaptive_avg_pool2d(x, 1).sigmoid()
        x * F.adaptive_avg_pool2d(x, 1).sigmoid().expand_as(x)
        x * x.mean((2, 3)).sigmoid().view(n, c, 1, 1)
        x * x.mean((2, 3)).sigmoid()[:, :, None, None]
        x * x.flatten(2).mean(2).sigmoid().unsqueeze(2).unsqueeze(3)
        x * F.avg_pool2d(x, (h, w)).sigmoid()
        torch.einsum("nchw,nc->nchw", x, x.mean((2, 3)).sigmoid())
        """
    ),
}
