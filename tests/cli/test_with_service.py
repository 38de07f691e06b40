"""The commands with a real service of two deployments: what they say is what they say without one."""

from __future__ import annotations

import numpy as np
import pytest
from stn_command import Stn

pytestmark = pytest.mark.service


def test_a_service_and_this_process_say_the_same(
    stn: Stn, scans: list[int], service_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = stn("predict", "scans", "nope.png", "--json", "--min-confidence", 0.5)
    there = stn("predict", "scans", "nope.png", "--json", "--min-confidence", 0.5, "--url", service_url)
    assert (here.status, there.status) == (1, 1)
    for one, other in zip(here.entries, there.entries, strict=True):
        assert one.keys() == other.keys()
        if "error" not in one:
            assert (one["label"], one["decision"], one["reason"]) == (
                other["label"],
                other["decision"],
                other["reason"],
            )
            np.testing.assert_allclose(one["theta"], other["theta"], atol=1e-5)
    monkeypatch.setenv("STN_URL", service_url)
    refused = stn("predict", "scans", "--bundle", "digits")
    assert (refused.status, "--bundle: the service at" in refused.stderr) == (2, True)
    assert stn("rectify", "scans", "--out", "o", "--mask", "--json").status == 0
    assert stn("augment", "scans", "--recipe", "rotation", "--out", "p", "--json").status == 0
    assert stn("shadow").status == 0
