"""Distributions over architectures: what search learns and ensembles draw from."""

from jaxsci.bayesnas.architecture.base import ArchitectureDistribution as ArchitectureDistribution
from jaxsci.bayesnas.architecture.base import skip_mass as skip_mass
from jaxsci.bayesnas.architecture.categorical import Categorical as Categorical
from jaxsci.bayesnas.architecture.categorical import Concrete as Concrete
from jaxsci.bayesnas.architecture.dirichlet import DirichletArchitecture as DirichletArchitecture
from jaxsci.bayesnas.architecture.logistic_normal import LogisticNormal as LogisticNormal

FAMILIES = {
    "concrete": Concrete,
    "dirichlet": DirichletArchitecture,
    "logistic_normal": LogisticNormal,
    "categorical": Categorical,
}
