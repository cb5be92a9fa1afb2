"""A program to be tuned: local search on a shifted test function. Prints the error it reached.

search.py NUMBER INSTANCE SEED NAME --method walk --step=0.1 [--temp=1 --cooling=0.99] --restarts 2
NAME is rastrigin, sphere or rosenbrock, then an underscore and the dimension.
"""

import argparse
import math
import random

FUNCTIONS = {
    "sphere": lambda z: sum(v * v for v in z),
    "rastrigin": lambda z: sum(v * v - 10 * math.cos(2 * math.pi * v) + 10 for v in z),
    "rosenbrock": lambda z: sum(100 * (z[i + 1] + 1 - (z[i] + 1) ** 2) ** 2 + z[i] ** 2 for i in range(len(z) - 1)),
}
STEPS = 2000


def main():
    """Called as irace calls a target runner: configuration, instance, seed, name of the problem, parameters."""
    parser = argparse.ArgumentParser()
    for name in ("number", "instance", "seed", "name"):
        parser.add_argument(name)
    parser.add_argument("--method", choices=("walk", "anneal"), default="walk")
    parser.add_argument("--step", type=float, default=0.1)
    parser.add_argument("--temp", type=float, default=0.0)
    parser.add_argument("--cooling", type=float, default=0.99)
    parser.add_argument("--restarts", type=int, default=1)
    given = parser.parse_args()
    function, dimension = given.name.split("_")
    cost, rng = FUNCTIONS[function], random.Random(int(given.seed))
    shift = [rng.uniform(-3, 3) for _ in range(int(dimension))]
    best = math.inf
    for _ in range(given.restarts):
        x = [rng.uniform(-5, 5) - s for s in shift]
        now, temperature = cost(x), given.temp if given.method == "anneal" else 0.0
        for _ in range(STEPS // given.restarts):
            y = [v + given.step * rng.gauss(0, 1) for v in x]
            then = cost(y)
            if then <= now or (temperature > 0 and rng.random() < math.exp((now - then) / temperature)):
                x, now = y, then
            best, temperature = min(best, now), temperature * given.cooling
    print(math.log10(best + 1e-9))


if __name__ == "__main__":
    main()
