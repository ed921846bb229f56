"""Runs nautilus on one problem: a line of JSON for each target of N_eff, counts cumulated.

Default settings, vectorised, exploration discarded. The sampler works in the unit cube, so its
prior is the identity; the map to parameters is timed with the likelihood.
"""

import meter
import numpy as np
from nautilus import Sampler
from nautilus.bounds import NautilusBound


def fractions(bound):
    """The counted fractions (kept, drawn) behind a bound's volume; the unit cube has none.

    `NautilusBound.outer_bound` is the union: of `n_sample` draws from its members `n_reject`
    were outside the cube or rejected for overlap. `NautilusBound.n_sample` and `.n_reject` are
    the same for the networks, over draws from the union. Both count the draws of the whole
    run, as do the volumes that nautilus computes from them.
    """
    if not isinstance(bound, NautilusBound):
        return {}
    steps = {"union": bound.outer_bound, "network": bound}
    return {name: (step.n_sample - step.n_reject, step.n_sample) for name, step in steps.items()}


def relative_variance(kept, drawn):
    """(1 - v) / (v drawn) of the fraction v = kept / drawn."""
    return (1 - kept / drawn) / kept


def error_terms(sampler):
    """The parts of Var(log Z), as livepoint's `shell_evidence` has them, from nautilus' counts.

    Of a shell, `shell_n` points have come since the exploration ended, out of
    `shell_n_sample - shell_n_sample_exp` draws from its bound; `shell_n_eff`, `shell_log_l` and
    `shell_log_v` are over these points only, once exploration is discarded.
    """
    assert sampler.explored and sampler.discard_exploration
    terms = dict.fromkeys(["scatter", "shell", "network", "union"], 0.0)
    drawn = sampler.shell_n_sample - sampler.shell_n_sample_exp
    log_z = sampler.shell_log_l + sampler.shell_log_v
    for i in np.flatnonzero(log_z > -np.inf):
        square = float(np.exp(2 * (log_z[i] - sampler.log_z)))
        n, n_eff = float(sampler.shell_n[i]), float(sampler.shell_n_eff[i])
        # Unbiased; one point says nothing of the scatter and counts as wholly uncertain.
        scatter = max(1 / n_eff - 1 / n, 0) * n / (n - 1) if n > 1 else 1
        terms["scatter"] += square * scatter
        terms["shell"] += square * relative_variance(n, float(drawn[i]))
        for name, counts in fractions(sampler.bounds[i]).items():
            terms[name] += square * relative_variance(*map(float, counts))
    return terms


def state(sampler, counts):
    """What there is to say once a target is reached."""
    _, log_w, _ = sampler.posterior()
    terms = error_terms(sampler)
    return {
        "status": "done",
        **counts,
        "n_eff": float(sampler.n_eff),
        "ess_kish": meter.kish(log_w),
        "log_z": float(sampler.log_z),
        "log_z_error": sum(terms.values()) ** 0.5,
        # nautilus gives no error of log Z; this is what its users take.
        "log_z_error_quoted": float(sampler.n_eff) ** -0.5,
        "log_z_error_terms": terms,
        "n_bounds": len(sampler.bounds),
    }


def run(problem, metered, seed, targets):
    used = meter.cpu_s()
    sampler = Sampler(
        prior=lambda u: u,
        likelihood=metered.log_l,
        n_dim=problem.n_dim,
        periodic=np.arange(problem.n_dim) if problem.periodic else None,
        vectorized=True,
        seed=seed,
    )
    # With nothing to reach, the run stops when the exploration ends.
    sampler.run(n_eff=0, n_shell=0, discard_exploration=True, verbose=False)
    exploration = metered.n_like
    cpu_s = meter.cpu_s() - used
    for target in targets:
        used = meter.cpu_s()
        sampler.run(n_eff=target, discard_exploration=True, verbose=False)
        cpu_s += meter.cpu_s() - used
        counts = {
            "n_like": metered.n_like,
            "n_like_exploration": exploration,
            "cpu_s": cpu_s,
            "likelihood_s": metered.likelihood_s,
            "peak_rss_mib": meter.peak_rss_mib(),
        }
        yield state(sampler, counts)


if __name__ == "__main__":
    packages = ["nautilus-sampler", "numpy", "scipy", "scikit-learn"]
    meter.main(__doc__.splitlines()[0], packages, run)
