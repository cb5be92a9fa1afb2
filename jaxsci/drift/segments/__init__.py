"""Segment models: what the points between two changes look like."""

from jaxsci.drift.segments.gaussian import Gaussian as Gaussian
from jaxsci.drift.segments.poisson import Poisson as Poisson
from jaxsci.drift.segments.regression import Autoregressive as Autoregressive
from jaxsci.drift.segments.regression import Level as Level
from jaxsci.drift.segments.regression import Regression as Regression
from jaxsci.drift.segments.regression import Trend as Trend
from jaxsci.drift.segments.segment import Independent as Independent
from jaxsci.drift.segments.segment import Segment as Segment
from jaxsci.drift.segments.wishart import Wishart as Wishart
