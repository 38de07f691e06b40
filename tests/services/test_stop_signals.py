"""The launcher's stop signals: as many as come, whenever they come."""

import subprocess
import sys
import textwrap


def test_signals_that_come_while_the_launcher_waits_for_them_do_not_hold_it_up() -> None:
    program = """
        import os, signal, threading, time
        from services.stop_signals import StopSignals

        def send():
            for _ in range(3000):
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(1e-5)

        with StopSignals() as stopping:
            assert not stopping.wait(1e-3)
            sender = threading.Thread(target=send)
            sender.start()
            while sender.is_alive():
                stopping.wait(1e-6)
            print(stopping.wait(1.0), stopping.is_set())
        """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout.split() == ["True", "True"]
