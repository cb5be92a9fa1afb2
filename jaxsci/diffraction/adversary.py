"""An oracle that answers with the crystals its learner finds hardest, by gradient ascent through the simulator.

What a class does not depend on is moved: the facets, the place of the line, the strain, the flux, each within what the
prior can draw. The defect stays as it was drawn, and so does the label.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Complex, Float, Int, Key, PRNGKeyArray

from jaxsci.active import Answer
from jaxsci.core.config import require
from jaxsci.diffraction import detector, generator
from jaxsci.diffraction.classifier import Classifier, network_input, reflection_features, visible_class
from jaxsci.diffraction.generator import Label, Prior, Scene
from jaxsci.diffraction.learning import Patterns, seen
from jaxsci.diffraction.on_demand import PatternRequest, Simulator


class Nuisance(NamedTuple):
    """What the adversary may choose of a scene."""

    distances: Float[Array, " facets"]
    core: Float[Array, "3"]
    waves: Complex[Array, " waves"]
    log_photons: Float[Array, ""]


def nuisance_of(scene: Scene) -> Nuisance:
    """The continuous quantities of a scene that the adversary may change."""
    return Nuisance(scene.body.distances, scene.line.core, scene.wave_amplitudes, jnp.log(scene.photons))


def with_nuisance(scene: Scene, chosen: Nuisance) -> Scene:
    """The scene with another body, place of the line, strain and flux."""
    return scene._replace(
        body=scene.body._replace(distances=chosen.distances),
        line=scene.line._replace(core=chosen.core),
        wave_amplitudes=chosen.waves,
        photons=jnp.exp(chosen.log_photons),
    )


def within(prior: Prior, chosen: Nuisance) -> Nuisance:
    """The nearest that the prior can draw."""
    small, large = prior.radius
    low = jnp.concatenate([jnp.full(8, small), jnp.full(6, small * prior.ratio[0])]) * (1 - prior.jitter)
    high = jnp.concatenate([jnp.full(8, large), jnp.full(6, large * prior.ratio[1])]) * (1 + prior.jitter)
    reach = prior.core * large
    size = jnp.abs(chosen.waves)
    loudest = prior.strain * np.sqrt(2 / prior.waves)
    dimmest, brightest = (float(np.log(p)) for p in prior.photons)
    return Nuisance(
        jnp.clip(chosen.distances, low, high),
        jnp.clip(chosen.core, -reach, reach),
        chosen.waves * jnp.minimum(1.0, loudest / jnp.maximum(size, 1e-12)),
        jnp.clip(chosen.log_photons, dimmest, brightest),
    )


def hardened(scene: Scene, label: Label, network: Classifier, prior: Prior, *, steps: int, rate: float) -> Nuisance:
    """After `steps` of projected ascent of the network's loss at the mean counts, each along the sign of the slope.

    A step is `rate` times the range of each quantity.
    """
    scale = Nuisance(
        jnp.full_like(scene.body.distances, prior.radius[1] * prior.jitter),
        jnp.full(3, prior.core * prior.radius[1]),
        jnp.full(scene.wave_amplitudes.shape, prior.strain * np.sqrt(2 / prior.waves)),
        jnp.asarray(np.log(prior.photons[1] / prior.photons[0]), jnp.float32),
    )
    features = reflection_features(prior.reflection)

    def loss(chosen: Nuisance) -> Float[Array, ""]:
        pattern = generator.expected(with_nuisance(scene, chosen), prior)
        logits = network(network_input(pattern), features)
        return optax.softmax_cross_entropy_with_integer_labels(logits, visible_class(label))

    def climb(chosen: Nuisance, _: None) -> tuple[Nuisance, None]:
        slope = jax.grad(loss)(chosen)
        # JAX's gradient of a complex number is the conjugate of the direction of ascent.
        move = jax.tree.map(lambda g, s: rate * s * jnp.sign(jnp.conj(g)), slope, scale)
        return within(prior, jax.tree.map(jnp.add, chosen, move)), None

    return jax.lax.scan(climb, nuisance_of(scene), None, length=steps)[0]


class Adversary:
    """A simulator whose answers are hardened against the learner's present network, at the price of the ascent.

    `share` of a request's patterns are; the rest are as drawn. `opponent` gives the network. A receipt holds what the
    ascent came to, some thirty numbers a pattern, so that an answer can be recalled when the network is another.
    """

    unit = Simulator.unit

    def __init__(
        self,
        simulator: Simulator,
        opponent: Callable[[], Classifier],
        *,
        steps: int = 3,
        rate: float = 0.2,
        share: float = 0.5,
    ):
        require(0 < share <= 1, "share", "a share above 0, at most 1", share)
        require(steps >= 1, "steps", "1 or more", steps)
        self._simulator, self._opponent = simulator, opponent
        self._steps, self._rate, self._share = steps, rate, share
        self._extra: dict[str, float] = {}

    def requests(self) -> Sequence[PatternRequest]:
        return self._simulator.requests()

    def cost(self, request: PatternRequest) -> float:
        if request.domain not in self._extra:
            self._extra[request.domain] = self._time_ascent(request)
        return self._simulator.cost(request) + self._extra[request.domain]

    def submit(self, request: PatternRequest, *, key: PRNGKeyArray) -> Answer[Patterns]:
        draw = int(jax.random.randint(key, (), 0, 2**31 - 1))
        moved = np.asarray(self._ascend(request, draw))
        receipt = {"draw": draw, "moved": [[float(x) for x in row] for row in moved]}
        return Answer(self.recall(request, receipt), self.cost(request), receipt)

    def recall(self, request: PatternRequest, receipt: Mapping[str, Any]) -> Patterns:
        keys, kinds = self._simulator.lanes(request, receipt["draw"])
        drawn = self._simulator.recall(request, receipt)
        moved = jnp.asarray(receipt["moved"], jnp.float32)
        count = len(moved)
        hard = jax.device_get(_measure_all(keys[:count], kinds[:count], moved, prior=self._prior(request)))
        columns = [np.concatenate([h, d[count:]]) for h, d in zip(hard, drawn[:-1], strict=True)]
        return Patterns(*[*columns, drawn.reflection])

    def _prior(self, request: PatternRequest) -> Prior:
        return self._simulator.domains[request.domain]

    def _ascend(self, request: PatternRequest, draw: int) -> Float[Array, "hard numbers"]:
        keys, kinds = self._simulator.lanes(request, draw)
        count = max(round(self._share * request.count), 1)
        return _harden_all(self._opponent(), keys[:count], kinds[:count], self._prior(request), self._steps, self._rate)

    def _time_ascent(self, request: PatternRequest) -> float:
        """Seconds of a request's ascents, measured once for each domain."""
        jax.block_until_ready(self._ascend(request, 0))  # compiles
        begin = time.perf_counter()
        jax.block_until_ready(self._ascend(request, 0))
        return time.perf_counter() - begin


