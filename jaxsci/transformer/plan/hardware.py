"""What machines there are: one list of peaks, memories and links, each with its source.

Numbers are those of one *visible device*: a MI250X shows up as two (GCDs). Bytes are bytes and bandwidths are
bytes per second in one direction; 64 GB = 64e9 bytes = 59.6 GiB.

The efficiency of a device is e(x) = e_max x / (x + x0), x = width / tensor: the narrower the matrices, the
less of the peak they reach. It belongs to the machine it was fitted on and does not transfer: `caution` says
so.
"""

from dataclasses import dataclass
from typing import Literal

from jaxsci.core.config import between, one_of, positive, require
from jaxsci.core.errors import ConfigError, did_you_mean


@dataclass(frozen=True)
class Link:
    """Bytes per second, one direction per device, within a group of up to `degree` devices of a node."""

    degree: int
    bandwidth: float

    def __post_init__(self):
        positive(self, "degree", "bandwidth")


@dataclass(frozen=True)
class Hardware:
    """One visible device and what surrounds it.

    `peak_flops`: dense 16-bit FLOP/s. `memory_bytes`, `memory_bandwidth` (bytes/s): of its own memory.
    `node`: visible devices per node. `links`: inside a node, fastest and smallest group first.
    `network_bandwidth`: between nodes, per device.
    `e_max`, `x0`: efficiency (module docstring). `tensor_exposed`, `pipe_exposed`, `data_exposed`: share of that
    traffic which no computation hides. `fill`: turns lost for each stage when a pipeline fills and drains, 1
    in theory. All six were fitted, or assumed while fitting, on the machine named `fitted_on`. `time_error`:
    how far predicted times were off, relatively and at most, for models that were left out of the fit.
    `kind`: how `jax.Device.device_kind` names it. `target`: its description for compiling ahead of time, if
    there is one.
    """

    name: str
    title: str
    peak_flops: float
    memory_bytes: float
    memory_bandwidth: float
    node: int
    links: tuple[Link, ...]
    network_bandwidth: float
    e_max: float
    x0: float
    fitted_on: str
    platform: Literal["cuda", "rocm", "cpu"]
    target: str | None = None
    sources: tuple[str, ...] = ()
    kind: str = ""
    tensor_exposed: float = 1.0
    pipe_exposed: float = 0.0
    data_exposed: float = 1.0
    fill: float = 1.0
    time_error: float = 0.42  # the A100's efficiency on Frontier, the one case of borrowing that can be checked

    def __post_init__(self):
        positive(self, "peak_flops", "memory_bytes", "memory_bandwidth", "node", "network_bandwidth", "x0", "fill")
        positive(self, "time_error")
        between(self, "e_max", 1e-3, 1.0)
        for share in ("tensor_exposed", "pipe_exposed", "data_exposed"):
            between(self, share, 0.0, 1.0)
        one_of(self, "platform", ("cuda", "rocm", "cpu"))
        degrees = [link.degree for link in self.links]
        require(degrees == sorted(set(degrees)), "links", "degrees that increase", degrees)
        require(not degrees or degrees[-1] <= self.node, "links", f"degrees up to node={self.node}", degrees)

    @property
    def fitted(self) -> bool:
        """Whether the efficiency was fitted on this machine."""
        return self.fitted_on == self.name

    @property
    def caution(self) -> str:
        """A sentence for whoever reads a predicted time; empty where the efficiency was fitted here."""
        if self.fitted:
            return ""
        return (
            f"Times for {self.title} use an efficiency fitted on {self.fitted_on}, which does not transfer between "
            "machines: the A100's makes Frontier up to 1.7 times too fast. Rank with them; measure before you promise."
        )

    def bandwidth(self, degree: int) -> float:
        """Bytes per second of a group of `degree` neighbouring devices: beyond a node the network's."""
        return next((link.bandwidth for link in self.links if degree <= link.degree), self.network_bandwidth)


GB = 1e9  # ten to the nine, never 2^30

# Efficiency: A100 from eight iteration times of 2205.05198, Table 5; MI250X from the throughputs and scaling of
# 2312.12705 (`calibration.py`; a test fits both again). Others borrow the A100's and say so.
A100_FIT = {"e_max": 0.740, "x0": 297.0, "fitted_on": "a100"}

