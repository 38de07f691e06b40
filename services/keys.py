"""API keys: a file of their hashes, which may change while the service runs. The keys themselves are kept nowhere.

A key is 256 random bits, so that its plain SHA-256 cannot be searched for; a slow hash, made for passwords, would only
cost time with each request.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import secrets
import stat
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Annotated, NamedTuple, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PositiveFloat, ValidationError, model_validator

from stn_core.errors import InvalidInput, brief

logger = logging.getLogger("ray.serve")

PREFIX = "stn_"
"""What keys begin with, so that scanners for leaked secrets know them."""
MAX_KEYS = 1000
MAX_FILE_BYTES = 1 << 20
LOOK_S = 1.0
"""How often the file is asked whether it changed."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Key(_Strict):
    """One key, as the file has it. Rates that it does not name are the service's own (``access`` in the settings)."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    created: AwareDatetime
    expires: AwareDatetime | None = None
    requests_per_s: PositiveFloat | None = None
    images_per_s: PositiveFloat | None = None

    def has_expired(self, now: datetime) -> bool:
        return self.expires is not None and self.expires <= now


class KeyFile(_Strict):
    """The whole file."""

    keys: Annotated[tuple[Key, ...], Field(max_length=MAX_KEYS)] = ()

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        for field in ("name", "sha256"):
            values = [getattr(key, field) for key in self.keys]
            if len(set(values)) < len(values):
                raise ValueError(f"expected every {field} once; two keys share one")
        return self


def read_keys(path: Path) -> KeyFile:
    """The keys in ``path``; InvalidInput if it cannot be read, is no such file, or may be written by others."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & stat.S_IWOTH:
                raise InvalidInput(f"keys {path}: everybody may write it; chmod o-w {path}")
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InvalidInput(f"keys {path}: cannot be read ({error.strerror}); make it with: stn keys new NAME") from None
    if len(content) > MAX_FILE_BYTES:
        raise InvalidInput(f"keys {path}: expected at most {MAX_FILE_BYTES} bytes, got more")
    try:
        return KeyFile.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise InvalidInput(f"keys {path}: {where}: {first['msg']}") from None


def new_key(given: KeyFile, name: str, **fields: object) -> tuple[KeyFile, str]:
    """``given`` with one more key, and the key itself, which nobody can ask for again; InvalidInput for bad fields."""
    if any(key.name == name for key in given.keys):
        raise InvalidInput(
            f"expected a name that no key has yet, got {brief(name)}; revoke that key, or choose another"
        )
    secret = PREFIX + secrets.token_urlsafe(32)
    try:
        now = datetime.now(UTC).replace(microsecond=0)
        key = Key(name=name, sha256=hashlib.sha256(secret.encode()).hexdigest(), created=now, **fields)  # type: ignore[arg-type]
        return KeyFile(keys=(*given.keys, key)), secret
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InvalidInput(f"{'.'.join(map(str, first['loc'])) or 'keys'}: {first['msg']}") from None


def without_key(given: KeyFile, name: str) -> KeyFile:
    """``given`` without the key ``name``; InvalidInput if there is none."""
    left = tuple(key for key in given.keys if key.name != name)
    if len(left) == len(given.keys):
        names = ", ".join(key.name for key in left) or "none"
        raise InvalidInput(f"expected the name of a key ({names}), got {brief(name)}")
    return KeyFile(keys=left)


def write_keys(path: Path, keys: KeyFile) -> None:
    """Puts the file in place at once, so that no reader sees half of it; for its owner alone, if it is new."""
    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o600
    path.parent.mkdir(parents=True, exist_ok=True)
    content = json.dumps(keys.model_dump(mode="json", exclude_none=True), indent=2) + "\n"
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}-", delete=False) as scratch:
        try:
            scratch.write(content)
            scratch.flush()
            os.fchmod(scratch.fileno(), mode)
            Path(scratch.name).rename(path)
        except BaseException:
            Path(scratch.name).unlink(missing_ok=True)
            raise


class _Version(NamedTuple):
    """What tells one content of a file from another, cheaply."""

    changed_ns: int
    size_bytes: int
    inode: int


class KeyRing:
    """The keys that hold now: those of the file at ``path``. A broken new file, or none, leaves the old ones in force.

    InvalidInput if the file cannot be read at the start.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = monotonic) -> None:
        self._path, self._clock = path, clock
        self._seen, self._looked_s = _version_of(path), clock()
        self._take(read_keys(path))

    def find(self, presented: bytes) -> Key | None:
        """The key that ``presented`` is; None if it is none, or its time is over.

        Every hash is compared whole, so that the time it takes tells nothing of them.
        """
        self._look()
        digest = hashlib.sha256(presented).digest()
        found = None
        for stored, key in self._keys:
            if hmac.compare_digest(stored, digest):
                found = key
        return None if found is None or found.has_expired(datetime.now(UTC)) else found

    def _take(self, file: KeyFile) -> None:
        self._keys = [(bytes.fromhex(key.sha256), key) for key in file.keys]

    def _look(self) -> None:
        now_s = self._clock()
        if now_s - self._looked_s < LOOK_S:
            return
        self._looked_s = now_s
        version = _version_of(self._path)
        if version == self._seen:
            return
        self._seen = version
        try:
            self._take(read_keys(self._path))
            logger.warning("keys %s: read again, %d keys hold now", self._path, len(self._keys))
        except InvalidInput as error:
            logger.error("%s; the %d keys of before hold until it is mended", error, len(self._keys))


def _version_of(path: Path) -> _Version | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return _Version(status.st_mtime_ns, status.st_size, status.st_ino)
