"""`NetworkSpec`: what a network is, read, written, compared."""

import json
import re

import numpy as np
import pytest
from conftest import tiny_spec

from configs import coco_human, coco_human_lite
from pose2seg_jax.alignment import templates
from pose2seg_jax.errors import UserError
from pose2seg_jax.models import NetworkSpec


def _spec(config):
    return NetworkSpec.from_config(config.model)


def test_a_spec_survives_json():
    for config in (coco_human.get_config(), coco_human_lite.get_config()):
        spec = _spec(config)
        again = NetworkSpec.from_json(spec.to_json())
        assert again == spec
        assert hash(again) == hash(spec)
        np.testing.assert_array_equal(again.template_array, templates.load())
    for text in ("", "[]", "{}", json.dumps({"alignment": {"templates": []}})):
        with pytest.raises(UserError):
            NetworkSpec.from_json(text)


def test_differences_are_named_by_field():
    spec = tiny_spec()
    assert spec.differences(spec) == []
    other = spec.with_fields({"roi_size": 16, "branch.units": 2, "alignment.templates": "cvpr2019"})
    templates_differ, *rest = spec.differences(other)
    assert re.fullmatch(
        r"alignment\.templates: 2 templates \(\w{8}\), 3 templates \(\w{8}\)", templates_differ
    )
    assert rest == [
        "branch.units: 1, 2",
        "roi_size: 32, 16",
    ]
    lite = spec.with_fields({"backbone": {"name": "efficientnet_lite0_fpn", "features": 8}})
    assert spec.differences(lite) == [
        "backbone.depth: 1, None",
        "backbone.name: hourglass, efficientnet_lite0_fpn",
        "backbone.stacks: 1, None",
    ]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"backbone.name": "resnet50_fpn"},
            r"backbone\.depth does not belong to backbone 'resnet50",
        ),
        ({"backbone.name": "vgg"}, r"model\.backbone\.name is 'vgg'; it must be one of hourglass"),
        (
            {"branch.stem_kernel": 7},
            r"branch\.stem_kernel does not belong to branch 'lean', which has",
        ),
        ({"branch.units": -1}, r"model\.branch\.units must be a whole number"),
        ({"backbone.depth": 2.5}, r"model\.backbone\.depth must be a whole number"),
        ({"backbone.stacks": 0}, r"model\.backbone\.stacks must be a whole number from 1 to"),
        ({"backbone.depth": 0}, r"model\.backbone\.depth must be a whole number from 1 to"),
        ({"roi_size": "64"}, r"model\.roi_size is '64'; it must be a whole number"),
        ({"image_in_roi": "no"}, r"model\.image_in_roi is 'no'; it must be true or false"),
        ({"alignment.reflect": 1}, r"model\.alignment\.reflect is 1; it must be true or false"),
        ({"skeleton_features": "none"}, r"model\.skeleton_features is 'none'.*paper, coco, off"),
        ({"sampling": "corners"}, r"model\.sampling is 'corners'"),
        ({"alignment.policy": "score"}, r"model\.alignment\.policy is 'score'.*affine_align"),
        ({"backbone_image_size": 128}, r"backbone_image_size is 128; it must be at most .* 64"),
        ({"backbone_image_size": 60}, r"backbone_image_size is 60; it must be a multiple of 8"),
        ({"roi_size": 30}, r"roi_size is 30; it must be a multiple of 4"),
        ({"roi_stride": 3}, r"roi_size is 32; it must be a multiple of 12 .*roi_stride=3"),
        ({"roi_stride": 0}, r"model\.roi_stride is 0; it must be 1 or more"),
        ({"sampling": "pixel_indices", "roi_stride": 2}, r"roi_stride is 2; .* 1 with .*indices"),
        ({"sampling": "pixel_indices", "backbone_image_size": 32}, "the CVPR 2019 version has one"),
        ({"width": 3}, "config field model has an unknown field width"),
        ({"alignment.templates": "/nowhere.json"}, "/nowhere.json: cannot be read"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(fields, message):
    with pytest.raises(UserError, match=message):
        tiny_spec(**fields)


def test_options_that_are_left_out_have_their_defaults():
    spec = tiny_spec(backbone={"name": "resnet50_fpn"}, branch={"name": "paper", "units": 2})
    assert spec.backbone["features"] == 256
    assert spec.branch["stem_kernel"] == 7
    assert coco_human.get_config().model.backbone_image_size is None
    assert _spec(coco_human.get_config()).backbone_image_size == 512
