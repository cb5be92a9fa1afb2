"""summary.json is always strict JSON, and says what the run measured."""

import json
import math
import stat
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.core.errors import DataError, JaxsciError
from jaxsci.core.summary import Reference, Summary, format_number, read_summary, table, write_summary


def example() -> Summary:
    return Summary(
        "assimilation",
        {"rmse_m": 17.25, "coverage_90": 0.875, "windows": 120},
        references={
            "rmse_m": Reference(19.5, "optimal interpolation, this run", "lower"),
            "coverage_90": Reference(0.9, "nominal", "higher"),
        },
        seconds={"total": 12.5},
        notes=("Observation errors are drawn.",),
        environment={"python": "3.11", "packages": {"jax": "0.10.2"}},
    )


def test_what_is_written_can_be_read_back(tmp_path):
    write_summary(example(), tmp_path / "summary.json")
    assert read_summary(tmp_path / "summary.json") == example()


def test_the_file_has_the_documented_shape(tmp_path):
    write_summary(example(), tmp_path / "summary.json")
    content = json.loads((tmp_path / "summary.json").read_text(), parse_constant=pytest.fail)
    assert content["metrics"] == {"rmse_m": 17.25, "coverage_90": 0.875, "windows": 120.0}
    assert content["references"]["rmse_m"]["value"] == 19.5
    assert content["references"]["rmse_m"]["source"] == "optimal interpolation, this run"
    assert content["seconds"] == {"total": 12.5}
    assert content["environment"]["packages"] == {"jax": "0.10.2"}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32("nan"), jnp.inf])
@pytest.mark.parametrize("group", ["metrics", "seconds"])
def test_a_number_that_is_not_finite_is_refused_by_name(group, value):
    fields: dict[str, Any] = {"metrics": {}} | {group: {"fine": 1.0, "broken": value}}
    with pytest.raises(DataError, match=f"^{group}: expected a finite number for 'broken', got ") as caught:
        Summary("x", **fields)
    assert "\n" not in str(caught.value)


def test_a_reference_that_is_not_finite_is_refused():
    with pytest.raises(DataError, match="'a paper'"):
        Reference(math.nan, "a paper")


def test_scalars_of_jax_and_numpy_become_python_floats(tmp_path):
    summary = Summary("x", {"a": jnp.float32(0.5), "b": np.float64(0.1), "c": np.int32(3)})  # pyright: ignore
    assert all(type(value) is float for value in summary.metrics.values())
    write_summary(summary, tmp_path / "s.json")
    assert read_summary(tmp_path / "s.json").metrics == {"a": 0.5, "b": 0.1, "c": 3.0}


def test_a_reference_to_no_metric_is_a_mistake():
    with pytest.raises(ValueError, match="'rmse' has no metric; did you mean 'rmse_m'"):
        Summary("x", {"rmse_m": 1.0}, references={"rmse": Reference(1.0, "a")})


@pytest.mark.parametrize(
    ("better", "below", "equal", "above"),
    [("lower", True, True, False), ("higher", False, True, True), (None, None, None, None)],
)
def test_a_reference_judges_in_its_direction(better, below, equal, above):
    reference = Reference(2.0, "a", better)
    assert (reference.met(1.0), reference.met(2.0), reference.met(3.0)) == (below, equal, above)


def test_an_unknown_direction_is_a_mistake():
    with pytest.raises(ValueError, match="'smaller'"):
        Reference(2.0, "a", "smaller")  # pyright: ignore


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "summary.json"
    write_summary(example(), path)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_summary(Summary("x", {}, environment={"bad": object()}), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_colleagues_can_read_the_file(tmp_path):
    write_summary(example(), tmp_path / "ours.json")
    (tmp_path / "plain").write_text("")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("ours.json", "plain")]
    assert modes[0] == modes[1]


def test_a_directory_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(JaxsciError, match="cannot write") as caught:
        write_summary(example(), tmp_path / "absent" / "summary.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"metrics": {}}', '{"references": 3}'])
def test_reading_something_else_is_refused(tmp_path, content):
    (tmp_path / "summary.json").write_text(content)
    with pytest.raises(DataError, match="expected a summary.json"):
        read_summary(tmp_path / "summary.json")


def test_reading_an_unfinished_run_says_so(tmp_path):
    with pytest.raises(DataError, match="no such file; expected a summary.json of a finished run"):
        read_summary(tmp_path / "summary.json")


def test_table_lines_up_its_columns():
    lines = table(example()).splitlines()
    assert lines[0].split() == ["metric", "ours", "reference", "source"]
    assert lines[2].split()[:4] == ["rmse_m", "17.25", "19.5", "met"]
    assert lines[3].split()[:5] == ["coverage_90", "0.875", "0.9", "not", "met"]
    assert lines[4].split() == ["windows", "120"]
    end = lines[0].index("ours") + len("ours")
    assert [line[:end].split()[-1] for line in lines[2:]] == ["17.25", "0.875", "120"]


def test_table_without_references_has_two_columns():
    assert table(Summary("x", {"a": 1.0, "long_name": 2.5})).splitlines() == [
        "metric     ours",
        "---------  ----",
        "a             1",
        "long_name   2.5",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (120.0, "120"),
        (1460.0, "1,460"),
        (18231.2, "18,231"),
        (12.3456, "12.35"),
        (-0.0123456, "-0.01235"),
        (0.9, "0.9"),
        (3.4e-9, "3.4e-09"),
        (1e-5, "1e-05"),
        (1.23456e7, "1.235e+07"),
    ],
)
def test_numbers_are_shown_with_four_significant_digits(value, text):
    assert format_number(value) == text
