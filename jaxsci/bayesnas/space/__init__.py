"""Families of networks: every member of a family has the same parameters and shapes, its architecture is data."""

from jaxsci.bayesnas.space.base import Space as Space
from jaxsci.bayesnas.space.base import one_hot as one_hot
from jaxsci.bayesnas.space.base import require_connected as require_connected
from jaxsci.bayesnas.space.darts import DartsCell as DartsCell
from jaxsci.bayesnas.space.mlp import MlpCell as MlpCell
from jaxsci.bayesnas.space.nasbench201 import NasBench201Cell as NasBench201Cell
from jaxsci.bayesnas.space.network import Network as Network
from jaxsci.bayesnas.space.residual import ResidualNet as ResidualNet
