"""Networks that name the line defect from a raw pattern, and what makes their answers honest.

A network sees log(1 + counts) on a fixed photon scale, z along the reflection, and the reflection itself. Trained on
`visible_class`: a screw with g.b = 0 is in the continuum *exactly* a perfect crystal, so the first class reads 'none or
invisible', and answering it is an abstention on what this reflection cannot see.
"""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from jaxsci.core.config import one_of
from jaxsci.diffraction.generator import NONE, SCREW, Label

Kind = Literal["slab", "volume", "slice"]
SCALE = 4.0  # log(1 + counts) of 50 photons: inputs are of order one
REFLECTION_FEATURES = 4


def visible_class(label: Label) -> Int[Array, ""]:
    """The class to train on: that of the defect, but `none` for a screw that the reflection cannot see."""
    hidden = (label.kind == SCREW) & (label.visibility < 0.5)
    return jnp.where(hidden, NONE, label.kind)


def network_input(counts: Float[Array, "n n n"]) -> Float[Array, "n n n"]:
    """On a fixed scale: dividing by the maximum would hide the flux and give a defect away by its lowered peak."""
    return jnp.log1p(counts) / SCALE


def reflection_features(reflection: tuple[int, int, int]) -> Float[Array, "4"]:
    """What the detector's frame does not say of g: |g| and its sorted direction cosines."""
    g = jnp.sort(jnp.abs(jnp.asarray(reflection, jnp.float32)))
    length = jnp.linalg.norm(g)
    return jnp.concatenate([length[None] / 2, g / length])


class Classifier(eqx.Module):
    """Three strided convolutions, a mean over places, and a hidden layer that also sees the reflection.

    `slab`: convolutions over x and y, the planes along the reflection as channels (the fastest on a CPU);
    `volume`: over x, y and z; `slice`: over x and y of the central plane alone.
    """

    kind: str = eqx.field(static=True)
    classes: int = eqx.field(static=True)
    convolutions: tuple[eqx.nn.Conv, ...]
    hidden: eqx.nn.Linear
    out: eqx.nn.Linear

    def __init__(self, n: int, classes: int, *, kind: Kind = "slab", width: int = 32, key: Key[Array, ""]):
        self.kind, self.classes = kind, classes
        one_of(self, "kind", ("slab", "volume", "slice"))
        keys = jax.random.split(key, 5)
        convolution = eqx.nn.Conv3d if kind == "volume" else eqx.nn.Conv2d
        first = n if kind == "slab" else 1
        widths = (first, width, 2 * width, 4 * width)
        self.convolutions = tuple(
            convolution(widths[i], widths[i + 1], kernel_size=3, stride=2, padding=1, key=keys[i]) for i in range(3)
        )
        places = 3 if kind == "volume" else 2
        side = -(-n // 8)
        self.hidden = eqx.nn.Linear(4 * width * side**places + REFLECTION_FEATURES, 4 * width, key=keys[3])
        self.out = eqx.nn.Linear(4 * width, classes, key=keys[4])

    def __call__(self, x: Float[Array, "n n n"], reflection: Float[Array, "4"]) -> Float[Array, " classes"]:
        """Logits of one pattern that went through `network_input`."""
        if self.kind == "volume":
            x = x[None]
        elif self.kind == "slice":
            x = x[None, :, :, x.shape[2] // 2]
        else:
            x = jnp.moveaxis(x, 2, 0)
        for convolution in self.convolutions:
            x = jax.nn.gelu(convolution(x))
        x = jax.nn.gelu(self.hidden(jnp.concatenate([x.reshape(-1), reflection])))
        return self.out(x)
