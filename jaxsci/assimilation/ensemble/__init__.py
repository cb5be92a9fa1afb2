"""Ensemble methods: members are rows, weights are in the space they span."""

from jaxsci.assimilation.ensemble.denkf import DeterministicEnKF as DeterministicEnKF
from jaxsci.assimilation.ensemble.enkf import EnKF as EnKF
from jaxsci.assimilation.ensemble.enkf_n import FiniteSizeEnKF as FiniteSizeEnKF
from jaxsci.assimilation.ensemble.enks import EnKS as EnKS
from jaxsci.assimilation.ensemble.envar import EnVar as EnVar
from jaxsci.assimilation.ensemble.etkf import ETKF as ETKF
from jaxsci.assimilation.ensemble.ienks import IEnKS as IEnKS
from jaxsci.assimilation.ensemble.letkf import LETKF as LETKF
from jaxsci.assimilation.ensemble.particle import ParticleFilter as ParticleFilter
