"""Parts of other skeletons are found by their names and by their number."""

import pytest

from pose2seg_jax.people import skeletons
from pose2seg_jax.people.parts import PART_NAMES

# As OpenPose's output.md lists them.
_BODY_25 = [
    "Nose",
    "Neck",
    "RShoulder",
    "RElbow",
    "RWrist",
    "LShoulder",
    "LElbow",
    "LWrist",
    "MidHip",
    "RHip",
    "RKnee",
    "RAnkle",
    "LHip",
    "LKnee",
    "LAnkle",
    "REye",
    "LEye",
    "REar",
    "LEar",
    "LBigToe",
    "LSmallToe",
    "LHeel",
    "RBigToe",
    "RSmallToe",
    "RHeel",
]
_HUMAN36M = [
    "Hip",
    "RHip",
    "RKnee",
    "RFoot",
    "LHip",
    "LKnee",
    "LFoot",
    "Spine",
    "Thorax",
    "Neck",
    "Head",
    "LShoulder",
    "LElbow",
    "LWrist",
    "RShoulder",
    "RElbow",
    "RWrist",
]


def test_tables_have_the_published_numbers_of_parts():
    lengths = {name: len(parts) for name, parts in skeletons.SKELETONS.items()}
    assert lengths == {
        "coco": 17, "coco_wholebody": 133, "halpe26": 26, "halpe136": 136, "crowdpose": 14, "ai_challenger": 14,
        "mpii": 16, "body_25": 25, "openpose_18": 18, "h36m": 17, "posetrack": 17, "ochuman": 19, "blazepose": 33,
    }  # fmt: skip
    for parts in skeletons.SKELETONS.values():
        assert len(set(parts) & set(PART_NAMES)) >= 12  # all of the body
        skeletons.columns_by_names(parts)  # every name is known


def test_names_in_other_spellings_are_the_same_parts():
    assert skeletons.columns_by_names(_BODY_25) == skeletons.columns_by_names(
        skeletons.SKELETONS["body_25"]
    )
    columns = skeletons.columns_by_names(_HUMAN36M)
    assert [_HUMAN36M[c] if c >= 0 else None for c in columns] == [None] * 5 + [
        "LShoulder", "RShoulder", "LElbow", "RElbow", "LWrist", "RWrist",
        "LHip", "RHip", "LKnee", "RKnee", "LFoot", "RFoot",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "spell",
    [
        lambda name: name.title().replace("_", " "),
        lambda name: "".join(word.title() for word in name.split("_")),
        lambda name: "-".join(reversed(name.upper().split("_"))),
        lambda name: name.replace("left_", "l").replace("right_", "r"),
        lambda name: name.replace("_", ""),
        lambda name: name.replace("left_", "L.").replace("right_", "R."),
    ],
)
def test_any_spelling(spell):
    assert skeletons.columns_by_names([spell(name) for name in PART_NAMES]) == tuple(range(17))


def test_a_foot_is_an_ankle_only_where_there_are_no_ankles():
    names = ["nose", "left_ankle", "right_ankle", "left_foot", "right_foot"]
    assert skeletons.columns_by_names(names)[15:] == (1, 2)
    assert skeletons.columns_by_names(["nose", "left_foot", "right_foot"])[15:] == (1, 2)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["withers", "tail_base", *PART_NAMES[:15]], "'withers', 'tail_base' are not known"),
        ([f"kp{i}" for i in range(17)], r"'kp0'.*, \.\.\. are not known"),
        (["L_F_Paw", "nose"], "'L_F_Paw' are not known"),
        (["nose_tip", "left_eye_inner", "tail_tip"], "'tail_tip' are not known"),
        ([*PART_NAMES, "LShoulder"], "left_shoulder is named more than once"),
        (["head", "neck", "nose"], "fewer than two"),
    ],
)
def test_other_names_are_refused_by_name(names, message):
    with pytest.raises(skeletons.SkeletonError, match=message):
        skeletons.columns_by_names(names)


def test_the_number_of_parts_decides_where_it_is_known(caplog):
    for count, name in (
        (133, "coco_wholebody"),
        (26, "halpe26"),
        (18, "openpose_18"),
        (17, "coco"),
    ):
        assert skeletons.parts_by_length(count, "file") == skeletons.SKELETONS[name]
    assert not caplog.text
    assert skeletons.parts_by_length(14, "file") == skeletons.SKELETONS["crowdpose"]
    assert "14 parts a person are read as crowdpose; others with as many: ai_challenger" in caplog.text  # fmt: skip
    with pytest.raises(skeletons.SkeletonError, match=r"21 parts.*known: 17 \(coco\), 133"):
        skeletons.parts_by_length(21, "file")
    with pytest.raises(
        skeletons.SkeletonError, match="no skeleton is called 'smpl'; known: coco, "
    ):
        skeletons.parts_of("smpl")
    assert skeletons.parts_of("BODY-25") == skeletons.SKELETONS["body_25"]


def test_a_word_that_only_qualifies_changes_no_part():
    names = ["nose_tip", "left_eye_center", "left_eye_inner", "hip_center", "right_hip_joint"]
    columns = skeletons.columns_by_names(names)
    assert (columns[0], columns[1], columns[12]) == (0, 1, 4)
    assert sum(column >= 0 for column in columns) == 3
