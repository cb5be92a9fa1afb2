"""The same networks in PyTorch: each architecture with the layers it needs and no others, as one would write it."""

from collections.abc import Callable

import numpy as np

from jaxsci.bayesnas.space import MlpCell
from jaxsci.bayesnas.space.mlp import CENTRE, NONE, RELU, SKIP, TANH


def trainer(
    torch, space: MlpCell, choices: np.ndarray, x: np.ndarray, y: np.ndarray, *, batch: int, rate: float, seed: int
) -> Callable[[int], None]:
    """`train(steps)`: a Python loop over members, each with its own SGD steps (momentum 0.9) on its own batches."""
    torch.manual_seed(seed)
    inputs, labels = torch.tensor(x.reshape(len(x), -1)), torch.tensor(y, dtype=torch.long)
    members = [_network(torch, space, choice, inputs.shape[1], int(y.max()) + 1) for choice in choices]
    for network in members:
        network.optimizer = torch.optim.SGD(network.parameters(), lr=rate, momentum=0.9)

    def train(steps: int) -> None:
        for network in members:
            for _ in range(steps):
                rows = torch.randint(0, len(labels), (batch,))
                network.optimizer.zero_grad(set_to_none=True)
                loss = torch.nn.functional.cross_entropy(network(inputs[rows]), labels[rows])
                loss.backward()
                network.optimizer.step()

    return train


def _network(torch, space: MlpCell, choice: np.ndarray, fan_in: int, classes: int):
    nn = torch.nn

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.head = nn.Linear(fan_in, space.width), nn.Linear(space.width, classes)
            dense = [i for i, op in enumerate(choice) if op in (RELU, TANH)]
            self.dense = nn.ModuleDict({str(i): nn.Linear(space.width, space.width) for i in dense})

        def forward(self, x):
            states = [torch.relu(self.stem(x))]
            for target in range(1, space.nodes):
                total = torch.zeros_like(states[0])
                for number, (source, end) in enumerate(space.edges):
                    if end != target or choice[number] == NONE:
                        continue
                    state = states[source]
                    if choice[number] == SKIP:
                        total = total + state
                    elif choice[number] == CENTRE:
                        total = total + state - state.mean(-1, keepdim=True)
                    else:
                        act = torch.relu if choice[number] == RELU else torch.tanh
                        total = total + act(self.dense[str(number)](state))
                states.append(total)
            return self.head(states[-1])

    return Network()
