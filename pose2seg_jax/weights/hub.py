"""Networks in folders and on Hugging Face's hub: `model.safetensors` with its card, `README.md`."""

import json
import os
import tempfile
from typing import Any

from pose2seg_jax import paths
from pose2seg_jax.weights import files
from pose2seg_jax.weights.files import Weights, WeightsError

WEIGHTS, CARD = "model.safetensors", "README.md"
_LICENSE = "apache-2.0"


def save(folder: str | os.PathLike, weights: Weights) -> None:
    """Writes a network and its card into a folder, which is made where it is missing.

    Raises:
        UserError: it cannot be written.
    """
    directory = paths.local(folder, "a folder of a network")
    paths.make_directory(directory, "folder")
    files.save(directory / WEIGHTS, weights)
    paths.write_atomically(directory / CARD, card(weights))


def load(name: str | os.PathLike, revision: str | None = None) -> Weights:
    """Reads a network from a folder, or from the hub, whose files are kept in the hub's cache.

    Args:
        name: a folder, or "owner/name" on the hub.
        revision: a branch, tag or commit of the hub.

    Raises:
        WeightsError: it is neither, there is no such network, or the hub cannot be reached and the cache does not hold it.
    """
    folder = paths.local(name, "a network")
    if folder.is_dir():
        if revision is not None:
            raise WeightsError(f"{name}: is a folder, which has no revision '{revision}'.")
        return files.load(folder / WEIGHTS)
    hub = _import_hub()
    try:
        path = hub.hf_hub_download(os.fspath(name), WEIGHTS, revision=revision)
    except hub.errors.HFValidationError:
        raise WeightsError(f"{name}: is no folder, and no 'owner/name' of the hub.") from None
    except hub.errors.EntryNotFoundError as error:  # also where the hub cannot be reached
        offline = isinstance(error, hub.errors.LocalEntryNotFoundError)
        why = "the hub cannot be reached, and its cache does not hold it" if offline else f"holds no {WEIGHTS}"  # fmt: skip
        raise WeightsError(f"{name}: {why}.") from None
    except _transport_errors(hub) as error:
        raise WeightsError(f"{name}: cannot be read from the hub: {_said(error)}.") from None
    return files.load(path)


def push(name: str, weights: Weights, *, private: bool = False) -> str:
    """Uploads a network and its card to the hub, as whom `huggingface-cli login` says; returns the page's address.

    Args:
        name: "owner/name"; the repository is made where it is missing.
        weights: the network.
        private: whether a repository that is made is seen by its owner only.

    Raises:
        WeightsError: the hub refuses, or cannot be reached.
    """
    hub = _import_hub()
    api = hub.HfApi()
    with tempfile.TemporaryDirectory() as folder:
        save(folder, weights)
        try:
            page = api.create_repo(name, private=private, exist_ok=True)
            api.upload_folder(
                repo_id=name, folder_path=folder, commit_message="A network of pose2seg_jax"
            )
        except (*_transport_errors(hub), hub.errors.HFValidationError) as error:
            raise WeightsError(f"{name}: cannot be uploaded: {_said(error)}.") from None
    return str(page)


def card(weights: Weights) -> str:
    """Returns the card of a network: what it is, where it comes from, how it is used, in Markdown."""
    spec = weights.spec
    tells = f"```json\n{json.dumps(weights.provenance, indent=1)}\n```"
    finds = (
        "and finds the poses itself"
        if spec.finds_poses
        else "of poses that are given, or that MoveNet finds"
    )
    return f"""---
license: {_LICENSE}
library_name: pose2seg_jax
pipeline_tag: image-segmentation
tags:
- pose2seg
- jax
- human-instance-segmentation
---

# A Pose2Seg network

It predicts the masks of the people in a photo, {finds}.

    predictor = pose2seg_jax.Pose2SegPredictor.from_pretrained("OWNER/NAME")
    result = predictor(image)

## What it is

* backbone: {_plain(dict(spec.to_dict()["backbone"]))}
* branch: {_plain(dict(spec.to_dict()["branch"]))}
* image: {spec.image_size} px, of which the backbone sees {spec.backbone_image_size} px; ROI: {spec.roi_size} cells
* alignment: {spec.policy}, with {len(spec.template_array)} pose templates

## Where it comes from

{tells if weights.provenance else "Its maker did not say."}
"""


def _plain(value: dict[str, Any]) -> str:
    """The options of a backbone or branch as words."""
    return ", ".join(f"{key} {found}" for key, found in value.items())


def _transport_errors(hub: Any) -> tuple[type[Exception], ...]:
    """What the client raises where the hub refuses or cannot be reached; its HTTP library changes with its version."""
    return (OSError, *hub.errors.HfHubHTTPError.__bases__)


def _said(error: Exception) -> str:
    """The first line of what the hub's client says."""
    lines = str(error.args[0] if error.args else error).strip().splitlines()
    return lines[0].rstrip(".") if lines else repr(error)


def _import_hub() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError:
        raise WeightsError("networks of the hub need huggingface_hub: pip install 'pose2seg_jax[hub]'.") from None  # fmt: skip
    return huggingface_hub
