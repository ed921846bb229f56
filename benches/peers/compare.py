#!/usr/bin/env python3
"""Runs other nested samplers and livepoint in turn on the same problems and writes a table.

Needs python3 with venv, pip, and cargo; makes a virtual environment for the peers and builds
livepoint's example `problems`. See README.md.
"""

import argparse
import datetime
import json
import os
import platform
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import table

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
VENV = Path(os.environ.get("LIVEPOINT_PEERS_VENV") or ROOT / "target" / "peers-venv")
# What livepoint's rows depend on.
PROGRAM = ["src", "shaders", "examples", "Cargo.toml", "Cargo.lock"]
PROBLEMS = json.loads((HERE / "problems.json").read_text())
# Name and script of each peer.
PEERS = {"nautilus": HERE / "nautilus_peer.py"}
SAMPLERS = [*PEERS, "livepoint"]
THREADS = ["OMP", "OPENBLAS", "MKL", "NUMEXPR", "VECLIB_MAXIMUM", "RAYON"]
# Runs a program with so many CPU seconds. Not by exec: a child of a shell starts with the shell's
# largest resident set, which is small, a child of this program with this program's.
LIMITED = 'ulimit -St "$0" && "$@"; exit $?'
ONE_THREAD = {**os.environ, **{f"{name}_NUM_THREADS": "1" for name in THREADS}}


def say(text):
    print(text, file=sys.stderr, flush=True)


def output(*command, otherwise=None):
    """What a command prints, or `otherwise` where it fails."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return otherwise
    return done.stdout.strip()


def or_leave(command, advice, **more):
    """Runs a command that must work; otherwise ends the program with its last words."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, **more)
    except OSError as error:
        sys.exit(f"error: {advice}\n{error}")
    if done.returncode:
        words = "\n".join((done.stdout + done.stderr).strip().splitlines()[-8:])
        sys.exit(f"error: {advice}\n{words}")
    return done.stdout


def install():
    """The peers' virtual environment, made where it is missing or old; its Python."""
    python, mark = VENV / "bin" / "python", VENV / "peers-installed.txt"
    wanted = (HERE / "requirements.txt").read_text()
    if python.exists() and mark.exists() and mark.read_text() == wanted:
        return python
    if not python.exists():
        say("making a virtual environment for the peers")
        advice = "cannot make a virtual environment; on Debian it takes the package python3-venv"
        or_leave([sys.executable, "-m", "venv", VENV], advice)
    say("installing " + ", ".join(line for line in wanted.splitlines() if "==" in line))
    advice = "pip cannot install benches/peers/requirements.txt"
    pip = [python, "-m", "pip", "install", "--quiet", "-r", HERE / "requirements.txt"]
    or_leave(pip, advice)
    mark.write_text(wanted)
    return python


def build():
    """Builds livepoint's example `problems`; its path."""
    say("building livepoint")
    command = "cargo build --release --locked --no-default-features --features testing"
    command += " --example problems --message-format=json-render-diagnostics"
    messages = or_leave(command.split(), "cannot build livepoint").splitlines()
    for message in map(json.loads, messages):
        if message.get("executable") and message["target"]["name"] == "problems":
            return message["executable"]
    sys.exit("error: cargo built no example `problems`")


def commit():
    """The commit that last changed livepoint's program, or None where it is not committed."""
    if output("git", "status", "--porcelain", "--", *PROGRAM, otherwise="?"):
        return None
    return output("git", "log", "-1", "--format=%h", "--", *PROGRAM) or None


def machine():
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.M)
        model = found[1] if found else model
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    system = f"{platform.system()} {platform.machine()}"
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB memory, {system}"


class Peer:
    """Another sampler: one program run for all targets of a seed, since it can go on."""

    def __init__(self, name, python):
        self.name, self.command = name, [python, PEERS[name]]
        self.software = or_leave([*self.command, "--software"], f"{name} does not start").strip()

    def run(self, problem, seed, targets, cpu_limit):
        given = f"--problem {problem} --seed {seed} --cpu-limit {cpu_limit}"
        targets_given = ",".join(f"{target:g}" for target in targets)
        command = [*self.command, *given.split(), "--n-eff", targets_given]
        done = subprocess.run(command, env=ONE_THREAD, capture_output=True, text=True)
        rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        missing = [{"n_eff_target": target} for target in targets[len(rows) :]]
        return rows + [{**row, **failure(done)} for row in missing]


class Livepoint:
    """The program of this repository, run anew for each target."""

    name = "livepoint"

    def __init__(self):
        self.program, self.commit = build(), commit()
        rustc = output("rustc", "--version", otherwise="an unknown rustc")
        self.software = f"commit {self.commit or 'none: changes not committed'}, {rustc}"

    def run(self, problem, seed, targets, cpu_limit):
        row = {}
        for target in targets:
            # Where the time is too short for one target, it is for the next.
            if row.get("status") != "cpu limit":
                row = self.run_to(target, problem, seed, cpu_limit)
            yield {**row, "n_eff_target": target}

    def run_to(self, target, problem, seed, cpu_limit):
        given = f"--problem {problem} --seed {seed} --n-eff {target:g} --backend cpu:1 --json"
        program = [self.program, *given.split(), "--discard-exploration", "true"]
        command = ["sh", "-c", LIMITED, str(cpu_limit), *program]
        done = subprocess.run(command, env=ONE_THREAD, capture_output=True, text=True)
        if done.returncode == 128 + signal.SIGXCPU:
            # The last line of progress is at most ten seconds old.
            calls = re.findall(r"\| (\d+) calls", done.stderr) or [0]
            return {"status": "cpu limit", "cpu_s": cpu_limit, "n_like": int(calls[-1])}
        if done.returncode:
            return failure(done)
        record = json.loads(done.stdout)
        record["log_z_error_quoted"] = record["log_z_error"]
        if record["stopped"] != "converged":
            return {**record, "status": "failed", "message": f"stopped: {record['stopped']}"}
        return {**record, "status": "done"}


