"""Optimizers as one frozen config: clip -> update rule -> weight decay -> schedule."""

from collections.abc import Callable
from dataclasses import dataclass

import optax
from jaxtyping import PyTree

from jaxsci.core.config import between, one_of, positive, require
from jaxsci.core.errors import ConfigError


@dataclass(frozen=True)
class OptimizerConfig:
    """A gradient-based optimizer and the course of its learning rate.

    - `name`: `adam` (Kingma & Ba, arXiv:1412.6980), `adamw` (Loshchilov & Hutter, arXiv:1711.05101), `lion`
      (Chen et al., arXiv:2302.06675) or `sgd` (with momentum `b1`).
    - `learning_rate`: the peak. Good values: 1e-4 to 1e-2 for adam and adamw, a third of that for lion.
    - `schedule`: after the warm-up `constant`, or `cosine` or `linear` down to `final_fraction *
      learning_rate`.
    - `warmup_steps`: the rate rises linearly from 0 during this many steps, whatever the schedule.
    - `weight_decay`: decoupled decay per step, times the learning rate; for adamw, lion and sgd.
    - `clip_norm`: gradients of a larger global norm are scaled down to it; `None` leaves them. Good values:
      0.5 to 5.
    - `b1`, `b2`: decay rates of the averages of the gradient and its square (lion: its paper has 0.9 and
      0.99; sgd: `b1` only).
    """

    name: str = "adam"
    learning_rate: float = 1e-3
    schedule: str = "constant"
    warmup_steps: int = 0
    final_fraction: float = 0.0
    weight_decay: float = 0.0
    clip_norm: float | None = None
    b1: float = 0.9
    b2: float = 0.999

    def __post_init__(self):
        one_of(self, "name", ("adam", "adamw", "lion", "sgd"))
        positive(self, "learning_rate", "clip_norm")
        one_of(self, "schedule", ("constant", "cosine", "linear"))
        require(self.warmup_steps >= 0, "warmup_steps", "0 or more", self.warmup_steps)
        between(self, "final_fraction", 0.0, 1.0)
        require(self.weight_decay >= 0, "weight_decay", "0 or more", self.weight_decay)
        if self.name == "adam":
            require(self.weight_decay == 0, "weight_decay", "0 with name=adam (use name=adamw)", self.weight_decay)
        for field in ("b1", "b2"):
            value = getattr(self, field)
            require(0 <= value < 1, field, "a value from 0 to below 1", value)

    def learning_rate_at(self, total_steps: int) -> Callable:
        """The schedule `step -> learning rate`: 0 is the first update, `total_steps` has the final rate.

        Raises `ConfigError` when the warm-up is longer than the training.
        """
        peak, remaining = self.learning_rate, total_steps - self.warmup_steps
        if remaining < 0:
            raise ConfigError(
                f"warmup_steps: expected at most the {total_steps} steps of training, got {self.warmup_steps}"
            )
        if self.schedule == "constant" or remaining == 0:
            course = optax.constant_schedule(peak)
        elif self.schedule == "cosine":
            course = optax.cosine_decay_schedule(peak, remaining, alpha=self.final_fraction)
        else:
            course = optax.linear_schedule(peak, self.final_fraction * peak, remaining)
        if self.warmup_steps == 0:
            return course
        return optax.join_schedules([optax.linear_schedule(0.0, peak, self.warmup_steps), course], [self.warmup_steps])

    def build(
        self, total_steps: int, *, decay_mask: PyTree | Callable[[PyTree], PyTree] | None = None
    ) -> optax.GradientTransformation:
        """The optax transformation for a training of `total_steps` updates.

        `decay_mask` says which leaves decay (`None`: all), as in `optax.add_decayed_weights`.
        """
        chain = []
        if self.clip_norm is not None:
            chain.append(optax.clip_by_global_norm(self.clip_norm))
        if self.name in ("adam", "adamw"):
            chain.append(optax.scale_by_adam(self.b1, self.b2))
        elif self.name == "lion":
            chain.append(optax.scale_by_lion(self.b1, self.b2))
        elif self.b1:
            chain.append(optax.trace(self.b1))
        if self.weight_decay:
            chain.append(optax.add_decayed_weights(self.weight_decay, decay_mask))
        chain.append(optax.scale_by_learning_rate(self.learning_rate_at(total_steps)))
        return optax.chain(*chain)
