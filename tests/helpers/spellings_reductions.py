"""Equal spellings of reductions: means, totals, extremes, statistics, softmax, running sums."""

from spelled import Operation

TOTAL = "a total shrinks with the evidence, a mean does not (docs/semantics.md: sum, norm)"
QUOTIENT = "a quotient or logarithm of one's own is computed as it stands (docs/semantics.md: Not covered)"

REDUCTIONS = {
    "global mean": Operation(
        """
        x.mean((2, 3))
        x.mean((-2, -1))
        x.mean(dim=(2, 3))
        x.mean(axis=(2, 3))
        x.mean([2, 3], keepdim=True).flatten(1)
        x.mean(axis=(2, 3), keepdims=True)[..., 0, 0]
        torch.mean(x, (2, 3))
        torch.mean(input=x, dim=(2, 3))
        torch.mean(x=x, axis=(2, 3))
        torch.mean(x, (2, 3), out=x.new_empty(n, c))
        x.mean((2, 3), dtype=x.dtype)
        x.mean(3).mean(2)
        x.mean(2).mean(2)
        x.mean(3, keepdim=True).mean(2, keepdim=True).flatten(1)
        x.mean(3).flip(2).mean(2)
        x.flip(3).mean((2, 3))
        x.mean(3)[:, :, torch.arange(h - 1, -1, -1)].mean(2)
        torch.var_mean(x, (2, 3), correction=0)[1]
        x.flatten(2).mean(2)
        x.view(n, c, -1).mean(2)
        x.reshape(n, c, h * w).mean(-1)
        x.permute(0, 2, 3, 1).mean((1, 2))
        x.movedim(1, -1).flatten(1, 2).mean(1)
        F.adaptive_avg_pool2d(x, 1).flatten(1)
        F.adaptive_avg_pool2d(input=x, output_size=(1, 1)).reshape(n, -1)
        nn.AdaptiveAvgPool2d(1)(x).squeeze(-1).squeeze(-1)
        F.avg_pool2d(x, x.shape[2:]).flatten(1)
        F.avg_pool2d(input=x, kernel_size=(h, w)).view(n, c)
        nn.AvgPool2d((h, w))(x)[:, :, 0, 0]
        F.interpolate(x, size=(1, 1), mode="area").flatten(1)
        einops.reduce(x, "n c h w -> n c", "mean")
        torch.stack([image.mean((1, 2)) for image in x])
        torch.cat([image[None].mean((2, 3)) for image in x])
        x.sum((2, 3)) / (h * w)
        """,
        differs={"x.sum((2, 3)) / (h * w)": TOTAL},
    ),
    "mean of an image": Operation(
        """
        x.mean((1, 2, 3))
        x.mean(axis=(1, 2, 3))
        x.mean((2, 3)).mean(1)
        x.mean(1).mean((1, 2))
        x.flatten(2).mean((1, 2))
        einops.reduce(x, "n c h w -> n", "mean")
        x.flatten(1).mean(1)
        """,
        differs={"x.flatten(1).mean(1)": "flattening is final (docs/semantics.md: Not covered)"},
    ),
    "mean over columns": Operation(
        """
        x.mean(3)
        x.mean(-1)
        x.mean(dim=3)
        x.mean(axis=3)
        x.mean(3, keepdim=True).squeeze(3)
        x.mean(axis=-1, keepdims=True)[..., 0]
        torch.mean(x, -1)
        x.transpose(2, 3).mean(2)
        x.permute(0, 2, 3, 1).mean(2).transpose(1, 2)
        einops.reduce(x, "n c h w -> n c h", "mean")
        F.adaptive_avg_pool2d(x, (None, 1)).squeeze(3)
        """,
        differs={
            "F.adaptive_avg_pool2d(x, (None, 1)).squeeze(3)": "a pool with bins fills (docs/semantics.md)"
        },
    ),
    "mean over channels": Operation(
        """
        x.mean(1)
        x.mean(dim=1)
        x.mean(axis=1)
        x.mean(-3)
        x.mean(1, keepdim=True)[:, 0]
        x.mean(axis=1, keepdims=True).squeeze(1)
        torch.mean(input=x, dim=1)
        x.sum(1) / c
        x.sum(axis=1, keepdim=True).div(c).squeeze(1)
        x.permute(0, 2, 3, 1).mean(-1)
        x.movedim(1, 3).mean(axis=3)
        torch.stack(x.unbind(1)).mean(0)
        einops.reduce(x, "n c h w -> n h w", "mean")
        """
    ),
    "sum over positions": Operation(
        """
        x.sum((2, 3))
        x.sum(dim=(-2, -1))
        x.sum(axis=(2, 3))
        x.sum((2, 3), keepdims=True).flatten(1)
        torch.sum(x, (2, 3))
        torch.sum(input=x, dim=[2, 3])
        torch.sum(x, (2, 3), out=x.new_empty(n, c))
        x.sum(3).sum(2)
        x.flatten(2).sum(-1)
        x.cumsum(3)[..., -1].sum(2)
        einops.reduce(x, "n c h w -> n c", "sum")
        """
    ),
    "sum over channels": Operation(
        """
        x.sum(1)
        x.sum(axis=1)
        x.sum(1, keepdim=True)[:, 0]
        x.sum(axis=1, keepdims=True).squeeze(1)
        torch.sum(x, -3)
        torch.sum(input=x, dim=1)
        sum(x.unbind(1))
        x.cumsum(1)[:, -1]
        einops.reduce(x, "n c h w -> n h w", "sum")
        F.conv2d(x, x.new_ones(1, c, 1, 1)).squeeze(1)
        """
    ),
    "sum over channels last": Operation(
        """
        x.sum(-1)
        x.sum(axis=-1)
        x.sum(x.dim() - 1, keepdims=True)[..., 0]
        torch.sum(input=x, axis=x.dim() - 1)
        x.cumsum(axis=-1)[..., -1]
        x @ x.new_ones(x.shape[-1])
        """,
        layouts="tokens last",
    ),
    "global max": Operation(
        """
        x.amax((2, 3))
        x.amax(dim=(-2, -1))
        x.amax(axis=(2, 3))
        x.amax((2, 3), keepdim=True).flatten(1)
        torch.amax(input=x, dim=(2, 3))
        torch.amax(x, (2, 3), out=x.new_empty(n, c))
        x.flatten(2).max(2)[0]
        x.flatten(2).max(-1).values
        x.flatten(2).max(axis=-1, keepdims=True)[0].squeeze(-1)
        torch.max(input=x.flatten(2), dim=2).values
        x.max(3)[0].max(2)[0]
        x.amax(3).flip(2).amax(2)
        x.flatten(2).topk(1).values[..., 0]
        x.flatten(2).sort(dim=2, descending=True)[0][..., 0]
        F.adaptive_max_pool2d(x, 1).flatten(1)
        nn.AdaptiveMaxPool2d((1, 1))(x).flatten(1)
        F.max_pool2d(x, (h, w)).flatten(1)
        -(-x).amin((2, 3))
        torch.aminmax(x.flatten(2), dim=2).max
        einops.reduce(x, "n c h w -> n c", "max")
        """
    ),
    "global min": Operation(
        """
        x.amin((2, 3))
        x.amin(axis=(2, 3), keepdims=True).flatten(1)
        torch.amin(input=x, dim=(2, 3))
        x.flatten(2).min(2)[0]
        torch.min(x.flatten(2), dim=-1).values
        x.min(3).values.min(2).values
        -(-x).amax((2, 3))
        einops.reduce(x, "n c h w -> n c", "min")
        """
    ),
    "max over channels": Operation(
        """
        x.amax(1)
        x.amax(axis=1)
        x.amax(dim=1, keepdim=True).squeeze(1)
        x.max(1)[0]
        x.max(dim=1).values
        x.max(axis=1, keepdims=True)[0].squeeze(1)
        torch.max(x, 1).values
        torch.max(input=x, dim=1)[0]
        x.topk(1, dim=1).values[:, 0]
        x.topk(k=1, dim=1)[0].squeeze(1)
        x.sort(1, descending=True).values[:, 0]
        x.sort(1)[0][:, -1]
        torch.stack(x.unbind(1)).amax(0)
        einops.reduce(x, "n c h w -> n h w", "max")
        x.permute(0, 2, 3, 1).max(-1).values
        """
    ),
    "max and topk of what was pooled": Operation(
        """
        x.mean((2, 3)).max(1).values
        x.mean((2, 3)).max(1)[0]
        x.mean((2, 3)).amax(axis=1)
        x.mean((2, 3)).topk(1).values[:, 0]
        x.mean((2, 3)).topk(k=1, dim=1).values.squeeze(1)
        x.mean((2, 3)).sort(1, descending=True).values[:, 0]
        torch.max(x.mean((2, 3)), dim=1, keepdim=True).values[:, 0]
        """
    ),
    "global logsumexp": Operation(
        """
        x.logsumexp((2, 3))
        x.logsumexp(axis=(2, 3))
        torch.logsumexp(input=x, dim=(2, 3))
        torch.special.logsumexp(x, (2, 3), keepdim=True).flatten(1)
        x.flatten(2).logsumexp(-1)
        x.logsumexp(3).logsumexp(2)
        x.exp().sum((2, 3)).log()
        """,
        differs={"x.exp().sum((2, 3)).log()": QUOTIENT},
    ),
    "variance over positions": Operation(
        """
        x.var((2, 3), correction=0)
        x.var((2, 3), unbiased=False)
        x.var(axis=(2, 3), unbiased=False)
        torch.var(x, (2, 3), False)
        torch.var(input=x, dim=(2, 3), correction=0, keepdim=True).flatten(1)
        torch.var_mean(x, (2, 3), correction=0)[0]
        torch.var_mean(input=x, dim=(2, 3), unbiased=False)[0]
        x.std((2, 3), correction=0) ** 2
        x.flatten(2).var(2, correction=0)
        (x - x.mean((2, 3), keepdim=True)).pow(2).mean((2, 3))
        ((x - x.mean((2, 3), keepdims=True)) ** 2).mean(axis=(2, 3))
        x.pow(2).mean((2, 3)) - x.mean((2, 3)).square()
        """
    ),
    "unbiased deviation over positions": Operation(
        """
        x.std((2, 3))
        x.std((2, 3), unbiased=True)
        x.std(axis=(2, 3), correction=1, keepdim=True).flatten(1)
        torch.std(x, (2, 3))
        torch.std(input=x, dim=(2, 3), correction=1)
        torch.std_mean(x, (2, 3))[0]
        x.flatten(2).std(-1)
        x.var((2, 3)).sqrt()
        """
    ),
    "variance over channels": Operation(
        """
        x.var(1, correction=0)
        x.var(axis=1, unbiased=False)
        torch.var(x, 1, False)
        torch.var_mean(x, 1, correction=0)[0]
        x.std(1, unbiased=False).square()
        (x - x.mean(1, keepdim=True)).pow(2).mean(1)
        """
    ),
    "norm over positions": Operation(
        """
        x.norm(dim=(2, 3))
        x.norm(2, (2, 3))
        x.norm(p="fro", dim=(2, 3))
        torch.norm(x, p=2, dim=(2, 3))
        torch.norm(input=x, p=2, dim=(2, 3), keepdim=True).flatten(1)
        torch.linalg.vector_norm(x, dim=(2, 3))
        torch.linalg.vector_norm(x=x, ord=2, dim=(2, 3))
        torch.linalg.norm(x.flatten(2), dim=2)
        torch.linalg.matrix_norm(x)
        x.flatten(2).norm(dim=-1)
        x.square().sum((2, 3)).sqrt()
        """
    ),
    "normalised channels": Operation(
        """
        F.normalize(x)
        F.normalize(x, dim=1)
        F.normalize(input=x, p=2, dim=1)
        x / x.norm(dim=1, keepdim=True)
        x / torch.linalg.vector_norm(x, dim=1, keepdim=True)
        x / torch.linalg.norm(x, dim=1, keepdim=True)
        x / x.square().sum(axis=1, keepdims=True).sqrt()
        x.div(x.pow(2).sum(1, keepdim=True).sqrt())
        """,
        without="frame",
    ),
    "softmax over channels": Operation(
        """
        x.softmax(1)
        x.softmax(dim=1)
        x.softmax(-3)
        torch.softmax(x, 1)
        torch.softmax(input=x, dim=1)
        F.softmax(x, 1)
        F.softmax(x)
        F.softmax(input=x, dim=1)
        nn.Softmax(1)(x)
        nn.Softmax2d()(x)
        torch.special.softmax(x, 1)
        F.softmin(-x, 1)
        x.log_softmax(1).exp()
        F.log_softmax(x).exp()
        torch.special.log_softmax(x, dim=1).exp()
        (x - x.logsumexp(1, keepdim=True)).exp()
        x.exp() / x.exp().sum(1, keepdim=True)
        x.permute(0, 2, 3, 1).softmax(-1).permute(0, 3, 1, 2)
        """
    ),
    "softmax over positions": Operation(
        """
        x.flatten(2).softmax(2)
        x.flatten(2).softmax(dim=-1)
        F.softmax(x.flatten(2), -1)
        torch.softmax(input=x.view(n, c, -1), dim=2)
        torch.special.softmax(x.reshape(n, c, -1), 2)
        nn.Softmax(dim=2)(x.flatten(2))
        x.flatten(2).log_softmax(-1).exp()
        (x.flatten(2) - x.flatten(2).logsumexp(2, keepdim=True)).exp()
        """
    ),
    "cumsum over channels": Operation(
        """
        x.cumsum(1)
        x.cumsum(dim=1)
        x.cumsum(axis=1)
        torch.cumsum(x, -3)
        torch.cumsum(input=x, dim=1)
        x.permute(0, 2, 3, 1).cumsum(axis=-1).permute(0, 3, 1, 2)
        x.flip(1).cumsum(1).flip(1).neg().add(x).add(x.sum(1, keepdim=True))
        torch.stack([x[:, : i + 1].sum(1) for i in range(c)], 1)
        """
    ),
    "argmax over channels": Operation(
        """
        x.argmax(1)
        x.argmax(dim=1)
        x.argmax(axis=1)
        torch.argmax(input=x, dim=1)
        x.max(1)[1]
        x.max(1).indices
        x.topk(1, 1).indices[:, 0]
        """,
        without="frame",
    ),
}
