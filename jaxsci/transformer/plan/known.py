"""What the large arrays of a compiled step are: recognised by type and sizes among those the step is known to hold."""

from collections.abc import Mapping

import jax
from jax.sharding import PartitionSpec as P

from jaxsci.transformer.config import ModelConfig
from jaxsci.transformer.layout import layout
from jaxsci.transformer.parallel import ParallelConfig
from jaxsci.transformer.plan.buffers import Kind, kind
from jaxsci.transformer.plan.footprint import kept_of_layers, shapes, sizes
from jaxsci.transformer.plan.residuals import stored_arrays
from jaxsci.transformer.sharding import local_shape, specs

SHORT = {"float32": "f32", "bfloat16": "bf16", "float16": "f16", "int32": "s32", "bool": "pred"}


def known_arrays(
    model: ModelConfig, plan: ParallelConfig, mesh_shape: Mapping[str, int], batch: int
) -> dict[Kind, str]:
    """Names of large arrays by type and sizes. Several of one kind share a name; where a device holds a whole matrix,
    its state and the total of its gradients are of one kind, and called state.
    """
    mesh = dict(mesh_shape)
    size, compute = sizes(model, plan, mesh, batch), SHORT[plan.precision]
    found: dict[Kind, tuple[str, list[str]]] = {}

    def add(dtype: str, shape: tuple[int, ...], what: str, name: str = "") -> None:
        of = found.setdefault(kind(dtype, shape), (what, []))
        if of[0] == what and name and name not in of[1]:
            of[1].append(name)

    if mesh["pipe"] > 1:
        shard = (size.sequences, model.sequence // mesh["tensor"], model.width)
        add(compute, (2 * mesh["pipe"], *shard), "ring of stage inputs")
    params = shapes(model, layout(model, plan, mesh))
    table = jax.tree.leaves(specs(params), is_leaf=lambda x: isinstance(x, P))
    for (path, a), spec in zip(jax.tree_util.tree_leaves_with_path(params), table, strict=True):
        name, whole = str(path[-1].key), local_shape(spec, a.shape, mesh | {"fsdp": 1})
        add("f32", local_shape(spec, a.shape, mesh), "state", name)
        add("f32", whole, "gradient total", name)
        add(compute, whole, "weights", name)
        add(compute, whole[2:] if path[0].key == "blocks" else whole, "gradient of one layer", name)
    kept, turns = kept_of_layers(plan, mesh["pipe"])
    for a in stored_arrays(model, plan, mesh["tensor"], size.sequences, kept) if kept != "offload" else ():
        every = (turns, size.depth) if turns > 1 else (size.depth,)
        add(SHORT.get(str(a.dtype), str(a.dtype)), (*every, *a.shape[1:]), "activations stored")
    return {key: f"{what}: {', '.join(names)}" if names else what for key, (what, names) in found.items()}
