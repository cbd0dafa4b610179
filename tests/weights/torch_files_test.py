"""PyTorch checkpoints are read, and nothing in them is run."""

import io
import os
import pickle
import tarfile
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest
import torch_checkpoint

from pose2seg_jax.weights import torch_files

TENSORS = {
    "a.weight": np.random.RandomState(0).randn(4, 3, 2, 2).astype(np.float32),
    "a.bias": np.asarray([1.5, -2], np.float16),
    "n": np.asarray(7, np.int64),
    "b": np.asarray([0.5, 3], jnp.bfloat16),
    "empty": np.zeros((0, 3), np.float32),
}


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    "wrap",
    [dict, lambda named: {"epoch": 3, "state_dict": named}],
    ids=["plain", "wrapped"],
)
def test_both_formats_are_read(tmp_path, legacy, wrap):
    path = tmp_path / "model.pth"
    prefixed = {f"module.{name}": array for name, array in TENSORS.items()}
    torch_checkpoint.write(path, prefixed, legacy=legacy, wrap=wrap)
    found = torch_files.read(path)
    assert found.keys() == TENSORS.keys()
    for name, array in TENSORS.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def _members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _rewrite(path, members, pickled, compression=zipfile.ZIP_STORED):
    """A checkpoint with these members, but for its pickle."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in (members | {"archive/data.pkl": pickled}).items():
            archive.writestr(name, data)


def test_transposed_tensors_are_put_in_order(tmp_path):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    torch_checkpoint.write(tmp_path / "a.pth", {"a": array})
    members = _members(tmp_path / "a.pth")
    # Shape (2, 3) and strides (3, 1) become (3, 2) and (1, 3): the transpose, in the same storage.
    pickled = members["archive/data.pkl"]
    changed = pickled.replace(b"K\x02K\x03\x86", b"K\x03K\x02\x86", 1)
    changed = changed.replace(b"K\x03K\x01\x86", b"K\x01K\x03\x86", 1)
    assert changed != pickled
    _rewrite(tmp_path / "b.pth", members, changed)
    np.testing.assert_array_equal(torch_files.read(tmp_path / "b.pth")["a"], array.T)


class _Call:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def _malicious(canary):
    command = f"touch {canary}"
    yield "reduce", pickle.dumps({"a": _Call(os.system, command)}, protocol=2)
    yield "builtin", pickle.dumps({"a": _Call(eval, f"open({str(canary)!r}, 'w')")}, protocol=2)
    nested = b"\x80\x04\x8c\x06pickle\x8c\x05loads\x93C"
    inner = pickle.dumps(_Call(os.system, command), protocol=2)
    yield "nested", nested + bytes([len(inner)]) + inner + b"\x85R."
    # A name with dots: an attribute of something that is allowed.
    yield "dotted", b"\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.__init__\x93."
    yield "object", b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(cos\nsystem\nK\x00))tR."
    yield "class", b"\x80\x02cbuiltins\nexec\nX\x04\x00\x00\x00passq\x00\x85R."
    # Attributes of what is allowed: they would change how the next file is read.
    for name in ("FloatStorage", "Size"):
        yield name, b"\x80\x02ctorch\n%b\n}X\x05\x00\x00\x00dtypeK\x04sb." % name.encode()
    rebuild = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x0c\x00\x00\x00__defaults__K\x04sb."
    yield "function", rebuild


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_malicious_files_run_nothing(tmp_path, legacy):
    canary = tmp_path / "canary"
    for name, pickled in _malicious(canary):
        path = tmp_path / f"{name}.pth"
        if legacy:
            headers = [
                pickle.dumps(value, protocol=2) for value in (0x1950A86A20F9469CFC6C, 1001, {})
            ]
            path.write_bytes(b"".join(headers) + pickled)
        else:
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("archive/data.pkl", pickled)
        with pytest.raises(torch_files.TorchFileError, match=r"asks for .* Nothing of it was run"):
            torch_files.read(path)
        assert not canary.exists()


def test_an_attack_in_place_of_the_header_runs_nothing(tmp_path):
    path, canary = tmp_path / "a.pth", tmp_path / "canary"
    path.write_bytes(pickle.dumps(_Call(os.system, f"touch {canary}"), protocol=2))
    with pytest.raises(torch_files.TorchFileError, match=r"asks for .*system"):
        torch_files.read(path)
    assert not canary.exists()


def test_small_files_do_not_take_much_memory_or_time(tmp_path):
    path = tmp_path / "a.pth"
    torch_checkpoint.write(path, {"a": np.zeros((2, 3), np.float32)})
    members = _members(path)
    pickled = members["archive/data.pkl"]
    expanded = pickled.replace(b"K\x02K\x03\x86", b"J\x00\x00\x00\x7fK\x03\x86", 1)
    expanded = expanded.replace(b"K\x03K\x01\x86", b"K\x00K\x01\x86", 1)  # stride 0
    endless = b"\x80\x02}q\x00X\x0a\x00\x00\x00state_dicth\x00s."  # a dictionary in itself
    index = b"\x80\x02Nr\xff\xff\xff\x7f."  # an index of the memo
    for changed, message in (
        (expanded, "reaches beyond its storage"),
        (endless, None),
        (index, "in place of named tensors"),
    ):
        _rewrite(path, members, changed)
        if message is None:
            assert torch_files.read(path) == {}
            continue
        with pytest.raises(torch_files.TorchFileError, match=message):
            torch_files.read(path)
    _rewrite(path, members, pickled, zipfile.ZIP_DEFLATED)
    with pytest.raises(torch_files.TorchFileError, match="a member of"):
        torch_files.read(path)


def test_the_oldest_format_is_named(tmp_path):
    with tarfile.open(tmp_path / "resnet50.pth", "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(torch_files.TorchFileError, match="is in PyTorch's oldest format"):
        torch_files.read(tmp_path / "resnet50.pth")


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_truncated_files_are_said_to_be(tmp_path, legacy):
    path = tmp_path / "a.pth"
    torch_checkpoint.write(path, TENSORS, legacy=legacy)
    content = path.read_bytes()
    for keep in (0, 1, 20, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:keep])
        with pytest.raises(
            torch_files.TorchFileError, match=r"is truncated, or no PyTorch checkpoint|asks for"
        ):
            torch_files.read(path)
    with pytest.raises(torch_files.TorchFileError, match="cannot be read: No such file"):
        torch_files.read(tmp_path / "none.pth")


def test_tensors_stay_within_their_storage(tmp_path):
    torch_checkpoint.write(tmp_path / "a.pth", {"a": np.zeros((2, 3), np.float32)})
    members = _members(tmp_path / "a.pth")
    pickled = members["archive/data.pkl"]
    for old, new in (
        (b"K\x02K\x03\x86", b"K\xffK\x03\x86"),
        (b"K\x03K\x01\x86", b"K\xffK\x01\x86"),
    ):
        assert old in pickled
        _rewrite(tmp_path / "b.pth", members, pickled.replace(old, new, 1))
        with pytest.raises(torch_files.TorchFileError, match="reaches beyond its storage"):
            torch_files.read(tmp_path / "b.pth")


def test_other_contents_are_refused(tmp_path):
    for content in ([1, 2], "text", 3):
        with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
            buffer = io.BytesIO()
            pickle.dump(content, buffer, protocol=2)
            archive.writestr("archive/data.pkl", buffer.getvalue())
        with pytest.raises(torch_files.TorchFileError, match="in place of named tensors"):
            torch_files.read(tmp_path / "a.pth")
