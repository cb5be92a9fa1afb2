"""The rows of DAPPER's score tables that are run again: settings, bounds, and how DAPPER is asked for the same."""

from dataclasses import dataclass, replace
from typing import Any

from jaxsci.assimilation.methods import method
from jaxsci.assimilation.problem import Method
from jaxsci.assimilation.systems import Lorenz63System, Lorenz96System, System

Peer = tuple[str, dict[str, Any]] | None


@dataclass(frozen=True)
class Case:
    """`bound` is to be met, `listed` what DAPPER's own comments say.

    `peer` is DAPPER's class and its arguments (`B: "variances"` stands for the variances of the truth); it runs for
    `peer_cycles` at most. Empty: not run.
    """

    name: str
    title: str
    system: System
    method: Method
    peer: Peer
    bound: float | None = None
    listed: float | None = None
    observe_every: int = 1
    peer_cycles: int = 10**6

    @property
    def interval(self) -> float:
        return self.observe_every * self.system.dt

    def burn_in(self, cycles: int) -> int:
        """Cycles that do not count; at most half of a short run."""
        return min(round(self.system.burn_in / self.interval), cycles // 2)


def _lorenz96(name: str, title: str, kind: str, settings: dict, peer: Peer, *scores: float | None, every: int = 1):
    return Case(f"l96_{name}", title, Lorenz96System(), method(kind, settings), peer, *scores, observe_every=every)


def _lorenz63(name: str, title: str, kind: str, settings: dict, peer: Peer, *scores: float | None):
    return Case(f"l63_{name}", title, Lorenz63System(), method(kind, settings), peer, *scores, observe_every=25)


def _four_d_var(lag: int, scale: float, bound: float, listed: float) -> tuple[Case, Case]:
    """With the climate's variances alone as B, and with its whole covariance."""
    settings, title = {"lag": lag, "scale": scale}, f"4D-Var, lag {lag}, xB {scale:g}"
    peer = ("Var4D", {"Lag": lag, "xB": scale, "B": "variances"})
    variances = settings | {"correlated": False}
    headline = _lorenz96(f"4dvar_lag{lag}", title, "4dvar", variances, peer, bound, listed, every=4)
    whole = _lorenz96(f"4dvar_lag{lag}_full_b", f"{title}, full B", "4dvar", settings, None, None, listed, every=4)
    return replace(headline, peer_cycles=300), whole  # DAPPER takes up to a tenth of a second for each of these cycles


def _members(size: int, inflation: float = 1.0, rotate: bool = False) -> tuple[dict, dict]:
    """The same in our words and in DAPPER's."""
    return (
        {"size": size, "inflation": inflation, "rotate": rotate},
        {"N": size, "infl": inflation, "rot": rotate},
    )


def _cases() -> tuple[Case, ...]:
    enkf, denkf, letkf = _members(40, 1.06), _members(40, 1.01), _members(7, 1.04, True)
    # With the published inflation, 1.013, three truths of 128 are lost; with 1.02 one, with 1.03 and 1.04 none.
    etkf, published = _members(24, 1.03, True), _members(24, 1.013, True)
    small, smoother = _members(10, 1.02, True), _members(20)
    return (
        _lorenz96("3dvar", "3D-Var, xB 0.02", "3dvar", {"scale": 0.02}, ("Var3D", {"xB": 0.02}), 0.46, 0.41),
        _lorenz96("enkf", "EnKF, N 40", "enkf", enkf[0], ("EnKF", {"upd_a": "PertObs"} | enkf[1]), 0.235, 0.22),
        _lorenz96("denkf", "DEnKF, N 40", "denkf", denkf[0], ("EnKF", {"upd_a": "DEnKF"} | denkf[1]), 0.20, 0.18),
        _lorenz96("etkf", "ETKF, N 24, infl 1.03", "etkf", etkf[0], ("EnKF", {"upd_a": "Sqrt"} | etkf[1]), 0.20, 0.18),
        _lorenz96(
            "etkf_published",
            "ETKF, N 24, infl 1.013 (published)",
            "etkf",
            published[0],
            ("EnKF", {"upd_a": "Sqrt"} | published[1]),
            None,
            0.18,
        ),
        _lorenz96(
            "letkf",
            "LETKF, N 7, radius 4",
            "letkf",
            letkf[0] | {"radius": 4.0},
            ("LETKF", letkf[1] | {"loc_rad": 4}),
            0.235,
            0.22,
        ),
        *_four_d_var(1, 0.02, 0.47, 0.46),
        *_four_d_var(2, 0.005, 0.40, 0.39),
        *_four_d_var(4, 0.002, 0.385, 0.37),
        _lorenz96(
            "ienks",
            "iEnKS, N 20, lag 4",
            "ienks",
            smoother[0] | {"lag": 4, "certainty": 2.0},
            ("iEnKS", {"upd_a": "Sqrt", "Lag": 4, "xN": 2.0} | smoother[1]),
            0.31,
            0.31,
            every=4,
        ),
        _lorenz63("3dvar", "3D-Var, xB 0.1", "3dvar", {"scale": 0.1}, ("Var3D", {"xB": 0.1}), 1.05, 1.04),
        _lorenz63("etkf", "ETKF, N 10", "etkf", small[0], ("EnKF", {"upd_a": "Sqrt"} | small[1]), 0.60, 0.60),
        _lorenz63(
            "ienks", "iEnKS, N 10, lag 1", "ienks", small[0], ("iEnKS", {"upd_a": "Sqrt"} | small[1]), 0.32, 0.31
        ),
    )


CASES = _cases()
