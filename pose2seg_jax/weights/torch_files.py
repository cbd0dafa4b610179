"""PyTorch checkpoints as NumPy arrays, without PyTorch and without executing anything in them.

A checkpoint is a pickle, and a pickle can call any function that it names. Here it may name the few
that rebuild tensors, nothing else, and set attributes of none. The zip archive of `torch.save` is
read, and the format from before PyTorch 1.6 ("legacy"); the tar archive from before 0.1.10 is not.
"""

import collections
import io
import math
import pathlib
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from pose2seg_jax import paths
from pose2seg_jax.errors import UserError

_DTYPES: dict[str, Any] = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": jnp.bfloat16,
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_VERSION = 1001
_WRAPPERS = ("state_dict", "model")  # keys below which training programs put the tensors
_LARGEST_PICKLE = 2**26  # bytes; names and shapes of a network take a hundred thousand


class TorchFileError(UserError):
    """A file that is no PyTorch checkpoint, or holds what a checkpoint of tensors does not need."""


class _Forbidden(Exception):  # noqa: N818 - never leaves this module
    """A name that tensors do not need."""


class _Storage(NamedTuple):
    """A type of storage."""

    dtype: np.dtype


class _Bytes:
    """The bytes of a storage; of the legacy format they follow after the pickle."""

    def __init__(self, dtype: np.dtype, count: int):
        self.dtype, self.count = dtype, count
        self.values: np.ndarray | None = None


class _Tensor:
    """A tensor whose storage may not have been read yet."""

    def __init__(self, storage: _Bytes, offset: int, shape: Any, strides: Any):
        if not isinstance(storage, _Bytes):
            raise ValueError("a tensor without a storage")
        self.storage, self.offset = storage, int(offset)
        self.shape = tuple(int(side) for side in shape)
        self.strides = tuple(int(stride) for stride in strides)

    def array(self) -> np.ndarray:
        """The values, in order."""
        if len(self.shape) != len(self.strides) or min((*self.shape, *self.strides, 0)) < 0:
            raise ValueError(f"a tensor of shape {self.shape} and strides {self.strides}")
        values = self.storage.values
        count = math.prod(self.shape)
        if not count:
            return np.zeros(self.shape, self.storage.dtype)
        steps = ((side - 1) * stride for side, stride in zip(self.shape, self.strides, strict=True))
        last = self.offset + sum(steps)
        if values is None or self.offset < 0 or max(count, last + 1) > len(values):
            raise ValueError(f"a tensor of shape {self.shape} reaches beyond its storage")
        size = values.itemsize
        view = np.lib.stride_tricks.as_strided(
            values[self.offset :], self.shape, [stride * size for stride in self.strides]
        )
        return np.ascontiguousarray(view).reshape(self.shape)


def _rebuild_tensor(storage, offset, shape, strides, *_unused: Any) -> _Tensor:
    return _Tensor(storage, offset, shape, strides)


def _rebuild_parameter(tensor, *_unused: Any) -> _Tensor:
    return tensor


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch", "Size"): tuple,
    **{("torch", name): _Storage(np.dtype(dtype)) for name, dtype in _DTYPES.items()},
}


