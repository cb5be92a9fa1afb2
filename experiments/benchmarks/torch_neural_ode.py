"""The same neural ODE in PyTorch, trained through torchdiffeq's dopri5: a peer in speed."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.peers import package


class Peer(NamedTuple):
    train: Callable[[int], None]
    """Runs so many training steps."""
    loss: float
    """At the given parameters."""
    evaluations: int
    """Of the right-hand side in one forward solve."""
    version: str


def load() -> tuple[Any, Any]:
    """PyTorch and torchdiffeq. Raises `JaxsciError` where one is not installed."""
    return package("torch"), package("torchdiffeq")


def peer(
    kernel: np.ndarray,
    weights: Sequence[np.ndarray],
    biases: Sequence[np.ndarray],
    starts: np.ndarray,
    targets: np.ndarray,
    *,
    dt: float,
    tolerance: float,
    learning_rate: float,
    threads: int,
) -> Peer:
    """Adam on the mean absolute error after `dt`, gradients through the solver's own steps.

    The convolution is a product with its circulant matrix, built anew from the kernel in each step: on 64 points faster
    than a padded convolution. The continuous adjoint (`odeint_adjoint`) is no choice here: it integrates a damped
    linear term backwards.
    """
    torch, torchdiffeq = load()
    torch.set_num_threads(threads)
    parameters = [torch.tensor(np.array(p), requires_grad=True) for p in (kernel, *weights, *biases)]
    count = len(weights)
    n, reach = starts.shape[1], len(kernel) // 2
    columns = (np.arange(n)[:, None] + np.arange(-reach, reach + 1)) % n
    rows = np.repeat(np.arange(n), len(kernel))
    at = (torch.tensor(rows), torch.tensor(columns.ravel()))
    u0, u1 = torch.tensor(np.array(starts)), torch.tensor(np.array(targets))
    times = torch.tensor([0.0, dt])
    adam = torch.optim.Adam(parameters, lr=learning_rate)
    calls = 0

    def loss() -> Any:
        nonlocal calls
        calls = 0
        circulant = torch.zeros(n, n).index_put(at, parameters[0].repeat(n))

        def field(t: Any, u: Any) -> Any:
            nonlocal calls
            calls += 1
            x = u
            for weight, bias in zip(parameters[1:count], parameters[1 + count : -1], strict=True):
                x = torch.tanh(torch.addmm(bias, x, weight))
            return torch.addmm(parameters[-1], x, parameters[count]) + u @ circulant.T

        end = torchdiffeq.odeint(field, u0, times, rtol=tolerance, atol=tolerance, method="dopri5")[-1]
        return (end - u1).abs().mean()

    with torch.no_grad():
        first, evaluations = float(loss()), calls

    def train(steps: int) -> None:
        for _ in range(steps):
            adam.zero_grad(set_to_none=True)
            loss().backward()
            adam.step()

    return Peer(train, first, evaluations, f"torchdiffeq {torchdiffeq.__version__}, PyTorch {torch.__version__}")
