"""A second device, on which values are computed as on the CPU, and that nothing mixes with the CPU unseen."""

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_map

#: The only device beside the CPU whose kernels every build of torch has; none of them runs here.
DEVICE = torch.device("meta")
_aten = torch.ops.aten


class MixedError(AssertionError):
    """An operation was given tensors of both devices, or one of the second outside ``SecondDevice``."""


class _There(torch.Tensor):
    """A tensor that tells the second device, and holds its values on the CPU."""

    @staticmethod
    def __new__(cls, values):
        return torch.Tensor._make_wrapper_subclass(
            cls, values.shape, strides=values.stride(), dtype=values.dtype, device=DEVICE
        )

    def __init__(self, values):
        self.values = values

    def as_subclass(self, cls):
        """A shell, which is all that a masked activation is: its values are beside it."""
        with _disable_current_modes():
            return torch.empty_strided(
                self.shape, self.stride(), dtype=self.dtype, device=DEVICE
            ).as_subclass(cls)

    def untyped_storage(self):
        return self.values.untyped_storage()

    def tolist(self):
        return self.cpu().tolist()

    def __repr__(self):
        return f"there({self.values})"

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        raise MixedError(f"{function} was called outside SecondDevice")


class _FromNumbers(TorchFunctionMode):
    """Tensors of numbers are made on the CPU; torch fills them where no mode sees it."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        device = kwargs.get("device")
        if function in (torch.tensor, torch.as_tensor) and device is not None:
            made = function(*args, **kwargs | {"device": "cpu"})
            return made.to(device)
        return function(*args, **kwargs)


class SecondDevice(TorchDispatchMode):
    """Operations run on both devices, and none on both at once.

    Numbers (tensors without dimensions) of the CPU may meet tensors of the second device, as on a GPU.

    Attributes:
        brought: what was copied to the CPU or read as a number, a name of an operation for each.
    """

    def __init__(self):
        super().__init__()
        self.brought = []
        self._numbers = _FromNumbers()

    def __enter__(self):
        self._numbers.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self._numbers.__exit__(*error)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        tensors = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, torch.Tensor)]
        there = [tensor for tensor in tensors if isinstance(tensor, _There)]
        here = [tensor for tensor in tensors if not isinstance(tensor, _There) and tensor.dim()]
        device = kwargs.get("device")
        copies = function in (_aten._to_copy.default, _aten.copy_.default)
        if there and here and not copies:
            raise MixedError(f"{function} of both devices: {[tuple(t.shape) for t in tensors]}")
        ends_there = torch.device(device).type == DEVICE.type if device is not None else bool(there)
        if function is _aten.copy_.default:
            ends_there = isinstance(args[0], _There)
        if "device" in kwargs:
            kwargs["device"] = torch.device("cpu")
        result = function(*_here(args), **_here(kwargs))
        reads = function in (_aten._local_scalar_dense.default, _aten.equal.default)
        if there and (reads or (copies and not ends_there)):
            self.brought.append(function.name())
        if function._schema.is_mutable and isinstance(result, torch.Tensor):
            return args[0] if "out" not in kwargs else kwargs["out"]
        return (
            tree_map(lambda x: _There(x) if isinstance(x, torch.Tensor) else x, result)
            if ends_there
            else result
        )


def moved(network):
    """The network, its parameters and buffers on the second device."""
    for module in network.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    tensors[name] = _There(tensor.detach())
    return network


def there(tensor):
    """The tensor on the second device."""
    return _There(tensor)


def _here(tree):
    return tree_map(lambda x: x.values if isinstance(x, _There) else x, tree)
