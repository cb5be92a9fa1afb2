"""Variational and ensemble data assimilation through any differentiable step map."""

from jaxsci.assimilation.background import Background as Background
from jaxsci.assimilation.background import covariance_root as covariance_root
from jaxsci.assimilation.cycling import cycle as cycle
from jaxsci.assimilation.interpolation import optimal_interpolation as optimal_interpolation
from jaxsci.assimilation.observation import LinearOperator as LinearOperator
from jaxsci.assimilation.observation import Observations as Observations
from jaxsci.assimilation.observation import observe as observe
from jaxsci.assimilation.observation import station_covariance as station_covariance
from jaxsci.assimilation.protocol import ForecastProtocol as ForecastProtocol
from jaxsci.assimilation.protocol import draw_network as draw_network
from jaxsci.assimilation.twin import TwinResult as TwinResult
from jaxsci.assimilation.twin import twin as twin
from jaxsci.assimilation.variational import GaussNewton as GaussNewton
from jaxsci.assimilation.variational import Solution as Solution
from jaxsci.assimilation.variational import Window as Window
from jaxsci.assimilation.variational import assimilate as assimilate
from jaxsci.assimilation.variational import posterior_root as posterior_root
