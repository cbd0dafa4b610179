"""What third values mean is decided for the whole file, and said where it is not obvious."""

import numpy as np
import pytest
from pose_file_fixtures import annotations, results

from pose2seg_jax.people.pose_files import PoseFileError, visibilities_from_scores

_FORMS = [results, annotations]


def _states(read, poses, third, form=results, **options):
    values = poses.copy()
    values[..., 2] = third
    return read(form(values), **options).poses[..., 2]


@pytest.mark.parametrize("form", _FORMS)
@pytest.mark.parametrize(
    ("third", "expected", "said"),
    [
        ([2] * 15 + [1, 0], [2] * 15 + [1, 0], None),
        ([2.0] * 15 + [1.0, 0.0], [2] * 15 + [1, 0], None),
        ([1] * 15 + [1, 0], [2] * 16 + [0], "no part has visibility 2, so 1 is read as visible"),
        ([True] * 15 + [True, False], [2] * 16 + [0], "so 1 is read as visible"),
        ([0.9] * 15 + [0.3, 0.29], [2] * 16 + [0], None),
        ([1.0] * 15 + [0.5, 0.1], [2] * 16 + [0], None),
        ([1.3] * 15 + [0.5, 0.1], [2] * 16 + [0], None),
        ([96] * 15 + [40, 9], [2] * 16 + [0], "part scores go up to 96, so they are read as per cent"),
        ([55.5] * 15 + [31, 29], [2] * 16 + [0], "per cent"),
        ([2] * 14 + [0.87, 1, 0], [2] * 15 + [1, 0], "2 visibilities are no 0, 1 or 2"),
        ([2] * 14 + [0.1, 1, 0], [2] * 14 + [0, 1, 0], "they are read as scores"),
        ([2] * 15 + [1, -1], [2] * 15 + [1, 0], None),
    ],
)  # fmt: skip
def test_the_whole_file_decides(read, poses, form, third, expected, said, caplog):
    assert np.all(_states(read, poses, third, form) == expected)
    if said is None:
        assert "read as" not in caplog.text
    else:
        assert said in caplog.text


@pytest.mark.parametrize("form", _FORMS)
@pytest.mark.parametrize("value", [2, 1, 0.41, 0.9])
def test_zero_zero_is_missing_whatever_its_third_value(read, poses, form, value):
    values = poses.copy()
    values[..., 2] = 0.8 if value < 1 else 2
    values[0, ::3] = 0, 0, value
    found = read(form(values)).poses
    assert not found[0, ::3].any()
    assert found[0, 1::3, 2].all()


def test_a_part_at_one_edge_is_not_missing(read, poses):
    poses[0, 0, 0] = poses[0, 1, 1] = 0
    assert read(results(poses)).poses[0, :2, 2].tolist() == [2, 2]


@pytest.mark.parametrize("hidden", [1, 2])
def test_three_for_parts_without_coordinates(read, poses, hidden, caplog):
    poses[..., 2] = 3 - hidden
    poses[0, 5:8, 2] = hidden
    poses[0, 9:11] = 0, 0, 3
    found = read(results(poses)).poses[..., 2]
    assert found[0].tolist() == [2] * 9 + [0] * 2 + [2] * 6
    assert "visibility 3 marks missing parts; 1 and 2 are both read as visible" in caplog.text


@pytest.mark.parametrize(
    ("third", "message"),
    [
        ([2] * 16 + [3], "visibility 3, which COCO does not know"),
        ([0.5] * 16 + [-0.7], "third value -0.7, which is neither a visibility"),
        ([-3.2] * 17, "third value -3.2, which is neither"),
        ([4.5] * 17, "third values of parts go up to 4.5; scores must be in 0 to 1"),
        ([1000] * 17, "go up to 1000"),
    ],
)
def test_other_values_are_refused(read, poses, third, message):
    with pytest.raises(PoseFileError, match=f"poses.json: .*{message}"):
        _states(read, poses, third)


@pytest.mark.parametrize("scale", [1, 100])
def test_scores_all_below_the_threshold_are_an_error_with_numbers(read, poses, scale):
    values = poses.copy()
    values[..., 2] = np.linspace(0.11, 0.289, 17) * scale
    with pytest.raises(PoseFileError, match=r"all 34 part scores are below 0\.3, the highest is 0\.289"):  # fmt: skip
        read(results(values))


def test_part_scores_are_kept(read, poses):
    values = poses.copy()
    values[..., 2] = np.linspace(0.2, 0.9, 17)
    np.testing.assert_allclose(read(results(values)).part_scores[1], values[1, :, 2])
    assert np.all(np.isnan(read(results(poses)).part_scores))


def test_arrays_of_a_users_program_are_read_by_the_same_rule(poses):
    poses[..., 2] = np.linspace(0.05, 0.9, 17)
    found = visibilities_from_scores(poses.astype(np.float32), 0.5)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[..., 2], np.where(poses[..., 2] >= 0.5, 2, 0))
    assert not found[found[..., 2] == 0].any()
    with pytest.raises(PoseFileError, match="neither a visibility"):
        visibilities_from_scores(-poses, 0.5)
    assert visibilities_from_scores(np.zeros((0, 17, 3)), 0.5).shape == (0, 17, 3)
