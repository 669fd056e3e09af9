"""Equal spellings of what moves cells: slices, pieces, reshapes, permutations, borders."""

from spelled import Operation

STEPS = "a pool stands for the cells that it steps over, a slice skips them (docs/propagation.md)"
INTERSECTION = "maps put side by side are missing where either is (docs/semantics.md: concatenation)"

SHAPES = {
    "every second column": Operation(
        """
        x[..., ::2]
        x[:, :, :, ::2]
        x[:, :, :, slice(None, None, 2)]
        x[..., 0:w:2]
        x.view(n, c, h, w // 2, 2)[..., 0]
        x.reshape(n, c, h, -1, 2)[..., 0]
        x.unflatten(3, (-1, 2))[..., 0]
        x.unflatten(dim=-1, sizes=(w // 2, 2)).select(-1, 0)
        x.view(n, c, h, w // 2, 2).unbind(-1)[0]
        einops.rearrange(x, "n c h (w s) -> n c h w s", s=2)[..., 0]
        x.index_select(3, torch.arange(0, w, 2))
        torch.index_select(input=x, dim=3, index=torch.arange(0, w, 2))
        x[..., torch.arange(0, w, 2)]
        F.max_pool2d(x, 1, (1, 2))
        """,
        without="W=1",
        differs={"F.max_pool2d(x, 1, (1, 2))": STEPS},
    ),
    "every second row from the second": Operation(
        """
        x[:, :, 1::2]
        x[:, :, 1::2, :]
        x.view(n, c, h // 2, 2, w)[:, :, :, 1]
        x.view(n, c, h // 2, 2, w).select(3, 1)
        x.unflatten(2, (-1, 2))[:, :, :, -1]
        x.flip(2)[:, :, ::2].flip(2)
        einops.rearrange(x, "n c (h s) w -> s n c h w", s=2)[1]
        """,
        without="H=1",
    ),
    "crop": Operation(
        """
        x[:, :, 1:, :-1]
        x[:, :, 1:h, 0 : w - 1]
        x[..., 1:, :-1]
        x[:, :, -(h - 1) :, :-1]
        x[:, :, 1:][:, :, :, :-1]
        x.narrow(2, 1, h - 1).narrow(3, 0, w - 1)
        x.narrow(2, -(h - 1), h - 1).narrow(-1, -w, w - 1)
        torch.narrow(input=x, dim=2, start=1, length=h - 1).narrow(dim=3, start=0, length=w - 1)
        F.pad(x, (0, -1, -1, 0))
        x.split([1, h - 1], 2)[1].split([w - 1, 1], 3)[0]
        x.roll(-1, 2)[:, :, :-1, :-1]
        """,
        without="H=1 W=1",
    ),
    "one column": Operation(
        """
        x[..., -1]
        x[..., w - 1]
        x.select(3, -1)
        x.select(dim=-1, index=w - 1)
        torch.select(input=x, dim=3, index=-1)
        x.unbind(3)[-1]
        x[..., -1:].squeeze(3)
        x.narrow(3, -1, 1)[..., 0]
        x.flip(3)[..., 0]
        x.transpose(2, 3)[:, :, -1]
        """
    ),
    "one cell": Operation(
        """
        x[:, :, 0, -1]
        x[..., 0, w - 1]
        x[:, :, 0][..., -1]
        x[..., -1][:, :, 0]
        x.select(2, 0).select(2, -1)
        x[:, :, :1, -1:][..., 0, 0]
        x[:, :, :1, -1:].squeeze(3).squeeze(2)
        x.flatten(2)[:, :, w - 1]
        x[:, :, :1, -1:].flatten(1)
        x[:, :, :1, -1:].mean((2, 3))
        """,
    ),
    "one number": Operation(
        """
        x[0, 0, 0, 0]
        x[0][0][0][0]
        x[0, 0].flatten()[0]
        x.select(0, 0).select(0, 0).select(0, 0).select(0, 0)
        x[0, 0, 0, 0].view(())
        """
    ),
    "one image": Operation(
        """
        x[:1]
        x[0][None]
        x[0].unsqueeze(0)
        x.select(0, 0)[None]
        x.split(1)[0]
        x.split(split_size=1, dim=0)[0]
        x.narrow(0, 0, 1)
        x.unbind()[0].unsqueeze(0)
        next(iter(x))[None]
        x.index_select(0, torch.tensor([0]))
        x[torch.tensor([0])]
        """,
        layouts="map tokens grouped last",
    ),
    "images one by one": Operation(
        """
        F.relu(x)
        torch.stack([F.relu(image) for image in x])
        torch.cat([F.relu(image[None]) for image in x])
        torch.cat([F.relu(part) for part in x.split(1)])
        torch.cat([F.relu(part) for part in x.chunk(n)])
        torch.stack([F.relu(x[i]) for i in range(n)])
        torch.cat([x, y])[:n].relu()
        torch.cat([y, x])[-n:].relu()
        torch.cat([x, y]).split(n)[0].relu()
        torch.cat([x, y]).chunk(2)[0].relu()
        torch.cat([x, y]).view(2, n, c, h, w)[0].relu()
        torch.stack([x, y]).flatten(0, 1)[:n].relu()
        """
    ),
    "first half of the channels": Operation(
        """
        x[:, : c // 2]
        x.chunk(2, 1)[0]
        x.chunk(chunks=2, dim=1)[0]
        torch.chunk(x, 2, dim=1)[0]
        torch.chunk(x, 2, axis=1)[0]
        torch.chunk(input=x, chunks=2, dim=-3)[0]
        x.split(c // 2, 1)[0]
        x.split([c // 2, c - c // 2], dim=1)[0]
        torch.split(x, c // 2, dim=1)[0]
        torch.tensor_split(x, 2, dim=1)[0]
        x.narrow(1, 0, c // 2)
        x.narrow(1, -c, c // 2)
        x[:, -c : -(c // 2)]
        x.view(n, 2, c // 2, h, w)[:, 0]
        x.unflatten(1, (2, -1))[:, 0]
        x.unflatten(1, (2, -1)).unbind(1)[0]
        x.index_select(1, torch.arange(c // 2))
        """,
        without="C=1",
    ),
    "pieces put together": Operation(
        """
        x * 1
        torch.cat(x.chunk(2, 1), 1)
        torch.cat(x.chunk(2, 2), dim=2)
        torch.cat(x.split(1, 3), axis=3)
        torch.cat(tensors=x.split(1, 1), dim=1)
        torch.concat(x.unbind(1)).view(c, n, h, w).transpose(0, 1)
        torch.concatenate([x[:, :, :1], x[:, :, 1:]], dim=2)
        torch.cat([x[..., :-1], x[..., -1:]], -1)
        torch.stack(x.unbind(1), 1)
        torch.stack(x.unbind(2), dim=2)
        torch.stack(x.unbind(-1), -1)
        torch.stack(tensors=x.unbind(dim=3), dim=3)
        torch.stack([x, y], 1)[:, 0]
        torch.stack([x, y], -1)[..., 0]
        torch.cat([x[:, :, :0], x], 2)
        torch.stack([x, -x], 1)[:, 0]
        torch.stack([x, -x], -1)[..., 0]
        """,
        differs={
            "torch.stack([x, y], 1)[:, 0]": INTERSECTION,
            "torch.stack([x, y], -1)[..., 0]": INTERSECTION,
        },
    ),
    "two maps side by side": Operation(
        """
        torch.cat([x, y], 1)
        torch.cat((x, y), dim=1)
        torch.cat([x, y], axis=1)
        torch.cat(tensors=[x, y], dim=-3)
        torch.concat([x, y], 1)
        torch.cat([x, y], 1, out=x.new_empty(n, 2 * c, h, w))
        torch.stack([x, y], 1).flatten(1, 2)
        torch.stack([x, y], 1).view(n, 2 * c, h, w)
        torch.stack([x, y], dim=2).transpose(1, 2).reshape(n, 2 * c, h, w)
        torch.cat([x.permute(0, 2, 3, 1), y.permute(0, 2, 3, 1)], -1).permute(0, 3, 1, 2)
        """
    ),
    "flattened": Operation(
        """
        x.flatten(1)
        x.flatten(start_dim=1)
        torch.flatten(x, 1)
        torch.flatten(input=x, start_dim=1, end_dim=-1)
        nn.Flatten()(x)
        x.view(n, -1)
        x.view(x.size(0), c * h * w)
        x.view(size=(n, -1))
        x.reshape(n, -1)
        x.reshape((n, c * h * w))
        torch.reshape(input=x, shape=(n, -1))
        x.flatten(2).flatten(1)
        x.reshape(n, c, -1).view(n, -1)
        x.contiguous().view(n, -1)
        x.view_as(x).flatten(1)
        x.reshape_as(torch.empty(n, c * h * w))
        x.contiguous().view_as(torch.empty(n, c * h * w))
        x.permute(0, 2, 3, 1).permute(0, 3, 1, 2).reshape(n, -1)
        einops.rearrange(x, "n c h w -> n (c h w)")
        torch.stack([image.flatten() for image in x])
        torch.stack([image.view(-1) for image in x.contiguous()])
        """
    ),
    "flattened after a layer": Operation(
        """
        F.conv2d(x, kernel, padding=1).flatten(1)
        F.conv2d(x, kernel, padding=1).view(n, -1)
        F.conv2d(x, kernel, padding=1).view(x.size(0), 5 * h * w)
        torch.flatten(F.conv2d(input=x, weight=kernel, padding=1), 1)
        F.relu(F.conv2d(x, kernel, padding=1)).min(F.conv2d(x, kernel, padding=1)).view(n, -1)
        """
    ),
    "there and back": Operation(
        """
        x * 1
        x.view(n, c, -1).view(n, c, h, w)
        x.view(n, c, h * w).reshape(x.shape)
        x.flatten(2).unflatten(2, (h, w))
        x.flatten(2).view_as(y)
        x.flatten(2).reshape_as(y)
        x.flatten(2).transpose(1, 2).transpose(1, 2).reshape(n, c, h, w)
        x.flatten(2).transpose(1, 2).reshape(n, h, w, c).permute(0, 3, 1, 2)
        x.unsqueeze(1).squeeze(1)
        x[:, None, :, :, :][:, 0]
        x.unsqueeze(-1).flatten(3)
        x.view(1, n, c, h, w)[0]
        x.flatten(0, 1).view(n, c, h, w)
        x.reshape(n * c, 1, h, w).reshape(n, c, h, w)
        x.expand(-1, -1, -1, -1)
        x.expand_as(y)
        x.contiguous()
        x.clone()
        x.permute(0, 2, 3, 1).permute(0, 3, 1, 2)
        x.transpose(1, 2).transpose(1, 2)
        x.movedim(1, -1).movedim(-1, 1)
        x.flip(3).flip(-1)
        x.flip((2, 3)).flip(2, 3)
        x.roll(1, 3).roll(-1, 3)
        x.roll((1, 1), dims=(2, 3)).roll(shifts=(-1, -1), dims=(2, 3))
        x.rot90(2, (2, 3)).rot90(-2, (2, 3))
        einops.rearrange(einops.rearrange(x, "n c h w -> n (h w) c"), "n (h w) c -> n c h w", h=h)
        """
    ),
    "channels last": Operation(
        """
        x.permute(0, 2, 3, 1)
        x.permute((0, 2, 3, 1))
        x.permute(dims=(0, 2, 3, 1))
        torch.permute(x, (0, 2, 3, 1))
        torch.permute(input=x, dims=(0, -2, -1, 1))
        x.movedim(1, -1)
        torch.movedim(x, 1, 3)
        torch.moveaxis(input=x, source=1, destination=-1)
        x.transpose(1, 2).transpose(2, 3)
        x.transpose(1, 3).transpose(1, 2)
        x.swapaxes(1, 2).swapdims(2, 3)
        x.flatten(2).transpose(1, 2).view(n, h, w, c)
        x.flatten(2).mT.unflatten(1, (h, w))
        einops.rearrange(x, "n c h w -> n h w c")
        torch.stack(x.unbind(1), -1)
        """
    ),
    "transposed": Operation(
        """
        x.transpose(2, 3)
        x.transpose(-1, -2)
        x.transpose(dim0=2, dim1=3)
        torch.transpose(x, 2, 3)
        torch.transpose(input=x, dim0=-2, dim1=-1)
        x.mT
        x.swapaxes(2, 3)
        torch.swapdims(x, 2, 3)
        x.permute(0, 1, 3, 2)
        x.movedim(2, 3)
        einops.rearrange(x, "n c h w -> n c w h")
        x.rot90(1, (2, 3)).flip(2)
        """
    ),
    "tokens": Operation(
        """
        x.flatten(2).transpose(1, 2)
        x.flatten(2).permute(0, 2, 1)
        x.flatten(2).mT
        x.flatten(start_dim=2).swapaxes(-1, -2)
        x.view(n, c, -1).transpose(1, 2)
        x.reshape(n, c, h * w).permute(0, 2, 1)
        x.permute(0, 2, 3, 1).flatten(1, 2)
        x.permute(0, 2, 3, 1).reshape(n, -1, c)
        x.movedim(1, -1).reshape(n, h * w, c)
        einops.rearrange(x, "n c h w -> n (h w) c")
        """
    ),
    "shuffled channels": Operation(
        """
        F.channel_shuffle(x, 2)
        nn.ChannelShuffle(2)(x)
        torch.channel_shuffle(x, 2)
        x.view(n, 2, c // 2, h, w).transpose(1, 2).flatten(1, 2)
        x.reshape(n, 2, -1, h, w).transpose(1, 2).reshape(n, c, h, w)
        x.unflatten(1, (2, -1)).swapaxes(1, 2).flatten(1, 2)
        torch.stack(x.chunk(2, 1), 2).flatten(1, 2)
        einops.rearrange(x, "n (g c) h w -> n (c g) h w", g=2)
        """,
        without="C=1",
    ),
    "maps folded into positions": Operation(
        """
        torch.cat([x.flatten(2).mT, -x.flatten(2).mT], 1)
        torch.cat([x.movedim(1, -1).flatten(1, 2), -x.movedim(1, -1).flatten(1, 2)], axis=1)
        torch.cat([x.flatten(2), -x.flatten(2)], -1).transpose(1, 2)
        torch.cat([x, -x], 2).flatten(2).mT
        torch.stack([x, -x], 1).permute(0, 1, 3, 4, 2).reshape(n, -1, c)
        torch.stack([x, -x], 1).permute(0, 1, 3, 4, 2).flatten(1, 3)
        torch.stack([x, -x], 2).flatten(2).mT
        """
    ),
    "zero border": Operation(
        """
        F.pad(x, (1, 2, 1, 0))
        F.pad(input=x, pad=(1, 2, 1, 0), mode="constant", value=0)
        F.pad(x, [1, 2, 1, 0], "constant", 0.0)
        nn.ZeroPad2d((1, 2, 1, 0))(x)
        nn.ConstantPad2d((1, 2, 1, 0), 0.0)(x)
        torch.constant_pad_nd(x, (1, 2, 1, 0))
        F.pad(F.pad(x, (1, 2)), (0, 0, 1, 0))
        F.pad(x, (1, 2, 1, 0, 0, 0))
        torch.cat([x.new_zeros(n, c, 1, w + 3), F.pad(x, (1, 2))], 2)
        """
    ),
    "convolution with its padding outside": Operation(
        """
        F.conv2d(x, kernel, bias, padding=1)
        F.conv2d(F.pad(x, (1, 1, 1, 1)), kernel, bias)
        F.conv2d(nn.ZeroPad2d(1)(x), kernel, bias)
        F.conv2d(x, kernel, bias, padding="same")
        F.conv2d(F.pad(x, (1, 1)), kernel, bias, padding=(1, 0))
        """
    ),
    "reflected border": Operation(
        """
        F.pad(x, (1, 1, 1, 1), mode="reflect")
        F.pad(input=x, pad=(1, 1, 1, 1), mode="reflect")
        nn.ReflectionPad2d(1)(x)
        F.pad(F.pad(x, (1, 1, 0, 0), "reflect"), (0, 0, 1, 1), "reflect")
        x[:, :, [1, *range(h), h - 2]][..., [1, *range(w), w - 2]]
        torch.cat([x[..., 1:2], x, x[..., -2:-1]], 3)[:, :, [1, *range(h), h - 2]]
        """,
        without="H=1 W=1",
    ),
    "circular border": Operation(
        """
        F.pad(x, (1, 1, 0, 0), mode="circular")
        F.pad(input=x, pad=(1, 1, 0, 0), mode="circular")
        nn.CircularPad2d((1, 1, 0, 0))(x)
        """
    ),
    "depth to space": Operation(
        """
        F.pixel_shuffle(x, 2)
        F.pixel_shuffle(input=x, upscale_factor=2)
        nn.PixelShuffle(2)(x)
        torch.pixel_shuffle(x, 2)
        x.view(n, c // 4, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3).reshape(n, c // 4, 2 * h, 2 * w)
        x.unflatten(1, (-1, 2, 2)).permute(0, 1, 4, 2, 5, 3).flatten(4, 5).flatten(2, 3)
        einops.rearrange(x, "n (c a b) h w -> n c (h a) (w b)", a=2, b=2)
        """,
        without="C=1",
    ),
    "space to depth": Operation(
        """
        F.pixel_unshuffle(x, 2)
        F.pixel_unshuffle(input=x, downscale_factor=2)
        nn.PixelUnshuffle(2)(x)
        x.view(n, c, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 2, 4).reshape(n, c * 4, h // 2, w // 2)
        x.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).permute(0, 1, 3, 5, 2, 4).flatten(1, 3)
        einops.rearrange(x, "n c (h a) (w b) -> n (c a b) h w", a=2, b=2)
        """,
        without="H=1 W=1",
    ),
}
