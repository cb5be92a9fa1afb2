"""Target: a detector of changes over series that people have annotated; cost is 1 - F1 of its segmentation.

Three segment models under a hazard that knows a least length, and the likeliest segmentation. A run with a seed sees a
stretch of its series, so that a block is a new draw of the problem and not the same answer again; seed 0, that of
deterministic races, is the whole series.
"""

from collections.abc import Hashable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsci.core.errors import DataError
from jaxsci.drift.hazard import RefractoryHazard
from jaxsci.drift.offline import likeliest_runs, segmentation
from jaxsci.drift.scores import f1
from jaxsci.drift.segments import Autoregressive, Independent, Level, Trend
from jaxsci.drift.tcpd import Collection, standardise
from jaxsci.racing.expressions import parse
from jaxsci.racing.space import Categorical, Configuration, Integer, Real, Space
from jaxsci.racing.targets import vectorised
from jaxsci.racing.targets.protocol import Job, Outcome

SEGMENTS = {"level": Level, "autoregressive": Autoregressive, "trend": Trend}
SHORTEST = 0.6  # the least share of a series that a stretch has
BUCKET = 128  # series are padded to multiples of so many points

DEFAULTS: Configuration = {
    "segment": "level",
    "tails": "normal",
    "degrees": None,
    "mean_run": 100.0,
    "least": 1,
    "intercept_precision": 1.0,
    "precision": None,
    "alpha": 1.0,
    "noise": 1.0,
}
"""The priors of the R package ocp."""


def detector_space() -> Space:
    """Nine parameters. `noise` is the prior scale of the variance, `precision` that of a slope or of a lag."""
    return Space(
        (
            Categorical("segment", values=tuple(SEGMENTS)),
            Categorical("tails", values=("normal", "student")),
            Real("degrees", condition=parse('tails == "student"'), low=2.0, high=30.0, log=True),
            Real("mean_run", low=10.0, high=1e5, log=True),
            Integer("least", low=1, high=30),
            Real("intercept_precision", low=0.01, high=100.0, log=True),
            Real("precision", condition=parse('segment != "level"'), low=0.1, high=100.0, log=True),
            Real("alpha", low=0.1, high=10.0, log=True),
            Real("noise", low=0.01, high=10.0, log=True),
        ),
        digits=4,
    )


def halves(collection: Collection) -> tuple[Collection, Collection]:
    """Every second series for training, the others for test."""
    if len(collection.series) < 2:
        raise DataError(f"data.train: expected two series or more to keep some for test, got {len(collection.series)}")
    return tuple(Collection(collection.series[start::2], collection.annotations) for start in (0, 1))  # type: ignore[return-value]


class DetectorTarget:
    """Instances are the names of the series; a detection that matches a mark to `margin` points is a hit."""

    def __init__(self, collection: Collection, *, margin: int = 5):
        self.series = {one.name: one for one in collection.series}
        self.annotations, self.margin = collection.annotations, margin

    @property
    def instances(self) -> tuple[str, ...]:
        return tuple(self.series)

    def __call__(self, jobs: Sequence[Job]) -> list[Outcome]:
        def group(job: Job) -> tuple[str, int, int]:
            length, dimensions = self.series[job.instance].values.shape
            return str(job.configuration["segment"]), -(-length // BUCKET) * BUCKET, dimensions

        return vectorised.in_groups(jobs, group, self._solve)

    def stretch(self, instance: str, seed: int) -> tuple[int, int]:
        """First point, and the one after the last, that a run with this seed sees; the same for all configurations."""
        length = len(self.series[instance].values)
        if seed == 0:
            return 0, length
        rng = np.random.default_rng([seed, 0])
        size = round(length * rng.uniform(SHORTEST, 1.0))
        start = int(rng.integers(0, length - size + 1))
        return start, start + size

    def _solve(self, group: Hashable, jobs: Sequence[Job], lanes: int, devices: Sequence[Any]) -> np.ndarray:
        assert isinstance(group, tuple)
        segment, length, dimensions = group
        values, known = np.zeros((lanes, length, dimensions)), np.zeros((lanes, length, dimensions), bool)
        spans = [self.stretch(job.instance, job.seed) for job in jobs]
        for lane, (job, (start, stop)) in enumerate(zip(jobs, spans, strict=True)):
            one = self.series[job.instance]
            known[lane, : stop - start] = one.known[start:stop]
            values[lane, : stop - start] = standardise(one.values[start:stop], one.known[start:stop])
        with jax.enable_x64(True):
            table = {name: jnp.asarray(_column(jobs, name, lanes)) for name in NUMBERS}
            batch = vectorised.spread((table, jnp.asarray(values), jnp.asarray(known)), devices)
            ended, alive = (np.asarray(a) for a in _segment(*batch, segment=segment, dimensions=dimensions))
        costs = np.empty(len(jobs))
        for lane, (job, (start, stop)) in enumerate(zip(jobs, spans, strict=True)):
            marks = {
                who: [mark - start for mark in found if start < mark < stop]
                for who, found in self.annotations[job.instance].items()
            }
            costs[lane] = 1.0 - f1(marks, segmentation(ended[lane], alive[lane], stop - start), self.margin)
        return costs


NUMBERS = ("degrees", "mean_run", "least", "intercept_precision", "precision", "alpha", "noise")


def _column(jobs: Sequence[Job], name: str, lanes: int) -> np.ndarray:
    """Values of a parameter; an inactive one is infinite degrees, or a precision that nothing asks for."""
    absent = 1e6 if name == "degrees" else 1.0
    values = [job.configuration.get(name) for job in jobs]
    return vectorised.padded([absent if v is None else float(v) for v in values], lanes, float)


@partial(jax.jit, static_argnames=("segment", "dimensions"))
def _segment(table, values, known, *, segment: str, dimensions: int):
    def one(setting, x, known):
        numbers = {name: setting[name] for name in ("intercept_precision", "precision", "alpha", "degrees")}
        model = SEGMENTS[segment](beta=setting["alpha"] * setting["noise"], **numbers)
        hazard = RefractoryHazard(setting["mean_run"], setting["least"])
        return likeliest_runs(Independent(model, dimensions), hazard, x, known)

    return jax.vmap(one)(table, values, known)
