"""The problems of `src/testing/problems.rs` for peers: vectorised log L over the unit cube.

`python problems.py --write` writes problems.json: truths, and log L at fixed points, which
`tests/peers_problems.rs` compares with the problems that livepoint runs.
"""

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import numpy as np

JSON = Path(__file__).with_name("problems.json")
LN_TAU = math.log(2 * math.pi)


@dataclass(frozen=True)
class Problem:
    """A box prior, log L of rows of parameters `[n, n_dim]`, and the true log Z."""

    low: np.ndarray
    high: np.ndarray
    log_l: Callable[[np.ndarray], np.ndarray]
    log_z: float
    periodic: bool = False

    @property
    def n_dim(self):
        return len(self.low)

    def log_l_unit(self, u):
        """log L `[n]` of rows of the unit cube `[n, n_dim]`."""
        return self.log_l(self.low + u * (self.high - self.low))


def box(n_dim, low, high, log_l, log_z, **more):
    return Problem(np.full(n_dim, float(low)), np.full(n_dim, float(high)), log_l, log_z, **more)


def normal(x, centre, sigma):
    """Sum over the columns of log N(x; centre, sigma)."""
    sigma = np.broadcast_to(np.asarray(sigma, float), x.shape[1:])
    chi2 = np.sum(((x - centre) / sigma) ** 2, axis=1)
    return -0.5 * chi2 - np.sum(np.log(sigma)) - 0.5 * len(sigma) * LN_TAU


def gauss(n_dim, sigma, log_z):
    return box(n_dim, 0, 1, lambda x: normal(x, 0.5, sigma), log_z)


def log_spaced(n_dim):
    return 10.0 ** np.linspace(-2, -1, n_dim)


def pairs(x, sigma=0.05, rho=0.95):
    """Neighbouring columns are correlated two by two; written by the eigenvectors of a pair."""
    a, b = x[:, ::2] - 0.5, x[:, 1::2] - 0.5
    along = np.sum((a + b) ** 2, axis=1) / (1 + rho)
    across = np.sum((a - b) ** 2, axis=1) / (1 - rho)
    log_det = x.shape[1] * (math.log(sigma) + 0.25 * math.log((1 + rho) * (1 - rho)))
    return -0.25 * (along + across) / sigma**2 - log_det - 0.5 * x.shape[1] * LN_TAU


def rosenbrock(x):
    left, right = x[:, :-1], x[:, 1:]
    return -np.sum(100 * (right - left**2) ** 2 + (1 - left) ** 2, axis=1)


def eggbox(x):
    return (2 + np.prod(np.cos(x / 2), axis=1)) ** 5


def shells(x, centre=3.5, radius=2.0, width=0.1):
    def one(at):
        r = np.linalg.norm(x - at * (np.arange(x.shape[1]) == 0), axis=1)
        return normal(r[:, None], radius, width)

    return np.logaddexp(one(centre), one(-centre))


def log_gamma(x, scale=1 / 30):
    def skewed(column, at):
        z = (column - at) / scale
        return z - np.exp(z) - math.log(scale)

    def both(density):
        return np.logaddexp(density(1 / 3), density(2 / 3)) - math.log(2)

    n_skewed = max((x.shape[1] + 2) // 2 - 2, 0)
    two = both(lambda at: skewed(x[:, 0], at)) + both(lambda at: normal(x[:, 1:2], at, scale))
    more = skewed(x[:, 2 : 2 + n_skewed], 2 / 3).sum(axis=1)
    return two + more + normal(x[:, 2 + n_skewed :], 2 / 3, scale)


def funnel(x):
    v, rest = x[:, :1], x[:, 1:]
    chi2 = np.sum(rest**2, axis=1) * np.exp(-v[:, 0])
    return normal(v, 0, 3) - 0.5 * (chi2 + rest.shape[1] * (v[:, 0] + LN_TAU))


def spike_and_slab(x):
    return np.logaddexp(normal(x, 0.5, 0.1), normal(x, 0.6, 0.01)) - math.log(2)


def plateau(x):
    with np.errstate(divide="ignore"):
        return np.log(np.maximum(x[:, 0] - 0.9, 0))


def corners(x):
    return normal(x - np.floor(x + 0.5), 0, 0.05)


def funnel_problem():
    wide = np.array([9.0] + [30.0] * 9)
    return Problem(-wide, wide, funnel, -39.773070794622)


PROBLEMS = {
    "gauss3": gauss(3, 0.1, -1.719909924e-6),
    "rosen2": box(2, -5, 5, rosenbrock, -5.804132363794),
    "shells2": box(2, -6, 6, shells, -1.745641872047),
    "shells5": box(5, -6, 6, shells, -5.673601236200),
    "eggbox2": box(2, 0, 10 * math.pi, eggbox, 235.855940332254),
    "loggamma2": box(2, 0, 1, log_gamma, -2.270073784e-5),
    "plateau": box(2, 0, 1, plateau, -5.298317366548),
    "corners": box(2, 0, 1, corners, 0.0, periodic=True),
    "spikeslab5": box(5, 0, 1, spike_and_slab, -1.433257243e-6),
    "gauss10corr": box(10, 0, 1, pairs, 0.0),
    "loggamma10": box(10, 0, 1, log_gamma, -2.270898245e-5),
    "funnel10": funnel_problem(),
    "rosen10": box(10, -5, 5, rosenbrock, -43.108355214654),
    "gauss20": gauss(20, log_spaced(20), -5.900874111e-7),
    "gauss30": gauss(30, log_spaced(30), -6.400609419e-7),
}


def halton(index, base):
    """The index-th number of van der Corput's sequence."""
    value, weight = 0.0, 1.0
    while index:
        index, digit = divmod(index, base)
        weight /= base
        value += weight * digit
    return value


def points(n_dim):
    """Fixed points `[n, n_dim]`: across the cube, about its centre, near peaks off the centre."""
    primes = [p for p in range(2, 200) if all(p % q for q in range(2, p))][:n_dim]
    cube = np.array([[halton(i, p) for p in primes] for i in range(1, 13)])
    diagonal = np.array([0.334, 0.601, 0.661, 0.951])
    near = diagonal[:, None] + 0.02 * (cube[8:] - 0.5)
    side = 0.5 + 0.01 * (cube[4:6] - 0.5)
    side[:, 0] += 0.125
    return np.vstack([cube[:4], 0.5 + 0.2 * (cube[4:8] - 0.5), near, side])


def record(problem):
    """What problems.json holds of a problem; likelihood zero is null there."""
    u = points(problem.n_dim)
    log_l = [value if value > -math.inf else None for value in problem.log_l_unit(u).tolist()]
    return {"n_dim": problem.n_dim, "log_z": problem.log_z, "u": u.tolist(), "log_l": log_l}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", required=True, help="write problems.json")
    parser.parse_args()
    lines = (f'"{name}": {json.dumps(record(problem))}' for name, problem in PROBLEMS.items())
    JSON.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
