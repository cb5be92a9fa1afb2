"""Memory of pipeline schedules: does 1F1B really not grow with the number of micro-batches?"""

from dataclasses import dataclass, field, replace

from matplotlib.figure import Figure

from experiments.settings import Settings
from jaxsci.core.config import positive
from jaxsci.core.figures import BLUE, ORANGE, new_figure, style
from jaxsci.core.mesh import make_mesh
from jaxsci.core.progress import progress
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Reference, Summary
from jaxsci.transformer.config import ModelConfig
from jaxsci.transformer.lowering import lower_gradients
from jaxsci.transformer.parallel import ParallelConfig

SCHEDULES = {"1f1b": BLUE, "gpipe": ORANGE}


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """`sequences` per micro-batch over data x fsdp; growth compares the last of `microbatches` with the first."""

    model: ModelConfig
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    sequences: int = 2
    microbatches: tuple[int, ...] = (8, 16, 32, 64)

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "sequences")


def main(config: Config, run: Run) -> tuple[Summary, Report]:
    mesh = make_mesh(config.mesh)
    temporaries: dict[str, list[int]] = {name: [] for name in SCHEDULES}
    with progress(len(SCHEDULES) * len(config.microbatches), "programs compiled") as bar:
        for name in SCHEDULES:
            for m in config.microbatches:
                plan = replace(config.parallel, schedule=name, microbatches=m)
                compiled = lower_gradients(config.model, plan, mesh, m * config.sequences).compile()
                temporaries[name].append(compiled.memory_analysis().temp_size_in_bytes)  # pyright: ignore
                bar.update()
                run.log({f"temporary_bytes_{name}": temporaries[name][-1]}, m)
    growth = {name: sizes[-1] / sizes[0] - 1 for name, sizes in temporaries.items()}
    metrics = {f"growth_{name}": value for name, value in growth.items()} | {
        f"temporary_mib_{name}_{m}": size / 2**20
        for name, sizes in temporaries.items()
        for m, size in zip(config.microbatches, sizes, strict=True)
    }
    references = {"growth_1f1b": Reference(0.02, "bound: 2 % from the fewest to the most micro-batches", "lower")}
    notes = (
        f"growth is temporaries at {config.microbatches[-1]} over {config.microbatches[0]} micro-batches, less 1.",
    )
    summary = Summary("benchmarks/pipeline_memory", metrics, references, notes=notes)
    page = Report(
        "Memory of pipeline schedules",
        "What does one device need for temporaries, by XLA's own analysis of the compiled gradient program, as the "
        "number of micro-batches grows?",
    )
    page.figure("memory", run.figure("memory", memory(config.microbatches, temporaries)), "Temporaries per device.")
    return summary, page


@style()
def memory(microbatches: tuple[int, ...], temporaries: dict[str, list[int]]) -> Figure:
    figure, axes = new_figure(1, 1, (7, 4.2))
    for name, colour in SCHEDULES.items():
        mib = [size / 2**20 for size in temporaries[name]]
        axes[0, 0].plot(microbatches, mib, "o-", color=colour, label=name)
    axes[0, 0].set(xlabel="micro-batches", ylabel="temporaries per device (MiB)", ylim=(0, None))
    axes[0, 0].legend()
    return figure
