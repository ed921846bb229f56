//! The nested bounds, what was counted of their volumes, and draws from the shells between them.

use std::ops::Range;

use crate::backend::{CpuPool, DeviceError, Machine};
use crate::batch::Proposal;
use crate::bound::{Answer, Ask, BoundError, CHUNK, Cloud, Live, Nest, NeuralBound, NeuralBoundOptions, Request};
use crate::evidence::{Fraction, ShellVolume};
use crate::math::log_sum_exp;
use crate::rng::Stream;
use crate::samples::{NO_SHELL, Phase, Place, Samples};

/// Part of the exploration's draws that goes to the cells of a bound in proportion to their volume; the rest is dealt out equally, so that a
/// thin end that holds next to nothing now does not die out before it holds much.
const BY_VOLUME: f64 = 0.5;

/// A cell that keeps a smaller fraction of its draws gets less than its equal part.
const YIELD_MIN: f64 = 0.05;

/// The bounds, outermost first, but for those of regions, which stand in front of the bounds that left them out.
#[derive(Debug)]
pub(super) struct Shells {
    n_dim: usize,
    stream: Stream,
    /// Bounds ever drawn from, candidates among them: each has its own random stream.
    n_created: u64,
    shells: Vec<Shell>,
    /// The one that came last: the innermost, but for bounds around what others had left out.
    newest: usize,
    /// One bound for each shell, and one more while there is a candidate.
    nest: Nest,
    /// Draws of the newest bound that a device makes ahead.
    ahead: Option<(Vec<Request>, Ask)>,
}

#[derive(Debug)]
struct Shell {
    threshold: f64,
    /// It is about a region that earlier bounds had left out, and says nothing of the rest.
    of_region: bool,
    stream: Stream,
    /// Draws from the whole bound so far.
    next_draw: u64,
    cells: Vec<Cell>,
}

/// The part of a bound that lies in one member of its union and in none before it.
#[derive(Debug)]
struct Cell {
    /// Draws from this cell alone so far.
    next_draw: u64,
    /// Counts while exploring; the kept count of the shell's own fraction is that of its points.
    exploration: ShellVolume,
    /// The shell's fraction in the exploration where its points no longer tell it.
    recounted: Option<Fraction>,
    sampling: ShellVolume,
}

impl Shell {
    /// Counts draws that reached the bound; where they lie among the shells is counted apart.
    fn count(&mut self, answer: &Answer) {
        for (cell, counts) in self.cells.iter_mut().zip(&answer.counts) {
            let volume = &mut cell.exploration;
            volume.union.add(counts.union.drawn, counts.union.kept);
            volume.network.add(counts.network.drawn, counts.network.kept);
        }
    }

    /// Logarithm of the volume of the bound, by the counts of the exploration.
    fn log_bound(&self) -> f64 {
        log_sum_exp(&self.cells.iter().map(|c| c.exploration.log_bound()).collect::<Vec<_>>())
    }

    /// Part of the exploration's draws that each cell gets: no more than its volume's where nearly all draws are lost.
    fn shares(&self) -> Vec<f64> {
        let cells = || self.cells.iter().map(|c| &c.exploration);
        let log_volume: Vec<f64> = cells().map(|v| v.log_v_members + kept_rate(v).ln()).collect();
        let log_bound = log_sum_exp(&log_volume);
        let dealt: Vec<f64> = cells().map(|v| (kept_rate(v) / YIELD_MIN).min(1.0)).collect();
        let total: f64 = dealt.iter().sum();
        let by_volume = log_volume.iter().map(|v| (v - log_bound).exp());
        by_volume.zip(dealt).map(|(v, d)| BY_VOLUME * v + (1.0 - BY_VOLUME) * d / total).collect()
    }
}

/// Part of the draws from a member that its cell keeps, as if one more had been kept: a few that were lost must not end a cell.
fn kept_rate(volume: &ShellVolume) -> f64 {
    (volume.network.kept + 1) as f64 / (volume.union.drawn + 1) as f64
}

/// A bound that is not in use yet.
#[derive(Debug)]
pub(super) struct Candidate {
    shell: Shell,
}

/// A row drawn from the newest bound.
#[derive(Debug)]
pub(super) struct Tagged {
    pub(super) u: Vec<f64>,
    /// Where it lies on the device, if it does.
    pub(super) slot: Option<u64>,
    pub(super) cell: u32,
    /// What other bound holds it, if that was asked: where it was before this bound came, or a later one, to which it belongs.
    pub(super) other: Option<Place>,
}

