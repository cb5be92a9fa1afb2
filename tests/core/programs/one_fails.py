"""One of two processes, `one_fails.py PORT INDEX`: the second raises, the first waits for it in a collective."""

import sys

import jax

from jaxsci.core import distributed


def main(port: str, index: int) -> None:
    config = {"mode": "on", "coordinator": f"localhost:{port}", "process_id": index, "num_processes": 2}
    distributed.start(distributed.DistributedConfig(**config, heartbeat_timeout_seconds=10))
    assert jax.process_count() == 2
    with distributed.ending_together():
        if index == 1:
            raise RuntimeError("the second one falls")
        distributed.barrier("never reached by the other")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
