"""What every peer's script shares: arguments, clocks, the CPU limit, lines of JSON."""

import argparse
import importlib.metadata
import json
import os
import platform
import resource
import signal
import sys
import time

import numpy as np
from problems import PROBLEMS


class CpuLimit(BaseException):
    """Raised in the main thread when the CPU seconds are spent; no sampler catches it."""


def cpu_s():
    """User and system seconds of this process, all threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def peak_rss_mib():
    # Linux counts in KiB, macOS in bytes.
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def kish(log_w):
    """(sum w)^2 / sum w^2."""
    w = np.exp(log_w - np.max(log_w))
    return float(np.sum(w) ** 2 / np.sum(w**2))


class Meter:
    """A problem's log L over the unit cube, with its rows counted and its CPU seconds."""

    def __init__(self, problem):
        self.problem = problem
        self.n_like = 0
        self.likelihood_s = 0.0

    def log_l(self, u):
        start = time.thread_time()
        log_l = self.problem.log_l_unit(u)
        self.likelihood_s += time.thread_time() - start
        self.n_like += len(u)
        return log_l


def limit_cpu(seconds):
    """From now on so many CPU seconds, then CpuLimit; if that is not heard, the system's end."""

    def spent(*_):
        signal.signal(signal.SIGXCPU, signal.SIG_IGN)
        raise CpuLimit

    signal.signal(signal.SIGXCPU, spent)
    soft = int(cpu_s() + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft, soft + 60))


def versions(packages):
    found = [f"{name} {importlib.metadata.version(name)}" for name in packages]
    return ", ".join([f"Python {platform.python_version()}", *found])


def arguments(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--software", action="store_true", help="say the versions and leave")
    parser.add_argument("--problem", choices=PROBLEMS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--n-eff", default="1e4", help="targets one after the other, as 1e4,1e5")
    parser.add_argument("--cpu-limit", type=float, default=480, help="seconds, all targets")
    return parser.parse_args()


def main(description, packages, run):
    """A peer's program: `run(problem, meter, seed, targets)` yields a dict for each target."""
    args = arguments(description)
    if args.software:
        print(versions(packages))
        return
    targets = sorted(float(target) for target in args.n_eff.split(","))
    meter = Meter(PROBLEMS[args.problem])
    at_start = {"peak_rss_start_mib": peak_rss_mib()}
    limit_cpu(args.cpu_limit)
    start, done = cpu_s(), 0
    try:
        for row in run(meter.problem, meter, args.seed, targets):
            print(json.dumps({"n_eff_target": targets[done], **at_start, **row}), flush=True)
            done += 1
    except CpuLimit:
        spent = {"status": "cpu limit", "n_like": meter.n_like, "cpu_s": cpu_s() - start}
        for target in targets[done:]:
            print(json.dumps({"n_eff_target": target, **spent}), flush=True)
        # What the sampler left half done must not run into trouble now.
        os._exit(0)
