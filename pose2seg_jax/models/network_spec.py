"""`NetworkSpec`: everything that the parameters of a network take for granted."""

import dataclasses
import json
import zlib
from collections.abc import Mapping
from typing import Any

import flax.core
import ml_collections
import numpy as np
from flax import traverse_util
from jaxtyping import Float

from pose2seg_jax.alignment import templates as pose_templates
from pose2seg_jax.alignment.conventions import CONVENTIONS, SamplingConvention
from pose2seg_jax.alignment.policies import POLICIES
from pose2seg_jax.errors import UserError
from pose2seg_jax.models import (
    efficientnet_fpn,
    hourglass,
    movenet,
    pose_head,
    resnet_fpn,
    segmentation_branch,
)
from pose2seg_jax.people.parts import COCO_LIMBS, PAPER_LIMBS, Limbs

# To add one: a Flax module that takes images to a tuple of `num_maps` features at a quarter of their size, the best last, its
# options as fields, and `coarsest`; then its name here.
BACKBONES: dict[str, Any] = {
    "hourglass": hourglass.StackedHourglass,
    "resnet50_fpn": resnet_fpn.ResNetFPN,
    "efficientnet_lite0_fpn": efficientnet_fpn.EfficientNetLite0FPN,
    "efficientnet_lite2_fpn": efficientnet_fpn.EfficientNetLite2FPN,
    "movenet_fpn": movenet.MoveNetFPN,
}
BRANCHES: dict[str, Any] = {
    "paper": segmentation_branch.SegmentationBranch,
    "lean": segmentation_branch.LeanSegmentationBranch,
}
POSE_HEADS: dict[str, Any] = {"associative_embedding": pose_head.AssociativeEmbeddingHead}
# A part of the network that may be left out: poses without masks, or masks without poses.
OFF = "off"
_KINDS = {"backbone": BACKBONES, "branch": BRANCHES, "pose_head": POSE_HEADS}
_MAY_BE_OFF = ("branch", "pose_head")

STRIDE = 4  # pixels of the image that a backbone sees, per cell of its features; of all backbones
SKELETON_FEATURES: dict[str, Limbs | None] = {"paper": PAPER_LIMBS, "coco": COCO_LIMBS, "off": None}
# What a Flax module has beside its options, or is given by the network around it.
# What no network is larger than; a damaged file may hold any number.
_LARGEST, _DEEPEST = 65_536, 16
_MAY_BE_ZERO = {
    ("branch", "units"), ("branch", "depth"), ("branch", "head_convs"), ("pose_head", "features"),
    ("backbone", "frozen_stages"),
}  # fmt: skip
_NOT_OPTIONS = {"parent", "name", "axis_name", "dtype", "align_corners", "stride"}


