"""DAPPER's score tables for Lorenz-96 and Lorenz-63, run again with error bars; and the time beside DAPPER's own."""

import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.benchmarks.dapper_cases import CASES, Case
from experiments.benchmarks.dapper_report import PeerRuns, Row, report
from experiments.settings import Settings
from jaxsci.assimilation.background import Background
from jaxsci.assimilation.twin import climatology, scores, seed_keys, twin_experiment
from jaxsci.core.config import between, positive, require
from jaxsci.core.errors import JaxsciError
from jaxsci.core.progress import progress
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Reference, Summary

PEER = Path(__file__).with_name("dapper_peer.py")
FASTER = 20.0  # bound on how many times DAPPER's time per cycle and seed may be
TIMED_RUNS = 3


@dataclass(frozen=True)
class SpeedConfig:
    """Time per cycle and seed: the median of three runs of `seeds` seeds and `cycles` cycles, compiled before."""

    seeds: int = 32
    cycles: int = 200

    def __post_init__(self) -> None:
        positive(self, "seeds", "cycles")


@dataclass(frozen=True)
class PeerConfig:
    """How long DAPPER runs: one seed after the other."""

    seeds: int = 2
    cycles: int = 1000

    def __post_init__(self) -> None:
        positive(self, "seeds")
        between(self, "cycles", 10, 10**6)


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """`cases` null runs all. `climate_steps` is the length of the free run that gives 4D-Var its background.

    `dapper_python` is an interpreter that has `dapper`; null is this one, and leaves the comparison out if it has not.
    """

    seeds: int = 8
    cycles: int = 1000
    cases: tuple[str, ...] | None = None
    climate_steps: int = 20_000
    speed: SpeedConfig = field(default_factory=SpeedConfig)
    dapper_python: str | None = None
    peer: PeerConfig = field(default_factory=PeerConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "seeds", "cycles")
        between(self, "climate_steps", 100, 10**8)
        known = [case.name for case in CASES]
        for name in self.cases or ():
            require(name in known, "cases", f"names out of {', '.join(known)}", name)
        require(self.precision == "float64", "precision", "float64 for twin experiments", self.precision)


def main(config: Config, run: Run) -> tuple[Summary, Report]:
    chosen = [case for case in CASES if config.cases is None or case.name in config.cases]
    key = jax.random.key(config.seed)
    climates: dict[str, Background] = {}
    rows: list[Row] = []
    seconds = {"compile": 0.0, "scores": 0.0, "timing": 0.0}
    with progress(len(chosen), "cases") as bar:
        for index, case in enumerate(chosen):
            if "4dvar" in case.name and case.system.kind not in climates:
                climates[case.system.kind] = climatology(
                    case.system.model(),
                    case.system.start(),
                    steps=config.climate_steps,
                    spin_up=min(1000, config.climate_steps),
                    key=jax.random.fold_in(key, 10**6),
                )
            rows.append(_run_case(config, case, climates.get(case.system.kind), key, seconds))
            row = rows[-1]
            run.log({"rmse": row.result.mean, "microseconds_per_cycle_and_seed": row.microseconds}, index)
            bar.update(case=case.name, rmse=row.result.mean, diverged=float(row.result.diverged.sum()))
    begin = time.perf_counter()
    peers, peer_note = _ask_dapper(config, chosen)
    seconds["dapper"] = time.perf_counter() - begin
    summary = _summary(config, rows, peers, peer_note, seconds)
    return summary, report(run, rows, peers, config.cycles, config.speed.seeds)


def _run_case(config: Config, case: Case, climate: Background | None, key: jax.Array, seconds: dict) -> Row:
    scored = _compiled(case, climate, config.cycles, config.seeds, key, seconds)
    begin = time.perf_counter()
    result = scores(scored(), case.burn_in(config.cycles))
    seconds["scores"] += time.perf_counter() - begin
    before = seconds["compile"]
    timed = _compiled(case, climate, config.speed.cycles, config.speed.seeds, key, seconds)
    compile_seconds = seconds["compile"] - before
    took = []
    for _ in range(TIMED_RUNS):
        begin = time.perf_counter()
        timed()
        took.append(time.perf_counter() - begin)
    seconds["timing"] += sum(took)
    each = float(np.median(took)) / config.speed.cycles / config.speed.seeds
    return Row(case, result, compile_seconds, 1e6 * each)


