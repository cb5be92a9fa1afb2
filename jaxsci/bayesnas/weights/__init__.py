"""Distributions over the weights of one network, behind one `(init, update, finish, draws)` interface."""

from jaxsci.bayesnas.weights.base import FullData as FullData
from jaxsci.bayesnas.weights.base import Info as Info
from jaxsci.bayesnas.weights.base import Task as Task
from jaxsci.bayesnas.weights.base import WeightPosterior as WeightPosterior
from jaxsci.bayesnas.weights.cyclical import CyclicalSgHmc as CyclicalSgHmc
from jaxsci.bayesnas.weights.deep_ensemble import DeepEnsemble as DeepEnsemble
from jaxsci.bayesnas.weights.laplace import LastLayerLaplace as LastLayerLaplace
from jaxsci.bayesnas.weights.mean_field import MeanField as MeanField
from jaxsci.bayesnas.weights.nuts import Nuts as Nuts
from jaxsci.bayesnas.weights.rank1 import Rank1 as Rank1
from jaxsci.bayesnas.weights.swag import Swag as Swag