def failure(done):
    """A run that ended by itself: its last words."""
    words = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
    errors = [text for text in words if "error" in text.lower()] or words
    return {"status": "failed", "message": errors[-1][:200].replace("|", "/")}


class Rows:
    """All rows so far, one for each sampler, problem, seed and target; a file of JSON lines."""

    def __init__(self, path):
        self.path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self.rows = {self.key(row): row for row in map(json.loads, lines)}

    @staticmethod
    def key(row):
        return tuple(row[name] for name in ("sampler", "problem", "seed", "n_eff_target"))

    def add(self, row):
        self.rows[self.key(row)] = row
        lines = "".join(json.dumps(row) + "\n" for row in self.rows.values())
        fresh = self.path.with_suffix(".part")
        fresh.write_text(lines)
        fresh.replace(self.path)

    def holds(self, key, made_by, cpu_limit):
        """Whether the same software made that row on this machine, with no less time."""
        row = self.rows.get(key, {})
        same = all(row.get(name) == value for name, value in made_by.items())
        spent = row.get("status") == "cpu limit" and row["cpu_limit_s"] >= cpu_limit
        return same and (row.get("status") == "done" or spent)


def compare(samplers, rows, args):
    """Every problem and seed, the samplers in turn."""
    here = machine()
    for problem in args.problems:
        for seed in args.seeds:
            for sampler in samplers:
                made_by = {"software": sampler.software, "machine": here}
                run_one(sampler, problem, seed, made_by, rows, args)


def run_one(sampler, problem, seed, made_by, rows, args):
    """The targets of one sampler, problem and seed that are not there yet."""
    uncommitted = sampler.name == "livepoint" and not sampler.commit
    missing = [
        target
        for target in args.n_eff
        if args.fresh
        or uncommitted
        or not rows.holds((sampler.name, problem, seed, target), made_by, args.cpu_limit)
    ]
    if not missing:
        return
    about = {
        "sampler": sampler.name,
        "problem": problem,
        "n_dim": PROBLEMS[problem]["n_dim"],
        "seed": seed,
        "log_z_truth": PROBLEMS[problem]["log_z"],
        "cpu_limit_s": args.cpu_limit,
        "date": datetime.date.today().isoformat(),
        "load_1min": os.getloadavg()[0],
        **made_by,
    }
    for row in sampler.run(problem, seed, missing, args.cpu_limit):
        row = {**row, **about}
        rows.add(row)
        say(f"{sampler.name}, {problem}, seed {seed}: {table.in_words(row)}")


def one_of(known, what):
    def parse(text):
        names = text.split(",")
        for name in names:
            if name not in known:
                there = ", ".join(known)
                raise argparse.ArgumentTypeError(f"there is no {what} `{name}`; there are {there}")
        return names

    return parse


def several(number, what):
    def parse(text):
        try:
            values = sorted({number(part) for part in text.split(",")})
            if values[0] >= 1:
                return values
        except ValueError:
            pass
        raise argparse.ArgumentTypeError(f"expected {what}, with commas between")

    return parse


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--problems", metavar="A,B", type=one_of(PROBLEMS, "problem"), default=list(PROBLEMS))
    add("--seeds", metavar="S,..", type=several(int, "seeds from 1"), default=[1, 2, 3])
    targets = several(float, "numbers from 1")
    add("--n-eff", metavar="N,..", type=targets, default=[1e4, 1e5], help="targets of N_eff")
    add("--samplers", metavar="A,B", type=one_of(SAMPLERS, "sampler"), default=SAMPLERS)
    add("--cpu-limit", metavar="SECONDS", type=int, default=480, help="CPU seconds of a run")
    add("--fresh", action="store_true", help="run again what the JSON lines hold already")
    results = ROOT / "benches" / "results" / "peers.md"
    about = "where the table goes, with its rows in a .jsonl beside it"
    add("--markdown", metavar="FILE", type=Path, default=results, help=about)
    args = parser.parse_args()
    if args.cpu_limit < 1:
        parser.error("--cpu-limit: expected a whole number of seconds from 1")
    return args


def command_line():
    """The command without the file it writes to."""
    given = re.sub(r"--markdown[= ]\S+ ?", "", shlex.join(sys.argv[1:]))
    return f"benches/peers/compare.py {given}".strip()


def main():
    args = arguments()
    args.markdown.parent.mkdir(parents=True, exist_ok=True)
    wanted = [name for name in SAMPLERS if name in args.samplers]
    python = install() if any(name in PEERS for name in wanted) else None
    samplers = [Livepoint() if name == "livepoint" else Peer(name, python) for name in wanted]
    rows = Rows(args.markdown.with_suffix(".jsonl"))
    try:
        compare(samplers, rows, args)
    finally:
        text = table.markdown(list(rows.rows.values()), list(PROBLEMS), SAMPLERS, command_line())
        args.markdown.write_text(text)
        say(f"wrote {args.markdown}")


if __name__ == "__main__":
    main()
