"""The file of API keys: what is in it, who may change it, and that the service follows it."""

import hashlib
import json
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from services.keys import KeyFile, KeyRing, new_key, read_keys, without_key, write_keys
from services.rates import Allowance, TokenBucket
from stn_core.errors import InvalidInput, RateLimited


class Clock:
    """Seconds that pass when they are told to."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def file_with(path: Path, **fields: Any) -> str:
    """A file with one key, and the key."""
    keys, secret = new_key(KeyFile(), "lab", **fields)
    write_keys(path, keys)
    return secret


def test_the_file_holds_hashes_alone_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "keys.json"
    secret = file_with(path)
    text = path.read_text()
    assert len(secret) == 47, "256 bits and what it begins with"
    assert secret[4:] not in text
    assert json.loads(text)["keys"][0]["sha256"] == hashlib.sha256(secret.encode()).hexdigest()
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["keys.json"]


def test_a_key_is_found_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    secret = file_with(path)
    ring = KeyRing(path)
    found = ring.find(secret.encode())
    assert found is not None
    assert found.name == "lab"
    digest = hashlib.sha256(secret.encode()).hexdigest()
    for other in ("", secret[:-1], secret + "x", secret.upper(), digest, "lab"):
        assert ring.find(other.encode()) is None


def test_a_key_ends_when_its_time_is_over(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    for expires, holds in ((now + timedelta(days=1), True), (now - timedelta(seconds=1), False)):
        secret = file_with(tmp_path / "keys.json", expires=expires)
        assert (KeyRing(tmp_path / "keys.json").find(secret.encode()) is not None) is holds


def test_keys_are_exchanged_without_a_restart(tmp_path: Path) -> None:
    path, clock = tmp_path / "keys.json", Clock()
    old = file_with(path)
    ring = KeyRing(path, clock)
    both, new = new_key(read_keys(path), "lab-2")
    write_keys(path, both)
    assert ring.find(new.encode()) is None, "the file is asked once a second, not with each request"
    clock.now_s += 1.5
    assert ring.find(new.encode()) is not None
    assert ring.find(old.encode()) is not None
    write_keys(path, without_key(both, "lab"))
    clock.now_s += 1.5
    assert ring.find(old.encode()) is None
    assert ring.find(new.encode()) is not None


@pytest.mark.parametrize("content", [None, "", "{", '{"keys": [{"name": "x"}]}', "[" * 100_000])
def test_a_broken_new_file_leaves_the_old_keys_and_says_so_once(
    tmp_path: Path, content: str | None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("ray.serve"), "propagate", True)
    path, clock = tmp_path / "keys.json", Clock()
    secret = file_with(path)
    ring = KeyRing(path, clock)
    path.unlink()
    if content is not None:
        path.write_text(content)
    for _ in range(3):
        clock.now_s += 1.5
        assert ring.find(secret.encode()) is not None
    assert [record.getMessage().endswith("hold until it is mended") for record in caplog.records] == [True]
    other = file_with(path)
    clock.now_s += 1.5
    assert ring.find(secret.encode()) is None
    assert ring.find(other.encode()) is not None


def test_what_is_wrong_with_a_file_is_told_without_its_content(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    with pytest.raises(InvalidInput, match="cannot be read .*stn keys new NAME"):
        KeyRing(path)
    secret = file_with(path)
    key = json.loads(path.read_text())["keys"][0]
    for keys, message in (
        ([key, {**key, "name": "other"}], "every sha256 once"),
        ([key, {**key, "sha256": "0" * 64}], "every name once"),
        ([{**key, "sha256": secret}], r"keys.0.sha256"),
        ([{**key, "images_per_s": 0}], "images_per_s"),
        ([{**key, "expires": "tomorrow"}], "expires"),
        ([{**key, "expires": "2030-01-01T00:00:00"}], "expires"),
        ([{**key, "key": secret}], "keys.0.key"),
    ):
        path.write_text(json.dumps({"keys": keys}))
        with pytest.raises(InvalidInput, match=message) as caught:
            read_keys(path)
        assert secret not in str(caught.value)
    path.chmod(0o666)
    with pytest.raises(InvalidInput, match="everybody may write it"):
        read_keys(path)


def test_names_are_given_once() -> None:
    keys, _ = new_key(KeyFile(), "lab")
    with pytest.raises(InvalidInput, match="no key has yet, got 'lab'"):
        new_key(keys, "lab")
    with pytest.raises(InvalidInput, match="name"):
        new_key(keys, "a b")
    with pytest.raises(InvalidInput, match=r"expected the name of a key \(lab\), got 'nobody'"):
        without_key(keys, "nobody")


def test_a_bucket_holds_a_second_and_makes_up_for_what_was_overdrawn() -> None:
    clock = Clock()
    bucket = TokenBucket(10, clock)
    bucket.take(10)
    assert bucket.wait_s() == pytest.approx(0.1)
    clock.now_s += 0.1
    assert bucket.wait_s() == pytest.approx(0)
    bucket.take(101)
    assert bucket.wait_s() == pytest.approx(10.1)
    clock.now_s += 1000
    assert bucket.wait_s() == 0
    bucket.take(10)
    assert bucket.wait_s() > 0, "no more than a second's worth was saved up"


def test_in_the_long_run_no_more_come_in_than_the_rate_says() -> None:
    clock = Clock()
    allowance, admitted, images, longest_s = Allowance(5, 100, clock), 0, 0, 0.0
    for _ in range(10_000):  # a hundred seconds
        clock.now_s += 0.01
        try:
            allowance.take_request()
        except RateLimited as error:
            longest_s = max(longest_s, error.retry_after_s)
            continue
        admitted += 1
        images += 64
        allowance.take_images(64)
    assert 100 * 100 - 64 < images < 101 * 100 + 64
    assert admitted == images // 64
    assert 0 < longest_s < 1
