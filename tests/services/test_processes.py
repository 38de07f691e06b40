"""Ending what was started: children, orphans, the stubborn; and naming who holds a port."""

import os
import socket
import subprocess
import sys
import textwrap

from services.processes import descendants, free_ports, holder_of_port, port_is_free


def run(program: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60, check=True
    )
    return result.stdout


def test_children_orphans_and_the_stubborn_are_ended() -> None:
    """A shell leaves a process that ignores SIGTERM in a session of its own, and dies: it is found anyway."""
    out = run(
        """
        import subprocess, time
        from services.processes import adopt_orphans, descendants, end_descendants
        adopt_orphans()
        subprocess.Popen(["sleep", "1000"])
        subprocess.run(["sh", "-c", "setsid sh -c 'trap \\"\\" TERM; while :; do sleep 1; done' & exit 0"])
        time.sleep(0.5)
        print(len(descendants()) >= 2)
        end_descendants(grace_s=1.0)
        print(descendants())
        """
    )
    assert out.split("\n")[:2] == ["True", "{}"]


def test_descendants_have_names() -> None:
    with subprocess.Popen(["sleep", "1000"]) as child:
        assert descendants()[child.pid] == "sleep"
        child.kill()
    assert child.pid not in descendants()


def test_ports() -> None:
    ports = free_ports(3)
    assert len(set(ports)) == 3
    with socket.socket() as server:
        server.bind(("127.0.0.1", ports[0]))
        server.listen()
        assert not port_is_free("127.0.0.1", ports[0])
        assert holder_of_port(ports[0]) is not None
        assert str(os.getpid()) in str(holder_of_port(ports[0]))
    assert port_is_free("127.0.0.1", ports[0])
    assert holder_of_port(ports[0]) is None
