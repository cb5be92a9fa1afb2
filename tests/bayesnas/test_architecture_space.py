"""Search spaces: merged against explicit, special cases, connectivity."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.bayesnas.space import DartsCell, MlpCell, NasBench201Cell, ResidualNet, darts, one_hot, require_connected
from jaxsci.bayesnas.space.convolution import convolve
from jaxsci.bayesnas.space.explicit import average_pool, explicit_apply
from jaxsci.core.errors import ConfigError

KEY = jax.random.key(0)
IMAGES = jax.random.normal(jax.random.key(1), (3, 8, 8, 3))


def mixed(space, seed=2):
    return jax.nn.softmax(jax.random.normal(jax.random.key(seed), (space.decisions, len(space.ops))))


def test_merged_supernet_equals_the_explicit_one():
    space = NasBench201Cell(channels=4, stages=2)
    params = space.init((8, 8, 3), 10, key=KEY)
    for z in (mixed(space), one_hot(jnp.array([3, 1, 2, 4, 0, 3]), 5)):
        merged, explicit = space.apply(params, z, IMAGES), explicit_apply(space, params, z, IMAGES)
        np.testing.assert_allclose(merged, explicit, atol=1e-5)  # float32, the specification's bound
    # What no kernel can do: pooling that knows where the border is.
    inside = explicit_apply(space, params, mixed(space), IMAGES, count_include_pad=False)
    assert jnp.abs(inside - space.apply(params, mixed(space), IMAGES)).max() > 1e-4
    pooled = [average_pool(IMAGES, count_include_pad=flag) for flag in (True, False)]
    np.testing.assert_allclose(pooled[0][:, 1:-1, 1:-1], pooled[1][:, 1:-1, 1:-1], atol=1e-6)


def test_separable_convolutions_merge():
    deep = jax.random.normal(KEY, (3, 3, 4, 1))
    point = jax.random.normal(jax.random.key(3), (1, 1, 4, 4))
    x = jax.random.normal(jax.random.key(4), (2, 6, 6, 4))
    depthwise = jax.lax.conv_general_dilated(
        x, deep.reshape(3, 3, 1, 4), (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=4
    )
    merged = convolve(x, darts.separable_kernel({"depthwise": deep, "pointwise": point}))
    np.testing.assert_allclose(convolve(depthwise, point), merged, atol=1e-4)  # float32 sums of 36 terms


def test_a_dilated_kernel_is_the_dilated_convolution():
    kernel = jax.random.normal(KEY, (3, 3, 2, 2))
    x = jax.random.normal(jax.random.key(4), (1, 7, 7, 2))
    library = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", rhs_dilation=(2, 2), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(convolve(x, darts.dilated(kernel, 2)), library, atol=1e-5)


@pytest.mark.parametrize("space", [MlpCell(width=8), NasBench201Cell(channels=4, stages=1)], ids=lambda s: s.kind)
def test_a_disconnected_architecture_ignores_its_input_and_is_refused(space):
    nothing = [0] * space.decisions
    x = IMAGES
    params = space.init(x.shape[1:], 10, key=KEY)
    outputs = space.apply(params, one_hot(jnp.array(nothing), 5), x)
    np.testing.assert_allclose(outputs, outputs[:1].repeat(3, 0), atol=1e-6)
    with pytest.raises(ConfigError, match="disconnects input from output"):
        require_connected(space, [nothing])
    # 0→1 and 1→3 alone are a path; 0→1 and 2→3 are none.
    assert space.connected(np.array([1, 0, 0, 0, 1, 0]))
    assert not space.connected(np.array([1, 0, 0, 0, 0, 1]))
    with pytest.raises(ConfigError, match="6 numbers from 0 to 4"):
        require_connected(space, [[9] * 6])


def test_connected_is_whether_the_gradient_with_respect_to_the_input_vanishes():
    space = MlpCell(width=6)
    params = space.init((5,), 3, key=KEY)
    x = jax.random.normal(KEY, (4, 5))
    choices = np.random.default_rng(0).integers(0, 2, (64, 6))  # none and skip
    gradient = jax.jit(lambda z: jax.grad(lambda x: jnp.sum(space.apply(params, z, x) ** 2))(x))
    for choice in choices:
        reached = bool(jnp.abs(gradient(one_hot(jnp.asarray(choice), 5))).max() > 0)
        assert reached == space.connected(choice)


def test_darts_runs_and_depends_on_every_edge():
    space = DartsCell(channels=4, stages=1)
    params = space.init((8, 8, 3), 10, key=KEY)
    gradient = jax.grad(lambda z: jnp.sum(space.apply(params, z, IMAGES) ** 2))(mixed(space))
    assert gradient.shape == (14, 7) and bool(jnp.all(jnp.abs(gradient[:, 1:]).max(1) > 0))
    np.testing.assert_allclose(gradient[:, darts.NONE], 0, atol=1e-6)


def test_a_residual_net_with_all_blocks_off_is_linear():
    space = ResidualNet(blocks=2, width=8)
    params = space.init((5,), 2, key=KEY)
    off = one_hot(jnp.array([0, 3, 0, 3]), 4)
    x = jax.random.normal(KEY, (6, 5))
    f = lambda x: space.apply(params, off, x)  # noqa: E731
    np.testing.assert_allclose(f(x + 1) - f(x), f(x[:1] + 1).repeat(6, 0) - f(x[:1]).repeat(6, 0), atol=1e-5)
    # A quarter of the width: the other units' weights do not matter.
    quarter = one_hot(jnp.array([1, 0, 0, 3]), 4)
    g = jax.grad(lambda p: jnp.sum(space.apply(p, quarter, x) ** 2))(params)
    assert jnp.abs(g["up"][0]["weight"][:, 2:]).max() == 0 < jnp.abs(g["up"][0]["weight"][:, :2]).max()
