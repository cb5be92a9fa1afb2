"""What others measured or predicted, as data: the numbers that the planner is held against.

Every value has a status: `published` by its authors; `unconfirmed`, a recollection of a paper's body that
agrees with its abstract; `assumed` where nobody says; `measured` with the tool named. Only times are an
independent check: the memory figures of 2205.05198 hold values of the very formulas.
"""

from typing import Literal, NamedTuple

from jaxsci.transformer.config import ModelConfig, preset
from jaxsci.transformer.counts import Recompute
from jaxsci.transformer.plan.recipe import Recipe

Status = Literal["published", "unconfirmed", "assumed", "measured"]

KORTHIKANTI = "Korthikanti et al. 2205.05198"
FRONTIER = "Dash et al. 2312.12705"


class Megatron(NamedTuple):
    """One model of 2205.05198 on A100-80GB, s = 2048, V = 51200.

    `seconds`: per iteration, full recomputation (tensor parallel) and selective recomputation (tensor and
    sequence parallel), Table 5; `calculon` the same as predicted by Calculon. `mfu`, `hfu` in per cent, of
    the selective run. Figure 1, GiB: `state_gib` parameters and optimizer, `none_gib` activations with tensor
    parallelism alone, `both_gib` with sequence parallelism and selective recomputation too. `kept`: Figure 7,
    per cent of `none_gib` that is kept with sequence parallelism, selective recomputation, both, full
    recomputation.
    """

    name: str
    model: ModelConfig
    tensor: int
    pipe: int
    virtual: int
    batch: int
    microbatch: int
    billions: float
    seconds: tuple[float, float]
    calculon: tuple[float, float]
    mfu: float
    hfu: float
    state_gib: float
    none_gib: float
    both_gib: float
    kept: tuple[float, float, float, float]

    def recipe(self, recompute: Recompute, *, sequence_parallel: bool) -> Recipe:
        return Recipe(
            pipe=self.pipe,
            tensor=self.tensor,
            virtual=self.virtual,
            batch=self.batch,
            microbatch=self.microbatch,
            schedule="interleaved" if self.virtual > 1 else "1f1b",
            recompute=recompute,
            sequence_parallel=sequence_parallel,
            policy="bf16",
            flash=False,
        )

    @property
    def runs(self) -> tuple[tuple[Recipe, float, float], ...]:
        """Recipe, published seconds, Calculon's seconds: full recomputation, then selective."""
        full, selective = (
            self.recipe("full", sequence_parallel=False),
            self.recipe("selective", sequence_parallel=True),
        )
        return (full, self.seconds[0], self.calculon[0]), (selective, self.seconds[1], self.calculon[1])


def _gpt(layers: int, width: int, heads: int) -> ModelConfig:
    return ModelConfig(layers, width, heads, sequence=2048, vocabulary=51200, bias=True)


MEGATRON = (
    Megatron(
        "22 B", _gpt(48, 6144, 64), 8, 1, 1, 4, 4, 22.07, (1.42, 1.10), (1.40, 1.14), 41.5, 43.7,
        45.5625, 59.25, 9.5625, (66.84, 49.42, 16.18, 7.64),
    ),
    Megatron(
        "175 B", _gpt(96, 12288, 96), 8, 8, 3, 64, 1, 174.62, (18.13, 13.75), (18.03, 13.64), 51.4, 52.8,
        45.5625, 66.84375, 12.3515625, (62.04, 56.53, 18.49, 8.71),
    ),
    Megatron(
        "530 B", _gpt(105, 20480, 128), 8, 35, 3, 280, 1, 529.60, (49.05, 37.83), (49.89, 34.47), 56.0, 57.0,
        31.640625, 114.0234375, 23.076171875, (58.31, 62.04, 20.27, 9.42),
    ),
    Megatron(
        "1 T", _gpt(128, 25600, 160), 8, 64, 1, 512, 1, 1008.04, (94.42, 71.49), (90.08, 66.04), 56.3, 57.0,
        32.958984375, 131.25, 26.5625, (58.31, 62.04, 20.27, 9.42),
    ),
)  # fmt: skip

# Relative errors of Calculon (SC 2023; run from its source on these cases), mean and largest. Measured.
CALCULON_TIME = (0.0365, 0.0887)
CALCULON_STATE = (0.0849, 0.1084)
CALCULON_ACTIVATIONS = (0.0208, 0.0874)
CALCULON_KEPT = (0.067, 0.304)


class Frontier(NamedTuple):
    """A model of 2312.12705 on MI250X: `share` of the peak of a GCD that its throughput is, published, and the
    settings it is thought to have run with. `status` is that of the settings.
    """

    name: str
    model: ModelConfig
    share: float
    teraflops: float
    tensor: int
    pipe: int
    per_replica: int
    replicas: int
    status: Status
    reason: str

    def recipe(self, batch: int | None = None) -> Recipe:
        """ZeRO-1, micro-batch 1, full recomputation, flash attention; `batch` sequences a step or the
        settings' own.
        """
        return Recipe(
            data=1,
            fsdp=self.replicas,
            pipe=self.pipe,
            tensor=self.tensor,
            batch=batch or self.per_replica * self.replicas,
            schedule="1f1b",
            recompute="full",
            zero=1,
            policy="bf16",
        )


class Scaling(NamedTuple):
    """`efficiency` of a model of `FRONTIER_RUNS` on `devices` GCDs, relative to `base` GCDs. `batch`:
    sequences per step, all devices together, in strong scaling; weak scaling keeps those per replica.
    """

    name: str
    kind: Literal["weak", "strong"]
    efficiency: float
    base: int
    devices: int
    batch: int | None
    status: Status
    reason: str


FRONTIER_RUNS = (
    Frontier(
        "22 B", preset("gpt_22b"), 0.3838, 73.5, 2, 4, 160, 16, "assumed",
        "nobody states its settings: TP 2 (the fastest link) x PP 4 fills a node of 8; 40 micro-batches per stage as "
        "175 B; 16 nodes, the most that the study's search used",
    ),
    Frontier(
        "175 B", preset("gpt_175b"), 0.3614, 69.2, 4, 16, 640, 16, "unconfirmed",
        "TP 4, PP 16, micro-batch 1, 640 sequences per replica on 1024 GCDs",
    ),
    Frontier(
        "1 T", preset("gpt_1t"), 0.3196, 61.2, 8, 64, 1600, 6, "unconfirmed",
        "TP 8, PP 64, micro-batch 1, 1600 sequences per replica on 3072 GCDs",
    ),
)  # fmt: skip

# Efficiencies: the abstract says 100, 89 and 87 %; the digits after the point are unconfirmed. No source for the
# base at hand: one replica in strong scaling, and in weak scaling (1 T: 1024 GCDs, unconfirmed) the smallest run.
FRONTIER_SCALING = (
    Scaling("175 B", "weak", 1.0, 64, 1024, None, "published", "base of one replica assumed"),
    Scaling("1 T", "weak", 1.0, 1024, 3072, None, "published", "base of 1024 GCDs unconfirmed"),
    Scaling("175 B", "strong", 0.8993, 64, 1024, 8000, "unconfirmed", "batch unconfirmed; base of one replica assumed"),
    Scaling("1 T", "strong", 0.8705, 512, 3072, 8016, "unconfirmed", "batch unconfirmed; base of one replica assumed"),
)

# The study's table of memory, decimal terabytes: parameters 6, gradients 4, optimizer 4 bytes each (second-hand).
FRONTIER_STATE_TB = {"22 B": 0.31, "175 B": 2.44, "1 T": 14.1}
