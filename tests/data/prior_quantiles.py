"""Writes prior_quantiles.csv: reference quantiles for tests/prior.rs, with 50-digit arithmetic.

Needs Python 3 and mpmath 1.3 or later:  python prior_quantiles.py > prior_quantiles.csv

Each quantile is the root of the distribution function, or of one minus it, at the exact binary value of u, found to 40
digits inside a bracket. Values beyond the range of f64 are written as inf or 0. Columns: kind, up to four parameters, u, quantile.
"""

import struct
import sys

from mpmath import mp, mpf

mp.dps = 50
INF = mpf("inf")
U = [1e-300, 1e-100, 1e-20, 1e-10, 1e-5, 1e-3, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 1 - 1e-5, 1 - 1e-10, 1 - 1e-15]


def bisect(tail, target, lo, hi, increasing):
    """Root of a monotone ln tail = ln target: secant steps (Illinois) kept inside a bracket."""
    f = lambda y: (mp.log(tail(y)) - mp.log(target)) * (1 if increasing else -1)
    step = mpf(1)
    while f(lo) > 0:
        lo -= step
        step *= 2
    step = mpf(1)
    while f(hi) < 0:
        hi += step
        step *= 2
    flo, fhi = f(lo), f(hi)
    if flo == 0 or fhi == 0:
        return lo if flo == 0 else hi
    side = 0
    for _ in range(2000):
        if hi - lo <= mpf(10) ** -42 * max(1, abs(hi)):
            break
        mid = (lo * fhi - hi * flo) / (fhi - flo)
        if not lo < mid < hi:
            mid = (lo + hi) / 2
        fm = f(mid)
        if fm == 0:
            return mid
        if fm < 0:
            lo, flo = mid, fm
            fhi = fhi / 2 if side == -1 else fhi
            side = -1
        else:
            hi, fhi = mid, fm
            flo = flo / 2 if side == 1 else flo
            side = 1
        if abs(fm) < mpf(10) ** -44:
            return mid
    return (lo + hi) / 2


def ncdf(z):
    return mp.erfc(-z / mp.sqrt(2)) / 2


def normal(u):
    """Standard normal quantile; the smaller tail has all its digits."""
    if u == mpf(1) / 2:
        return mpf(0)
    p = min(u, 1 - u)
    z = bisect(ncdf, p, mpf(-1), mpf(0), True)
    return z if u < mpf(1) / 2 else -z


def truncated_normal(u, mean, sd, lo, hi):
    a, b = (lo - mean) / sd, (hi - mean) / sd
    with mp.workdps(120):
        # Mirrored to the lower tail, where ncdf has relative accuracy.
        flip = a + b > 0
        low, high, w = (-b, -a, 1 - u) if flip else (a, b, u)
        target = (ncdf(low) if low > -INF else 0) * (1 - w) + ncdf(high) * w
        if target > mpf(1) / 2:
            z = -bisect(ncdf, 1 - target, mpf(-1), mpf(0), True)
        else:
            z = bisect(ncdf, target, mpf(-1), mpf(0), True)
        # Newton to the full working precision: distances from an edge may be 1e-300 of the edge.
        with mp.workdps(420):
            w = 1 - u if flip else u
            target = (ncdf(low) if low > -INF else mpf(0)) * (1 - w) + ncdf(high) * w
            z = +z
            for _ in range(8):
                z -= (ncdf(z) - target) / mp.npdf(z)
            return mean + sd * (-z if flip else z)


def half_normal(u, sd):
    if u < mpf(1) / 2:
        # erf(x / sqrt 2) = u near zero.
        y = bisect(lambda y: mp.erf(mp.exp(y) / mp.sqrt(2)), u, mp.log(u), mpf(1), True)
        return sd * mp.exp(y)
    return -sd * normal((1 - u) / 2)