class _Unpickler(pickle._Unpickler):  # type: ignore[name-defined, misc]
    """Knows the names in _ALLOWED only, and sets attributes of nothing.

    The one written in Python: what an opcode does can be changed in it.
    """

    dispatch = dict(pickle._Unpickler.dispatch)  # type: ignore[attr-defined]  # noqa: RUF012

    stack: list[Any]

    def __init__(self, file: Any, load_storage: Callable[[tuple], _Bytes]):
        super().__init__(file, encoding="utf-8")
        self._load_storage = load_storage

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise _Forbidden(f"{module}.{name}") from None

    def persistent_load(self, pid: Any) -> _Bytes:
        if not (isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage"):
            raise ValueError("a reference to something other than a storage")
        if not isinstance(pid[1], _Storage) or not isinstance(pid[4], int) or pid[4] < 0:
            raise ValueError("a storage of an unknown type or size")
        return self._load_storage(pid)

    def load_build(self) -> None:
        """State of an object: PyTorch's is the version of each module, which nobody needs here."""
        self.stack.pop()
        if type(self.stack[-1]) is not collections.OrderedDict:
            raise _Forbidden("attributes of its own choice")

    dispatch[pickle.BUILD[0]] = load_build  # type: ignore[assignment]


def read(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """The tensors of a checkpoint, by name.

    Names are those of the module: a leading "module." of DataParallel is dropped, and the tensors may
    lie below "state_dict" or "model".

    Raises:
        TorchFileError: no checkpoint, truncated, or naming anything but tensors; nothing of it is run.
    """
    path = paths.local(path, "a PyTorch file")
    try:
        if tarfile.is_tarfile(path):
            raise TorchFileError(
                f"{path}: is in PyTorch's oldest format, a tar archive. Save it anew with PyTorch:"
                " torch.save(torch.load(FILE), OTHER). Of torchvision's ResNet-50 there is a newer"
                " file, resnet50-0676ba61.pth."
            )
        content = _read_zip(path) if zipfile.is_zipfile(path) else _read_legacy(path)
        return _named_arrays(content)
    except TorchFileError:
        raise
    except OSError as error:
        raise TorchFileError(f"{path}: cannot be read: {error.strerror or error}.") from None
    except _Forbidden as error:
        raise TorchFileError(
            f"{path}: asks for {error}, which no tensor needs. Nothing of it was run. If you trust the"
            " file, save its state_dict alone with PyTorch: torch.save(model.state_dict(), FILE)."
        ) from None
    except Exception as error:  # a damaged pickle can raise anything
        raise TorchFileError(
            f"{path}: is truncated, or no PyTorch checkpoint ({type(error).__name__}: {error}); get it"
            " again, or save a state_dict with PyTorch: torch.save(model.state_dict(), FILE)."
        ) from None


def _read_zip(path: pathlib.Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(names) != 1:
            raise ValueError(f"{len(names)} members called data.pkl in place of one")
        folder = names[0].removesuffix("data.pkl")

        def member(name: str, most: int) -> bytes:
            information = archive.getinfo(name)
            # PyTorch does not compress: what is larger than its place in the file is no checkpoint.
            if information.compress_type != zipfile.ZIP_STORED or information.file_size > most:
                raise ValueError(f"a member of {information.file_size} bytes in place of {most}")
            return archive.read(name)

        order = f"{folder}byteorder"
        if order in archive.namelist() and member(order, 100) != b"little":
            raise ValueError("numbers in big-endian order")
        loaded: dict[str, _Bytes] = {}

        def load(pid: tuple) -> _Bytes:
            _, kind, key, _, count = pid[:5]
            if key not in loaded:
                storage = _Bytes(kind.dtype, count)
                data = member(f"{folder}data/{key}", count * kind.dtype.itemsize)
                storage.values = _values(data, storage)
                loaded[key] = storage
            return loaded[key]

        return _Unpickler(io.BytesIO(member(names[0], _LARGEST_PICKLE)), load).load()


def _read_legacy(path: pathlib.Path) -> Any:
    loaded: dict[str, _Bytes] = {}

    def load(pid: tuple) -> _Bytes:
        _, kind, key, _, count = pid[:5]
        if len(pid) > 5 and pid[5] is not None:
            raise ValueError("a view of a storage")
        return loaded.setdefault(key, _Bytes(kind.dtype, count))

    with path.open("rb") as file:

        def unpickle() -> Any:
            return _Unpickler(file, load).load()

        if unpickle() != _LEGACY_MAGIC or unpickle() != _LEGACY_VERSION:
            raise ValueError("another magic number")
        if not unpickle().get("little_endian", True):
            raise ValueError("numbers in big-endian order")
        content, keys = unpickle(), unpickle()
        for key in keys:
            storage = loaded[key]
            if file.read(8) != storage.count.to_bytes(8, "little"):
                raise ValueError(f"no storage of {storage.count} numbers where it should be")
            storage.values = _values(file.read(storage.count * storage.dtype.itemsize), storage)
    return content


def _values(data: bytes, storage: _Bytes) -> np.ndarray:
    if len(data) != storage.count * storage.dtype.itemsize:
        raise ValueError(f"a storage of {len(data)} bytes in place of {storage.count} numbers")
    return np.frombuffer(data, storage.dtype)


def _named_arrays(content: Any) -> dict[str, np.ndarray]:
    for key in _WRAPPERS:
        if isinstance(content, dict) and key in content:
            content = content[key]
    if not isinstance(content, dict):
        raise ValueError(f"a {type(content).__name__} in place of named tensors")
    return {
        str(name).removeprefix("module."): tensor.array()
        for name, tensor in content.items()
        if isinstance(tensor, _Tensor)
    }
