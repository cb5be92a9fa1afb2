"""The command line, checked before anything is written: every problem becomes one line."""

import os
import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments import catalogue
from experiments.settings import Settings
from jaxsci.core.config import build
from jaxsci.core.errors import CheckpointError, ConfigError, did_you_mean
from jaxsci.core.reading import read_yaml

FLAGS = ("-m", "--multirun", "--resolve")
SHOW = ("--cfg", "-c")
SHOWN = ("job", "hydra", "all")


def help_text() -> str:
    """What `--help` prints: usage, then a line for each experiment."""
    width = max(len(name) for name in catalogue.names())
    listed = "\n".join(f"  {name.ljust(width)}  {catalogue.description(name)}" for name in catalogue.names())
    return f"""\
usage: python -m experiments.run [experiment=NAME] [key=value ...]

experiments:
{listed}

  key=value            override any key of the experiment's config, e.g. seed=1 window=2
  hydra.run.dir=DIR    the run directory (default outputs/<experiment>/<time>)
  resume=DIR           continue the run in DIR with the overrides it was started with
  -m key=a,b           one run for every combination
  -m sweep=NAME        the best of many runs, by racing, as in conf/sweep/NAME.yaml
  --cfg job            print the resolved config and stop"""


def resume_arguments(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """Replace `resume=DIR` by the overrides saved there, DIR as run directory, then the remaining arguments."""
    chosen = [a.removeprefix("resume=") for a in arguments if a.startswith("resume=")]
    rest = [a for a in arguments if not a.startswith("resume=")]
    if not chosen or chosen[-1] in ("", "null"):
        return rest, False
    directory = Path(chosen[-1])
    file = directory / "overrides.yaml"
    if not os.path.isfile(file):
        raise CheckpointError(f"resume: expected a run directory with overrides.yaml, got {directory}")
    saved = read_yaml(file, "the overrides of a run, a list")
    if not isinstance(saved, list) or not all(isinstance(line, str) for line in saved):
        raise CheckpointError(f"{file}: expected the overrides of a run, a list of texts such as seed=1; correct it")
    saved = [line for line in saved if not line.startswith("hydra.run.dir=")]
    for line in saved:  # a run keeps what concerns its experiment; Hydra's own part could name code to be called
        if re.match(r"[-@]|[+~]*hydra\b", line.strip()):
            raise CheckpointError(f"{file}: '{line}' is no setting of an experiment; remove it from the file")
    return [*saved, f"hydra.run.dir={quoted(directory)}", *rest], True


def separate(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Options for Hydra and overrides. Raises `ConfigError` for an option that is not among those of `--help`."""
    options, overrides, rest = [], [], iter(arguments)
    for argument in rest:
        name, given, value = argument.partition("=")
        if not argument.startswith("-"):
            overrides.append(argument)
        elif name in SHOW:
            value = value if given else next(rest, "nothing")
            if value not in SHOWN:
                raise ConfigError(f"{name}: expected one of {', '.join(SHOWN)}, got {value}")
            options += ["--cfg", value]
        elif argument in FLAGS:
            options.append(argument)
        else:
            close = did_you_mean(argument, (*FLAGS, *SHOW, "--help"))
            raise ConfigError(f"command line: unknown option '{argument}'{close}")
    return options, overrides


def check(overrides: Sequence[str], *, multirun: bool, resumed: bool = False) -> None:
    """Compose and type-check every configuration that the overrides ask for. Raises `ConfigError`."""
    parsed = _parse(overrides)
    if any(o.is_hydra_override() and "sweeper" in o.key_or_group for o in parsed) or is_raced(overrides):
        for override in parsed:
            _check_group(override)
        if not multirun and not resumed:  # a job of a sweep may go on by itself
            raise ConfigError("command line: a sweep is many runs; add -m")
        return  # a sweeper of its own decides what is run; each job is still checked when it starts
    for job in _jobs(parsed) if multirun else [parsed]:
        if not multirun and any(o.is_sweep_override() for o in job):
            swept = next(o for o in job if o.is_sweep_override())
            raise ConfigError(f"{swept.key_or_group}: got several values; add -m to run each of them")
        for override in job:
            _check_group(override)
        resolve(*_compose([_line(o) for o in job]))


def is_raced(overrides: Sequence[str]) -> bool:
    """Whether jobs are chosen by the racing sweeper: asked for on the command line, or by a file of conf/sweep."""
    parsed = _parse(overrides)
    if not any(o.key_or_group in ("hydra/sweeper", "sweep") for o in parsed):
        return False
    composed = _compose_with_hydra([_line(o) for o in parsed if not o.is_sweep_override()])
    return composed.hydra.runtime.choices["hydra/sweeper"] == "jaxsci_racing"


def forced(overrides: Sequence[str]) -> list[str]:
    """The overrides as Hydra must get them: it would refuse keys that only the schema knows, not the YAML files."""
    return [_line(override) for override in _parse(overrides)]


def output_directory(overrides: Sequence[str], *, multirun: bool) -> tuple[str, Path]:
    """Hydra's key for the directory that will be written to, and its value with all `${...}` filled in."""
    key = "sweep" if multirun else "run"
    single = [_line(o) for o in _parse(overrides) if not o.is_sweep_override()]
    composed = _compose_with_hydra(single)
    HydraConfig.instance().set_config(composed)  # what `${hydra:...}` in the value refers to
    try:
        return f"hydra.{key}.dir", Path(str(composed.hydra[key].dir)).absolute()
    except OmegaConfBaseException as error:
        raise ConfigError(f"hydra.{key}.dir: {_first_line(error)}") from None


def quoted(path: Path) -> str:
    """A path as an override's value: commas, spaces, brackets and dollars in it mean nothing."""
    return QuotedString(str(path).replace("${", r"\${"), Quote.single).with_quotes()


def resolve(name: str, composed: DictConfig) -> tuple[catalogue.Experiment, Settings]:
    """The experiment `name` and its typed config. Raises `ConfigError`."""
    experiment = catalogue.find(name)
    try:
        for key in sorted(OmegaConf.missing_keys(composed)):
            raise ConfigError(f"{key}: missing; give {key}=<value>")
        mapping = OmegaConf.to_container(composed, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"config: {_first_line(error)}") from None
    assert isinstance(mapping, dict)
    return experiment, build(experiment.config, mapping)  # type: ignore[arg-type]


def _compose(lines: list[str]) -> tuple[str, DictConfig]:
    """The experiment's name and its composed config, without Hydra's own part."""
    composed = _compose_with_hydra(lines)
    name = composed.hydra.runtime.choices.experiment
    OmegaConf.set_struct(composed, False)
    composed.pop("hydra")
    return name, composed


def _compose_with_hydra(lines: list[str]) -> DictConfig:
    try:
        with initialize_config_dir(str(catalogue.CONF), version_base=None):
            return compose("config", lines, return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(f"config: {_first_line(error)}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"config: expected YAML, got {' '.join(str(error).split())}") from None


def _parse(overrides: Sequence[str]) -> list[Override]:
    try:
        return OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise ConfigError(f"command line: {_first_line(error)}") from None


def _line(override: Override) -> str:
    """Force plain value overrides in, so that unknown keys reach `build` and its 'did you mean'."""
    text = str(override.input_line)
    plain = override.type is not None and override.type.name == "CHANGE"
    if plain and not override.is_hydra_override() and not _is_group(override.key_or_group):
        return "++" + text
    return text


def _jobs(parsed: list[Override]) -> list[list[Override]]:
    """Every combination of the swept values."""
    parser = OverridesParser.create()
    choices = []
    for override in parsed:
        if override.is_sweep_override():
            values = list(override.sweep_string_iterator())
            prefix = str(override.input_line).split("=", 1)[0]
            choices.append(parser.parse_overrides([f"{prefix}={value}" for value in values]))
        else:
            choices.append([override])
    return [list(job) for job in product(*choices)]


def _is_group(key: str) -> bool:
    return bool(key) and any((catalogue.CONF / key).glob("*.yaml"))


def _check_group(override: Override) -> None:
    """A group's option must be a file; the experiment also needs its code."""
    key = override.key_or_group
    if not _is_group(key):
        return
    folder = catalogue.CONF / key
    options = sorted(f.relative_to(folder).with_suffix("").as_posix() for f in folder.rglob("*.yaml"))
    value = str(override.value())
    if value not in options:
        near, known = did_you_mean(value, options), f"known: {', '.join(options)}"
        raise ConfigError(f"{key}: no '{value}'{near}" + (f" {known}" if known not in near else ""))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
