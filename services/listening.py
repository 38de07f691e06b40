"""Which ports processes listen on, and who reaches them: ``python -m services.listening PID`` prints it. Linux only."""

import contextlib
import os
import sys
from collections.abc import Iterable
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import NamedTuple

from services.processes import descendants

_LISTEN = "0A"


class Listening(NamedTuple):
    """A TCP port that a process listens on."""

    address: str
    port: int
    process: str
    pid: int

    @property
    def is_loopback(self) -> bool:
        """Whether it is reached from this machine alone."""
        address = ip_address(self.address)
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        return (mapped or address).is_loopback


def listening(pids: Iterable[int]) -> list[Listening]:
    """All ports that the processes ``pids`` listen on, as far as this user may know."""
    holders: dict[str, int] = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    holders.setdefault(os.readlink(descriptor), pid)
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            pid = holders.get(f"socket:[{fields[9]}]", 0)
            if fields[3] == _LISTEN and pid:
                address, _, port = fields[1].partition(":")
                name = Path(f"/proc/{pid}/comm").read_text().strip()
                found.append(Listening(_address(address), int(port, 16), name, pid))
    return sorted(found)


def _address(text: str) -> str:
    """An address as /proc has it: words of four bytes, each in the machine's own order."""
    words = [bytes.fromhex(text[start : start + 8]) for start in range(0, len(text), 8)]
    ordered = b"".join(word[::-1] if sys.byteorder == "little" else word for word in words)
    return str(ip_address(ordered))


def main() -> None:
    """The ports of a process and of all that it started."""
    pid = int(sys.argv[1])
    for one in listening([pid, *descendants(pid)]):
        reach = "this machine" if one.is_loopback else "others too"
        print(f"{one.port:>6}  {reach:<13} {one.address:<18} {one.process} ({one.pid})")


if __name__ == "__main__":
    main()
