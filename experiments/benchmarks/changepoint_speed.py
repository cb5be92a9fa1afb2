"""Speed of changepoint detection beside the Python package bayesian_changepoint_detection, on the same CPU."""

import statistics
import time
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments.peers import package
from experiments.settings import Settings
from jaxsci.core.config import between, positive
from jaxsci.core.figures import BLUE, ORANGE, new_figure, style
from jaxsci.core.progress import progress
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Reference, Summary
from jaxsci.drift.changepoint import Bocpd, detect, recent_mass
from jaxsci.drift.hazard import ConstantHazard
from jaxsci.drift.segments import Gaussian

PEER = "bayesian_changepoint_detection.online_changepoint_detection"


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """`series` x `steps` in one vmapped program, against `peer_series` of them one after another in the peer.

    `capacity` is the longest run told apart (the peer keeps all). `stream_steps` are fed one by one to the jitted
    update, to see whether its state grows.
    """

    series: int = 1000
    steps: int = 1000
    capacity: int = 256
    mean_run: float = 250.0
    segment_length: int = 200
    peer_series: int = 2
    rounds: int = 5
    stream_steps: int = 100_000

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "series", "peer_series", "rounds", "stream_steps", "mean_run")
        between(self, "steps", 10, 100_000)
        between(self, "capacity", 2, 100_000)


def main(config: Config, run: Run) -> tuple[Summary, Report]:
    peer = package(PEER)
    data = _data(config)
    detector = Bocpd(Gaussian(), ConstantHazard(config.mean_run), capacity=config.capacity)
    program = jax.jit(jax.vmap(partial(detect, detector)))
    x = jnp.asarray(data[..., None], jnp.float32)
    begin = time.perf_counter()
    compiled = program.lower(x).compile()
    seconds = {"compile": time.perf_counter() - begin}
    jax.block_until_ready(compiled(x))
    ours, theirs = [], []
    with progress(config.rounds, "rounds") as bar:
        for number in range(config.rounds):
            begin = time.perf_counter()
            jax.block_until_ready(compiled(x))
            ours.append(1e6 * (time.perf_counter() - begin) / data.size)
            begin = time.perf_counter()
            for one in data[: config.peer_series]:
                _run_peer(peer, one, config.mean_run)
            theirs.append(1e6 * (time.perf_counter() - begin) / (config.peer_series * config.steps))
            run.log({"microseconds_ours": ours[-1], "microseconds_peer": theirs[-1]}, number)
            bar.update(ratio=theirs[-1] / ours[-1])
    agreement = _disagreement(detector, peer, data, config)
    stream = _stream(detector, config)
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    metrics = {
        "series_steps_ratio": statistics.median(ratios),
        "series_steps_ratio_least": min(ratios),
        "microseconds_per_series_step": statistics.median(ours),
        "microseconds_per_series_step_peer": statistics.median(theirs),
        "largest_difference_from_peer": agreement,
        "stream_microseconds_per_step": stream["microseconds"],
        "stream_state_bytes": stream["bytes"],
        "stream_state_growth": stream["growth"],
        "stream_resident_growth_mib": stream["resident"],
    }
    references = {
        "series_steps_ratio": Reference(100.0, "goal: times faster per series and step than the peer", "higher"),
        "stream_state_growth": Reference(0.0, "bytes the state grew over the stream", "lower"),
    }
    notes = (
        f"Both: normal segments, hazard 1/{config.mean_run:g}, {config.steps} steps. Ours: float32, runs longer than "
        f"{config.capacity} share a cell, run lengths whose tail holds less than 1e-4 are dropped. The peer: float64, "
        "exact.",
        "largest_difference_from_peer: of P(r < 20) over time between the two, on one series.",
        f"The stream is {config.stream_steps} single calls of the jitted update.",
    )
    page = Report("Speed of changepoint detection", "How much time does one step of one series take?")
    page.figure("rates", run.figure("rates", by_round(ours, theirs)), "Rounds alternate between the two.").table(
        "Microseconds per series and step, by round",
        ("round", "jaxsci", "peer", "ratio"),
        [(n + 1, a, b, b / a) for n, (a, b) in enumerate(zip(ours, theirs, strict=True))],
    )
    return Summary("benchmarks/changepoint_speed", metrics, references, seconds, notes), page


def _data(config: Config) -> np.ndarray:
    """Levels that jump every `segment_length` points, with unit noise; (series, steps)."""
    rng = np.random.default_rng(config.seed)
    pieces = -(-config.steps // config.segment_length)
    levels = np.repeat(2 * rng.standard_normal((config.series, pieces)), config.segment_length, axis=1)
    return levels[:, : config.steps] + rng.standard_normal((config.series, config.steps))


def _run_peer(peer, x: np.ndarray, mean_run: float) -> np.ndarray:
    likelihood = peer.StudentT(alpha=1.0, beta=1.0, kappa=1.0, mu=0.0)
    posterior, _ = peer.online_changepoint_detection(x, partial(peer.constant_hazard, mean_run), likelihood)
    return posterior


def _disagreement(detector: Bocpd, peer, data: np.ndarray, config: Config) -> float:
    posterior = _run_peer(peer, data[0], config.mean_run)  # (run length, time), one column more than points
    theirs = posterior[:20, 1:].sum(axis=0)
    x = jnp.asarray(data[0][:, None], jnp.float32)
    ours = detect(detector, x, emit=lambda info: recent_mass(info.log_mass, 20))[1]
    return float(np.abs(np.asarray(ours) - theirs).max())


def _stream(detector: Bocpd, config: Config) -> dict[str, float]:
    detector = detector.prepare()
    update = jax.jit(lambda state, x: detector.update(state, x))
    rng = np.random.default_rng(config.seed)
    points = jnp.asarray(rng.standard_normal((config.stream_steps, 1)), jnp.float32)
    rows = list(points[:1000])  # the same thousand again and again: their copies on the device are not the state
    state = detector.init()
    before = _bytes(state)
    state, _ = update(state, rows[0])
    resident = _resident()
    begin = time.perf_counter()
    for i in range(1, config.stream_steps):
        state, _ = update(state, rows[i % len(rows)])
    jax.block_until_ready(state)
    spent = time.perf_counter() - begin
    return {
        "microseconds": 1e6 * spent / max(config.stream_steps - 1, 1),
        "bytes": float(_bytes(state)),
        "growth": float(_bytes(state) - before),
        "resident": (_resident() - resident) / 2**20,
    }


def _bytes(tree) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def _resident() -> int:
    """Memory of this process in bytes; 0 where the system does not say."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096
    except OSError:
        return 0


@style()
def by_round(ours: list[float], theirs: list[float]) -> Figure:
    figure, axes = new_figure(1, 1, (7, 4.2))
    for values, colour, label in ((ours, BLUE, "jaxsci"), (theirs, ORANGE, "bayesian_changepoint_detection")):
        axes[0, 0].plot(range(1, len(values) + 1), values, "o-", color=colour, label=label)
    axes[0, 0].set(xlabel="round", ylabel="microseconds per series and step", yscale="log")
    axes[0, 0].xaxis.get_major_locator().set_params(integer=True)
    axes[0, 0].legend()
    return figure
