"""Algorithm configuration by racing: spaces, tests, races, tuners and targets."""

from jaxsci.racing.baselines import Halving as Halving
from jaxsci.racing.baselines import RandomSearch as RandomSearch
from jaxsci.racing.baselines import random_search as random_search
from jaxsci.racing.baselines import successive_halving as successive_halving
from jaxsci.racing.expressions import parse as parse
from jaxsci.racing.iterated import Iterated as Iterated
from jaxsci.racing.iterated import tune as tune
from jaxsci.racing.race import Rules as Rules
from jaxsci.racing.space import Categorical as Categorical
from jaxsci.racing.space import Integer as Integer
from jaxsci.racing.space import Ordinal as Ordinal
from jaxsci.racing.space import Real as Real
from jaxsci.racing.space import Space as Space
from jaxsci.racing.targets.function import FunctionTarget as FunctionTarget
from jaxsci.racing.targets.process import ProcessTarget as ProcessTarget
