"""The fault matrix in a short form; `make faults` is the long one."""

import pytest

from benchmarks import faults


@pytest.mark.parametrize(
    "fault", [faults.killed, faults.full_disk], ids=lambda fault: fault.__name__
)
def test_nothing_is_lost(fault, tmp_path):
    """Killed twice while it saves, and without room for a checkpoint: the end is the same, bit for bit."""
    if fault is faults.full_disk and not faults.may_mount():
        pytest.skip("to mount a small file system needs root")
    outcome = fault(faults.Lab(tmp_path), 2)
    assert outcome.times > 0
    assert outcome.examples == "0"
    assert "equal bit for bit" in outcome.outcome