def beta_tails(a, b, odds):
    """(lower, upper) tails at x = odds / (1 + odds)."""
    x, y = odds / (1 + odds), 1 / (1 + odds)

    def small(a, b, x, y):
        # x^a y^b / (a B) 2F1(a + b, 1; a + 1; x): positive terms; summed here as mpmath may give up on large shapes.
        front = mp.exp(a * mp.log(x) + b * mp.log(y) - mp.log(a) - mp.loggamma(a) - mp.loggamma(b) + mp.loggamma(a + b))
        total, term, k = mpf(1), mpf(1), 0
        while term > total * mpf(10) ** -(mp.dps + 3):
            term *= (a + b + k) / (a + 1 + k) * x
            total += term
            k += 1
        return front * total

    with mp.workdps(mp.dps + 25):
        # The tail on this side of the mean, unless a small shape puts x so near an end that the other series is the short one.
        lower_first = x < a / (a + b) and not (y < 0.2 and b < 1 and a < 100)
        if lower_first or (x < 0.2 and a < 1 and b * x < 50):
            lower = small(a, b, x, y)
            return lower, 1 - lower
        upper = small(b, a, y, x)
        return 1 - upper, upper


def beta_log_odds(u, a, b):
    lower = u <= mpf(1) / 2
    p = u if lower else 1 - u
    pick = 0 if lower else 1
    tail = lambda y: beta_tails(a, b, mp.exp(y))[pick]
    start = mp.log(a / b)
    c = a if lower else b
    edge = (mp.log(p * c) + mp.log(mp.beta(a, b))) / c
    edge = edge if lower else -edge
    return bisect(tail, p, min(start, edge) - 1, max(start, edge) + 1, lower)


def beta(u, a, b):
    odds = mp.exp(beta_log_odds(u, a, b))
    return odds / (1 + odds)


def student_t(u, nu, location, scale):
    half = mpf(1) / 2
    if u == half:
        return location
    p = min(u, 1 - u)
    if nu > 500:
        # The beta series is long there: integrate the density, which has nothing left 25 beyond any t of interest.
        def inner(t, cuts):
            with mp.workdps(60):
                log_density = lambda s: -(nu + 1) / 2 * mp.log1p(s * s / nu)
                peak = log_density(t)
                # Relative to its largest value: the rule's tolerance is an absolute one.
                return mp.exp(peak) * mp.quad(lambda s: mp.exp(log_density(s) - peak), [t + c for c in cuts])

        total = inner(mpf(0), [0, 1, 3, 6, 10, 16, 26]) * 2
        upper = lambda t: inner(t, [0, mpf(1) / 8, 1, 3, 6, 10, 16, 26]) / total
        t = bisect(upper, p, mpf(0), mpf(1), False)
        return location + scale * (t if u > half else -t)
    # 1 - 2p of t^2 / nu, the odds of a beta(1/2, nu/2); by its upper tail 2p where that is small.
    b = nu / 2
    if p < mpf(1) / 4:
        tail = lambda y: beta_tails(half, b, mp.exp(y))[1]
        y = bisect(tail, 2 * p, mp.log(half / b), mp.log(half / b) + 1, False)
    else:
        tail = lambda y: beta_tails(half, b, mp.exp(y))[0]
        y = bisect(tail, 1 - 2 * p, mp.log(half / b) - 1, mp.log(half / b), True)
    t = mp.sqrt(nu) * mp.exp(y / 2)
    return location + scale * (t if u > half else -t)


def gamma(u, a, scale):
    def tails(x):
        with mp.workdps(mp.dps + 25):
            front = mp.exp(a * mp.log(x) - x - mp.loggamma(a + 1))
            if x < a + 2 or x < 30:
                total, term, k = mpf(1), mpf(1), 1
                while term > total * mpf(10) ** -(mp.dps + 3):
                    term *= x / (a + k)
                    total += term
                    k += 1
                return front * total, 1 - front * total
            upper = mp.gammainc(a, x, regularized=True)
            return 1 - upper, upper

    lower = u <= mpf(1) / 2
    p = u if lower else 1 - u
    pick = 0 if lower else 1
    edge = (mp.log(u) + mp.loggamma(a + 1)) / a
    if edge < -800:
        return mp.exp(edge) * scale
    y = bisect(lambda y: tails(mp.exp(y))[pick], p, min(edge, mp.log(a)) - 1, max(edge, mp.log(a)) + 1, lower)
    return scale * mp.exp(y)


