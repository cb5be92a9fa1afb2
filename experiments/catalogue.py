"""Which experiments there are, what each is for, and where its code lies."""

import ast
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from experiments.settings import Settings
from jaxsci.core.errors import ConfigError, did_you_mean
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Summary

CONF = Path(__file__).resolve().parent.parent / "conf"
CODE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Experiment:
    """`main(config, run)` does the work; `config` is its frozen dataclass."""

    name: str
    config: type[Settings]
    main: Callable[[Settings, Run], tuple[Summary, Report]]


def names() -> list[str]:
    """Every experiment that ships a YAML file, benchmarks last."""
    found = [file.relative_to(CONF / "experiment").with_suffix("") for file in (CONF / "experiment").rglob("*.yaml")]
    return sorted((name.as_posix() for name in found), key=lambda name: ("/" in name, name))


def description(name: str) -> str:
    """The first line of the docstring of the experiment's module, read without importing it."""
    source = (CODE / name).with_suffix(".py").read_text()
    return (ast.get_docstring(ast.parse(source)) or "").splitlines()[0]


def find(name: str) -> Experiment:
    """Import the experiment's module. Raises `ConfigError` with a near miss for a name that is not there."""
    if name not in names():
        raise ConfigError(f"experiment: no '{name}'{did_you_mean(name, names())}")
    module = importlib.import_module("experiments." + name.replace("/", "."))
    return Experiment(name, module.Config, module.main)
