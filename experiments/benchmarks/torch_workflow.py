"""The detector of `jaxsci.workflows.supervised` in PyTorch: dense matrices, or PyTorch Geometric's scatter.

Arrays are (runs, nodes, width), as PyTorch's users lay them out; parameters are copied from ours, so that the first
loss of both can be compared.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.peers import package
from jaxsci.workflows.batch import Runs
from jaxsci.workflows.features import LIMIT
from jaxsci.workflows.supervised import SUBMIT_SITE_LOGIT, Detector, Facts, SupervisedConfig

Mean = Callable[[Any], Any]


class Peer:
    """One network, its optimiser and the data, `form` being "dense" or "geometric"."""

    def __init__(
        self, torch: Any, form: str, like: Detector, config: SupervisedConfig, facts: Facts, runs: Runs, y, edges
    ):
        self.torch, self.config, self.workers, self.machines = torch, config, runs.workers, runs.machines
        nodes = runs.columns.shape[1]
        tensor = lambda a: torch.from_numpy(np.array(a))  # noqa: E731
        self.columns, self.observed = tensor(runs.columns), tensor(runs.observed).float()
        self.worker, self.machine = tensor(runs.worker).long(), tensor(runs.machine).long()
        self.on_worker, self.y = tensor(runs.on_worker), tensor(y).long()
        self.centre, self.scale = tensor(facts.centre), tensor(facts.scale)
        self.edges = tensor(edges).long()
        self.scatter = None
        if form == "geometric":
            self.scatter = package("torch_geometric.utils").scatter
        forward = np.zeros((nodes, nodes), np.float32)
        forward[edges[:, 1], edges[:, 0]] = 1.0
        self.parents = tensor(forward / np.maximum(forward.sum(1, keepdims=True), 1))
        self.children = tensor(forward.T / np.maximum(forward.T.sum(1, keepdims=True), 1))
        encoder = like.encoder
        own = {"inward": encoder.inward, "position": encoder.position, "evidence": like.evidence, "bias": like.bias}
        for number, layer in enumerate(encoder.layers):
            own |= {f"{part}{number}": getattr(layer, part) for part in ("mix", "bias", "out")}
            own |= {f"scale{number}": layer.norm.weight, f"shift{number}": layer.norm.bias}
        own |= {"scale": encoder.norm.weight, "shift": encoder.norm.bias}
        self.p = {name: tensor(value).requires_grad_() for name, value in own.items()}
        rule = config.learning.optimizer
        self.adam = torch.optim.AdamW(self.p.values(), lr=rule.learning_rate, weight_decay=rule.weight_decay)

    def loss(self, rows: Any, dropout: bool) -> Any:
        """Cross-entropy of jobs and of their workers on the runs `rows`."""
        functional, p = self.torch.nn.functional, self.p
        worker, machine, on_worker = self.worker[rows], self.machine[rows], self.on_worker[rows]
        of_worker, of_machine = self._groups(worker, self.workers), self._groups(machine, self.machines)
        columns, seen = self.columns[rows], self.observed[rows]
        c = (columns.sign() * columns.abs().log1p() - self.centre) / self.scale
        c = c.clamp(-LIMIT, LIMIT) * seen
        count = of_worker(self.torch.ones_like(on_worker)[..., None])
        parts = [c.clamp(-3.0, 3.0), c.sign() * c.abs().log1p(), seen, on_worker[..., None], count.log()]
        h = self.torch.cat(parts, -1) @ p["inward"] + p["position"]
        encoder = self.config.encoder
        for number in range(encoder.layers):
            h = functional.dropout(h, encoder.dropout, training=dropout)
            z = functional.layer_norm(h, h.shape[-1:], p[f"scale{number}"], p[f"shift{number}"])
            run = z.mean(1, keepdim=True).expand_as(z)
            near = [z, run, *self._neighbours(z), of_worker(z) / count]
            near.append(of_machine(z) / of_machine(self.torch.ones_like(on_worker)[..., None]))
            mix = p[f"mix{number}"]
            mixed = self.torch.cat(near, -1) @ mix.reshape(-1, mix.shape[-1]) + p[f"bias{number}"]
            h = h + functional.gelu(mixed, approximate="tanh") @ p[f"out{number}"]
        h = functional.layer_norm(h, h.shape[-1:], p["scale"], p["shift"])
        evidence = h @ p["evidence"]
        pooled = of_worker(evidence) / count.sqrt()
        first = functional.one_hot(self.torch.tensor(0), len(p["bias"]))
        normal = first * (1 - on_worker[..., None]) * SUBMIT_SITE_LOGIT
        truth, weight = self.y[rows], on_worker / on_worker.sum()
        losses = [
            (functional.cross_entropy((e + p["bias"] + normal).transpose(1, 2), truth, reduction="none") * weight).sum()
            for e in (evidence, pooled)
        ]
        return self.config.job_weight * losses[0] + (1 - self.config.job_weight) * losses[1]

    def epoch(self, rows: np.ndarray) -> float:
        """Train once over `rows`, in batches; returns the mean loss."""
        batch = min(self.config.learning.batch, len(rows))
        order, losses = self.torch.from_numpy(np.random.permutation(rows)), []
        for step in range(len(rows) // batch):
            self.adam.zero_grad(set_to_none=True)
            loss = self.loss(order[step * batch : (step + 1) * batch], dropout=True)
            loss.backward()
            self.torch.nn.utils.clip_grad_norm_(self.p.values(), self.config.learning.optimizer.clip_norm)
            self.adam.step()
            losses.append(loss.item())
        return float(np.mean(losses))

    def _groups(self, index: Any, count: int) -> Mean:
        """Sum over the group of every job, handed back to the job."""
        if self.scatter is None:
            member = self.torch.nn.functional.one_hot(index, count).float()  # (runs, nodes, groups)
            return lambda h: member @ (member.transpose(1, 2) @ h)
        runs, nodes = index.shape
        flat = (self.torch.arange(runs)[:, None] * count + index).reshape(-1)
        scatter = self.scatter

        def total(h: Any) -> Any:
            summed = scatter(h.reshape(runs * nodes, -1), flat, dim_size=runs * count, reduce="sum")
            return summed[flat].reshape(runs, nodes, -1)

        return total

    def _neighbours(self, h: Any) -> tuple[Any, Any]:
        """Means over parents and over children."""
        if self.scatter is None:
            return self.parents @ h, self.children @ h
        runs, nodes, width = h.shape
        shift = self.torch.arange(runs)[:, None] * nodes
        source, target = ((shift + self.edges[:, end]).reshape(-1) for end in (0, 1))
        flat = h.reshape(runs * nodes, width)
        down = self.scatter(flat[source], target, dim_size=runs * nodes, reduce="mean")
        up = self.scatter(flat[target], source, dim_size=runs * nodes, reduce="mean")
        return down.reshape(h.shape), up.reshape(h.shape)
