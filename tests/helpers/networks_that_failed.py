"""Random networks that once broke a promise, made as short as they could be while they did."""

from random_networks import Case

FAILED: tuple[Case, ...] = (
    # max pool in ceil mode, dilated, on a map smaller than its windows
    Case(
        ("x = new(nn.MaxPool2d(3))(x)", "x = new(nn.MaxPool2d(2, dilation=2, ceil_mode=True))(x)"),
        size=(7, 7),
        images=1,
        mask="half",
        propagation="paper",
    ),
    # one cell of every block
    Case(
        ("x = x.unflatten(3, (2, 2))[..., 0]",),
        size=(8, 4),
        images=1,
        mask="blobs",
        propagation="paper",
        seed=575,
    ),
    Case(
        ("x = F.pad(x, (-1, 0, 0, -1))", "n, c, h, w = x.shape; x = x.view(n, c, h // 2, 2, w)[:, :, :, 1]"),
        size=(5, 11),
        images=1,
        mask="half",
    ),
    # one image at a time
    Case(
        ("f = new(nn.LazyConv2d(3, 3, padding=1))", "x = torch.stack([f(v[None])[0] for v in x])"),
        size=(8, 4),
        mask="half",
    ),
    Case(
        (
            "f = new(nn.LazyConv2d(3, 3, padding=1))",
            "x = torch.stack([f(x[i : i + 1]).squeeze(0) for i in range(len(x))], dim=0)",
        ),
        size=(7, 8),
        images=1,
        mask="half",
    ),
    # views as a batch
    Case(
        (
            "v = torch.stack([x, -x], 1).flatten(0, 1)",
            "x = new(nn.LazyConv2d(3, 3, padding=1))(v).unflatten(0, (-1, 2)).mean(1)",
        ),
        size=(5, 7),
        mask="half",
        propagation="paper",
    ),
    # another batch inside
    Case(("x = x.flatten(2).max(2).values",), size=(6, 5), mask="half", propagation="paper"),
    # flattening what a window made
    Case(
        ("x = new(nn.LazyConv2d(2, 4, padding=2))(x)", "x = new(nn.LazyLinear(5))(x.view(x.size(0), -1))"),
        size=(8, 11),
        images=1,
        mask="half",
        propagation="paper",
    ),
    Case(
        (
            "x = new(nn.LazyConv2d(3, (2, 4), groups=3, padding='same', bias=False))(x)",
            "x = new(nn.LazyLinear(5))(x.view(x.size(0), -1))",
        ),
        size=(4, 9),
        images=1,
        mask="half",
    ),
    # moves of channels-last maps
    Case(
        ("x = x.permute(0, 2, 3, 1).flip(2).permute(0, 3, 1, 2)",),
        size=(6, 10),
        images=1,
        mask="half",
        propagation="paper",
    ),
    # a deviation of one cell
    Case(("x = x.std((2, 3), correction=0)",), size=(10, 4), images=1, mask="one pixel", propagation="paper"),
    # what is infinite in missing cells, backwards
    Case(("x = x.abs().log()", "x = new(nn.GroupNorm(3, 3))(x)"), size=(8, 7), images=1, mask="half"),
    Case(
        ("x = x.abs().log()", "x = new(nn.LazyBatchNorm2d())(x)"),
        size=(9, 7),
        images=1,
        mask="half",
        propagation="paper",
    ),
    Case(
        ("x = new(nn.LazyConv2d(2, 4, padding=2, bias=False))(x)", "x = (1 / x).clamp(-3, 3)"),
        size=(11, 6),
        images=1,
        mask="none",
        propagation="paper",
    ),
    # PyTorch's batch norm takes a channels-last gradient of one image for another layout
    Case(
        (
            "x = new(nn.LazyConv2d(4, (3, 1), padding='same'))(x)",
            "a = x.unflatten(1, (2, -1)); s = a.sum(1).mean((2, 3), keepdim=True).unsqueeze(1)",
            "x = (a * torch.cat([s, -s], 1).softmax(1)).sum(1)",
            "x = new(nn.LazyBatchNorm2d())(x)",
            "n, c, h, w = x.shape; x = x.reshape(n, 2, -1, h, w).transpose(1, 2).contiguous()",
            "x = x.view(n, -1, h, w)",
            "y = new(nn.LazyConv2d(4, 3, stride=2, padding=1))(x)",
            "x = y + new(nn.LazyConv2d(4, 1))(F.avg_pool2d(x, 2, ceil_mode=True))",
        ),
        size=(6, 8),
        images=1,
        mask="half",
        propagation="paper",
    ),
    # rows or columns of one cell
    Case(
        (
            "x = F.adaptive_avg_pool2d(x, (1, 7))",
            "n, c, h, w = x.shape; t = x.flatten(2).transpose(1, 2); t = t * t.amax(1, keepdim=True)",
            "x = t.transpose(1, 2).reshape(n, c, h, w)",
            "x = new(nn.MaxPool2d(2, stride=(1, 3), padding=1))(x)",
        ),
        size=(6, 8),
        images=1,
        mask="half",
    ),
    Case(
        (
            "x = F.adaptive_avg_pool2d(x, (1, None))",
            "n, c, h, w = x.shape; a = new(nn.LazyConv2d(1, 1))(x).view(n, 1, h * w).softmax(-1)",
            "x = x * torch.bmm(x.view(n, c, -1), a.permute(0, 2, 1)).view(n, c, 1, 1).sigmoid()",
        ),
        size=(5, 9),
        images=1,
        mask="half",
        propagation="paper",
    ),
    # frames that differ, as one batch
    Case(
        (
            "x = F.pad(x, (0, 0, 2, 0))",
            "v = torch.cat((x, x.flip(2)), dim=0)",
            "x = v[: len(x)] * 0.5 + v[len(x) :].flip(2) * 0.5",
        ),
        size=(9, 7),
        images=1,
        mask="half",
    ),
    # one channel, flattened
    Case(
        ("x = x[:, :1]", "x = new(nn.LazyLinear(5))(F.adaptive_avg_pool2d(x, (2, 2)).flatten(1))"),
        size=(5, 5),
        images=1,
        mask="half",
        propagation="paper",
    ),
    # narrow numbers
    Case(
        (
            "x = x * x.amin(2, keepdim=True)",
            "x = x * 300",
            "a = new(nn.LazyConv2d(1, 1))(x).flatten(2).softmax(2)",
            "x = x + (x.flatten(2) @ a.transpose(1, 2)).unsqueeze(3)",
            "x = new(nn.LazyConv2d(5, 1))(x).mean((2, 3))",
        ),
        size=(7, 4),
        mask="all but one",
        dtype="float16",
        propagation="paper",
        seed=551,
    ),
    Case(
        ("x = new(nn.LazyConv2d(8, (1, 2), dilation=(1, 2), padding=3))(x)", "x = F.instance_norm(x)"),
        size=(7, 11),
        images=1,
        mask="none",
        dtype="bfloat16",
        propagation="paper",
    ),
    # a kernel that mixes cells
    Case(
        (
            "x = x.permute(0, 2, 3, 1); x = new(nn.LayerNorm(3))(x); x = x.permute(0, 3, 1, 2)",
            "x = new(nn.LazyConv2d(3, 1))(x)",
        ),
        size=(5, 6),
        images=1,
        mask="half",
        dtype="bfloat16",
    ),
    # one window that holds the whole map, and not all of its padding
    Case(
        ("x = new(nn.AvgPool2d(4, stride=(3, 2), padding=1))(x)",),
        size=(3, 3),
        images=1,
        mask="half",
        propagation="paper",
    ),
    # deep missing cells, backwards through a convolution
    Case(("x = x.abs().log()", "x = new(nn.LazyConv2d(4, 2))(x)"), size=(11, 11), images=1, mask="half"),
    # batch norm's gradient from odd strides
    Case(
        (
            "x = torch.cat((new(nn.LazyConv2d(3, 3, padding=1, groups=3))(x), x), dim=1)",
            "x = F.adaptive_avg_pool2d(x, (1, None))",
            "x = x.mT",
            "x = x.add(new(nn.Sequential(nn.LazyConv2d(6, 1), nn.LazyBatchNorm2d()))(x)).mul_(0.5)",
            "x = new(nn.LazyLinear(5))(x.clamp(min=0.1).pow(3).mean((2, 3)).pow(1 / 3))",
        ),
        size=(5, 4),
        images=1,
        mask="half",
        dtype="float64",
        propagation="paper",
    ),
    Case(
        (
            "x = x.transpose(2, 3)",
            "x = F.lp_pool2d(x.abs() + 0.1, 2, 2, stride=2)",
            "x = F.lp_pool2d(x.abs() + 0.1, 3, 2)",
            "x = new(nn.LazyBatchNorm2d())(x)",
        ),
        size=(9, 5),
        images=1,
        mask="half",
        dtype="float64",
        propagation="paper",
    ),
)
