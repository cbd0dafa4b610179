"""The fault matrix in its shortest form; `make faults` is the long one."""

from benchmarks import faults


def test_a_run_that_is_killed_while_it_saves_loses_nothing(tmp_path):
    outcome = faults.killed(faults.Lab(tmp_path), 1)
    assert outcome.times == 1
    assert outcome.outcome.startswith("equal bit for bit")