def _compiled(
    case: Case, climate: Background | None, cycles: int, seeds: int, key: jax.Array, seconds: dict
) -> Callable[[], Any]:
    experiment = twin_experiment(
        case.system.model(),
        case.method,
        start=case.system.start(),
        observe_every=case.observe_every,
        noise=case.system.noise,
        cycles=cycles,
        climate=climate if "4dvar" in case.name else None,
        dt=case.system.dt,
    )
    keys = seed_keys(seeds, key=key)
    begin = time.perf_counter()
    program = jax.jit(jax.vmap(experiment)).lower(keys).compile()
    seconds["compile"] += time.perf_counter() - begin
    return lambda: jax.block_until_ready(program(keys))


def _ask_dapper(config: Config, cases: list[Case]) -> tuple[dict[str, PeerRuns], str]:
    """DAPPER's runs by case, and a sentence about them. Raises `JaxsciError` where its interpreter fails."""
    if config.dapper_python is None and importlib.util.find_spec("dapper") is None:
        return {}, "DAPPER was not run; give dapper_python=<an interpreter that has `dapper`, Python 3.12 or later>."
    asked = [
        {
            "name": case.name,
            "system": case.system.kind,
            "observe_every": case.observe_every,
            "class": case.peer[0],
            "arguments": case.peer[1],
            "cycles": min(config.peer.cycles, case.peer_cycles),
            "seeds": config.peer.seeds,
        }
        for case in cases
        if case.peer is not None
    ]
    command = [config.dapper_python or sys.executable, str(PEER)]
    found: dict[str, PeerRuns] = {}
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    except OSError as error:
        raise JaxsciError(f"dapper_python: expected an interpreter, got {command[0]} ({error.strerror})") from None
    with process, progress(len(asked) * config.peer.seeds, "DAPPER") as bar:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(json.dumps(asked))
        process.stdin.close()
        for line in process.stdout:
            if line.startswith("{"):  # DAPPER greets on its own account
                entry = json.loads(line)
                runs = found.setdefault(entry["name"], PeerRuns([], []))
                runs.rmse.append(entry["rmse"])
                runs.microseconds.append(1e6 * entry["seconds_per_cycle"])
                bar.update(case=entry["name"], rmse=entry["rmse"])
        said = process.stderr.read().strip().splitlines()
    if process.returncode:
        raise JaxsciError(f"dapper_python: DAPPER stopped with '{said[-1] if said else process.returncode}'")
    return found, (
        f"DAPPER: {config.peer.seeds} seed(s), at most {config.peer.cycles} cycles each (300 for 4D-Var), truths of "
        "its own. Its Var4D fails by indexing the observation operator twice; it is given an operator that allows it."
    )


def _summary(
    config: Config, rows: list[Row], peers: dict[str, PeerRuns], peer_note: str, seconds: dict[str, float]
) -> Summary:
    metrics: dict[str, float] = {}
    references: dict[str, Reference] = {}
    notes = [
        f"Means over {config.seeds} seeds, diverged ones included, and over the cycles after burn-in.",
        "3D-Var takes its covariance from each seed's own truth, as DAPPER does; 4D-Var from an independent run.",
    ]
    for row in rows:
        name, result = f"rmse_{row.case.name}", row.result
        metrics[name] = result.mean
        metrics[f"{name}_standard_error"] = result.standard_error
        metrics[f"median_{row.case.name}"] = float(np.median(result.rmse_analysis))
        metrics[f"worst_{row.case.name}"] = float(result.rmse_analysis.max())
        metrics[f"diverged_{row.case.name}"] = float(result.diverged.mean())
        if row.case.bound is not None:
            references[name] = Reference(row.case.bound, "bound", "lower")
        elif row.case.listed is not None:
            references[name] = Reference(row.case.listed, "listed by DAPPER")
        if result.diverged.any():
            kept = result.rmse_analysis[~result.diverged]
            rest = f"; the others average {kept.mean():.3f}" if len(kept) else ""
            notes.append(f"{row.case.name}: {result.result}{rest}.")
    metrics["diverged_share"] = float(np.mean([row.result.diverged.mean() for row in rows]))
    for row in rows:
        metrics[f"microseconds_{row.case.name}"] = row.microseconds
    ratios = {}
    for row in rows:
        runs = peers.get(row.case.name)
        if runs is not None:
            metrics[f"rmse_{row.case.name}_dapper"] = float(np.mean(runs.rmse))
            ratios[row.case.name] = float(np.median(runs.microseconds)) / row.microseconds
            metrics[f"speed_ratio_{row.case.name}"] = ratios[row.case.name]
    if ratios:
        metrics["speed_ratio_min"] = min(ratios.values())
        references["speed_ratio_min"] = Reference(FASTER, "bound: DAPPER's time per cycle and seed over ours", "higher")
    return Summary("benchmarks/dapper_table", metrics, references, seconds, (*notes, peer_note))
