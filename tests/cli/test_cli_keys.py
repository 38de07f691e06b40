"""``stn keys``: a key is printed once, and what it made is what the service reads."""

from __future__ import annotations

from pathlib import Path

from stn_command import Stn

from services.keys import KeyRing


def test_made_listed_and_revoked(stn: Stn, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    made = stn("keys", "new", "lab", "--file", str(file), "--days", "30", "--images-per-s", "500")
    secret = made.stdout.strip()
    assert made.status == 0
    assert secret not in made.stderr + file.read_text()
    found = KeyRing(file).find(secret.encode())
    assert found is not None
    assert (found.name, found.images_per_s, found.requests_per_s) == ("lab", 500, None)
    assert found.expires is not None
    assert (found.expires - found.created).days == 30
    listed = stn("keys", "list", "--file", str(file)).stdout
    assert "lab" in listed
    assert "500" in listed
    assert secret not in listed
    assert stn("keys", "revoke", "lab", "--file", str(file)).status == 0
    assert KeyRing(file).find(secret.encode()) is None


def test_mistakes_are_told_in_a_line_and_change_nothing(stn: Stn, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    stn("keys", "new", "lab", "--file", str(file))
    before = file.read_bytes()
    for arguments, said in (
        (("new", "lab"), "no key has yet"),
        (("new", "a b"), "name"),
        (("new", "other", "--images-per-s=-1"), "images_per_s"),
        (("revoke", "nobody"), "got 'nobody'"),
    ):
        done = stn("keys", *arguments, "--file", str(file))
        assert done.status == 2
        assert said in done.stderr
        assert not done.stdout
    assert file.read_bytes() == before
    assert "stn keys new" in stn("keys", "list", "--file", str(tmp_path / "none.json")).stderr
