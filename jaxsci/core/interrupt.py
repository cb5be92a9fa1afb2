"""SIGTERM and SIGINT as a request to stop at the next safe point, for the duration of a `with` block."""

import signal
import threading
from types import FrameType

import jax
from jax.experimental import multihost_utils


class Interrupt:
    """Notes the first SIGTERM or SIGINT instead of dying from it; ask `requested()` at every safe point.

    Handlers are put back on leaving, and already on the first signal, so that a second one acts as it would
    elsewhere. Off the main thread, where Python allows no handlers, nothing is noted.

    After `distributed.start`, the processes must stop at the same step although the signal reaches them at
    different ones, or only one of them. JAX's preemption service, which then owns SIGTERM, agrees on a safe
    point; every process asks equally often.
    """

    def __init__(self) -> None:
        self._received = False
        self._asked = 0
        self._previous = {}

    def __enter__(self) -> "Interrupt":
        if not jax.distributed.is_initialized() and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            if handler is not None:  # None: set by other than Python code, which Python cannot put back
                signal.signal(number, handler)
        self._previous = {}

    def requested(self) -> bool:
        """Whether to stop here."""
        if not jax.distributed.is_initialized():
            return self._received
        # The service answers at the call whose number all processes can still reach: consecutive numbers, not
        # steps.
        self._asked += 1
        return multihost_utils.reached_preemption_sync_point(self._asked)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received = True
        self.__exit__()
