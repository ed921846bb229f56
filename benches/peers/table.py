"""The table of a comparison: rows of JSON in, markdown out."""

from math import exp, log
from statistics import mean

INTRO = """\
# livepoint and other nested samplers

Made by `benches/peers/compare.py` ([how](../peers/README.md)). All samplers discard the points of
the exploration and run on one thread, with default settings, to the same N_eff; for each problem
and seed they take turns. Means over seeds.

- *CPU s*: user and system seconds of the process, those inside the likelihood taken away.
- *error*: of log Z, for all by one formula: scatter of L in each shell and the binomial error of
  every counted volume. *quoted*: what the sampler says or, where it says nothing (nautilus), what
  its users take, 1/sqrt(N_eff).
- *calls x error²*: what an error of log Z costs; less is better.
- *calls at the same error*, in rows of ratios: exploring calls of livepoint, and its sampling
  calls x (its error / the peer's error)², over all calls of the peer.
- *MiB*: largest resident set of the process; Python and its libraries hold {start} of them.
- Rows of **ratios** are livepoint over the peer, over the seeds that both finished.
"""

COLUMNS = [
    "problem", "N_eff", "sampler", "seeds", "calls", "exploring", "sampling", "ESS", "CPU s",
    "log Z", "truth", "error", "quoted", "calls x error²", "calls at the same error", "MiB",
]  # fmt: skip
RATIOS = ["calls", "CPU s", "calls x error²", "calls at the same error", "MiB"]


def number(x, digits=3):
    """A few digits, without an exponent where that can be read."""
    if x is None:
        return "-"
    if abs(x) >= 10**digits - 0.5 or x == int(x):
        return f"{x:.0f}"
    return f"{x:.{digits}g}"


def in_words(row):
    """One run in a line."""
    to = f"N_eff {row['n_eff_target']:g}"
    if row["status"] == "done":
        return f"{to} after {row['n_like']} calls and {row['cpu_s']:.1f} CPU s"
    if row["status"] == "cpu limit":
        return f"{to} not finished after {row['cpu_limit_s']} CPU s"
    return f"{to} failed: {row['message']}"


def line(cells):
    return "| " + " | ".join(map(str, cells)) + " |"


def head(columns, n_text):
    return [line(columns), "|" + "---|" * n_text + "--:|" * (len(columns) - n_text)]


def summary(rows):
    """Means over the finished runs of one sampler, problem and target."""
    over = {
        "n_like": lambda row: row["n_like"],
        "n_like_exploration": lambda row: row["n_like_exploration"],
        "ess_kish": lambda row: row["ess_kish"],
        "log_z": lambda row: row["log_z"],
        "quoted": lambda row: row["log_z_error_quoted"],
        "variance": lambda row: row["log_z_error"] ** 2,
        "product": lambda row: row["n_like"] * row["log_z_error"] ** 2,
        "cpu_s": lambda row: row["cpu_s"] - row["likelihood_s"],
        "mib": lambda row: row["peak_rss_mib"],
    }
    return {name: mean(map(value, rows)) for name, value in over.items()}


def sampler_cells(rows, truth):
    s = summary(rows)
    calls = [s["n_like"], s["n_like_exploration"], s["n_like"] - s["n_like_exploration"]]
    return [
        len(rows),
        *(f"{n:.0f}" for n in calls),
        f"{s['ess_kish']:.0f}",
        number(s["cpu_s"]),
        f"{s['log_z']:.4f}",
        f"{truth:.4f}".replace("-0.0000", "0.0000"),
        number(s["variance"] ** 0.5),
        number(s["quoted"]),
        number(s["product"]),
        "",
        f"{s['mib']:.0f}",
    ]


def ratios(ours, theirs):
    """livepoint over a peer, from the summaries of both."""
    sampling = ours["n_like"] - ours["n_like_exploration"]
    same = ours["n_like_exploration"] + sampling * ours["variance"] / theirs["variance"]
    return {
        "calls": ours["n_like"] / theirs["n_like"],
        "CPU s": ours["cpu_s"] / theirs["cpu_s"],
        "calls x error²": ours["product"] / theirs["product"],
        "calls at the same error": same / theirs["n_like"],
        "MiB": ours["mib"] / theirs["mib"],
    }


