"""Every file of conf/experiment runs to its end, in its tiny version, and leaves a complete run directory."""

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString
from matplotlib.image import imread

from experiments import catalogue
from jaxsci.core.config import build, to_mapping
from jaxsci.core.summary import read_summary

NAMES = catalogue.names()
# Benchmarks that take long to compile even when tiny, and whose mathematics other tests assert on their own.
SLOW = {"benchmarks/parallel_parity", "benchmarks/assimilation", "benchmarks/diffraction"}
LEADS = (1, 2, 3)
METRICS = {
    "workflow_ssl": {"auc_node", "auc_within_run", "auc_run", "auc_worker", "auc_baseline_z_worker"},
    "workflow_supervised": {"auc_node", "auc_within_run"},
    "workflow_active": {"seconds_saved_fraction", "runs_saved_fraction"},
    "workflow_transfer": {"auc_node"},
    "tour": {"verdict_racing"},
    "workflow_watch": {"runs", "alarms", "unreadable_files"},
    "benchmarks/testbed": {"makespan_error", "worst_effect_error", "runs_per_second"},
    "assimilation": {
        "rmse_analysis_m",
        "rmse_background_m",
        "rmse_oi_m",
        "coverage_90",
        "gradient_relative_error",
        "seconds_4dvar_per_window",
        "evaluations_per_second",
        *(f"rmse_forecast_m_day{day}" for day in LEADS),
        *(
            f"rmse_{name}_m_day{day}"
            for name in ("climatology", "persistence", "damped_persistence", "linear", "emulator", "oi")
            for day in LEADS
        ),
    },
    "language_model": {"validation_loss_nats", "tokens_per_second", "mfu"},
    "benchmarks/parallel_parity": {
        "max_relative_gradient_difference",
        "max_loss_difference_100_steps",
        "meshes",
    },
    "benchmarks/pipeline_memory": {"growth_1f1b", "growth_gpipe"},
    "plan": {
        "compiled_bytes_per_device",
        "analytic_bytes_per_device",
        "compile_seconds",
        "devices",
        "fits",
        "measured_step_seconds",
    },
    "twin": {"rmse_analysis", "rmse_forecast", "spread", "rmse_analysis_standard_error", "diverged_share"},
    "benchmarks/dapper_table": {"rmse_l63_3dvar", "rmse_l63_etkf"},
    "stations": {"rmse_analysis_m_5", "rmse_oi_m_8", "rmse_kalman_m_8", "gain_over_oi_m_day1_low_5"},
    "observing_system": {"rmse_placed_m", "rmse_random_m", "impact_accounted_for", "desroziers_r_over_assumed"},
    "sensor_campaign": {"cost_saved_fraction", "cost_saved_fraction_interval", "rmse_m_active", "target_rmse_m"},
    "watched": {"detection_delay", "false_alarms_per_1000", "detected_fraction", "detection_delay_chi_square"},
    "cross_reanalysis": {"bias_m", "rmse_oi_diagonal_m_5", "rmse_kalman_full_m_5", "chi_square_full_5"},
    "sequence_emulator": {
        "rmse_analysis_m",
        "rmse_analysis_linear_m",
        "sharded_minus_unsharded",
        "gradient_relative_error",
        "adjoint_relative_error",
        "coverage_90",
        *(f"gain_over_linear_m_day{day}{end}" for day in LEADS for end in ("", "_low", "_high")),
        *(
            f"rmse_{name}_m_day{day}"
            for name in ("forecast", "forecast_linear", "emulator", "linear", "persistence", "climatology")
            for day in LEADS
        ),
    },
    "posterior": {"coverage_90_laplace", "crps_eda", "deviation_over_nuts_laplace", "nuts_divergences"},
    "plan_search": {
        "points",
        "feasible",
        "rejected",
        "best_hfu_22b_1024",
        "best_mfu_22b_1024",
        "best_tokens_per_second_22b_1024",
        "study_ratio_22b_1024",
        "importance_microbatch",
    },
    "benchmarks/assimilation": {
        "speedup_gradient",
        "speedup_analysis",
        "rmse_analysis_equations",
        "rmse_analysis_emulator",
        "rmse_forecast_equations",
        "rmse_forecast_emulator",
    },
    "diffraction": {"accuracy_visible", "accuracy_all", "accuracy_random_forest"},
    "phase_retrieval": {"chi_square", "winding_squares_inside"},
    "diffraction_continual": {"samples_fraction_to_match_static", "forgetting"},
    "benchmarks/diffraction": {"patterns_per_second_ratio", "fft_vs_atomistic_r", "atomistic_speedup"},
    "reduced_order": {
        "floor_mse",
        "climatology_mse",
        *(
            f"{metric}_{method}"
            for metric in ("mse", "mse_late", "seconds_per_trajectory")
            for method in ("galerkin", "lstm", "na_lstm", "na_blstm", "equivariant")
        ),
    },
    "benchmarks/reduced_order": {"speedup_vs_solver", "speedup_vs_galerkin", "speedup_vs_lstm"},
    "benchmarks/plan_truth": {
        "mean_time_error",
        "max_time_error",
        "mean_memory_error",
        "frontier_max_relative_error",
    },
    "benchmarks/workflow_epoch": {"epoch_ratio_dense", "seconds_per_epoch_jaxsci"},
    "benchmarks/transformer_vs_torch": {"tokens_per_second_ratio"},
    "benchmarks/lyapunov": {
        *(f"lambda1_{system}{end}" for system in ("ks22", "ks44", "l63", "l96") for end in ("", "_stderr")),
        "dky_ks22",
        "dky_ks22_stderr",
    },
    "benchmarks/stabilized_ode": {"throughput_ratio_diffrax", "throughput_ratio_torchdiffeq"},
    "stabilized_ode": {
        *(f"{metric}_ours" for metric in ("kl_over_floor", "lambda1", "valid_time", "bounded_fraction")),
        "rom_valid_time",
        "posterior_forecast_crps",
    },
    "drift": {
        "drifts",
        "median_error_static",
        "median_error_adapted",
        "median_error_class_median",
        "worst_regret_of_guard",
    },
    "benchmarks/changepoints": {
        "f1_parity",
        "cover_parity",
        "f1_ours",
        "cover_ours",
        "f1_zero",
        "cover_zero",
        "identical_locations",
    },
    "benchmarks/changepoint_speed": {"series_steps_ratio"},
    "bayesnas": {
        "p_value_nll_joint_vs_deep_ensemble",
        *(
            f"{score}_{arm}"
            for score in ("accuracy", "nll", "ece", "ece_corrupted")
            for arm in ("single", "deep_ensemble", "random_architectures", "nes", "joint")
        ),
    },
    "nas_oracle": {"accuracy_mean_field"},
    "benchmarks/bayesnas_speed": {"speedup_over_loop"},
    "racing": {"cost_test", "cost_train", "cost_test_default", "runs_used", "runs_left"},
    "benchmarks/racing_vs_peers": {"gap_ours", "gap_random", "gap_default", "repetitions"},
    "benchmarks/racing_speed": {"runs_per_second_ratio"},
}


