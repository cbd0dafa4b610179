"""The settings of prediction where no experiment is named; those of configs/coco_human.py, which says what they mean."""

from typing import Any


def defaults_of_prediction() -> dict[str, Any]:
    """Returns the part of a config that prediction reads."""
    return {
        "dtype": "float32",
        "prediction": {
            "flip": False,
            "exclusive": False,
            "part_score_threshold": 0.3,
            "person_score_threshold": 0.0,
            "drop_duplicates": True,
        },
    }