impl Shells {
    pub(super) fn unit_cube(n_dim: usize, stream: Stream) -> Self {
        let mut shells = Self {
            n_dim,
            stream,
            n_created: 0,
            shells: Vec::new(),
            newest: 0,
            nest: Nest::unit_cube(n_dim),
            ahead: None,
        };
        let shell = shells.shell(f64::NEG_INFINITY);
        shells.shells.push(shell);
        shells
    }

    /// The shell of the innermost bound of the nest.
    fn shell(&mut self, threshold: f64) -> Shell {
        let cell = |log_v_members| {
            let volume = ShellVolume { log_v_members, ..ShellVolume::default() };
            Cell { next_draw: 0, exploration: volume, recounted: None, sampling: volume }
        };
        self.n_created += 1;
        let stream = self.stream.substream(self.n_created);
        let cells = self.nest.log_v_members(self.nest.len() - 1).into_iter().map(cell).collect();
        Shell { threshold, of_region: false, stream, next_draw: 0, cells }
    }

    /// Goes to the machine where bounds are drawn from and asked, if nothing was drawn yet.
    pub(super) fn open(&mut self, machine: &Machine, hidden: &[usize], n_networks: usize) -> Result<(), DeviceError> {
        self.nest.open(machine, hidden, n_networks)
    }

    /// Whether the bounds can be used by a run with that machine.
    pub(super) fn is_at_home_on(&self, machine: &Machine) -> bool {
        self.nest.is_at_home_on(machine)
    }

    /// Goes on in another run on that machine; a candidate that an error left behind is forgotten.
    pub(super) fn go_on(&mut self, machine: &Machine) {
        self.reject();
        self.nest.go_on(machine);
    }

    /// The device that holds the bounds, in words.
    pub(super) fn device_name(&self) -> Option<String> {
        self.nest.device_name()
    }

    pub(super) fn len(&self) -> usize {
        self.shells.len()
    }

    pub(super) fn newest(&self) -> usize {
        self.newest
    }

    /// Cells of the newest bound.
    pub(super) fn n_cells_newest(&self) -> usize {
        self.shells[self.newest].cells.len()
    }

    /// Logarithm of the volume of each bound, by the counts of the exploration.
    pub(super) fn log_bounds(&self) -> Vec<f64> {
        self.shells.iter().map(Shell::log_bound).collect()
    }

    /// A bound of the live points of `cloud`, to follow the bound `before`.
    pub(super) fn enclose(
        &mut self,
        cloud: Cloud<'_>,
        live: Live,
        before: usize,
        options: &NeuralBoundOptions,
        pool: &CpuPool,
    ) -> Result<NeuralBound, BoundError> {
        let stream = self.training_stream();
        self.nest.enclose(cloud, live, before, options, stream, pool)
    }

    pub(super) fn is_of_region(&self, shell: usize) -> bool {
        self.shells[shell].of_region
    }

    /// The deepest of the shells that are about everything, with a threshold of at most `level`.
    pub(super) fn deepest(&self, level: f64) -> usize {
        self.shells.iter().rposition(|s| !s.of_region && s.threshold <= level).unwrap_or(0)
    }

    /// The innermost shell that holds any of `rows` `[n, n_dim]`.
    pub(super) fn innermost_holder(&mut self, rows: &[f64], pool: &CpuPool) -> Result<usize, DeviceError> {
        let holders = self.nest.locate(rows, 0..self.shells.len(), pool)?;
        Ok(holders.into_iter().flatten().map(|place| place.shell as usize).max().unwrap_or(0))
    }

    /// Which of `rows` `[n, n_dim]` lie in a shell whose bound has a volume, as a logarithm, of at most `log_v_most`.
    pub(super) fn are_deep(&mut self, rows: &[f64], log_v_most: f64, pool: &CpuPool) -> Result<Vec<bool>, DeviceError> {
        let log_v = self.log_bounds();
        let first = log_v.iter().position(|v| *v <= log_v_most).unwrap_or(self.shells.len());
        let holders = self.nest.locate(rows, first..self.shells.len(), pool)?;
        Ok(holders.into_iter().map(|place| place.is_some_and(|p| log_v[p.shell as usize] <= log_v_most)).collect())
    }

    /// Most cells that any of some bounds has.
    pub(super) fn n_cells_max(&self, bounds: Range<u32>) -> usize {
        self.shells[bounds.start as usize..bounds.end as usize].iter().map(|s| s.cells.len()).max().unwrap_or(1)
    }