class Group:
    """The runs of one problem to one target."""

    def __init__(self, rows, problem, target, samplers):
        self.problem, self.target = problem, target
        mine = [r for r in rows if r["problem"] == problem and r["n_eff_target"] == target]
        mine.sort(key=lambda row: row["seed"])
        self.all = {name: [r for r in mine if r["sampler"] == name] for name in samplers}
        self.done = {
            name: [r for r in runs if r["status"] == "done"] for name, runs in self.all.items()
        }

    def common(self, peer):
        """The finished runs of livepoint and of the peer, of seeds that both finished."""
        runs = self.done["livepoint"], self.done[peer]
        seeds = set.intersection(*({row["seed"] for row in rows} for rows in runs))
        return [[row for row in rows if row["seed"] in seeds] for rows in runs]

    def ratios(self, peer):
        """Number of seeds and ratios, or None where no seed was finished by both."""
        ours, theirs = self.common(peer)
        return (len(ours), ratios(summary(ours), summary(theirs))) if ours else None

    def lines(self):
        start = [self.problem, f"{self.target:g}"]
        for name, runs in self.all.items():
            if self.done[name]:
                cells = sampler_cells(self.done[name], runs[0]["log_z_truth"])
                yield line([*start, name, *cells])
            yield from (line([*start, name, *self.unfinished(r)]) for r in runs if not done(r))
        for peer in (name for name in self.all if name != "livepoint"):
            found = self.ratios(peer)
            if found:
                cells = [f"**{number(found[1][c])}**" if c in found[1] else "" for c in COLUMNS]
                cells[:4] = [*start, f"**livepoint / {peer}**", found[0]]
                yield line(cells)

    def unfinished(self, row):
        calls = f"≥ {row['n_like']}" if row.get("n_like") else ""
        what = in_words(row).split(" ", 2)[2]
        return [f"seed {row['seed']}: {what}", calls, *[""] * (len(COLUMNS) - 5)]

    def deviations(self):
        """log Z - truth of each seed, and in units of its error."""
        for name, runs in self.done.items():
            if runs:
                yield line([self.problem, f"{self.target:g}", name, ", ".join(map(pull, runs))])


def done(row):
    return row["status"] == "done"


def pull(row):
    off = row["log_z"] - row["log_z_truth"]
    return f"{row['seed']}: {off:+.4f} ({off / row['log_z_error']:+.1f})"


def overall(groups, peer, target):
    """Geometric means of the ratios over the problems of one target."""
    found = [g.ratios(peer) for g in groups if g.target == target and g.ratios(peer)]
    if not found:
        return []
    means = [exp(mean(log(r[name]) for _, r in found)) for name in RATIOS]
    return [line([f"{target:g}", f"livepoint / {peer}", len(found), *map(number, means)])]


def described(rows, command):
    """Machine, software and command, a line for each that occurs."""

    def each(name, rows):
        return sorted({row[name] for row in rows})

    out = [f"- command: `{command}`"]
    machines = each("machine", rows)
    out += [f"- machine: {text}" for text in machines]
    loads = [row["load_1min"] for row in rows]
    dates = each("date", rows)
    days = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    out += [f"- {days}; load average before a run {min(loads):.1f} to {max(loads):.1f}"]
    limits = ", ".join(map(str, each("cpu_limit_s", rows)))
    out += [f"- CPU limit of a run: {limits} s"]
    mixed = len(machines) > 1
    for sampler in each("sampler", rows):
        software = each("software", [row for row in rows if row["sampler"] == sampler])
        out += [f"- {sampler}: {text}" for text in software]
        mixed = mixed or len(software) > 1
    if mixed:
        out += ["- **rows of several machines or versions: their CPU seconds do not compare**"]
    return out


def warned(rows):
    """What runs said against themselves."""
    out = []
    for row in rows:
        start = f"{row['sampler']}, {row['problem']}, N_eff {row['n_eff_target']:g}, "
        out += [f"- {start}seed {row['seed']}: {text}" for text in row.get("warnings", [])]
    return ["", "## Warnings of the runs", "", *out] if out else []


def markdown(rows, problems, samplers, command):
    """The whole table; `problems` and `samplers` give the order."""
    if not rows:
        return "# livepoint and other nested samplers\n\nNo run yet.\n"
    held = [r.get("peak_rss_start_mib") for r in rows if r.get("peak_rss_start_mib")]
    targets = sorted({row["n_eff_target"] for row in rows})
    groups = [Group(rows, p, t, samplers) for p in problems for t in targets]
    peers = [name for name in samplers if name != "livepoint"]
    out = [INTRO.format(start=number(mean(held)) if held else "some"), *described(rows, command)]

    means = [text for peer in peers for t in targets for text in overall(groups, peer, t)]
    if means:
        out += ["", "## Geometric means of the ratios over problems", ""]
        out += [*head(["N_eff", "", "problems", *RATIOS], 2), *means]
    out += ["", "## Runs", "", *head(COLUMNS, 3)]
    out += [text for group in groups for text in group.lines()]
    off = [text for group in groups for text in group.deviations()]
    if off:
        out += ["", "## log Z - truth of each seed", "", "In brackets: in units of its error.", ""]
        out += [*head(["problem", "N_eff", "sampler", "seed: difference"], 4), *off]
    return "\n".join([*out, *warned(rows)]) + "\n"
