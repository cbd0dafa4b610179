"""JSON as programs write it."""

import gzip
import json
import locale

import pytest

from pose2seg_jax.people import json_files

_VALUE = {"name": "Zoë", "keys": [1, 2.5, None]}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_bytes_decide_and_not_the_locale(tmp_path, encoding, monkeypatch):
    monkeypatch.setattr(locale, "getpreferredencoding", lambda *_: "ascii")
    path = tmp_path / "a.json"
    path.write_bytes(json.dumps(_VALUE, ensure_ascii=False).encode(encoding))
    assert json_files.load(path) == _VALUE


def test_gzip_and_lines(tmp_path):
    path = tmp_path / "a.json.gz"
    path.write_bytes(gzip.compress(json.dumps(_VALUE).encode()))
    assert json_files.load(path) == _VALUE
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n\n{"a": 2}\r\n[3]\n')
    assert json_files.load(path) == [{"a": 1}, {"a": 2}, [3]]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "'c' stands more than once"),
        (b'{"a": 1}\n{"a": 1, "a": 2}', "'a' stands more than once"),
        (b'{"a": 1}\n{"a": ', "is no JSON file: value 2: Expecting value"),
        (b"[" * 200_000, "is no JSON file"),
        (b"\xff\xfe\xff", "is no JSON file"),
        (b"[" + b"9" * 5000 + b"]", "is no JSON file"),
        (b"\x1f\x8bnot gzip", "cannot be read"),
        (b"", "is no JSON file"),
    ],
)
def test_other_bytes_are_named(tmp_path, data, message):
    path = tmp_path / "a.json"
    path.write_bytes(data)
    with pytest.raises(json_files.JsonError, match=f"a.json: .*{message}"):
        json_files.load(path)
    with pytest.raises(json_files.JsonError, match=r"missing.json: cannot be read: No such file"):
        json_files.load(tmp_path / "missing.json")