    /// The stream that trains the next candidate.
    pub(super) fn training_stream(&self) -> Stream {
        self.stream.substream(self.n_created + 1).substream(1)
    }

    pub(super) fn threshold(&self, shell: usize) -> f64 {
        self.shells[shell].threshold
    }

    pub(super) fn raise_newest_threshold(&mut self, threshold: f64) {
        let newest = &mut self.shells[self.newest];
        newest.threshold = newest.threshold.max(threshold);
    }

    /// Whether the candidate can be drawn from, and is smaller than the newest bound as far as both were counted, or of `any_size`.
    pub(super) fn is_fit(&self, candidate: &Candidate, any_size: bool) -> bool {
        const N_KEPT_MIN: u64 = 100;
        let newest = self.shells[self.newest].log_bound();
        let kept: u64 = candidate.shell.cells.iter().map(|c| c.exploration.network.kept).sum();
        kept >= N_KEPT_MIN && (any_size || candidate.shell.log_bound() < newest)
    }

    /// Draws from a new bound until its volume is known to a few per cent, without calling the likelihood.
    pub(super) fn candidate(
        &mut self,
        bound: NeuralBound,
        threshold: f64,
        pool: &CpuPool,
    ) -> Result<Candidate, DeviceError> {
        self.nest.push(bound)?;
        self.measured(threshold, pool)
    }

    /// The candidate that the innermost bound makes.
    fn measured(&mut self, threshold: f64, pool: &CpuPool) -> Result<Candidate, DeviceError> {
        const N_KEPT: u64 = 1000;
        // A bound that keeps so little of its ellipsoids is no good: its volume is then measured poorly, and it is compared as it is.
        const N_DRAWS_MAX: u64 = 1 << 20;
        let mut shell = self.shell(threshold);
        while shell.cells.iter().map(|c| c.exploration.network.kept).sum::<u64>() < N_KEPT
            && shell.next_draw < N_DRAWS_MAX
        {
            let start = shell.next_draw;
            shell.next_draw += if start == 0 { 2 * CHUNK } else { start };
            let bound = self.nest.len() - 1;
            let request = Request { bound, stream: shell.stream, range: start..shell.next_draw, cell: None };
            for answer in self.nest.draw(&[request], Ask::Counts, pool)? {
                shell.count(&answer);
            }
        }
        Ok(Candidate { shell })
    }

    /// The same candidate with as much less effort for the recall of each cell as makes it smaller than the newest bound, all of it given up at the last.
    ///
    /// No more than that: a bound that was cut close makes it hard for the next one to be smaller, so that it would be cut, too.
    pub(super) fn relaxed(&mut self, candidate: Candidate, pool: &CpuPool) -> Result<Candidate, DeviceError> {
        const N_PARTS: usize = 4;
        let mut candidate = candidate;
        for part in 1..=N_PARTS {
            if !self.nest.relax(part as f32 / N_PARTS as f32)? {
                break;
            }
            candidate = self.measured(candidate.shell.threshold, pool)?;
            if self.is_fit(&candidate, false) {
                break;
            }
        }
        Ok(candidate)
    }

    /// The cell of the candidate that holds each of `rows` `[n, n_dim]`; none for those outside.
    pub(super) fn locate_in_candidate(
        &mut self,
        rows: &[f64],
        pool: &CpuPool,
    ) -> Result<Vec<Option<u32>>, DeviceError> {
        let candidate = self.nest.len() - 1;
        let holders = self.nest.locate(rows, candidate..candidate + 1, pool)?;
        Ok(holders.into_iter().map(|place| place.map(|place| place.cell)).collect())
    }

    /// Forgets the candidate, if there is one.
    pub(super) fn reject(&mut self) {
        self.nest.truncate(self.shells.len());
    }

    /// The candidate becomes the newest bound, at the place `at`; those that were there from `at` on come after it.
    pub(super) fn accept(&mut self, candidate: Candidate, at: usize, of_region: bool) {
        self.ahead = None;
        self.newest = at;
        self.nest.move_innermost_to(at);
        self.shells.insert(at, Shell { of_region, ..candidate.shell });
    }