KINDS = {
    "uniform": (lambda u, lo, hi: lo * (1 - u) + hi * u, [(0, 10), (-5, 5), (-3, 0), (1e6, 1e6 + 1e-3), (-1e308, 1e308)]),
    "log_uniform": (lambda u, lo, hi: lo * (hi / lo) ** u, [(1, 100), (1e-10, 1e5), (1e-300, 1e300), (2.5, 2.5000001)]),
    "normal": (lambda u, mean, sd: mean + sd * normal(u), [(0, 1), (3, 0.1), (-1e4, 20)]),
    "truncated_normal": (
        truncated_normal,
        [
            (0, 1, -1, 2),
            (0, 1, 0, INF),
            (0, 1, 8, 9),
            (0, 1, -40, -38),
            (0, 1, 30, INF),
            (-40, 1, 0, INF),
            (1, 1, 0, 10),
            (5, 2, -INF, 4.5),
            (0, 1, -40, 1.5),
            (0, 1, -0.001, 0.001),
            (0, 1, 12, 12.000001),
            (1e3, 2, 0, 10),
            (0, 1, 1e4, 2e4),
            (-5, 1, 0, 0.01),
        ],
    ),
    "half_normal": (half_normal, [(1,), (0.3,)]),
    "log_normal": (lambda u, mu, sigma: mp.exp(mu + sigma * normal(u)), [(0, 1), (-3, 0.25), (2, 4)]),
    "exponential": (lambda u, scale: -scale * mp.log1p(-u), [(1,), (250,)]),
    "cauchy": (lambda u, location, scale: location - scale * mp.cospi(u) / mp.sinpi(u), [(0, 1), (3, 0.01)]),
    "half_cauchy": (lambda u, scale: scale * mp.sinpi(u / 2) / mp.cospi(u / 2), [(1,), (25,)]),
    "beta": (
        beta,
        [(1, 1), (2, 3), (0.5, 0.5), (0.01, 0.01), (0.01, 2), (10, 0.01), (0.3, 40), (25, 1.5), (300, 700), (1e4, 1e4), (0.01, 1e4)],
    ),
    "gamma": (gamma, [(0.01, 1), (0.1, 2), (0.5, 1), (1, 3), (2.5, 1), (14.9, 1), (15, 1), (150, 0.1), (1e4, 1)]),
    "student_t": (
        student_t,
        [(0.5, 0, 1), (1, 0, 1), (1.5, 0, 1), (2, 0, 1), (3, 0, 1), (4.5, 1, 2), (30, 0, 1), (1e3, 0, 1), (1e6, 0, 1), (1e12, 0, 1)],
    ),
}


def text(value):
    if value == INF or value == -INF:
        return "inf" if value > 0 else "-inf"
    if abs(value) > mpf(sys.float_info.max):
        return "inf" if value > 0 else "-inf"
    if abs(value) < mpf("1e-320"):
        return "0"
    return mp.nstr(value, 25, min_fixed=0, max_fixed=0)


if __name__ == "__main__":
    print("kind,p0,p1,p2,p3,u,quantile")
    only = sys.argv[1:]
    for kind, (quantile, sets) in KINDS.items():
        if only and kind not in only:
            continue
        for parameters in sets:
            exact = [mpf(p) for p in parameters]
            columns = [repr(float(p)) for p in parameters] + [""] * (4 - len(parameters))
            for u in U:
                assert struct.unpack("<d", struct.pack("<d", u))[0] == u
                print(",".join([kind, *columns, repr(u), text(quantile(mpf(u), *exact))]), flush=True)
