"""The table of the checks tells a missed figure from a reached one."""

import pytest

from tests.reliability.conftest import check_of
from tests.reliability.figures import Figure, Line, Recorder


def test_figure_is_noted_before_it_fails():
    noted = []
    recorder = Recorder(noted.append)
    recorder.count("kills resumed", 3, 3)
    with pytest.raises(AssertionError, match="kills resumed: 2 of 3"):
        recorder.count("kills resumed", 2, 3)
    with pytest.raises(AssertionError, match=r"memory: 2\.5 <= 2"):
        recorder.at_most("memory", 2.5, 2.0)
    assert [figure.holds for figure in noted] == [True, False, False]


def test_figures_of_several_tests_add_up_and_limits_take_the_worst():
    line = Line(passed=2)
    for figure in (
        Figure("kills", 3, 3),
        Figure("kills", 4, 5),
        Figure("memory", 1, 2, "limit"),
        Figure("memory", 3, 2, "limit"),
    ):
        line.add(figure)
    assert line.text("R2") == "R2  SIGKILL at any moment: passed (2 tests); kills: 7 of 8; memory: 3 <= 2"


def test_check_is_known_by_its_file():
    assert check_of("tests/reliability/test_r02_kills.py::test_one[a]") == "R2"
    assert check_of("tests/reliability/test_r15_old_runs.py::test_one") == "R15"
    assert check_of("tests/test_training_kill.py::test_one") is None
