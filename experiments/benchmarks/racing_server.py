"""The costs of a target over a socket, for tuners in other languages: a line per run, END, a cost per line back.

    id <tab> instance <tab> seed <tab> name=value <tab> ...
    END

`QUIT` ends. Inactive parameters are `NA`. Lines `BEST <tab> name=value ...` are kept: the tuner's answer.
"""

import socket
import threading
from collections.abc import Sequence

from jaxsci.core.errors import DataError
from jaxsci.racing.space import Categorical, Configuration, Integer, Space, Value
from jaxsci.racing.targets.protocol import Job, Target


class CostServer:
    """Serves one tuner in a thread: `port` to connect to, `best` and `runs` afterwards. A context manager."""

    def __init__(self, space: Space, target: Target, *, timeout: float = 3600.0):
        self.space, self.target = space, target
        self.best: Configuration | None = None
        self.runs = 0
        self.error: Exception | None = None
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.settimeout(timeout)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def port(self) -> int:
        return self._socket.getsockname()[1]

    def __enter__(self) -> "CostServer":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()
        self._thread.join(5.0)

    def _serve(self) -> None:
        try:
            connection, _ = self._socket.accept()
            with connection, connection.makefile("rw", encoding="utf-8") as stream:
                jobs: list[Job] = []
                for raw in stream:
                    line = raw.rstrip("\n")
                    if line == "QUIT":
                        break
                    if line.startswith("BEST\t"):
                        self.best = read_configuration(self.space, line.split("\t")[1:])
                    elif line != "END":
                        number, instance, seed, *pairs = line.split("\t")
                        jobs.append(Job(int(number), read_configuration(self.space, pairs), instance, int(seed)))
                    else:
                        for cost in self._costs(jobs):
                            stream.write(f"{cost!r}\n")
                        stream.flush()
                        jobs = []
        except Exception as error:  # of a thread, to be raised where the answer is waited for
            self.error = error

    def _costs(self, jobs: Sequence[Job]) -> list[float]:
        self.runs += len(jobs)
        return [float(outcome.cost) for outcome in self.target(jobs)]


def read_configuration(space: Space, pairs: Sequence[str]) -> dict[str, Value]:
    """`name=value` pairs as the tuner wrote them. Raises `DataError` for what the space does not know."""
    given = dict(pair.split("=", 1) for pair in pairs)
    found: dict[str, Value] = {}
    for parameter in space.parameters:
        text = given.pop(parameter.name, "NA")
        if text == "NA":
            found[parameter.name] = None
        elif isinstance(parameter, Categorical):
            found[parameter.name] = text
        else:
            found[parameter.name] = int(float(text)) if isinstance(parameter, Integer) else float(text)
    if given:
        raise DataError(f"tuner: sent unknown parameters {', '.join(given)}")
    return found