    /// About `n` rows of the newest bound, uniform in each of its cells, with the other bound that holds each (when `tag` asks for it, or a bound comes later).
    pub(super) fn draw_newest(&mut self, n: usize, tag: bool, pool: &CpuPool) -> Result<Vec<Tagged>, DeviceError> {
        let (requests, ask) = match self.ahead.take() {
            Some(ahead) => ahead,
            None => self.requests_for_newest(n, tag),
        };
        let newest = &mut self.shells[requests.first().map_or(0, |request| request.bound)];
        let mut rows = Vec::new();
        for answer in self.nest.draw(&requests, ask, pool)? {
            newest.count(&answer);
            let holders = answer.holders.into_iter().chain(std::iter::repeat(None));
            let slots = answer.slots.into_iter().map(Some).chain(std::iter::repeat(None));
            let tagged = answer.rows.chunks_exact(self.n_dim).zip(&answer.cells).zip(holders).zip(slots);
            let row = |(((u, cell), other), slot): (((&[f64], &u32), _), _)| Tagged {
                u: u.to_vec(),
                slot,
                cell: *cell,
                other,
            };
            rows.extend(tagged.map(row));
        }
        // A batch takes the first of them: every cell should have its part.
        let n_drawn = newest.cells.iter().map(|c| c.next_draw).sum();
        newest.stream.substream(ORDER_STREAM).at(n_drawn).shuffle(&mut rows);
        Ok(rows)
    }

    /// Bytes that went to a device for training.
    pub(super) fn train_bytes_uploaded(&self) -> u64 {
        self.nest.train_bytes_uploaded()
    }

    /// Draws of the newest bound for about `n` rows, which from here on are made.
    fn requests_for_newest(&mut self, n: usize, tag: bool) -> (Vec<Request>, Ask) {
        const N_DRAWS_MAX: f64 = 1e6;
        let bound = self.newest;
        let newest = &mut self.shells[bound];
        let mut requests = Vec::new();
        for (index, share) in newest.shares().into_iter().enumerate().filter(|(_, share)| *share > 0.0) {
            let cell = &mut newest.cells[index];
            let n_draws = (share * n as f64 / kept_rate(&cell.exploration) * 1.1).ceil().min(N_DRAWS_MAX) as u64;
            let range = cell.next_draw..cell.next_draw + n_draws;
            cell.next_draw = range.end;
            let stream = newest.stream.substream(FIRST_CELL_STREAM + index as u64);
            requests.push(Request { bound, stream, range, cell: Some(index) });
        }
        (requests, if tag || bound + 1 < self.shells.len() { Ask::Holder } else { Ask::Rows })
    }

    /// Lets a device draw the next rows of the newest bound while the likelihood is at work; on threads nothing is done.
    pub(super) fn draw_ahead(&mut self, n: usize, tag: bool) -> Result<(), DeviceError> {
        if self.ahead.is_some() || !self.nest.is_on_device() {
            return Ok(());
        }
        let (requests, ask) = self.requests_for_newest(n, tag);
        self.nest.draw_ahead(&requests, ask)?;
        self.ahead = Some((requests, ask));
        Ok(())
    }

    /// The proposal of rows that lie at `slots`, on the device where they all do.
    pub(super) fn propose(&mut self, slots: &[u64], proposal: Proposal) -> Result<Proposal, DeviceError> {
        self.nest.propose(slots, proposal)
    }

    /// The last `n` points of the ledger are new.
    pub(super) fn append(&mut self, samples: &Samples, n: usize) -> Result<(), DeviceError> {
        self.nest.append(samples, n)
    }

    /// One more draw of the newest bound went into its shell.
    pub(super) fn count_exploration_draw(&mut self, cell: u32) {
        self.shells[self.newest].cells[cell as usize].exploration.shell.drawn += 1;
    }

