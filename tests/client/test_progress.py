"""How far a call is, told as it is asked for."""

import pytest
from stn_client.progress import checked_progress, telling

from stn_core.errors import InvalidInput


def test_a_function_hears_of_each_part() -> None:
    heard: list[tuple[int, int | None]] = []
    with telling(lambda done, total: heard.append((done, total)), "predict", 9) as tell:
        tell(4)
        tell(5)
    assert heard == [(4, 9), (9, 9)]


def test_a_bar_is_drawn_beside_the_output(capfd: pytest.CaptureFixture[str]) -> None:
    for total in (9, None):
        with telling(True, "predict", total) as tell:
            tell(9)
        output, bar = capfd.readouterr()
        assert output == ""
        assert "predict" in bar
        assert "9/9" in bar if total else "9/?" in bar


@pytest.mark.parametrize("wrong", ["yes", 1, None])
def test_other_wishes_are_refused(wrong: object) -> None:
    with pytest.raises(InvalidInput, match="progress: expected True, False or a function"):
        checked_progress(wrong)
