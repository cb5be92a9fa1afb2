"""Regressors of performance, all fitted with sample weights and all giving a mean and a standard deviation."""

from jaxsci.drift.performance.gaussian_process import GaussianProcess as GaussianProcess
from jaxsci.drift.performance.gaussian_process import fit_gaussian_process as fit_gaussian_process
from jaxsci.drift.performance.network import NetworkEnsemble as NetworkEnsemble
from jaxsci.drift.performance.network import fit_network as fit_network
from jaxsci.drift.performance.ridge import Ridge as Ridge
from jaxsci.drift.performance.ridge import fit_ridge as fit_ridge