    /// Starts the sampling phase with the shells that `keep` names; later draws come from streams that the exploration never touched.
    ///
    /// The shell in front of one that goes becomes larger, so its fractions from the exploration no longer hold: they are counted
    /// anew, by draws without likelihood calls.
    pub(super) fn freeze(&mut self, keep: &[bool], pool: &CpuPool) -> Result<(), DeviceError> {
        self.ahead = None;
        self.newest = 0;
        const N_RECOUNT: u64 = 32 * CHUNK;
        const N_TOLD: u64 = 100;
        let of_region: Vec<bool> = self.shells.iter().map(|s| s.of_region).collect();
        let mut kept = keep.iter();
        self.shells.retain(|_| kept.next().copied().unwrap_or(true));
        self.nest.retain(keep);
        let index = |k: usize| keep[..k].iter().filter(|k| **k).count();
        // Those in front of one that goes, back to the nearest that is about everything.
        let mut grows = vec![false; keep.len()];
        for gone in (1..keep.len()).filter(|&k| !keep[k]) {
            for k in (0..gone).rev() {
                grows[k] = keep[k];
                if keep[k] && !of_region[k] {
                    break;
                }
            }
        }
        let grown: Vec<_> = (0..keep.len()).filter(|&k| grows[k]).map(|k| (index(k), N_RECOUNT)).collect();
        for (answer, (shell, _)) in self.draw(&grown, Ask::ShellCounts, pool)?.into_iter().zip(&grown) {
            for (cell, counts) in self.shells[*shell].cells.iter_mut().zip(answer.counts) {
                // A few draws tell less than the points do.
                cell.recounted = (counts.shell.drawn >= N_TOLD).then_some(counts.shell);
            }
        }
        for shell in &mut self.shells {
            shell.stream = shell.stream.substream(2);
            shell.next_draw = 0;
        }
        Ok(())
    }

    /// Goes back to exploring: what the sampling phase counted counts as exploration, and new draws come from new streams.
    ///
    /// In the exploration a cell's fraction is told by its points, but the sampling phase drew more than it evaluated: the draws are scaled so
    /// that they agree with the points. To be called before the points become those of the exploration.
    pub(super) fn reopen(&mut self, samples: &Samples) {
        self.ahead = None;
        let explored = self.exploration_volumes(samples);
        let mut n_points: Vec<Vec<u64>> = self.shells.iter().map(|s| vec![0; s.cells.len()]).collect();
        for place in (0..samples.len()).filter_map(|id| samples.place(id)) {
            n_points[place.shell as usize][place.cell as usize] += 1;
        }
        for ((shell, explored), n_points) in self.shells.iter_mut().zip(explored).zip(n_points) {
            for ((cell, explored), n) in shell.cells.iter_mut().zip(explored).zip(n_points) {
                let known = explored.merge(&cell.sampling);
                let fraction = known.shell.value();
                let drawn =
                    if n > 0 && fraction > 0.0 { (n as f64 / fraction).round() as u64 } else { known.shell.drawn };
                cell.exploration = ShellVolume { shell: Fraction { drawn, kept: 0 }, ..known };
                cell.sampling = ShellVolume { log_v_members: known.log_v_members, ..ShellVolume::default() };
                cell.recounted = None;
                cell.next_draw = 0;
            }
            shell.stream = shell.stream.substream(3);
            shell.next_draw = 0;
        }
    }

    /// Of each shell while exploring: its volume as a fraction of that of the members of its bound, which is where draws start.
    pub(super) fn exploration_yield(&self, samples: &Samples) -> Vec<f64> {
        self.exploration_ratio(samples, |volume| volume.log_v_members)
    }

    /// Of each shell while exploring: its volume as a fraction of that of its bound.
    pub(super) fn exploration_fractions(&self, samples: &Samples) -> Vec<f64> {
        self.exploration_ratio(samples, ShellVolume::log_bound)
    }

    fn exploration_ratio(&self, samples: &Samples, whole: impl Fn(&ShellVolume) -> f64) -> Vec<f64> {
        let sum = |cells: &[ShellVolume], part: &dyn Fn(&ShellVolume) -> f64| {
            log_sum_exp(&cells.iter().map(part).collect::<Vec<_>>())
        };
        let ratio = |cells: &Vec<ShellVolume>| (sum(cells, &ShellVolume::log_shell) - sum(cells, &whole)).exp();
        self.exploration_volumes(samples).iter().map(ratio).collect()
    }

    /// Draws `requests[k] = (shell, number of member draws)` for the sampling phase; counts them, and returns what fell in each
    /// shell, row-major.
    pub(super) fn draw_shells(
        &mut self,
        requests: &[(usize, u64)],
        pool: &CpuPool,
    ) -> Result<Vec<Answer>, DeviceError> {
        self.draw_and_count(requests, Ask::Shell, pool)
    }

    /// The same without the rows: sharper volumes at no likelihood call.
    pub(super) fn count_shells(&mut self, requests: &[(usize, u64)], pool: &CpuPool) -> Result<(), DeviceError> {
        self.draw_and_count(requests, Ask::ShellCounts, pool).map(drop)
    }

