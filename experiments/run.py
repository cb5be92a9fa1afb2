"""The one door: `python -m experiments.run experiment=NAME key=value ...`."""

import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig

from experiments import command_line
from experiments.output_directory import made, remove_if_empty
from experiments.settings import Settings
from jaxsci.core.config import require, to_mapping
from jaxsci.core.errors import ConfigError, JaxsciError

REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)  # of a disk
EXIT_BAD_INPUT, EXIT_INTERRUPTED = 2, 130
# Devices made of one CPU wait long for each other where it is busy; XLA would abort the process after 40 seconds.
PATIENCE = "--xla_cpu_collective_call_terminate_timeout_seconds=900"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0, 2 for bad input, 130 for an interrupt."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    with _ended_as_by_a_key():
        return _answer(arguments)


def _answer(arguments: list[str]) -> int:
    if "--help" in arguments or "-h" in arguments:
        print(command_line.help_text())
        return 0
    try:
        arguments, resumed = command_line.resume_arguments(arguments)
        options, overrides = command_line.separate(arguments)
        command_line.check(overrides, multirun=_is_multirun(options), resumed=resumed)
        _hand_to_hydra(options, overrides, resumed)
    except JaxsciError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except HydraException as error:
        print(f"error: {str(error).strip().splitlines()[0]}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except OSError as error:  # whoever was writing, and wherever
        print(f"error: {_refused_by_the_disk(error)}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt as interrupt:
        said = str(interrupt) or "interrupted; what was written stays; continue with resume=<run directory>"
        print(said, file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def _refused_by_the_disk(error: OSError) -> JaxsciError:
    """One line for an error that the disk gave; any other one is raised again."""
    if error.errno not in REFUSALS:
        raise error
    where = f"write {error.filename}" if error.filename else "write"
    return JaxsciError(f"cannot {where}: {error.strerror}; free some space or choose another directory")


@contextmanager
def _ended_as_by_a_key() -> Iterator[None]:
    """SIGTERM where nothing waits for it ends a run as SIGINT does: files are closed, one line says how to go on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous or signal.SIG_DFL)


def _hand_to_hydra(options: list[str], overrides: list[str], resumed: bool) -> None:
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come back as exceptions, and `main` makes them one line
    multirun = _is_multirun(options)
    key, directory = command_line.output_directory(overrides, multirun=multirun)
    pinned = f"{key}={command_line.quoted(directory)}"  # a time of day in its name would move on
    raced = multirun and command_line.is_raced(overrides)
    refused: list[JaxsciError] = []  # raised through Hydra they would cost a line of its own

    @hydra.main(version_base=None, config_path=str(command_line.catalogue.CONF), config_name="config")
    def job(composed: DictConfig) -> str | None:
        folder = Path(HydraConfig.get().runtime.output_dir)
        try:
            if not refused:
                _run(folder, composed, overrides, resumed)
        except JaxsciError as error:
            if raced:
                return str(error)  # to the sweeper, which goes on without that configuration
            refused.append(error)
        except OSError as error:
            if raced:
                raise  # no configuration is to blame: the sweep ends
            refused.append(_refused_by_the_disk(error))
        finally:
            if multirun:
                remove_if_empty(folder)  # `made` knows only the folder above

    program, sys.argv = sys.argv, [sys.argv[0], *options, *command_line.forced(overrides), pinned]
    try:
        with nullcontext() if "--cfg" in options else made(directory):
            job()
    finally:
        sys.argv = program
    if refused:
        raise refused[0]


def _is_multirun(options: list[str]) -> bool:
    return "-m" in options or "--multirun" in options


def _run(directory: Path, composed: DictConfig, overrides: list[str], resumed: bool) -> None:
    experiment, config = command_line.resolve(HydraConfig.get().runtime.choices["experiment"], composed)
    main_process = _prepare_jax(config, overrides)

    from experiments.backend import start_backend
    from jaxsci.core.distributed import ending_together
    from jaxsci.core.rundir import Run
    from jaxsci.core.summary import table

    started = time.perf_counter()
    job_overrides = [line.removeprefix("++") for line in HydraConfig.get().overrides.task]
    kind = {"trackers": config.trackers, "main": main_process, "resumed": resumed}
    with Run(directory, to_mapping(config), job_overrides, **kind) as run, ending_together():
        summary, report = experiment.main(config, run)
        if not config.needs_backend:
            start_backend()  # quietly, for the devices in the summary
        seconds = {**summary.seconds, "total": time.perf_counter() - started}
        summary = run.finish(_with_seconds(summary, seconds), report)
    if main_process:
        print(table(summary))
        print(f"report: {directory / 'report.html'}")


def _prepare_jax(config: Settings, overrides: list[str]) -> bool:
    """Set what must be set before the first array exists. Returns whether this is process 0."""
    if not config.needs_backend:
        return True
    # A collective blocks a thread of XLA's pool per device, and a device can have several in flight.
    threads = config.cpu_threads or (8 * config.cpu_devices if config.cpu_devices else None)
    if threads is not None:
        os.environ["NPROC"] = str(threads)  # XLA's CPU client sizes its pool by it when it starts
    import jax

    if config.cpu_devices is not None:
        _split_cpu(config.cpu_devices)

    from experiments.backend import start_backend
    from jaxsci.core import distributed
    from jaxsci.core.precision import apply_precision

    apply_precision(config.precision)
    jax.config.update("jax_debug_nans", config.debug == "nans")
    distributed.start(config.distributed)
    start_backend()
    if jax.process_count() > 1 and not any(o.startswith("hydra.run.dir=") for o in overrides):
        raise ConfigError("hydra.run.dir: several processes need one run directory; give hydra.run.dir=<shared path>")
    return distributed.is_main()


def _split_cpu(devices: int) -> None:
    """Make this many CPU devices. Within a process whose backend runs already, only their number can be checked."""
    import jax

    flags = os.environ.get("XLA_FLAGS", "").split()  # JAX refuses to be told twice
    kept = [flag for flag in flags if "xla_force_host_platform_device_count" not in flag]
    os.environ["XLA_FLAGS"] = " ".join([*kept, PATIENCE])
    try:
        jax.config.update("jax_num_cpu_devices", devices)
    except RuntimeError:
        found = jax.local_device_count("cpu")
        require(found == devices, "cpu_devices", f"{found}, the number this process started with", devices)


def _with_seconds(summary, seconds: dict[str, float]):
    from dataclasses import replace

    return replace(summary, seconds=seconds)


if __name__ == "__main__":
    sys.exit(main())