HARDWARE: dict[str, Hardware] = {
    "mi250x": Hardware(
        name="mi250x",
        title="AMD MI250X, one GCD, on Frontier",
        kind="MI250X",
        peak_flops=191.5e12,
        memory_bytes=64 * GB,
        memory_bandwidth=1638 * GB,
        node=8,
        links=(Link(2, 200 * GB), Link(8, 50 * GB)),
        network_bandwidth=12.5 * GB,
        e_max=0.465,
        x0=297.0,  # the A100's: the study's models have nearly the same width per device, so nothing can tell
        fill=4.11,
        pipe_exposed=1.0,
        time_error=0.045,
        fitted_on="mi250x",
        platform="rocm",
        sources=(
            "AMD Instinct MI250X data sheet: 383 TFLOP/s, 128 GB, 3.28 TB/s for two GCDs",
            "OLCF Frontier user guide: 8 GCDs per node; 200 GB/s within a MI250X, 50 GB/s per link between two; "
            "4 x 25 GB/s Slingshot per node",
        ),
    ),
    "mi300x": Hardware(
        name="mi300x",
        title="AMD MI300X",
        kind="MI300X",
        peak_flops=1307.4e12,
        memory_bytes=192 * GB,
        memory_bandwidth=5300 * GB,
        node=8,
        links=(Link(8, 291.2 * GB),),
        network_bandwidth=45 * GB,
        platform="rocm",
        sources=(
            "AMD Instinct MI300X data sheet; 7 x 64 GB/s to the others of a node, 65 % of it assumed as on A100",
            "network: 400 Gbit/s per device, 90 % of it assumed",
        ),
        **A100_FIT,
    ),
    "a100": Hardware(
        name="a100",
        title="NVIDIA A100 80 GB SXM",
        kind="A100",
        peak_flops=312e12,
        memory_bytes=80 * GB,
        memory_bandwidth=2039 * GB,
        node=8,
        links=(Link(8, 195 * GB),),
        network_bandwidth=22.5 * GB,
        platform="cuda",
        target="a100",
        sources=(
            "NVIDIA A100 data sheet; NVLink 300 GB/s one way, 65 % of it reached",
            "network: 200 Gbit/s per device, 90 % of it reached",
        ),
        time_error=0.037,
        **A100_FIT,
    ),
    "h100_pcie": Hardware(
        name="h100_pcie",
        title="NVIDIA H100 80 GB PCIe",
        kind="H100 PCIe",
        peak_flops=756e12,
        memory_bytes=80 * GB,
        memory_bandwidth=2000 * GB,
        node=8,
        links=(Link(2, 195 * GB), Link(8, 41.6 * GB)),
        network_bandwidth=22.5 * GB,
        platform="cuda",
        sources=("NVIDIA H100 data sheet, PCIe", "bridge 300 GB/s, PCIe 5 64 GB/s one way, 65 % of it assumed"),
        **A100_FIT,
    ),
    "h100": Hardware(
        name="h100",
        title="NVIDIA H100 80 GB SXM",
        kind="H100",
        peak_flops=989.4e12,
        memory_bytes=80 * GB,
        memory_bandwidth=3352 * GB,
        node=8,
        links=(Link(8, 292.5 * GB),),
        network_bandwidth=45 * GB,
        platform="cuda",
        target="h100",
        sources=(
            "NVIDIA H100 data sheet, SXM; NVLink 450 GB/s one way, 65 % of it assumed as on A100",
            "network: 400 Gbit/s per device, 90 % of it assumed",
        ),
        **A100_FIT,
    ),
    "h200": Hardware(
        name="h200",
        title="NVIDIA H200 141 GB SXM",
        kind="H200",
        peak_flops=989.4e12,
        memory_bytes=141 * GB,
        memory_bandwidth=4800 * GB,
        node=8,
        links=(Link(8, 292.5 * GB),),
        network_bandwidth=45 * GB,
        platform="cuda",
        target="h200",
        sources=(
            "NVIDIA H200 data sheet, SXM; NVLink 450 GB/s one way, 65 % of it assumed as on A100",
            "network: 400 Gbit/s per device, 90 % of it assumed",
        ),
        **A100_FIT,
    ),
    "cpu": Hardware(
        name="cpu",
        title="a laptop's CPU",
        kind="cpu",
        peak_flops=1e11,
        memory_bytes=16 * GB,
        memory_bandwidth=30 * GB,
        node=8,
        links=(Link(8, 10 * GB),),
        network_bandwidth=0.1 * GB,
        platform="cpu",
        sources=("orders of magnitude for float32; measure the peak with utilisation.measured_peak",),
        **A100_FIT,
    ),
}


def hardware(name: str) -> Hardware:
    """The named machine. Raises `ConfigError` that lists what is known."""
    if name not in HARDWARE:
        known = ", ".join(sorted(HARDWARE))
        close = did_you_mean(name, HARDWARE)
        raise ConfigError(f"hardware: expected one of {known}, got '{name}'{close if '?' in close else ''}")
    return HARDWARE[name]
