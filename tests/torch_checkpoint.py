"""Writes what torch.save writes, without PyTorch; for tests."""

import collections
import io
import pickle
import sys
import types
import zipfile

import numpy as np

_STORAGES = {
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "int64": "LongStorage",
}


class _Tensor:
    """Pickled as PyTorch pickles a tensor: a call of _rebuild_tensor_v2 on a storage."""

    def __init__(self, array, torch):
        self.array, self.torch = array, torch

    def __reduce__(self):
        strides = tuple(step // self.array.itemsize for step in self.array.strides)
        arguments = (self.array, 0, self.array.shape, strides, False, collections.OrderedDict())
        return self.torch._utils._rebuild_tensor_v2, arguments


class _Pickler(pickle.Pickler):
    def __init__(self, file, torch, legacy):
        super().__init__(file, protocol=2)
        self.torch, self.legacy, self.storages = torch, legacy, {}

    def persistent_id(self, value):
        if not isinstance(value, np.ndarray):
            return None
        key = str(len(self.storages))
        self.storages[key] = value
        kind = getattr(self.torch, _STORAGES[value.dtype.name])
        pid = ("storage", kind, key, "cpu", value.size)
        return (*pid, None) if self.legacy else pid


def _stub():
    """A module whose functions and classes pickle finds under PyTorch's names."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in _STORAGES.values():
        setattr(torch, name, type(name, (), {"__module__": "torch"}))

    def rebuild(*arguments):
        raise AssertionError("never called here")

    rebuild.__module__, rebuild.__name__ = "torch._utils", "_rebuild_tensor_v2"
    rebuild.__qualname__ = "_rebuild_tensor_v2"
    torch._utils = utils
    utils._rebuild_tensor_v2 = rebuild
    return torch


def write(path, tensors, *, legacy=False, wrap=lambda content: content):
    """Writes named arrays as a checkpoint.

    Args:
        path: of the file.
        tensors: name -> array.
        legacy: the format from before PyTorch 1.6.
        wrap: makes of the named tensors what is pickled.
    """
    torch = _stub()
    saved = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules.update({"torch": torch, "torch._utils": torch._utils})
    try:
        buffer = io.BytesIO()
        pickler = _Pickler(buffer, torch, legacy)
        named = ((name, _Tensor(array, torch)) for name, array in tensors.items())
        pickler.dump(wrap(collections.OrderedDict(named)))
    finally:
        for name, module in saved.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
    if legacy:
        with path.open("wb") as file:
            for header in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
                pickle.dump(header, file, protocol=2)
            file.write(buffer.getvalue())
            pickle.dump(list(pickler.storages), file, protocol=2)
            for array in pickler.storages.values():
                file.write(array.size.to_bytes(8, "little") + array.tobytes())
        return
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", buffer.getvalue())
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/version", "3\n")
        for key, array in pickler.storages.items():
            archive.writestr(f"archive/data/{key}", array.tobytes())
