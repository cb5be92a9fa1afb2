"""NAS-Bench-201 as a tensor: expectations over architectures, their gradients and the optimum, all exact."""

from pathlib import Path
from typing import Any, NamedTuple, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key

from jaxsci.bayesnas.architecture.categorical import Categorical
from jaxsci.bayesnas.loaders.npz import packaged, read_npz
from jaxsci.core.errors import DataError
from jaxsci.core.reading import require_array

DECISIONS, OPS = 6, 5
PACKAGED = "nasbench201.npz"
FORM = {
    "arch_ops": ("iu", 2),
    "ops": ("U", 1),
    "edges": ("iu", 2),
    "test_acc_200ep": ("iuf", 2),
    "acc_12ep": ("iuf", 2),
    "datasets": ("U", 1),
    "acc_12ep_cols": ("U", 1),
}
"""Of the file: what kind of array in how many dimensions."""


class Tables(NamedTuple):
    """Accuracy in percent of all 15,625 cells, an axis per edge, over its operations.

    A mapping from names such as `cifar10 200 epochs` or `cifar10 12 epochs validation` to a 5^6 array each.
    """

    ops: tuple[str, ...]
    edges: tuple[str, ...]
    accuracy: dict[str, Float[np.ndarray, "5 5 5 5 5 5"]]


SHORT = {"cifar10": "C10", "cifar100": "C100", "ImageNet16-120": "IN"}


def load_tables(path: str | None = None) -> Tables:
    """Read an npz file like the packaged one (`None`). Raises `DataError` for anything else."""
    if path is None:
        with packaged(PACKAGED) as file:
            return load_tables(str(file))
    content = read_npz(Path(path), tuple(FORM))
    for name, (kinds, dimensions) in FORM.items():
        require_array(path, name, content[name], kinds, dimensions)
    choices = content["arch_ops"]
    if choices.shape != (OPS**DECISIONS, DECISIONS) or len({tuple(c) for c in choices.tolist()}) != len(choices):
        raise DataError(
            f"{path}: expected arch_ops to list all {OPS**DECISIONS} architectures once, got {choices.shape}"
        )
    if choices.min() < 0 or choices.max() >= OPS:
        raise DataError(f"{path}: expected operations 0 to {OPS - 1} in arch_ops, got others")
    shapes = {
        "ops": (OPS,),
        "edges": (DECISIONS, 2),
        "test_acc_200ep": (len(choices), len(content["datasets"])),
        "acc_12ep": (len(choices), len(content["acc_12ep_cols"])),
    }
    for name, shape in shapes.items():
        if content[name].shape != shape:
            raise DataError(f"{path}: expected {name} of shape {shape}, got {content[name].shape}")
    columns = {f"{name} 200 epochs": content["test_acc_200ep"][:, i] for i, name in enumerate(content["datasets"])}
    columns |= {f"{name} 12 epochs": content["acc_12ep"][:, i] for i, name in enumerate(content["acc_12ep_cols"])}
    accuracy = {}
    for name, column in columns.items():
        if not np.isfinite(column).all():
            raise DataError(f"{path}: expected a finite accuracy per architecture in '{name}'")
        tensor = np.empty((OPS,) * DECISIONS)
        tensor[tuple(choices.T)] = column
        accuracy[name] = tensor
    edges = tuple(f"{source}→{target}" for source, target in content["edges"].tolist())
    return Tables(tuple(str(op) for op in content["ops"]), edges, accuracy)


def expectation(accuracy: Float[Array, "*ops"], probabilities: Float[Array, "decisions ops"]) -> Float[Array, ""]:
    """E[accuracy] when every edge draws its operation independently: a contraction per edge. Multilinear, so it also
    extends the table to relaxed architectures.
    """
    for row in probabilities:
        accuracy = jnp.tensordot(row, accuracy, axes=1)
    return accuracy


class MeanField(NamedTuple):
    """What `mean_field_search` ends with."""

    distribution: Categorical
    objective: Float[Array, " steps"]
    """E[objective table] on the way, in percent."""
    entropy: Float[Array, " steps"]
    """In nats."""


def mean_field_search(
    accuracy: Float[Array, "*ops"],
    *,
    temperature: float,
    steps: int = 800,
    learning_rate: float = 0.05,
    key: Key[Array, ""],
) -> MeanField:
    """Maximise E_q[accuracy] + temperature * H(q) over independent categorical edges, by Adam on exact gradients.

    `temperature` is in accuracy points per nat; logits start at 0.01 N(0, 1).
    """
    start = Categorical.init(DECISIONS, OPS, key=key)
    rule = optax.adam(learning_rate)

    def loss(q: Categorical) -> tuple[Array, tuple[Array, Array]]:
        value, entropy = expectation(accuracy, q.probabilities()), q.entropy()
        return -(value + temperature * entropy), (value, entropy)

    def step(carry, _):
        q, state = carry
        (_, told), gradient = jax.value_and_grad(loss, has_aux=True)(q)
        change, state = rule.update(gradient, state)
        return (eqx.apply_updates(q, change), state), told

    (q, _), (objective, entropy) = jax.lax.scan(step, (start, rule.init(cast(Any, start))), length=steps)
    return MeanField(q, objective, entropy)
