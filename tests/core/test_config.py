"""From mappings to dataclasses: what is accepted, and the one line said about what is not."""

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from jaxsci.core.config import Choice, between, build, one_of, positive, require, to_mapping
from jaxsci.core.errors import ConfigError, JaxsciError, did_you_mean


class Emulator(Choice):
    pass


@dataclass(frozen=True)
class Linear(Emulator, kind="linear"):
    lags: int = 2


@dataclass(frozen=True)
class Recurrent(Emulator, kind="recurrent"):
    hidden: int = 64
    dropout: float = 0.0

    def __post_init__(self):
        positive(self, "hidden")
        between(self, "dropout", 0.0, 1.0)


class Schedule(Choice):
    """A second family, to show that families do not mix."""


@dataclass(frozen=True)
class Constant(Schedule, kind="constant"):
    pass


@dataclass(frozen=True)
class Data:
    path: str | None = None
    years: tuple[int, int] = (2000, 2002)
    levels: tuple[float, ...] = ()


@dataclass(frozen=True)
class Config:
    modes: int
    noise_m: float = 15.0
    double: bool = True
    rule: Literal["adam", "sgd"] = "adam"
    name: str = "run"
    data: Data = field(default_factory=Data)
    emulator: Emulator = field(default_factory=Linear)
    extras: dict[str, float] = field(default_factory=dict)
    stop: int | str = 0
    free: Any = None

    def __post_init__(self):
        positive(self, "modes")
        one_of(self, "name", ("run", "trial"))


def refusal(mapping: Any, cls: type = Config) -> str:
    with pytest.raises(ConfigError) as caught:
        build(cls, mapping)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_defaults_fill_what_is_not_given():
    assert build(Config, {"modes": 20}) == Config(modes=20)


def test_nested_values_reach_their_fields():
    config = build(
        Config,
        {
            "modes": 20,
            "noise_m": 2.5,
            "data": {"path": "z500.nc", "years": [1990, 1999], "levels": [500, 850.5]},
            "emulator": {"kind": "recurrent", "hidden": 8},
            "extras": {"a": 1},
        },
    )
    assert config.data == Data("z500.nc", (1990, 1999), (500.0, 850.5))
    assert config.emulator == Recurrent(hidden=8)
    assert config.extras == {"a": 1.0}


@pytest.mark.parametrize(
    "config",
    [
        Config(modes=3),
        Config(modes=3, emulator=Recurrent(hidden=5, dropout=0.25), stop="end", extras={"x": 0.1}),
        Config(modes=1, data=Data(path="a.npz", years=(1, 2), levels=(1.0, 2.0, 3.0)), rule="sgd"),
    ],
)
def test_to_mapping_is_the_inverse_of_build(config):
    mapping = to_mapping(config)
    assert build(Config, mapping) == config
    assert to_mapping(build(Config, mapping)) == mapping


def test_to_mapping_holds_only_plain_values():
    def plain(value: Any) -> bool:
        if isinstance(value, dict):
            return all(type(key) is str and plain(item) for key, item in value.items())
        if isinstance(value, list):
            return all(map(plain, value))
        return value is None or type(value) in (int, float, bool, str)

    mapping = to_mapping(Config(modes=3, emulator=Recurrent()))
    assert plain(mapping)
    assert mapping["emulator"]["kind"] == "recurrent"


def test_the_mapping_given_is_left_as_it_was():
    mapping = {"modes": 2, "emulator": {"kind": "linear", "lags": 3}}
    build(Config, mapping)
    assert mapping == {"modes": 2, "emulator": {"kind": "linear", "lags": 3}}


# Unknown and missing keys


def test_unknown_key_is_refused_with_the_nearest_name():
    assert refusal({"modes": 2, "noise": 1.0}) == "noise: unknown key; did you mean 'noise_m'?"


def test_unknown_key_inside_a_group_is_named_in_full():
    assert refusal({"modes": 2, "data": {"pth": "x"}}) == "data.pth: unknown key; did you mean 'path'?"


def test_unknown_key_like_nothing_else_lists_what_is_known():
    assert refusal({"modes": 2, "data": {"zzz": 1}}) == "data.zzz: unknown key; known: levels, path, years"


def test_key_of_another_member_of_the_family_is_unknown():
    assert refusal({"modes": 2, "emulator": {"kind": "linear", "hidden": 3}}).startswith("emulator.hidden: unknown key")


def test_missing_key_says_what_to_give():
    assert refusal({}) == "modes: missing; give modes=<a whole number>"


