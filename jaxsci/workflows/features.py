"""Telemetry as numbers a model can read: log-like, robustly centred and scaled at every node position.

    phi(x) = sign(x) log(1 + |x|)
    C[r, n, f] = clip((phi(x) - median[n, f]) / max(IQR[n, f] / 1.349, 0.05), -20, 20)

Medians and quartiles come from the runs given to `fit_scaling` and from nothing else. They stand a third of the runs
being anomalous, which means and standard deviations would not.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxsci.workflows.workflow import Workflow

# "v3" of Flow-Bench's own studies: 20 features, none of them an absolute time.
TELEMETRY = (
    "wms_delay",
    "queue_delay",
    "runtime",
    "post_script_delay",
    "stage_in_delay",
    "stage_out_delay",
    "stage_in_bytes",
    "stage_out_bytes",
    "stage_in_effective_bytes_per_sec",
    "stage_out_effective_bytes_per_sec",
    "kickstart_executables_cpu_time",
    "kickstart_online_iowait",
    "kickstart_online_bytes_read",
    "kickstart_online_bytes_written",
    "kickstart_online_read_system_calls",
    "kickstart_online_write_system_calls",
    "kickstart_online_utime",
    "kickstart_online_stime",
    "kickstart_online_bytes_read_per_second",
    "kickstart_online_bytes_written_per_second",
)
LIMIT, LEAST_SCALE = 20.0, 0.05
# Networks see smaller deviations: a worker short of cores can lower a job's CPU time by 3 % and nothing else, where the
# scatter between runs is 0.5 %.
FINE_SCALE = 0.001
NORMAL_QUARTILES = 1.349  # distance of the quartiles of a standard normal


def telemetry(workflow: Workflow) -> tuple[Float[np.ndarray, "runs nodes 20"], Bool[np.ndarray, "runs nodes 20"]]:
    """The `TELEMETRY` columns by name, missing ones 0, and which entries were observed."""
    columns = np.stack([workflow.feature(name) for name in TELEMETRY], axis=-1)
    observed = np.isfinite(columns)
    return np.where(observed, columns, 0.0).astype(np.float32), observed


def phi(x: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Linear near 0, logarithmic far from it, odd."""
    return np.sign(x) * np.log1p(np.abs(x))


@dataclass(frozen=True)
class Scaling:
    """Centre and scale by node position and feature, of `phi` of the columns."""

    centre: Float[np.ndarray, "nodes features"]
    scale: Float[np.ndarray, "nodes features"]

    def apply(self, columns: Float[np.ndarray, "runs nodes features"]) -> Float[np.ndarray, "runs nodes features"]:
        """Features less their centre, in units of their scale, node by node."""
        standard = (phi(columns) - self.centre) / self.scale
        return np.clip(standard, -LIMIT, LIMIT).astype(np.float32)


def fit_scaling(
    columns: Float[np.ndarray, "runs nodes features"], runs: Int[np.ndarray, "some"], least_scale: float = LEAST_SCALE
) -> Scaling:
    """Medians and quartiles over `runs`, missing entries counted as the 0 they were replaced with."""
    low, centre, high = np.quantile(phi(columns[runs]), (0.25, 0.5, 0.75), axis=0)
    return Scaling(centre, np.maximum((high - low) / NORMAL_QUARTILES, least_scale))


def standardised(
    workflow: Workflow, fit_on: Int[np.ndarray, "some"]
) -> tuple[Float[np.ndarray, "runs nodes 20"], Bool[np.ndarray, "runs nodes 20"]]:
    """`C` and the mask of observed entries, for all runs, with statistics of the runs `fit_on`."""
    columns, observed = telemetry(workflow)
    return fit_scaling(columns, fit_on).apply(columns), observed
