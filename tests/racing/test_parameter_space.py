"""Spaces, their files, and sampling from them: every value in its domain, active just where its condition holds."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsci.core.errors import ConfigError, DataError
from jaxsci.racing import configspace_json, irace_files, sampling
from jaxsci.racing.expressions import parse
from jaxsci.racing.sampling import Candidate, first_model
from jaxsci.racing.space import Categorical, Integer, Real, Space

ACOTSP = """
algorithm    "--"        c (as,mmas,eas,ras,acs)
localsearch  "--ls "     c (0,1,2,3)
alpha        "--alpha "  r (0,5)
beta         "--beta "   r (0,10)
rho          "--rho "    r (.01,1)
ants         "--ants "   i,log (5,100)
q0           "--q0 "     r (0,1)      | algorithm == "acs"
rasrank      "--rank "   i (1,"min(ants, 10)") | algorithm == "ras"
elitistants  "--elite "  i (1,750)    | algorithm == "eas"
nnls         "--nnls "   i (5,50)     | localsearch %in% c(1,2,3)
dlb          "--dlb "    o (off, on)  | localsearch %in% c("1","2","3")

[forbidden]
(alpha == 0) & (beta == 0)
algorithm == "mmas" & rho > 0.9
"""


@pytest.fixture(scope="module")
def acotsp() -> Space:
    return irace_files.from_text(ACOTSP)


def value(configuration: Any, name: str) -> float:
    return float(configuration[name])


def check(space: Space, configurations) -> None:
    for configuration in configurations:
        assert space.check(configuration) == configuration  # raises where a value is outside or wrongly active


def test_uniform_designs_stay_inside(acotsp):
    rng = np.random.default_rng(0)
    for sobol in (True, False):
        drawn = sampling.uniform(acotsp, 300, rng, set(), sobol=sobol)
        assert len(drawn) == 300
        check(acotsp, drawn)
        assert all(c["nnls"] is None for c in drawn if c["localsearch"] == "0")
        assert all(value(c, "rasrank") <= min(value(c, "ants"), 10) for c in drawn if c["rasrank"] is not None)


def test_children_stay_inside_and_near_their_parents(acotsp):
    rng = np.random.default_rng(1)
    elites = [Candidate(i, c, first_model(acotsp)) for i, c in enumerate(sampling.uniform(acotsp, 4, rng, set()), 1)]
    wide, _ = sampling.around(acotsp, elites, 200, rng, set())
    check(acotsp, wide)
    narrow = elites[:1]
    for iteration in range(2, 6):
        narrow = [
            sampling.narrowed(acotsp, e, iteration=iteration, iterations=5, fresh=50, capped=True) for e in narrow
        ]
    near, _ = sampling.around(acotsp, narrow, 100, rng, set())
    parent = elites[0].configuration
    spread = lambda many: np.std([c["alpha"] - parent["alpha"] for c in many])  # noqa: E731
    assert spread(near) < 0.6 * spread(wide)
    assert np.mean([c["algorithm"] == parent["algorithm"] for c in near]) > 0.6


def test_the_cube_and_back(acotsp):
    drawn = sampling.uniform(acotsp, 100, np.random.default_rng(2), set())
    unit, active = acotsp.to_unit(drawn)
    again = acotsp.from_unit(unit)
    for one, other in zip(drawn, again, strict=True):
        for name, value in one.items():
            if isinstance(value, float):
                assert other[name] == pytest.approx(value, abs=1e-4)  # four decimals are kept
            else:
                assert other[name] == value
    assert (active == np.array([[v is not None for v in c.values()] for c in drawn])).all()


def test_integers_are_uniform():
    space = Space((Integer("i", low=1, high=4),))
    drawn = [int(value(c, "i")) for c in space.from_unit(np.random.default_rng(3).random((4000, 1)))]
    assert np.abs(np.bincount(drawn, minlength=5)[1:] - 1000).max() < 110  # 4 standard deviations of a binomial


def test_truncated_normal_has_its_law():
    from scipy.stats import truncnorm

    u = (np.arange(2000) + 0.5) / 2000
    got = sampling.truncated_normal(u, np.full(2000, 0.2), np.full(2000, 0.3))
    law = truncnorm(-0.2 / 0.3, 0.8 / 0.3, loc=0.2, scale=0.3)
    assert np.abs(got - law.ppf(u)).max() < 1e-9  # the same function, other arithmetic


def test_irace_files_are_read_back(acotsp):
    assert irace_files.from_text(irace_files.to_text(acotsp)) == acotsp


def test_configspace_json_is_read_back():
    space = Space(
        (
            Categorical("a", values=("x", "y")),
            Real("b", low=0.1, high=10.0, log=True, condition=parse('a == "x"')),
            Integer("c", low=1, high=9, condition=parse('(a == "y") | (a == "x")')),
        ),
        forbidden=(parse('(a == "y") & (c == 3)'),),
    )
    content = configspace_json.to_mapping(space)
    again = configspace_json.from_mapping(content)
    assert configspace_json.to_mapping(again) == content
    drawn = space.from_unit(np.random.default_rng(5).random((200, 3)))
    assert drawn == again.from_unit(np.random.default_rng(5).random((200, 3)))
    assert (space.allowed(drawn) == again.allowed(drawn)).all()


def test_logic_is_three_valued():
    columns = {"x": np.array([1.0, np.nan, 0.0]), "c": np.array(["a", None, "b"], dtype=object)}
    assert parse("x == 1 | c == 'b'")(columns).tolist()[::2] == [1.0, 1.0]
    assert np.isnan(parse("!(x == 1)")(columns)[1])
    assert parse("x == 1 & 1 == 2")(columns).tolist() == [0.0, 0.0, 0.0]
    assert parse("2 + 3 * 2 ^ 2 ^ 0 - 1 == 7")({}) == 1.0  # powers bind to the right
    assert parse("-2 ^ 2 == -4 & 7 %% 4 == 3")({}) == 1.0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_generated_spaces_give_what_they_promise(seed):
    """Numbers of random kinds; conditions and bounds that refer to earlier ones."""
    rng = np.random.default_rng(seed)
    parameters = [Categorical("p0", values=("a", "b", "c")), Integer("p1", low=1, high=5)]
    for i in range(2, 6):
        condition = [None, parse('p0 == "a"'), parse("p1 > 2"), parse('p0 %in% c("b","c") & p1 < 4')][rng.integers(4)]
        high = parse("p1 * 3 + 1") if rng.random() < 0.3 else float(rng.integers(3, 50))
        cls = Real if rng.random() < 0.5 else Integer
        parameters.append(cls(f"p{i}", low=1.0, high=high, log=bool(rng.random() < 0.3), condition=condition))
    space = Space(tuple(parameters), digits=4)
    drawn = sampling.uniform(space, 20, rng, set(), sobol=False)
    check(space, drawn)
    elites = [Candidate(1, drawn[0], first_model(space))]
    check(space, sampling.around(space, elites, 20, rng, set())[0])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a '' r (0, 1)\nb '' q (0, 1)", "line 2"),
        ("a '' r (1, 0)", "low <= high"),
        ("a '' r,log (0, 1)", "log scale"),
        ("a '' r (0, 1) | b == 1", "unknown parameter 'b'"),
        ("a '' r (0, \"b\")\nb '' r (0, \"a\")", "circle"),
        ("a '' c ()", "at least one"),
    ],
)
def test_bad_parameter_files_say_what_is_wrong(text, said):
    with pytest.raises(DataError, match=said):
        irace_files.from_text(text)


def test_a_rule_that_forbids_everything_is_named():
    space = Space((Real("a", low=0.0, high=1.0),), forbidden=(parse("a >= 0"),))
    with pytest.raises(ConfigError, match="a >= 0"):
        sampling.uniform(space, 5, np.random.default_rng(0), set())
