"""The signals that ask a process to stop: while in use, they set a flag and do nothing else."""

import signal
import time

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LOOK_S = 0.2


class StopFlag:
    """What a signal handler may set: an Event has a lock, which the very code that is interrupted may hold."""

    def __init__(self) -> None:
        self._set = False

    def set(self) -> None:
        self._set = True

    def is_set(self) -> bool:
        return self._set

    def wait(self, seconds: float) -> bool:
        """Whether it is set, at the latest after ``seconds``."""
        until_s = time.monotonic() + seconds
        while not self._set and (left_s := until_s - time.monotonic()) > 0:
            time.sleep(min(left_s, _LOOK_S))
        return self._set


class StopSignals:
    """While in use, the stop signals set ``asked`` and do nothing else, however many come.

    They raise nothing: an exception thrown into Ray's compiled code leaves ruins. And more than one comes: a
    terminal's Ctrl-C goes to the whole process group, and a parent in it passes it on once more.
    """

    def __init__(self) -> None:
        self.asked = StopFlag()
        self._before = {sign: signal.getsignal(sign) for sign in _STOP_SIGNALS}

    def __enter__(self) -> StopFlag:
        self.install()
        return self.asked

    def __exit__(self, *_: object) -> None:
        for sign, handler in self._before.items():
            signal.signal(sign, handler)

    def install(self) -> None:
        for sign in _STOP_SIGNALS:
            signal.signal(sign, lambda *_: self.asked.set())
        signal.alarm(0)  # a signal that came while Ray's was in place would abort the process after 3 s