    fn draw_and_count(
        &mut self,
        requests: &[(usize, u64)],
        ask: Ask,
        pool: &CpuPool,
    ) -> Result<Vec<Answer>, DeviceError> {
        let answers = self.draw(requests, ask, pool)?;
        for (answer, (shell, _)) in answers.iter().zip(requests) {
            for (cell, counts) in self.shells[*shell].cells.iter_mut().zip(&answer.counts) {
                let volume = &mut cell.sampling;
                volume.union.add(counts.union.drawn, counts.union.kept);
                volume.network.add(counts.network.drawn, counts.network.kept);
                volume.shell.add(counts.shell.drawn, counts.shell.kept);
            }
        }
        Ok(answers)
    }

    /// Draws made from each shell in the sampling phase.
    pub(super) fn sampling_draws(&self) -> Vec<u64> {
        self.shells.iter().map(|s| s.next_draw).collect()
    }

    fn draw(&mut self, requests: &[(usize, u64)], ask: Ask, pool: &CpuPool) -> Result<Vec<Answer>, DeviceError> {
        let request = |&(bound, n): &(usize, u64)| {
            let shell = &mut self.shells[bound];
            let range = shell.next_draw..shell.next_draw + n;
            shell.next_draw = range.end;
            Request { bound, stream: shell.stream, range, cell: None }
        };
        let requests: Vec<Request> = requests.iter().map(request).collect();
        self.nest.draw(&requests, ask, pool)
    }

    /// What the exploration knows of the volume of every cell of every shell.
    fn exploration_volumes(&self, samples: &Samples) -> Vec<Vec<ShellVolume>> {
        let mut kept: Vec<Vec<u64>> = self.shells.iter().map(|s| vec![0; s.cells.len()]).collect();
        for id in (0..samples.len()).filter(|&id| samples.phase()[id] == Phase::Exploration) {
            if let Some(place) = samples.place(id) {
                kept[place.shell as usize][place.cell as usize] += 1;
            }
        }
        let volume = |(cell, kept): (&Cell, u64)| {
            let shell = cell.recounted.unwrap_or(Fraction { drawn: cell.exploration.shell.drawn, kept });
            ShellVolume { shell, ..cell.exploration }
        };
        self.shells.iter().zip(kept).map(|(s, kept)| s.cells.iter().zip(kept).map(volume).collect()).collect()
    }

    /// What is known of the volumes of disjoint regions, and the region of every point.
    ///
    /// From the sampling phase alone the regions are the shells; with the exploration, whose points are uniform in a cell but not in a
    /// shell, they are the cells of all shells, one shell after the other.
    pub(super) fn regions(&self, samples: &Samples, keep_exploration: bool) -> Regions {
        if !keep_exploration {
            let volume = |s: &Shell| {
                let members: Vec<f64> = s.cells.iter().map(|c| c.sampling.log_v_members).collect();
                let counted = s.cells.iter().fold(ShellVolume::default(), |sum, c| sum.merge(&c.sampling));
                ShellVolume { log_v_members: log_sum_exp(&members), ..counted }
            };
            let of_point = samples.shells().iter().zip(samples.phase());
            return Regions {
                volumes: self.shells.iter().map(volume).collect(),
                of_point: of_point.map(|(s, p)| if *p == Phase::Sampling { *s } else { NO_SHELL }).collect(),
                shell: (0..self.shells.len()).collect(),
            };
        }
        let mut regions = Regions::default();
        let mut first = Vec::with_capacity(self.shells.len());
        for (index, (shell, explored)) in self.shells.iter().zip(self.exploration_volumes(samples)).enumerate() {
            first.push(regions.volumes.len() as u32);
            regions.volumes.extend(shell.cells.iter().zip(explored).map(|(c, explored)| explored.merge(&c.sampling)));
            regions.shell.resize(regions.volumes.len(), index);
        }
        let region = |id| samples.place(id).map_or(NO_SHELL, |place| first[place.shell as usize] + place.cell);
        regions.of_point = (0..samples.len()).map(region).collect();
        regions
    }
}

/// Disjoint regions with points uniform in each.
#[derive(Debug, Default)]
pub(super) struct Regions {
    pub(super) volumes: Vec<ShellVolume>,
    /// `[n_points]`; `NO_SHELL` for those that do not count.
    pub(super) of_point: Vec<u32>,
    /// The shell of each region, in order.
    pub(super) shell: Vec<usize>,
}

/// Streams of a bound: 1 trains, 2 and 3 are those of later phases.
const ORDER_STREAM: u64 = 4;
const FIRST_CELL_STREAM: u64 = 16;
