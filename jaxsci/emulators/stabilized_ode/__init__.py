"""Neural ODEs `du/dt = A u + N(u)` whose linear term is learned, propagated exactly, and keeps rollouts bounded."""

from jaxsci.emulators.stabilized_ode.guard import EnergyProjection as EnergyProjection
from jaxsci.emulators.stabilized_ode.guard import RadialClip as RadialClip
from jaxsci.emulators.stabilized_ode.model import StabilizedOde as StabilizedOde