@eqx.filter_jit
def _harden_all(
    network: Classifier, keys: Key[Array, " lanes"], kinds: Int[Array, " lanes"], prior: Prior, steps: int, rate: float
) -> Float[Array, "lanes numbers"]:
    def one(lane: tuple[Array, Array]) -> Float[Array, " numbers"]:
        scene, label = generator.draw(prior, lane[1], key=jax.random.split(lane[0])[0])
        return _flat(hardened(scene, label, network, prior, steps=steps, rate=rate))

    return jax.lax.map(one, (keys, kinds))


@partial(jax.jit, static_argnames="prior")
def _measure_all(
    keys: Key[Array, " lanes"], kinds: Int[Array, " lanes"], moved: Float[Array, "lanes numbers"], *, prior: Prior
) -> tuple[Array, ...]:
    def one(lane: tuple[Array, Array, Array]) -> tuple[Array, ...]:
        key, kind, numbers = lane
        scene_key, noise_key = jax.random.split(key)
        scene, label = generator.draw(prior, kind, key=scene_key)
        mean = generator.expected(with_nuisance(scene, _unflat(numbers, nuisance_of(scene))), prior)
        return seen(detector.count(mean, key=noise_key), label)

    return jax.lax.map(one, (keys, kinds, moved))


def _flat(chosen: Nuisance) -> Float[Array, " numbers"]:
    waves = chosen.waves
    return jnp.concatenate([chosen.distances, chosen.core, waves.real, waves.imag, chosen.log_photons[None]])


def _unflat(numbers: Float[Array, " numbers"], like: Nuisance) -> Nuisance:
    facets, waves = len(like.distances), len(like.waves)
    ends = np.cumsum([facets, 3, waves, waves])
    distances, core, real, imaginary, log_photons = jnp.split(numbers, ends)
    return Nuisance(distances, core, jax.lax.complex(real, imaginary), log_photons[0])
