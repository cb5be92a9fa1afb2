"""The stabilized neural ODE as a step map: exactness, agreement of solvers, gradients, training, storage, reduction."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.core.checkpoint import Checkpoints
from jaxsci.core.errors import ConfigError, DataError
from jaxsci.core.optimizer import OptimizerConfig
from jaxsci.core.rollout import rollout
from jaxsci.dynamics import Burgers, KuramotoSivashinsky
from jaxsci.dynamics.kuramoto_sivashinsky import long_waves
from jaxsci.emulators.pod import Pod
from jaxsci.emulators.stabilized_ode import StabilizedOde
from jaxsci.emulators.stabilized_ode.evaluation import leading_exponents, long_run
from jaxsci.emulators.stabilized_ode.latent import LatentOde, autoencoder, fit_autoencoder, fit_latent
from jaxsci.emulators.stabilized_ode.linear import DenseTerm, FixedSymbol, PolynomialSymbol, Stencil
from jaxsci.emulators.stabilized_ode.nonlinear import Layers, Nonlinear
from jaxsci.emulators.stabilized_ode.posterior import coefficient_posterior
from jaxsci.emulators.stabilized_ode.rom import SpectralRom, modes_above, slowest_modes
from jaxsci.emulators.stabilized_ode.solvers import solve
from jaxsci.emulators.stabilized_ode.storage import load_model, save_model
from jaxsci.emulators.stabilized_ode.systems import BurgersSystem, KsSystem
from jaxsci.emulators.stabilized_ode.training import StageConfig, loss_of, snapshots, train_stage
from jaxsci.emulators.stabilized_ode.trajectories import load_trajectories, trajectories_from
from jaxsci.emulators.stabilized_ode.variants import VariantConfig, guarded, seeds
from jaxsci.emulators.stabilized_ode.warm_start import time_derivative

pytestmark = pytest.mark.usefixtures("x64")
LENGTH, POINTS = 22.0, 64
KS = FixedSymbol((0.0, -1.0, 0.0, -1.0))


class Advection(Nonlinear):
    @property
    def flux(self) -> bool:
        return True

    def __call__(self, u):
        return 0.5 * u**2


@pytest.fixture(scope="module")
def settled() -> jax.Array:
    with jax.enable_x64(True):
        model = KuramotoSivashinsky(LENGTH, 0.25)
        starts = jax.vmap(lambda k: long_waves(k, POINTS))(jax.random.split(jax.random.key(0), 8))
        return jax.jit(jax.vmap(lambda u: jax.lax.fori_loop(0, 800, lambda _, v: model(v), u)))(starts)


@pytest.fixture(scope="module")
def data(settled) -> np.ndarray:
    with jax.enable_x64(True):
        return trajectories_from(KsSystem().step(), settled, settle=0, times=120)


def learner() -> tuple[VariantConfig, StabilizedOde]:
    """A small model of the kind that works best, two seeds."""
    config = VariantConfig("polynomial", "flux", banded=True, width=8, depth=1, dealias=True, guard=True)
    start = jnp.array([0.0, -1.0, 0.0, -1.0], jnp.float32)
    return config, seeds(config, KsSystem().domain(), start, 2, key=jax.random.key(0))


def first(models):
    return jax.tree.map(lambda leaf: leaf[0] if isinstance(leaf, jax.Array) else leaf, models)


def test_the_true_terms_give_the_equation(settled):
    model = StabilizedOde(KS, Advection(), LENGTH, 0.1)
    np.testing.assert_allclose(model(settled[0]), KuramotoSivashinsky(LENGTH, 0.1)(settled[0]), atol=1e-13)
    burgers = BurgersSystem(points=64)
    model = StabilizedOde(FixedSymbol(burgers.domain().symbol), Advection(), 1.0, 1e-3, dealias=True)
    u = burgers.starts(1, key=jax.random.key(0))[0]
    np.testing.assert_allclose(model(u), Burgers()(u), atol=1e-13)


def test_sixteen_evaluations_in_a_data_spacing_are_accurate(settled):
    exact = StabilizedOde(KS, Advection(), LENGTH, 0.25, substeps=512)(settled[0])
    errors = [
        float(jnp.abs(StabilizedOde(KS, Advection(), LENGTH, 0.25, substeps=n)(settled[0]) - exact).max())
        for n in (1, 4)
    ]
    scale = float(jnp.abs(exact).max())
    # Measured elsewhere on another state: 4.0e-5 and 1.0e-6, relative; twice the latter is the bar.
    assert errors[0] < 2e-4 * scale and errors[1] < 2e-6 * scale


def test_adaptive_solvers_agree_and_need_many_more_evaluations(settled):
    kernel = Stencil(jnp.array([-78.3, 303.4, -450.4, 303.4, -78.3]))
    exact = StabilizedOde(kernel, Advection(), LENGTH, 0.25, substeps=32)
    end = exact(settled[0])
    counts = {}
    for name, tolerance in (("tsit5", 1e-3), ("tsit5", 1e-6), ("kencarp4", 1e-6)):
        found, steps = jax.jit(lambda u, n=name, t=tolerance: solve(exact.right_hand_side, u, 0.25, n, t))(settled[0])
        np.testing.assert_allclose(found, end, atol=10 * tolerance)  # of each of the steps that accuracy asks for
        counts[name, tolerance] = int(steps)
    # Stability, not accuracy, sets the explicit step: exact propagation needs 4 evaluations, these 6 a step.
    assert min(counts["tsit5", 1e-3], counts["tsit5", 1e-6]) > 60


def test_gradients_through_an_unrolled_trajectory_equal_differences(settled):
    """Forty steps, half a Lyapunov time: before chaos makes gradients useless."""
    linear = PolynomialSymbol(jnp.array([0.01, -1.0, 0.02, -1.0]))
    model = StabilizedOde(linear, Advection(), LENGTH, 0.25)

    def end(c):
        changed = eqx.tree_at(lambda m: m.linear.coefficients, model, c)
        return jnp.sum(jnp.sin(changed.rollout(settled[0], 40)[-1]))

    c, direction, h = linear.coefficients, jnp.array([1.0, -0.5, 0.3, 0.2]), 1e-6
    along = jax.jit(jax.grad(end))(c) @ direction
    difference = (jax.jit(end)(c + h * direction) - jax.jit(end)(c - h * direction)) / (2 * h)
    np.testing.assert_allclose(along, difference, rtol=1e-6)  # h^2 and rounding over h


def test_training_learns_the_flow_and_seeds_do_not_feel_each_other(data):
    prepared = snapshots(data, time_derivative(data, 0.25))
    _, models = learner()
    fast = OptimizerConfig("adam", 1e-2, "cosine", final_fraction=0.02, clip_norm=1.0)
    stages = (StageConfig(400, 16, 0, fast), StageConfig(40, 8, 1), StageConfig(20, 4, 4))
    loss = loss_of(StageConfig(1, 1, 4))
    batch = prepared.u[:, :5]
    before = float(loss(first(models), batch, jax.random.key(0)))
    for number, stage in enumerate(stages):
        models = train_stage(models, prepared, stage, key=jax.random.key(number))
    after = float(loss(first(models), batch, jax.random.key(0)))
    assert after < 0.3 * before
    alone = jax.tree.map(lambda leaf: leaf[:1] if isinstance(leaf, jax.Array) else leaf, learner()[1])
    assert jax.tree.leaves(alone)[0].shape[0] == 1
    with pytest.raises(ConfigError, match="jacobian"):
        train_stage(models, prepared, StageConfig(1, 1, 1, jacobian=1.0), key=jax.random.key(0))


def test_jacobian_matching_sees_what_the_forecast_error_does_not(data, settled):
    stage = StageConfig(1, 1, 1, jacobian=1.0)
    truth = KsSystem().step()
    exact = StabilizedOde(KS, Advection(), LENGTH, 0.25, substeps=8)
    windows = jnp.asarray(data[:, :2])
    assert float(loss_of(stage, truth)(exact, windows, jax.random.key(0))) < 1e-4
    other = StabilizedOde(FixedSymbol((0.0, -1.1, 0.0, -1.0)), Advection(), LENGTH, 0.25)
    assert float(loss_of(stage, truth)(other, windows, jax.random.key(0))) > 1e-3


def test_a_killed_stage_resumes_bit_for_bit(data, tmp_path):
    prepared = snapshots(data, time_derivative(data, 0.25))
    stage = StageConfig(40, 4, 1)
    whole = train_stage(learner()[1], prepared, stage, key=jax.random.key(1))

    def stop(row, step):
        if step == 20:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError), Checkpoints(tmp_path) as checkpoints:
        train_stage(
            learner()[1], prepared, stage, key=jax.random.key(1), steps_per_dispatch=10, log_every=10, on_log=stop,
            checkpoints=checkpoints, save_every=10,
        )  # fmt: skip
    with Checkpoints(tmp_path) as checkpoints:
        resumed = train_stage(
            learner()[1], prepared, stage, key=jax.random.key(1), steps_per_dispatch=10, log_every=10,
            checkpoints=checkpoints,
        )  # fmt: skip
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(resumed), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)  # dispatches of another length fuse differently


def test_long_runs_stop_early_and_exponents_count_only_what_stays(settled):
    config, models = learner()
    domain = KsSystem().domain()
    starts = jnp.asarray(settled[:2][None], jnp.float32).repeat(2, 0)
    bad = eqx.tree_at(lambda m: m.nonlinear.local.layers.weights[-1], models, 300.0 * jnp.ones((2, 8, 1), jnp.float32))
    lost = lambda e: ~(e <= 3.03).all(axis=-1)  # noqa: E731
    chunks = []
    free = long_run(bad, starts, steps=4000, steps_per_bin=10, bins_per_chunk=4, lost=lost, on_chunk=chunks.append)
    assert free.energies.shape[-1] < 400 and sum(chunks) < 4000
    held = long_run(guarded(bad, config, domain), starts, steps=80, steps_per_bin=10, bins_per_chunk=4, lost=lost)
    assert held.energies.max() <= 3.0 * (1 + 1e-5) and held.clipped.min() > 0.5
    exponents = leading_exponents(
        bad, starts, count=2, duration=20.0, settle=5.0, energy_limit=3.0, key=jax.random.key(0)
    )
    assert np.isfinite(exponents.each).all() and exponents.time.max() < 25.0


def test_a_model_is_stored_with_all_that_builds_it(tmp_path, settled):
    config, models = learner()
    domain, path = KsSystem().domain(), tmp_path / "model.npz"
    save_model(path, first(models), config, domain)
    loaded, found = load_model(path)
    assert found == domain and loaded.clip is not None
    np.testing.assert_array_equal(loaded(settled[0]), guarded(first(models), config, domain)(settled[0]))
    with pytest.raises(DataError, match="no such file"):
        load_model(tmp_path / "nothing.npz")
    (tmp_path / "text.npz").write_text("no model")
    with pytest.raises(DataError, match="something else"):
        load_model(tmp_path / "text.npz")
    with np.load(path) as file:
        content = {name: file[name] for name in file.files}
    content["parameter_0"] = np.zeros(3)
    np.savez(path, allow_pickle=False, **content)
    with pytest.raises(DataError, match="damaged"):
        load_model(path)


def test_files_of_trajectories_are_checked(tmp_path, data):
    path = tmp_path / "data.npz"

    def write(**changes):
        np.savez(path, **({"u": data, "dt": 0.25, "length": LENGTH} | changes))
        return path

    assert load_trajectories(write()).u.shape == data.shape
    ramp = data + 5 * np.arange(POINTS) / POINTS * LENGTH
    with pytest.raises(DataError, match="periodic field, but the step across the seam"):
        load_trajectories(write(u=ramp))
    with pytest.raises(DataError, match="float64, got float32"):
        load_trajectories(write(u=data.astype(np.float32)))
    with pytest.raises(DataError, match="finite"):
        load_trajectories(write(u=np.where(data == data[0, 0, 0], np.nan, data)))
    with pytest.raises(DataError, match="length: expected one number above 0"):
        load_trajectories(write(length=-1.0))
    with pytest.raises(DataError, match="expected \\[1 trajectory"):
        load_trajectories(write(u=data[0]))


def test_the_reduced_model_with_all_modes_is_the_model(settled):
    model = StabilizedOde(KS, Advection(), LENGTH, 0.25, dealias=True)
    whole = SpectralRom(model, tuple(range(1, 32)), POINTS)
    u = settled[0] - settled[0].mean()
    np.testing.assert_allclose(whole.decode(whole.encode(u)), u, atol=1e-10)  # of the shortest wave, left out
    np.testing.assert_allclose(whole.decode(whole(whole.encode(u))), model(u), atol=1e-10)
    # Re lambda > -2 keeps as many dimensions as the manifolds are known to have.
    dimensions = [2 * len(modes_above(model, POINTS, -2.0))]
    for length, points in ((44.0, 64), (66.0, 128)):
        dimensions.append(2 * len(modes_above(StabilizedOde(KS, Advection(), length, 0.25), points, -2.0)))
    assert dimensions == [8, 18, 28]
    assert slowest_modes(model, POINTS, 8) == modes_above(model, POINTS, -2.0)
    with pytest.raises(ConfigError, match="modes"):
        SpectralRom(model, (0, 1), POINTS)


def test_a_latent_model_steps_a_linear_system_exactly():
    matrix = jnp.array([[-1.0, 3.0], [-3.0, -1.0]])
    silent = jax.tree.map(jnp.zeros_like, Layers((2, 4, 2), key=jax.random.key(0)))
    model = LatentOde(DenseTerm(matrix), silent, dt=0.7, substeps=2)
    z = jnp.array([1.0, -0.5])
    np.testing.assert_allclose(model(z), jax.scipy.linalg.expm(0.7 * matrix) @ z, rtol=1e-12)


def test_latent_models_and_autoencoders_learn(data):
    anomalies = data - data.mean(axis=(0, 1))
    pod = Pod.fit(anomalies.reshape(-1, POINTS), np.full(POINTS, 1 / POINTS), 8)
    u = jnp.asarray(anomalies.reshape(-1, POINTS), jnp.float32)
    plain = float(jnp.mean(jnp.square(pod.decode(pod.encode(u)) - u)))
    fitted = fit_autoencoder(autoencoder(pod, 32, key=jax.random.key(0)), u, steps=300, batch=64, key=jax.random.key(1))
    better = float(jnp.mean(jnp.square(fitted.model.decode(fitted.model.encode(u)) - u)))
    assert better < plain
    np.testing.assert_array_equal(fitted.model.pod.modes, pod.modes)
    z = jnp.asarray(pod.encode(jnp.asarray(anomalies)), jnp.float32)
    latent = fit_latent(z, dt=0.25, width=16, depth=1, steps=150, batch=32, windows=2, key=jax.random.key(2))
    assert latent.losses[-1] < latent.losses[0]
    assert np.isfinite(rollout(latent.model.step_map(z[0, 0]), 100)(z[0, 0])).all()


def test_the_posterior_of_the_coefficients_covers_the_truth(data):
    model = StabilizedOde(KS, Advection(), LENGTH, 0.25)
    starts, ends = jnp.asarray(data[:, 0]), jnp.asarray(data[:, 4])
    noisy = ends + 0.02 * jax.random.normal(jax.random.key(3), ends.shape)
    found = coefficient_posterior(
        model, starts, noisy, steps=4, orders=(2, 4), prior_mean=(-1.2, -0.8), prior_deviation=(0.5, 0.5),
        draws=150, warmup=150, key=jax.random.key(4),
    )  # fmt: skip
    low, high = found.interval(0.999)  # a truth outside would be a bug, not bad luck
    assert (low < -1).all() and (high > -1).all() and (high - low < 0.1).all()
    np.testing.assert_allclose(found.noise.mean(), 0.02, rtol=0.2)  # 512 observations
    assert found.divergences < 8
    with pytest.raises(ConfigError, match="2 numbers each"):
        coefficient_posterior(
            model,
            starts,
            noisy,
            steps=4,
            orders=(2, 4),
            prior_mean=(1.0,),
            prior_deviation=(1.0,),
            key=jax.random.key(0),
        )
