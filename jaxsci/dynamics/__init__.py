"""Reference systems as step maps: `step(u) -> u_next`, no batch axis, no time loop inside."""

from jaxsci.dynamics.burgers import Burgers as Burgers
from jaxsci.dynamics.kuramoto_sivashinsky import KuramotoSivashinsky as KuramotoSivashinsky
from jaxsci.dynamics.kuramoto_sivashinsky_2d import KuramotoSivashinsky2D as KuramotoSivashinsky2D
from jaxsci.dynamics.lorenz63 import Lorenz63 as Lorenz63
from jaxsci.dynamics.lorenz96 import Lorenz96 as Lorenz96
from jaxsci.dynamics.lyapunov import kaplan_yorke as kaplan_yorke
from jaxsci.dynamics.lyapunov import lyapunov_spectrum as lyapunov_spectrum
from jaxsci.dynamics.runge_kutta import runge_kutta_4 as runge_kutta_4
from jaxsci.dynamics.shallow_water import ShallowWater as ShallowWater
from jaxsci.dynamics.shallow_water import gaussian_bump as gaussian_bump
