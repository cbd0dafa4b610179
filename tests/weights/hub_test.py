"""Networks in folders and on the hub: what is saved is what is loaded, also without a network."""

import contextlib
import hashlib
import http.server
import os
import pickle
import socket
import subprocess
import sys
import threading

import huggingface_hub
import numpy as np
import pytest
from conftest import ROOT, tiny_weights

from pose2seg_jax.prediction.predictor import Pose2SegPredictor
from pose2seg_jax.weights import files, hub
from pose2seg_jax.weights.files import WeightsError

_LOAD = """
import sys
from pose2seg_jax.weights import hub
for name in sys.argv[1:]:
    try:
        print(hub.load(name).fingerprint())
    except hub.WeightsError as error:
        print(error)
"""


@contextlib.contextmanager
def _hub(served):
    """A hub that holds some files: what the client asks of it is in its documentation."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            name = self.path.split("?")[0].removeprefix("/")
            data = served.get(name)
            self.send_response(200 if data is not None else 404)
            if data is None:
                known = any(path.startswith("/".join(name.split("/")[:2])) for path in served)
                self.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
                data = b""
            self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            return data

        def do_GET(self):
            self.wfile.write(self.do_HEAD())

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def _load(address, home, *names, offline=False):
    """A line for each network: its fingerprint, or what is wrong with it."""
    environment = os.environ | {"HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_OFFLINE": str(int(offline))}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", _LOAD, *names], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )  # fmt: skip
    return done.stdout.splitlines()


def test_a_folder_comes_back(tmp_path):
    weights = tiny_weights()._replace(provenance={"data": "drawn people"})
    predictor = Pose2SegPredictor.from_weights(weights)
    predictor.save_pretrained(tmp_path / "network")
    again = Pose2SegPredictor.from_pretrained(tmp_path / "network", flip=True)
    assert again.network.spec == weights.spec
    assert again.network.flip
    assert again.provenance == weights.provenance
    assert hub.load(tmp_path / "network").fingerprint() == weights.fingerprint()
    card = (tmp_path / "network/README.md").read_text()
    assert card.startswith("---\nlicense: apache-2.0\n")
    assert "drawn people" in card
    assert huggingface_hub.ModelCard(card).data.to_dict()["library_name"] == "pose2seg_jax"
    assert pickle.loads(pickle.dumps(predictor)).provenance == weights.provenance


def test_a_network_of_the_hub_is_downloaded_once(tmp_path):
    files.save(tmp_path / "tiny.safetensors", tiny_weights())
    expected = tiny_weights().fingerprint()
    data = (tmp_path / "tiny.safetensors").read_bytes()
    served = {"somebody/people/resolve/main/model.safetensors": data, "somebody/empty/resolve/main/README.md": b"x"}  # fmt: skip
    home = tmp_path / "home"
    with _hub(served) as address:
        found, empty, nobody = _load(address, home, "somebody/people", "somebody/empty", "nobody/people")  # fmt: skip
        assert found == expected
        assert empty == "somebody/empty: holds no model.safetensors."
        assert nobody.startswith("nobody/people: cannot be read from the hub: ")
    for offline in (True, False):  # told so, or because nobody answers
        found, other = _load(address, home, "somebody/people", "somebody/else", offline=offline)
        assert found == expected
        assert other == "somebody/else: the hub cannot be reached, and its cache does not hold it."


@pytest.mark.parametrize(
    ("name", "revision", "message"),
    [
        ("no such folder/x/y", None, "is no folder, and no 'owner/name' of the hub"),
        (ROOT / "tests", "main", "is a folder, which has no revision 'main'"),
        (ROOT / "tests", None, "model.safetensors: cannot be read"),
    ],
)
def test_what_is_no_network_is_named(name, revision, message):
    with pytest.raises(WeightsError, match=message):
        Pose2SegPredictor.from_pretrained(name, revision=revision)


def test_a_network_and_its_card_are_uploaded(monkeypatch):
    asked = {}

    class Api:
        def create_repo(self, name, *, private, exist_ok):
            asked.update(name=name, private=private, exist_ok=exist_ok)
            return f"https://hub/{name}"

        def upload_folder(self, *, repo_id, folder_path, commit_message):
            asked.update(files=sorted(os.listdir(folder_path)), loaded=hub.load(folder_path))

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    predictor = Pose2SegPredictor.from_weights(tiny_weights())
    assert predictor.push_to_hub("me/people", private=True) == "https://hub/me/people"
    assert (asked["name"], asked["private"], asked["exist_ok"]) == ("me/people", True, True)
    assert asked["files"] == ["README.md", "model.safetensors"]
    np.testing.assert_equal(asked["loaded"].fingerprint(), tiny_weights().fingerprint())


def test_an_upload_that_is_refused_is_told(monkeypatch):
    class Api:
        def create_repo(self, name, **options):
            raise huggingface_hub.errors.LocalTokenNotFoundError("Token is required")

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    with pytest.raises(WeightsError, match="me/people: cannot be uploaded: Token is required"):
        Pose2SegPredictor.from_weights(tiny_weights()).push_to_hub("me/people")


def test_a_hub_that_cannot_be_reached_is_told(monkeypatch):
    """By the client's own transport, to a port where nobody listens."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
    api = huggingface_hub.HfApi(endpoint=endpoint, token="none")
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: api)
    with pytest.raises(WeightsError, match="me/people: cannot be uploaded: "):
        Pose2SegPredictor.from_weights(tiny_weights()).push_to_hub("me/people")
