"""Members that train together: the same in every mode, on any number of devices, however a run is cut."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxsci.bayesnas.batches import Examples, batch_indices
from jaxsci.bayesnas.members import Trainer, advance, collect, predict, predict_each, start_chains
from jaxsci.bayesnas.space import MlpCell, NasBench201Cell, one_hot
from jaxsci.bayesnas.weights import CyclicalSgHmc, Task
from jaxsci.core.errors import ConfigError
from jaxsci.core.mesh import MeshConfig, make_mesh

MEMBERS, STEPS = 8, 12
DATA = Examples(jax.random.normal(jax.random.key(0), (40, 4, 4, 1)), jax.random.randint(jax.random.key(1), (40,), 0, 3))


def cross_entropy(outputs, labels):
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(outputs, labels))


def trainer(space=None):
    method = CyclicalSgHmc(0.05, cycles=2, noise_fraction=0.5, temperature=1.0)
    return Trainer(space or MlpCell(width=6), method, Task(40, STEPS), cross_entropy, 16)


def chains(trainer, members=MEMBERS):
    z = one_hot(jax.random.randint(jax.random.key(2), (MEMBERS, trainer.space.decisions), 1, 5), 5)[:members]
    keys = jax.vmap(lambda m: jax.random.fold_in(jax.random.key(3), m))(jnp.arange(members))
    return start_chains(trainer, z, DATA.x.shape[1:], 3, keys=keys)


def flat(tree):
    return np.concatenate([np.asarray(leaf).reshape(len(leaf), -1) for leaf in jax.tree.leaves(tree)], axis=1)


@pytest.fixture(scope="module")
def reference():
    one = trainer()
    return flat(advance(one, chains(one), DATA, 0, STEPS)[0].state)


@pytest.mark.parametrize("mode", ["map", "unroll", "shard"])
def test_modes_agree(mode, reference):
    one = trainer()
    mesh = make_mesh(MeshConfig(data=1, member=-1)) if mode == "shard" else None
    done, info = advance(one, chains(one), DATA, 0, STEPS, mode=mode, mesh=mesh)
    np.testing.assert_allclose(flat(done.state), reference, atol=2e-5)  # float32, 12 steps, sums in another order
    assert info.loss.shape == (MEMBERS, STEPS)


def test_dispatches_do_not_matter(reference):
    one = trainer()
    state = chains(one)
    for first, steps in ((0, 6), (6, 6)):
        state, _ = advance(one, state, DATA, first, steps)
    np.testing.assert_allclose(flat(state.state), reference, atol=2e-5)


def test_a_member_is_the_same_among_fewer(reference):
    one = trainer()
    few = advance(one, chains(one, 2), DATA, 0, STEPS)[0]
    np.testing.assert_allclose(flat(few.state), reference[:2], atol=2e-5)


def test_predictions_agree_and_convolutions_train():
    one = trainer(NasBench201Cell(channels=4, stages=1))
    state, info = advance(one, chains(one, 2), DATA, 0, STEPS, mode="unroll")
    weights = collect(one, state, DATA, together=False)
    together, apart = (f(one.space, weights, state.z, DATA.x) for f in (predict, predict_each))
    assert together.shape == (2, 2, 40, 3)
    np.testing.assert_allclose(together, apart, atol=1e-4)  # float32 convolutions in another order
    assert info.loss.shape == (2, STEPS) and np.isfinite(info.loss).all()


def test_batches_are_permutations_wherever_a_run_is_cut():
    rows = batch_indices(10, 3, 7, key=jax.random.key(0))
    assert all(len(set(np.asarray(rows[e * 3 : e * 3 + 3]).ravel().tolist())) == 9 for e in range(2))
    np.testing.assert_array_equal(rows[4:], batch_indices(10, 3, 3, key=jax.random.key(0), first=4))
    with pytest.raises(ConfigError, match="at most the 10 examples"):
        batch_indices(10, 11, 1, key=jax.random.key(0))
