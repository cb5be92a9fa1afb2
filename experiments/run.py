"""The one door: `python -m experiments.run experiment=NAME key=value ...`."""

import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig

from experiments import command_line
from experiments.settings import Settings
from jaxsci.core.config import to_mapping
from jaxsci.core.errors import ConfigError, JaxsciError

EXIT_BAD_INPUT, EXIT_INTERRUPTED = 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0, 2 for bad input, 130 for an interrupt."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if "--help" in arguments or "-h" in arguments:
        print(command_line.help_text())
        return 0
    try:
        arguments, resumed = command_line.resume_arguments(arguments)
        overrides = [a for a in arguments if not a.startswith("-")]
        command_line.check(overrides, multirun=bool({"-m", "--multirun"} & set(arguments)))
        _hand_to_hydra(arguments, overrides, resumed)
    except JaxsciError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except HydraException as error:
        print(f"error: {str(error).strip().splitlines()[0]}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted; what was written stays; continue with resume=<run directory>", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def _hand_to_hydra(arguments: list[str], overrides: list[str], resumed: bool) -> None:
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come back as exceptions, and `main` makes them one line

    @hydra.main(version_base=None, config_path=str(command_line.catalogue.CONF), config_name="config")
    def job(composed: DictConfig) -> None:
        _run(composed, overrides, resumed)

    program, sys.argv = sys.argv, [sys.argv[0], *arguments]
    try:
        job()
    finally:
        sys.argv = program


def _run(composed: DictConfig, overrides: list[str], resumed: bool) -> None:
    directory = Path(HydraConfig.get().runtime.output_dir)
    try:
        _run_in(directory, composed, overrides, resumed)
    finally:
        _remove_if_empty(directory)  # Hydra makes the folder before it asks us


def _run_in(directory: Path, composed: DictConfig, overrides: list[str], resumed: bool) -> None:
    experiment, config = command_line.resolve(HydraConfig.get().runtime.choices["experiment"], composed)
    main_process = _prepare_jax(config, overrides)

    from jaxsci.core.rundir import Run
    from jaxsci.core.summary import table

    started = time.perf_counter()
    job_overrides = list(HydraConfig.get().overrides.task)
    with Run(
        directory,
        to_mapping(config),
        job_overrides,
        trackers=config.trackers,
        main=main_process,
        resumed=resumed,
    ) as run:
        summary, report = experiment.main(config, run)
        seconds = {**summary.seconds, "total": time.perf_counter() - started}
        summary = run.finish(_with_seconds(summary, seconds), report)
    if main_process:
        print(table(summary))
        print(f"report: {directory / 'report.html'}")


def _prepare_jax(config: Settings, overrides: list[str]) -> bool:
    """Set what must be set before the first array exists. Returns whether this is process 0."""
    if config.cpu_threads is not None:
        os.environ["NPROC"] = str(config.cpu_threads)  # XLA's CPU client sizes its pool by it when it starts
    import jax

    from jaxsci.core import distributed
    from jaxsci.core.precision import apply_precision

    apply_precision(config.precision)
    jax.config.update("jax_debug_nans", config.debug == "nans")
    distributed.start(config.distributed)
    if jax.process_count() > 1 and not any(o.startswith("hydra.run.dir=") for o in overrides):
        raise ConfigError("hydra.run.dir: several processes need one run directory; give hydra.run.dir=<shared path>")
    return distributed.is_main()


def _with_seconds(summary, seconds: dict[str, float]):
    from dataclasses import replace

    return replace(summary, seconds=seconds)


def _remove_if_empty(directory: Path) -> None:
    with suppress(OSError):
        directory.rmdir()
        directory.parent.rmdir()
        directory.parent.parent.rmdir()


if __name__ == "__main__":
    sys.exit(main())
