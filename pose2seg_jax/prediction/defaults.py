"""The settings of prediction where no experiment is named; those of configs/coco_human.py, which says what they mean."""

from typing import Any

from ml_collections import config_dict


def defaults_of_prediction() -> dict[str, Any]:
    """Returns the part of a config that prediction reads."""
    return {
        "dtype": "float32",
        "prediction": {
            "flip": False,
            "exclusive": True,
            "accurate_poses": False,
            "part_score_threshold": config_dict.placeholder(float),
            "person_score_threshold": config_dict.placeholder(float),
            "drop_duplicates": True,
        },
    }
