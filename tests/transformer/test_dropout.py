"""Dropout masks know the step, the sequence, the layer and the position, and nothing of the mesh."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import transformer_cases as cases
from jax.sharding import PartitionSpec as P

from jaxsci.transformer.collectives import keep_mask
from jaxsci.transformer.parallel import ParallelConfig

WET = replace(cases.GPT, layers=4, dropout=0.2)


@pytest.mark.parametrize(
    "shape, plan",
    [
        ((2, 1, 2, 2), ParallelConfig(microbatches=4)),
        ((1, 2, 2, 2), ParallelConfig(microbatches=2, schedule="gpipe", virtual=2)),
        ((1, 4, 1, 2), ParallelConfig(microbatches=2, zero=3)),
    ],
    ids=["1f1b", "circular", "zero3"],
)
def test_gradients_with_dropout_are_the_same_on_every_mesh(shape, plan):
    loss, expected, _ = cases.gradients(WET, ParallelConfig(), (1, 1, 1, 1))
    other, g, _ = cases.gradients(WET, plan, shape)
    assert other == pytest.approx(loss, rel=1e-6)
    assert cases.largest_difference(g, expected) < 2e-6  # as without dropout; one other mask would give order 1


def test_steps_draw_different_masks_and_dropout_acts():
    plan, one = ParallelConfig(), (1, 1, 1, 1)
    losses = [cases.gradients(WET, plan, one, step=n)[0] for n in (0, 1)]
    dry = cases.gradients(replace(WET, dropout=0.0), plan, one)[0]
    assert len({*losses, dry}) == 3
    assert cases.gradients(WET, plan, one, step=0)[0] == losses[0]


def test_masks():
    """Kept share, independence of rows and positions, and the same bits when the sequence is split over
    tensor.
    """
    keys = jax.random.split(jax.random.key(0), 3)
    shape = (3, 16, 64)
    whole, split = (
        jax.shard_map(
            lambda keys, n=n: keep_mask(keys, (3, 16 // n, 64), 0.25),
            mesh=cases.mesh((1, 1, 1, n)),
            in_specs=P(),
            out_specs=P(None, "tensor") if n > 1 else P(),
        )(keys)
        for n in (1, 4)
    )
    np.testing.assert_array_equal(whole, split)
    # Bernoulli(0.75), 3072 draws: deviation 0.0078.
    assert abs(float(whole.mean()) - 0.75) < 4 * 0.0078
    rows = np.asarray(whole).reshape(-1, shape[-1])
    assert len(np.unique(rows, axis=0)) == len(rows)
    assert jnp.issubdtype(whole.dtype, jnp.bool_)
