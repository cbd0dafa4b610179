import pytest

from benchmarks import hosts

_SAID = """\
step 1/2  fallback 0.0625  gradient_norm 2.5  loss 0.75  persons 48  roi_iou 0.25  learning_rate 1e-3  skipped 0
step 2/2  fallback 0  gradient_norm 1.5  loss 0.5  persons 47  roi_iou 0.375  learning_rate 1e-3  skipped 0  9.3 images/s
data                     predictions                scores    AP  AP50  AP75  AP-M  AP-L  AP(M+L)
-------------------------------------------------------------------------------------------------
COCOHUMAN (234 persons)  Pose2Seg, annotated poses  1.0     .467  .862     -  .405  .541     .475
COCOHUMAN (234 persons)  Pose2Seg, annotated poses  own     .561  .920  .618  .480  .621     .561
mean IoU of the persons' own masks: .762
"""


def test_every_number_of_a_run_is_found():
    found = hosts._numbers(_SAID)
    assert found["step 1: persons"] == 48
    assert found["step 2: roi_iou"] == 0.375
    assert found["COCOHUMAN (234 persons), scores own: AP75"] == 0.618
    assert "COCOHUMAN (234 persons), scores 1.0: AP75" not in found
    assert found["mean IoU of the persons' own masks"] == 0.762
    assert len(found) == 2 * 5 + 5 + 1


@pytest.mark.parametrize(
    ("name", "values", "differ"),
    [
        ("step 1: loss", (0.5, 0.501), False),
        ("step 1: loss", (0.5, 0.51), True),
        ("step 1: persons", (0.0, 0.0), False),
        ("all, scores own: AP", (0.004, 0.012), False),
        ("all, scores own: AP", (0.4, 0.42), True),
    ],
)
def test_what_differs(name, values, differ):
    assert hosts._differ(name, values) is differ