@pytest.fixture(params=[pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in NAMES])
def name(request) -> str:
    return request.param


@pytest.fixture
def directory(name, finished) -> Path:
    return finished(name)[0]


def strict_json(text: str):
    """Refuses NaN and Infinity, which Python would read and nobody else."""

    def refuse(constant: str):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


class Page(HTMLParser):
    """Collects the tags of a page with their attributes."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def test_there_is_something_to_ship():
    assert "assimilation" in NAMES


def test_every_tiny_version_belongs_to_a_shipped_file(name, tiny):
    assert tiny(name)[0] == f"experiment={name}"  # `tiny` fails the test where the table has no entry


def test_every_file_opens_with_its_command_and_says_what_to_expect(name):
    text = (catalogue.CONF / "experiment" / f"{name}.yaml").read_text()
    head = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    assert f"python -m experiments.run experiment={name}" in head
    assert re.search(r"\d+ (minute|second|hour|min|s)", head), "the run time is missing"


def test_it_runs(name, finished):
    directory, outcome = finished(name)
    assert outcome.code == 0, outcome.err
    assert outcome.out[-1] == f"report: {directory / 'report.html'}"
    assert any(line.startswith("metric") for line in outcome.out)


def test_summary(name, directory):
    content = strict_json((directory / "summary.json").read_text(encoding="utf-8"))
    assert content["experiment"] == name
    assert METRICS.get(name, set()) <= content["metrics"].keys()
    assert all(isinstance(value, int | float) for value in content["metrics"].values())
    assert content["seconds"]["total"] > 0
    assert content["environment"]["jaxsci"] and content["environment"]["backend"]
    assert content["references"].keys() <= content["metrics"].keys()
    assert read_summary(directory / "summary.json").metrics == content["metrics"]


def test_config_is_complete_and_builds_the_run_again(name, directory, tiny):
    text = (directory / "config.yaml").read_text(encoding="utf-8")
    saved = yaml.safe_load(text)
    assert "${" not in text and "hydra" not in saved
    # Nothing rests on a default that a later version might change.
    assert to_mapping(build(catalogue.find(name).config, saved)) == saved
    for override in OverridesParser.create().parse_overrides(tiny(name)[1:]):
        group = saved
        for part in override.key_or_group.split("."):
            group = group[part]
        assert contains(group, override.value()), override.input_line
    assert yaml.safe_load((directory / "overrides.yaml").read_text(encoding="utf-8")) == tiny(name)


def contains(saved, given) -> bool:
    """Whether `saved` is `given`, or `given` with defaults filled in."""
    if isinstance(given, dict) and isinstance(saved, dict):
        return all(str(key) in saved and contains(saved[str(key)], value) for key, value in given.items())
    if isinstance(given, list) and isinstance(saved, list):
        return len(saved) == len(given) and all(map(contains, saved, given))
    return saved == (given.text if isinstance(given, QuotedString) else given)


def test_metrics_are_logged_twice_over(directory):
    lines = [strict_json(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    with (directory / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert lines and len(rows) == len(lines)
    for line, row in zip(lines, rows, strict=True):
        assert int(row["step"]) == line["step"]
        shared = (line.keys() & row.keys()) - {"step", "time"}
        assert shared and all(float(row[key]) == line[key] for key in shared)


def test_figures_show_something(directory):
    figures = sorted((directory / "figures").glob("*.png"))
    assert figures
    for figure in figures:
        pixels = imread(figure)[..., :3]
        assert min(pixels.shape[:2]) > 100
        assert np.std(pixels) > 0.01, f"{figure.name} is blank"  # a page of one colour has none


def test_the_report_stands_alone(name, directory):
    html = (directory / "report.html").read_text(encoding="utf-8")
    page = Page(html)
    links = [attrs[key] or "" for _, attrs in page.tags for key in ("src", "href", "srcset") if key in attrs]
    assert all(link.startswith(("data:", "#")) for link in links)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "embed"}
    assert not re.search(r"https?://|@import|url\((?!\s*['\"]?data:)", html)
    images = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(images) == len(list((directory / "figures").glob("*.png")))
    assert all((attrs["src"] or "").startswith("data:image/png;base64,") for attrs in images)
    for metric in METRICS.get(name, set()):
        assert metric in html


def test_nothing_else_is_left(directory):
    left = {path.name for path in directory.iterdir()} - {
        "checkpoints",
        "model.safetensors",
        "alarms.jsonl",
        "alarms.html",
        "answers",
        "runs.jsonl",
        "runs",
    }
    assert left == {
        "config.yaml",
        "overrides.yaml",
        "metrics.jsonl",
        "metrics.csv",
        "figures",
        "report.html",
        "summary.json",
    }
