"""Equal spellings of layers: convolutions, pools, interpolation, normalisations."""

from spelled import Operation

LAYERS = {
    "convolution": Operation(
        """
        F.conv2d(x, kernel, bias, 1, 1)
        F.conv2d(x, kernel, bias, padding=1)
        F.conv2d(input=x, weight=kernel, bias=bias, padding=(1, 1))
        torch.conv2d(x, kernel, bias, padding=1)
        torch.conv2d(input=x, weight=kernel, bias=bias, stride=(1, 1), padding=[1, 1])
        F.conv2d(x, kernel, bias, padding="same")
        torch.convolution(x, kernel, bias, [1, 1], [1, 1], [1, 1], False, [0, 0], 1)
        conv(x)
        conv(input=x)
        conv.forward(x)
        F.conv2d(x, kernel, padding=1) + bias.view(1, -1, 1, 1)
        F.conv2d(x, kernel, padding=1).add_(bias[:, None, None])
        """
    ),
    "convolution with steps": Operation(
        """
        F.conv2d(x, kernel, bias, 2, 1)
        F.conv2d(x, kernel, bias, stride=2, padding=1)
        F.conv2d(input=x, weight=kernel, bias=bias, stride=(2, 2), padding=(1, 1))
        strided(x)
        strided(input=x)
        """
    ),
    "convolution with a scaled kernel": Operation(
        """
        F.conv2d(x * scale.view(c, 1, 1), kernel, padding=1)
        F.conv2d(x, kernel * scale.view(1, c, 1, 1), padding=1)
        F.conv2d(x * scale.view(1, c, 1, 1), kernel, padding=1)
        F.conv2d(scale[:, None, None] * x, kernel, padding=1)
        F.conv2d(x * scale.view(1, c, 1, 1).expand(n, c, 1, 1), kernel, padding=1)
        """
    ),
    "one image times three scales": Operation(
        """
        F.conv2d(torch.cat([x[:1] * s for s in (1.0, 2.0, 3.0)]), kernel, padding=1)
        F.conv2d(x[:1] * thrice, kernel, padding=1)
        F.conv2d(x[0] * thrice, kernel, padding=1)
        F.conv2d(x[:1].expand(3, -1, -1, -1) * thrice, kernel, padding=1)
        F.conv2d(x[:1].repeat(3, 1, 1, 1) * thrice, kernel, padding=1)
        torch.cat([F.conv2d(x[:1], kernel, padding=1) * s for s in (1.0, 2.0, 3.0)])
        """
    ),
    "1x1 convolution": Operation(
        """
        F.conv2d(x, point[:, :, None, None], bias)
        F.conv2d(input=x, weight=point.view(5, c, 1, 1), bias=bias)
        F.linear(x.permute(0, 2, 3, 1), point, bias).permute(0, 3, 1, 2)
        F.linear(input=x.movedim(1, -1), weight=point, bias=bias).movedim(-1, 1)
        (x.permute(0, 2, 3, 1) @ point.t() + bias).permute(0, 3, 1, 2)
        torch.matmul(x.permute(0, 2, 3, 1), point.T).add(bias).permute(0, 3, 1, 2)
        (point @ x.flatten(2)).unflatten(2, (h, w)) + bias[:, None, None]
        torch.matmul(point, x.flatten(2)).view(n, 5, h, w) + bias.view(-1, 1, 1)
        torch.bmm(point.expand(n, -1, -1), x.flatten(2)).view(n, 5, h, w) + bias[:, None, None]
        torch.einsum("nchw,oc->nohw", x, point) + bias[:, None, None]
        torch.einsum("oc,nchw->nohw", point, x) + bias[:, None, None]
        torch.tensordot(x, point, dims=([1], [1])).add(bias).permute(0, 3, 1, 2)
        F.conv1d(x.flatten(2), point[:, :, None], bias).view(n, 5, h, w)
        linear(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        linear(x.flatten(2).mT).mT.unflatten(2, (h, w))
        """
    ),
    "depthwise convolution": Operation(
        """
        F.conv2d(x, depthwise, padding=1, groups=c)
        F.conv2d(input=x, weight=depthwise, padding=1, groups=c)
        torch.cat([F.conv2d(x[:, i : i + 1], depthwise[i : i + 1], padding=1) for i in range(c)], 1)
        F.conv2d(x.flatten(0, 1)[:, None], depthwise[:1], padding=1).view(n, c, h, w)
        F.conv2d(x.reshape(n * c, 1, h, w), depthwise[:1], padding=1).view(x.shape)
        """
    ),
    "transposed convolution": Operation(
        """
        F.conv_transpose2d(x, backward, bias, 2, 1)
        F.conv_transpose2d(input=x, weight=backward, bias=bias, stride=2, padding=1)
        torch.conv_transpose2d(x, backward, bias, stride=2, padding=1)
        deconv(x)
        deconv(input=x)
        """
    ),
    "max pool": Operation(
        """
        F.max_pool2d(x, 2)
        F.max_pool2d(input=x, kernel_size=2)
        F.max_pool2d(x, (2, 2), (2, 2))
        torch.max_pool2d(x, 2)
        nn.MaxPool2d(2)(x)
        nn.MaxPool2d(kernel_size=2, stride=2)(input=x)
        F.max_pool2d(x, 2, return_indices=True)[0]
        F.max_pool2d_with_indices(x, 2)[0]
        F.adaptive_max_pool2d(x, (h // 2, w // 2))
        x.view(n, c, h // 2, 2, w // 2, 2).amax((3, 5))
        x.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).amax(axis=(3, 5))
        einops.reduce(x, "n c (h a) (w b) -> n c h w", "max", a=2, b=2)
        """,
        without="H=1 W=1",
    ),
    "overlapping max pool": Operation(
        """
        F.max_pool2d(x, 3, 2, 1)
        F.max_pool2d(input=x, kernel_size=3, stride=2, padding=1)
        nn.MaxPool2d(3, 2, 1)(x)
        torch.max_pool2d(x, [3, 3], [2, 2], [1, 1])
        -F.pad(-x, (1, 1, 1, 1), value=torch.inf).unfold(2, 3, 2).unfold(3, 3, 2).amin((4, 5))
        """,
        without="half bfloat16",
    ),
    "average pool": Operation(
        """
        F.avg_pool2d(x, 2)
        F.avg_pool2d(input=x, kernel_size=(2, 2), stride=(2, 2))
        nn.AvgPool2d(2)(x)
        F.adaptive_avg_pool2d(x, (h // 2, w // 2))
        nn.AdaptiveAvgPool2d((h // 2, w // 2))(x)
        x.view(n, c, h // 2, 2, w // 2, 2).mean((3, 5))
        x.reshape(n, c, h // 2, 2, w // 2, 2).mean(axis=(3, 5))
        einops.reduce(x, "n c (h a) (w b) -> n c h w", "mean", a=2, b=2)
        F.interpolate(x, scale_factor=0.5, mode="area")
        F.interpolate(x, size=(h // 2, w // 2), mode="area")
        F.conv2d(x, x.new_full((c, 1, 2, 2), 0.25), stride=2, groups=c)
        """,
        without="H=1 W=1",
    ),
    "nearest interpolation": Operation(
        """
        F.interpolate(x, scale_factor=2)
        F.interpolate(input=x, scale_factor=2, mode="nearest")
        F.interpolate(x, size=(2 * h, 2 * w))
        F.interpolate(x, scale_factor=(2.0, 2.0), mode="nearest-exact")
        F.upsample(x, scale_factor=2)
        F.upsample_nearest(x, scale_factor=2)
        nn.Upsample(scale_factor=2)(x)
        nn.UpsamplingNearest2d(scale_factor=2)(x)
        x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        torch.repeat_interleave(x.repeat_interleave(2, dim=-1), 2, dim=-2)
        x[:, :, :, None, :, None].expand(n, c, h, 2, w, 2).reshape(n, c, 2 * h, 2 * w)
        einops.repeat(x, "n c h w -> n c (h a) (w b)", a=2, b=2)
        """
    ),
    "bilinear interpolation": Operation(
        """
        F.interpolate(x, scale_factor=2, mode="bilinear")
        F.interpolate(input=x, size=(2 * h, 2 * w), mode="bilinear", align_corners=False)
        nn.Upsample(scale_factor=2, mode="bilinear")(x)
        F.upsample(x, scale_factor=2, mode="bilinear")
        F.interpolate(x, scale_factor=(2, 2), mode="bilinear", antialias=False)
        """
    ),
    "bilinear interpolation of corners": Operation(
        """
        F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
        F.interpolate(x, size=(2 * h, 2 * w), mode="bilinear", align_corners=True)
        nn.UpsamplingBilinear2d(scale_factor=2)(x)
        F.upsample_bilinear(x, scale_factor=2)
        """
    ),
    "batch norm": Operation(
        """
        F.batch_norm(x, mean, spread, gain1, shift)
        F.batch_norm(input=x, running_mean=mean, running_var=spread, weight=gain1, bias=shift)
        torch.batch_norm(x, gain1, shift, mean, spread, False, 0.1, 1e-5, False)
        batch_norm(x)
        batch_norm(input=x)
        (x - mean[:, None, None]) / (spread[:, None, None] + 1e-5).sqrt() * gain1[:, None, None] + each(shift)
        torch.addcmul(each(shift), (x - each(mean)) * (each(spread) + 1e-5).rsqrt(), each(gain1))
        F.conv2d(x - each(mean), each(gain1 / (spread + 1e-5).sqrt())[:, None], shift, groups=c)
        """
    ),
    "group norm": Operation(
        """
        F.group_norm(x, 2, gain1, shift)
        F.group_norm(input=x, num_groups=2, weight=gain1, bias=shift)
        torch.group_norm(x, 2, gain1, shift)
        group_norm(x)
        F.group_norm(x, 2) * each(gain1) + each(shift)
        standard(x.view(n, 2, c // 2, h, w), (2, 3, 4)).view(n, c, h, w) * each(gain1) + each(shift)
        standard(x.unflatten(1, (2, -1)), (-3, -2, -1)).flatten(1, 2) * each(gain1) + each(shift)
        standard(x.view(n, 2, -1), -1).view(n, c, h, w) * each(gain1) + each(shift)
        torch.cat([F.group_norm(part, 1) for part in x.chunk(2, 1)], 1) * each(gain1) + each(shift)
        """,
        without="C=1",
    ),
    "instance norm": Operation(
        """
        F.instance_norm(x)
        F.instance_norm(input=x, eps=1e-5)
        nn.InstanceNorm2d(c)(x)
        F.group_norm(x, c)
        F.layer_norm(x, (h, w))
        standard(x, (2, 3))
        standard(x.flatten(2), 2).view(n, c, h, w)
        (x - x.mean((2, 3), keepdim=True)) * (x.var((2, 3), unbiased=False, keepdim=True) + 1e-5).rsqrt()
        """
    ),
    "layer norm of a whole image": Operation(
        """
        F.layer_norm(x, (c, h, w))
        F.layer_norm(input=x, normalized_shape=x.shape[1:])
        torch.layer_norm(x, [c, h, w])
        nn.LayerNorm((c, h, w), elementwise_affine=False)(x)
        F.group_norm(x, 1)
        standard(x, (1, 2, 3))
        """
    ),
    "layer norm over channels": Operation(
        """
        F.layer_norm(x.permute(0, 2, 3, 1), (c,), gain1, shift).permute(0, 3, 1, 2)
        F.layer_norm(input=x.movedim(1, -1), normalized_shape=[c], weight=gain1, bias=shift).movedim(-1, 1)
        layer_norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        layer_norm(x.flatten(2).mT).mT.view(n, c, h, w)
        standard(x, 1) * each(gain1) + each(shift)
        standard(x.permute(0, 2, 3, 1), -1).mul(gain1).add(shift).permute(0, 3, 1, 2)
        """
    ),
    "root-mean-square norm over channels": Operation(
        """
        F.rms_norm(x.permute(0, 2, 3, 1), (c,), eps=1e-5).permute(0, 3, 1, 2)
        F.rms_norm(input=x.movedim(1, -1), normalized_shape=(c,), eps=1e-5).movedim(-1, 1)
        nn.RMSNorm(c, eps=1e-5, elementwise_affine=False)(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x * (x.square().mean(1, keepdim=True) + 1e-5).rsqrt()
        x / (x.pow(2).mean(axis=1, keepdims=True) + 1e-5).sqrt()
        """
    ),
    "dropout when it does nothing": Operation(
        """
        x * 1
        F.dropout(x, training=False)
        F.dropout2d(input=x, p=0.5, training=False)
        nn.Dropout(0.5).eval()(x)
        nn.Dropout2d(0.5, inplace=True).eval()(x)
        nn.Identity()(x)
        nn.Identity()(input=x)
        """
    ),
}