@dataclasses.dataclass(frozen=True)
class NetworkSpec:
    """What a network is; two networks with equal specs can exchange their parameters.

    Attributes:
        image_size: side of the canvas, the square that images are fitted into, in pixels.
        backbone_image_size: side at which the backbone sees the canvas, in pixels; at most `image_size`. A smaller
            one saves time where the ROIs get the image itself (`image_in_roi`). (The paper has one size.)
        roi_size: side of the ROI, and of the mask in it, in cells.
        roi_stride: the features of the ROI are read, and the branch computes, at every so many of its cells along each axis; the
            image itself (`image_in_roi`) is read at all of them. With 2, a mask has four times the cells for little time.
            (The paper has 1.)
        skeleton_features: a key of SKELETON_FEATURES: "paper" draws 11 limbs (39 channels), "coco" 19 (55
            channels), "off" leaves the Skeleton Features out.
        image_in_roi: whether the ROI gets the image itself beside its features. A small person is a few cells of a
            feature map, and a small network has no other way to the outline. (Not in the paper.)
        sampling: a key of `conventions.CONVENTIONS`.
        backbone: {"name": a key of BACKBONES, ...}, with all options of that module.
        branch: {"name": a key of BRANCHES, ...}, with all options of that module; {"name": "off"} for no masks.
        pose_head: {"name": a key of POSE_HEADS, ...}, likewise; {"name": "off"} for no poses.
        policy: how persons are aligned, one of `policies.POLICIES`.
        reflect: whether mirrored templates are tried (policy "affine_align").
        templates: K templates of 17 parts (x, y, v) in the unit square.
    """

    image_size: int
    backbone_image_size: int
    roi_size: int
    roi_stride: int
    skeleton_features: str
    image_in_roi: bool
    sampling: str
    backbone: flax.core.FrozenDict
    branch: flax.core.FrozenDict
    pose_head: flax.core.FrozenDict
    policy: str
    reflect: bool
    templates: tuple[tuple[tuple[float, float, float], ...], ...]

    def __post_init__(self):
        """Checks that the values fit together.

        Raises:
            UserError: one is unknown, or sizes do not divide; the message names the field.
        """
        for field, name, known in (
            ("skeleton_features", self.skeleton_features, SKELETON_FEATURES),
            ("sampling", self.sampling, CONVENTIONS),
            ("alignment.policy", self.policy, POLICIES),
        ):
            if name not in known:
                raise UserError(
                    f"config field model.{field} is {name!r}; it must be one of {', '.join(known)}."
                )
        if not 0 < self.backbone_image_size <= self.image_size:
            raise UserError(
                f"config field model.backbone_image_size is {self.backbone_image_size}; it must be at most"
                f" model.image_size, {self.image_size}."
            )
        if self.sampling == "pixel_indices" and self.backbone_image_size < self.image_size:
            raise UserError(
                "config field model.backbone_image_size must be that of the image with"
                " model.sampling='pixel_indices': the CVPR 2019 version has one size."
            )
        if self.roi_stride < 1 or (self.sampling == "pixel_indices" and self.roi_stride > 1):
            raise UserError(
                f"config field model.roi_stride is {self.roi_stride}; it must be 1 or more, and 1 with"
                " model.sampling='pixel_indices'."
            )
        if not self.segments and not self.finds_poses:
            raise UserError(
                "config fields model.branch.name and model.pose_head.name are both 'off': the network would do"
                " nothing."
            )
        for field, side, module, stride in (
            ("backbone_image_size", self.backbone_image_size, self.make_backbone(), 1),
            ("roi_size", self.roi_size, self.make_branch(), self.roi_stride),
        ):
            if module is not None and (side < 1 or side % (module.coarsest * stride)):
                raise UserError(
                    f"config field model.{field} is {side}; it must be a multiple of {module.coarsest * stride}"
                    f" for {type(module).__name__}{f' with model.roi_stride={stride}' if stride > 1 else ''}."
                )

    @classmethod
    def from_config(cls, model: ml_collections.ConfigDict) -> "NetworkSpec":
        """Reads `config.model` of an experiment, the template file that it names included.

        Raises:
            UserError: a field is missing, unknown or of another kind; TemplateError: the template file.
        """
        return cls._from_fields(model.to_dict(), pose_templates.load(model.alignment.templates))

    def with_fields(self, fields: Mapping[str, Any]) -> "NetworkSpec":
        """Returns the spec with some fields of `config.model` replaced.

        Args:
            fields: values by name, as {"backbone.features": 32, "alignment.templates": FILE}; a whole "backbone",
                "branch" or "pose_head" as a dictionary.

        Raises:
            UserError: as `from_config`.
        """
        changed = traverse_util.flatten_dict(self.to_dict(), sep=".")
        for name, value in fields.items():
            whole = isinstance(value, Mapping)  # a part of the network with all of its options
            kept = {k: v for k, v in changed.items() if not (whole and k.startswith(f"{name}."))}
            changed = kept | traverse_util.flatten_dict({name: value}, sep=".")
        made = changed.pop("alignment.templates")
        if "alignment.templates" in fields:
            made = pose_templates.load(made)
        nested = traverse_util.unflatten_dict(changed, sep=".")
        return self._from_fields(nested, np.asarray(made, np.float32))

    @classmethod
    def from_json(cls, text: str) -> "NetworkSpec":
        """Reads what `to_json` wrote.

        Raises:
            UserError: it is no spec.
        """
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"is no description of a network: {error!r}.") from None
        return cls.from_dict(fields)

    @classmethod
    def from_dict(cls, fields: Any) -> "NetworkSpec":
        """Reads what `to_dict` returned.

        Raises:
            UserError: it is no spec.
        """
        try:
            made = np.asarray(fields["alignment"]["templates"], np.float32)
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise UserError(f"is no description of a network: {error!r}.") from None
        pose_templates.check(made)
        return cls._from_fields(fields, made)

    def to_json(self) -> str:
        """Returns the spec as JSON, in the form of `config.model`, the templates written out."""
        return json.dumps(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields in the form of `config.model`, the templates written out."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        alignment = {name: fields.pop(name) for name in ("policy", "reflect", "templates")}
        parts = {name: dict(fields[name]) for name in _KINDS}
        return fields | parts | {"alignment": alignment}

    def differences(self, other: "NetworkSpec") -> list[str]:
        """Returns how another spec differs: "field: this value, that value" for each field."""
        mine, theirs = (
            traverse_util.flatten_dict(spec.to_dict(), sep=".") for spec in (self, other)
        )
        return [
            f"{name}: {_shown(mine.get(name))}, {_shown(theirs.get(name))}"
            for name in sorted(mine.keys() | theirs.keys())
            if mine.get(name) != theirs.get(name)
        ]

    @property
    def convention(self) -> SamplingConvention:
        """Where pixels are read."""
        return CONVENTIONS[self.sampling]

    @property
    def limbs(self) -> Limbs | None:
        """The limbs that Skeleton Features draw; None for no Skeleton Features."""
        return SKELETON_FEATURES[self.skeleton_features]

    @property
    def template_array(self) -> Float[np.ndarray, "K P 3"]:
        """The templates as float32."""
        return np.asarray(self.templates, np.float32)

    def make_backbone(self, **wiring: Any) -> Any:
        """Returns the backbone's Flax module."""
        return _make(BACKBONES, self.backbone, **wiring)

    @property
    def segments(self) -> bool:
        """Whether the network has a segmentation branch."""
        return self.branch["name"] != OFF

    @property
    def finds_poses(self) -> bool:
        """Whether the network has pose heads."""
        return self.pose_head["name"] != OFF

    def make_branch(self, **wiring: Any) -> Any:
        """Returns the segmentation branch's Flax module; None for no branch."""
        if not self.segments:
            return None
        wiring["stride"] = self.roi_stride
        if self.branch["name"] == "paper":
            wiring["align_corners"] = self.convention.align_corners
        return _make(BRANCHES, self.branch, **wiring)

    def make_pose_heads(self, **wiring: Any) -> list[Any]:
        """Returns the Flax modules of the pose heads, one for each of the backbone's maps; none without."""
        if not self.finds_poses:
            return []
        count = self.make_backbone().num_maps
        return [_make(POSE_HEADS, self.pose_head, **wiring) for _ in range(count)]

    @classmethod
    def _from_fields(cls, given: Mapping[str, Any], templates: np.ndarray) -> "NetworkSpec":
        fields = {**given} | {**given.get("alignment", {})}
        fields.pop("alignment", None)
        fields["backbone_image_size"] = fields.get("backbone_image_size") or fields.get(
            "image_size"
        )
        for part in _KINDS:
            fields[part] = _options(part, fields.get(part))
        fields["templates"] = tuple(tuple(map(tuple, one)) for one in templates.tolist())
        expected = {field.name for field in dataclasses.fields(cls)}
        for problem, names in (
            ("lacks", expected - fields.keys()),
            ("has an unknown field", fields.keys() - expected),
        ):
            if names:
                raise UserError(f"config field model {problem} {', '.join(sorted(names))}.")
        for name, kind in (
            ("image_size", int), ("backbone_image_size", int), ("roi_size", int),
            ("roi_stride", int), ("image_in_roi", bool), ("reflect", bool),
        ):  # fmt: skip
            if type(fields[name]) is not kind or (kind is int and fields[name] > _LARGEST):
                field = "alignment.reflect" if name == "reflect" else name
                what = f"a whole number up to {_LARGEST}" if kind is int else "true or false"
                raise UserError(
                    f"config field model.{field} is {fields[name]!r}; it must be {what}."
                )
        return cls(**fields)


def _options(field: str, given: Any) -> flax.core.FrozenDict:
    """The options of a module, defaults filled in."""
    name = str(given.get("name")) if isinstance(given, Mapping) else str(given)
    known = [*_KINDS[field], *([OFF] if field in _MAY_BE_OFF else [])]
    if name not in known or not isinstance(given, Mapping):
        raise UserError(
            f"config field model.{field}.name is {name!r}; it must be one of {', '.join(known)}."
        )
    module = [] if name == OFF else dataclasses.fields(_KINDS[field][name])
    fields = {f.name: f for f in module if f.name not in _NOT_OPTIONS}
    options = {key: value for key, value in given.items() if key != "name"}
    unknown = sorted(options.keys() - fields.keys())
    if unknown:
        raise UserError(
            f"config field model.{field}.{unknown[0]} does not belong to {field} '{name}', which has"
            f" {', '.join(fields) or 'no options'}."
        )
    for key, option in fields.items():
        value = options.setdefault(key, option.default)
        least = 0 if (field, key) in _MAY_BE_ZERO else 1
        most = _DEEPEST if key == "depth" else _LARGEST
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise UserError(
                f"config field model.{field}.{key} must be a whole number from {least} to {most} for '{name}'."
            )
    return flax.core.freeze({"name": name, **options})


def _make(known: Mapping[str, Any], options: Mapping[str, Any], **wiring: Any) -> Any:
    return known[options["name"]](**{k: v for k, v in options.items() if k != "name"}, **wiring)


def _shown(value: Any) -> str:
    if not isinstance(value, tuple | list):
        return str(value)
    return f"{len(value)} templates ({zlib.crc32(repr(value).encode()):08x})"