# Types


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"modes": "many"}, "modes: expected a whole number, got 'many'"),
        ({"modes": 2.5}, "modes: expected a whole number, got 2.5"),
        ({"modes": True}, "modes: expected a whole number, got True"),
        ({"modes": None}, "modes: expected a whole number, got None"),
        ({"modes": 2, "noise_m": "15"}, "noise_m: expected a number, got '15'"),
        ({"modes": 2, "noise_m": False}, "noise_m: expected a number, got False"),
        ({"modes": 2, "noise_m": float("nan")}, "noise_m: expected a finite number, got nan"),
        ({"modes": 2, "noise_m": float("inf")}, "noise_m: expected a finite number, got inf"),
        ({"modes": 2, "double": 1}, "double: expected true or false, got 1"),
        ({"modes": 2, "name": 7}, "name: expected text, got 7"),
        ({"modes": 2, "data": 3}, "data: expected a group of keys, got 3"),
        ({"modes": 2, "extras": [1]}, "extras: expected a group of keys, got [1]"),
        ({"modes": 2, "extras": {"a": "b"}}, "extras.a: expected a number, got 'b'"),
        ({"modes": 2, "data": {"path": 5}}, "data.path: expected text, got 5"),
        ({"modes": 2, "data": {"years": [1, 2, 3]}}, "data.years: expected 2 values, got [1, 2, 3]"),
        ({"modes": 2, "data": {"years": [1, "x"]}}, "data.years[1]: expected a whole number, got 'x'"),
        ({"modes": 2, "data": {"years": "12"}}, "data.years: expected a list such as [a,b], got '12'"),
        ({"modes": 2, "data": {"levels": 500}}, "data.levels: expected a list such as [a,b], got 500"),
    ],
)
def test_wrong_type_is_one_line_with_key_expectation_and_value(mapping, message):
    assert refusal(mapping) == message


def test_numbers_as_yaml_writes_them_are_understood():
    config = build(Config, {"modes": 1e3, "noise_m": 15})
    assert (config.modes, type(config.modes)) == (1000, int)
    assert (config.noise_m, type(config.noise_m)) == (15.0, float)


def test_a_long_value_does_not_flood_the_message():
    assert len(refusal({"modes": "x" * 10_000})) < 150


def test_something_else_than_a_mapping_is_refused():
    assert refusal([1, 2]) == "config: expected a group of keys, got [1, 2]"


# Unions and literals


def test_optional_takes_null_and_its_type():
    assert build(Data, {"path": None}).path is None
    assert build(Data, {"path": "x"}).path == "x"


@pytest.mark.parametrize("value", [3, "end"])
def test_union_keeps_the_value_of_the_first_type_that_fits(value):
    assert build(Config, {"modes": 1, "stop": value}).stop == value


def test_union_refuses_what_fits_no_type():
    assert refusal({"modes": 1, "stop": [1]}) == "stop: expected a whole number or text, got [1]"
    assert refusal({"modes": 1, "stop": None}) == "stop: expected a whole number or text, got nothing"


def test_literal_suggests_the_nearest():
    assert refusal({"modes": 1, "rule": "adm"}) == "rule: expected one of adam, sgd, got 'adm'; did you mean 'adam'?"
    assert refusal({"modes": 1, "rule": 3}) == "rule: expected one of adam, sgd, got 3"


def test_any_passes_unchanged():
    assert build(Config, {"modes": 1, "free": {"a": [1, None]}}).free == {"a": [1, None]}


# Choices


def test_unknown_kind_suggests_the_nearest_of_its_own_family():
    message = refusal({"modes": 1, "emulator": {"kind": "liner"}})
    assert message == "emulator.kind: expected one of linear, recurrent, got 'liner'; did you mean 'linear'?"


def test_missing_kind_lists_the_family():
    assert refusal({"modes": 1, "emulator": {}}) == "emulator.kind: expected one of linear, recurrent, got nothing"


def test_families_do_not_mix():
    assert set(Emulator.members) == {"linear", "recurrent"}
    assert set(Schedule.members) == {"constant"}
    assert "emulator.kind" in refusal({"modes": 1, "emulator": {"kind": "constant"}})


def test_a_member_can_be_built_without_naming_its_kind():
    assert build(Recurrent, {"hidden": 3}) == Recurrent(hidden=3)


# Ranges


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"modes": 0}, "modes: expected a value above 0, got 0"),
        ({"modes": 1, "name": "walk"}, "name: expected one of run, trial, got 'walk'"),
        (
            {"modes": 1, "emulator": {"kind": "recurrent", "hidden": -1}},
            "emulator.hidden: expected a value above 0, got -1",
        ),
        (
            {"modes": 1, "emulator": {"kind": "recurrent", "dropout": 1.5}},
            "emulator.dropout: expected a value between 0.0 and 1.0, got 1.5",
        ),
    ],
)
def test_out_of_range_is_refused_with_the_full_key(mapping, message):
    assert refusal(mapping) == message


@pytest.mark.parametrize("dropout", [0.0, 1.0])
def test_between_includes_its_ends(dropout):
    assert Recurrent(dropout=dropout).dropout == dropout


def test_range_checks_let_absent_optional_values_pass():
    @dataclass(frozen=True)
    class Optional:
        rate: float | None = None

        def __post_init__(self):
            positive(self, "rate")
            between(self, "rate", 0, 1)

    assert build(Optional, {"rate": None}).rate is None
    assert refusal({"rate": 2.0}, Optional).startswith("rate: expected a value between 0 and 1")


def test_require_is_silent_when_the_condition_holds():
    require(True, "field", "anything", None)
    with pytest.raises(ConfigError, match="^field: expected an even number, got 3$"):
        require(False, "field", "an even number", 3)


def test_a_config_error_is_an_error_for_the_user():
    assert issubclass(ConfigError, JaxsciError)


def test_did_you_mean_without_anything_known_says_nothing():
    assert did_you_mean("x", ()) == ""
