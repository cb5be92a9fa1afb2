"""The keys every experiment has. An experiment's own `Config` adds to them."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from jaxsci.core.config import between
from jaxsci.core.distributed import DistributedConfig
from jaxsci.core.mesh import MeshConfig
from jaxsci.core.profile import ProfileConfig


@dataclass(frozen=True, kw_only=True)
class Settings:
    """`precision` is that of the science; networks state their own. `trackers` names where metrics go.

    `cpu_threads` bounds XLA's own thread pool on CPU; `None` leaves it to XLA. Programs of many small matrices run
    best on one: with more, threads wait for each other longer than they work. `cpu_devices` splits the CPU into that
    many devices, to run on a laptop what is meant for several accelerators; other platforms take no notice.
    """

    needs_backend: ClassVar[bool] = True
    """Whether the experiment itself computes with JAX; one that only starts others does not."""

    seed: int = 0
    precision: Literal["float32", "float64", "bfloat16"] = "float32"
    debug: Literal["off", "nans"] = "off"
    cpu_threads: int | None = None
    cpu_devices: int | None = None
    trackers: tuple[Literal["jsonl", "csv", "tensorboard", "wandb"], ...] = ("jsonl", "csv")
    distributed: DistributedConfig = field(default_factory=DistributedConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    profile: ProfileConfig = field(default_factory=ProfileConfig)

    def __post_init__(self) -> None:
        between(self, "seed", 0, 2**31 - 1)
        between(self, "cpu_threads", 1, 4096)
        between(self, "cpu_devices", 1, 4096)
