//! The nested bounds, what was counted of their volumes, and draws from the shells between them.

use std::ops::Range;

use crate::backend::CpuPool;
use crate::bound::{Drawn, NeuralBound};
use crate::evidence::{Fraction, ShellVolume};
use crate::rng::Stream;
use crate::samples::{Phase, Samples};

/// Draws per task of the pool: enough to fill the networks' matrix products, few enough to balance threads.
const CHUNK: u64 = 1024;

/// The bounds, outermost first.
#[derive(Debug)]
pub(super) struct Shells {
    n_dim: usize,
    stream: Stream,
    /// Bounds ever drawn from, candidates among them: each has its own random stream.
    n_created: u64,
    shells: Vec<Shell>,
}

#[derive(Debug)]
struct Shell {
    bound: Bound,
    threshold: f64,
    stream: Stream,
    next_draw: u64,
    /// Counts while exploring; the kept count of the shell's own fraction is that of its points.
    exploration: ShellVolume,
    /// The shell's fraction in the exploration where its points no longer tell it.
    recounted: Option<Fraction>,
    sampling: ShellVolume,
}

/// Draws that fell in a shell, and what was counted on the way.
#[derive(Debug, Default)]
struct InShell {
    rows: Vec<f64>,
    volume: ShellVolume,
}

#[derive(Debug)]
enum Bound {
    UnitCube { n_dim: usize },
    Neural(Box<NeuralBound>),
}

impl Bound {
    fn draw(&self, stream: &Stream, range: Range<u64>) -> Drawn {
        match self {
            Self::Neural(bound) => bound.draw(stream, range),
            Self::UnitCube { n_dim } => {
                let rows = range.flat_map(|k| {
                    let mut draw = stream.at(k);
                    (0..*n_dim).map(move |_| draw.uniform())
                });
                // The volume of the cube is known: nothing is counted.
                Drawn { rows: rows.collect(), ..Drawn::default() }
            }
        }
    }

    fn contains(&self, rows: &[f64], n_dim: usize) -> Vec<bool> {
        match self {
            Self::Neural(bound) => bound.contains(rows),
            Self::UnitCube { .. } => vec![true; rows.len() / n_dim],
        }
    }

    fn log_v_members(&self) -> f64 {
        match self {
            Self::Neural(bound) => bound.log_v_members(),
            Self::UnitCube { .. } => 0.0,
        }
    }
}

/// A bound that is not in use yet.
#[derive(Debug)]
pub(super) struct Candidate {
    shell: Shell,
}

impl Candidate {
    /// Which rows `[n, n_dim]` it contains.
    pub(super) fn contains(&self, rows: &[f64], n_dim: usize, pool: &CpuPool) -> Vec<bool> {
        let n = rows.len() / n_dim;
        let chunks = pool
            .map_chunks(n, CHUNK as usize, |r| self.shell.bound.contains(&rows[r.start * n_dim..r.end * n_dim], n_dim));
        chunks.concat()
    }
}

/// A row drawn from the newest bound, and the shell it would have been in before that bound came.
#[derive(Debug)]
pub(super) struct Tagged {
    pub(super) u: Vec<f64>,
    pub(super) old_shell: Option<u32>,
}

impl Shells {
    pub(super) fn unit_cube(n_dim: usize, stream: Stream) -> Self {
        let mut shells = Self { n_dim, stream, n_created: 0, shells: Vec::new() };
        let shell = shells.shell(Bound::UnitCube { n_dim }, f64::NEG_INFINITY);
        shells.shells.push(shell);
        shells
    }

    fn shell(&mut self, bound: Bound, threshold: f64) -> Shell {
        let volume = ShellVolume { log_v_members: bound.log_v_members(), ..ShellVolume::default() };
        self.n_created += 1;
        let stream = self.stream.substream(self.n_created);
        Shell { bound, threshold, stream, next_draw: 0, exploration: volume, recounted: None, sampling: volume }
    }

    pub(super) fn len(&self) -> usize {
        self.shells.len()
    }

    /// The stream that trains the next candidate.
    pub(super) fn training_stream(&self) -> Stream {
        self.stream.substream(self.n_created + 1).substream(1)
    }

    pub(super) fn threshold(&self, shell: usize) -> f64 {
        self.shells[shell].threshold
    }

    pub(super) fn raise_last_threshold(&mut self, threshold: f64) {
        if let Some(last) = self.shells.last_mut() {
            last.threshold = threshold;
        }
    }

    /// Whether the candidate can be drawn from, and is smaller than the newest bound as far as both were counted, or of `any_size`.
    pub(super) fn is_fit(&self, candidate: &Candidate, any_size: bool) -> bool {
        const N_KEPT_MIN: u64 = 100;
        let newest = self.shells.last().map_or(0.0, |s| s.exploration.log_bound());
        let volume = &candidate.shell.exploration;
        volume.network.kept >= N_KEPT_MIN && (any_size || volume.log_bound() < newest)
    }

    /// Draws from a new bound until its volume is known to a few per cent, without calling the likelihood.
    pub(super) fn candidate(&mut self, bound: NeuralBound, threshold: f64, pool: &CpuPool) -> Candidate {
        const N_KEPT: u64 = 1000;
        // A bound that keeps so little of its ellipsoids is no good: its volume is then measured poorly, and it is compared as it is.
        const N_DRAWS_MAX: u64 = 1 << 20;
        let mut shell = self.shell(Bound::Neural(Box::new(bound)), threshold);
        while shell.exploration.network.kept < N_KEPT && shell.next_draw < N_DRAWS_MAX {
            let start = shell.next_draw;
            let n = if start == 0 { 2 * CHUNK } else { start };
            shell.next_draw += n;
            for drawn in pool.map_chunks(n as usize, CHUNK as usize, |r| {
                shell.bound.draw(&shell.stream, start + r.start as u64..start + r.end as u64)
            }) {
                count(&mut shell.exploration, &drawn);
            }
        }
        Candidate { shell }
    }

    /// The same candidate without the effort to keep every deep point, where that makes a difference.
    pub(super) fn relaxed(&mut self, mut candidate: Candidate, pool: &CpuPool) -> Candidate {
        if let Bound::Neural(bound) = &mut candidate.shell.bound
            && !bound.relax()
        {
            return candidate;
        }
        match candidate.shell.bound {
            Bound::Neural(bound) => self.candidate(*bound, candidate.shell.threshold, pool),
            Bound::UnitCube { .. } => candidate,
        }
    }

    pub(super) fn accept(&mut self, candidate: Candidate) {
        self.shells.push(candidate.shell);
    }

    /// About `n` rows uniform in the newest bound, each with the shell it belonged to before (when `tag` asks for it).
    pub(super) fn draw_newest(&mut self, n: usize, tag: bool, pool: &CpuPool) -> Vec<Tagged> {
        const N_DRAWS_MAX: f64 = 1e6;
        let n_dim = self.n_dim;
        let Some((newest, older)) = self.shells.split_last_mut() else { return Vec::new() };
        let volume = &newest.exploration;
        let accepted = volume.union.value() * volume.network.value();
        let n_draws = ((n as f64 / accepted.max(1e-6)) * 1.1).ceil().min(N_DRAWS_MAX) as usize;
        let start = newest.next_draw;
        newest.next_draw += n_draws as u64;
        let chunks = pool.map_chunks(n_draws, CHUNK as usize, |r| {
            let drawn = newest.bound.draw(&newest.stream, start + r.start as u64..start + r.end as u64);
            let mut old = vec![None; drawn.rows.len() / n_dim];
            if tag {
                for (index, shell) in older.iter().enumerate().rev() {
                    let open: Vec<usize> = (0..old.len()).filter(|&k| old[k].is_none()).collect();
                    let rows: Vec<f64> =
                        open.iter().flat_map(|&k| &drawn.rows[k * n_dim..(k + 1) * n_dim]).copied().collect();
                    let inside = shell.bound.contains(&rows, n_dim);
                    open.iter().zip(inside).filter(|(_, i)| *i).for_each(|(&k, _)| old[k] = Some(index as u32));
                    if old.iter().all(Option::is_some) {
                        break;
                    }
                }
            }
            (drawn, old)
        });
        let mut rows = Vec::new();
        for (drawn, old) in chunks {
            count(&mut newest.exploration, &drawn);
            rows.extend(
                drawn.rows.chunks_exact(n_dim).zip(old).map(|(u, old_shell)| Tagged { u: u.to_vec(), old_shell }),
            );
        }
        rows
    }

    /// One more draw of the newest bound went into its shell.
    pub(super) fn count_exploration_draw(&mut self) {
        if let Some(newest) = self.shells.last_mut() {
            newest.exploration.shell.drawn += 1;
        }
    }

    /// Starts the sampling phase with the shells that `keep` names; later draws come from streams that the exploration never touched.
    ///
    /// The shell in front of one that goes becomes larger, so its fraction from the exploration no longer holds: it is counted
    /// anew, by draws without likelihood calls.
    pub(super) fn freeze(&mut self, keep: &[bool], pool: &CpuPool) {
        const N_RECOUNT: u64 = 8 * CHUNK;
        let mut kept = keep.iter();
        self.shells.retain(|_| kept.next().copied().unwrap_or(true));
        let index = |k: usize| keep[..k].iter().filter(|k| **k).count();
        let grown: Vec<_> =
            (1..keep.len()).filter(|&k| keep[k - 1] && !keep[k]).map(|k| (index(k) - 1, N_RECOUNT)).collect();
        for (drawn, (shell, _)) in self.draw(&grown, pool).into_iter().zip(&grown) {
            self.shells[*shell].recounted = Some(drawn.volume.shell);
        }
        for shell in &mut self.shells {
            shell.stream = shell.stream.substream(2);
            shell.next_draw = 0;
        }
    }

    /// Goes back to exploring: what the sampling phase counted counts as exploration, and new draws come from new streams.
    pub(super) fn reopen(&mut self) {
        for shell in &mut self.shells {
            shell.exploration = shell.exploration.merge(&shell.sampling);
            shell.sampling = ShellVolume { log_v_members: shell.exploration.log_v_members, ..ShellVolume::default() };
            shell.recounted = None;
            shell.stream = shell.stream.substream(3);
            shell.next_draw = 0;
        }
    }

    /// Fraction of the draws from the members of each bound that ended in its shell while exploring.
    pub(super) fn exploration_yield(&self, samples: &Samples) -> Vec<f64> {
        self.exploration_volumes(samples)
            .iter()
            .map(|v| v.union.value() * v.network.value() * v.shell.value())
            .collect()
    }

    /// Draws `requests[k] = (shell, number of member draws)` for the sampling phase; counts them, and returns what fell in each
    /// shell, row-major.
    pub(super) fn draw_shells(&mut self, requests: &[(usize, u64)], pool: &CpuPool) -> Vec<Vec<f64>> {
        let drawn = self.draw(requests, pool);
        for (drawn, (shell, _)) in drawn.iter().zip(requests) {
            let volume = &mut self.shells[*shell].sampling;
            *volume = volume.merge(&drawn.volume);
        }
        drawn.into_iter().map(|d| d.rows).collect()
    }

    fn draw(&mut self, requests: &[(usize, u64)], pool: &CpuPool) -> Vec<InShell> {
        let n_dim = self.n_dim;
        let mut tasks = Vec::new();
        for (k, &(shell, n)) in requests.iter().enumerate() {
            let shell = &mut self.shells[shell];
            let (start, end) = (shell.next_draw, shell.next_draw + n);
            shell.next_draw = end;
            tasks.extend((start..end).step_by(CHUNK as usize).map(|s| (k, s..(s + CHUNK).min(end))));
        }
        let shells = &self.shells;
        let done = pool.map(tasks.len(), |t| {
            let (k, range) = &tasks[t];
            let index = requests[*k].0;
            let Drawn { mut rows, union, network } = shells[index].bound.draw(&shells[index].stream, range.clone());
            let in_bound = (rows.len() / n_dim) as u64;
            for later in &shells[index + 1..] {
                if rows.is_empty() {
                    break;
                }
                let inside = later.bound.contains(&rows, n_dim);
                let mut kept = 0;
                for (k, _) in inside.iter().enumerate().filter(|(_, inside)| !**inside) {
                    rows.copy_within(k * n_dim..(k + 1) * n_dim, kept * n_dim);
                    kept += 1;
                }
                rows.truncate(kept * n_dim);
            }
            let shell = Fraction { drawn: in_bound, kept: (rows.len() / n_dim) as u64 };
            InShell { rows, volume: ShellVolume { log_v_members: 0.0, union, network, shell } }
        });
        let mut out: Vec<InShell> = requests.iter().map(|_| InShell::default()).collect();
        for ((k, _), drawn) in tasks.iter().zip(done) {
            out[*k].volume = out[*k].volume.merge(&drawn.volume);
            out[*k].rows.extend_from_slice(&drawn.rows);
        }
        out
    }

    fn exploration_volumes(&self, samples: &Samples) -> Vec<ShellVolume> {
        let mut kept = vec![0u64; self.shells.len()];
        let points = samples.shells().iter().zip(samples.phase());
        for (&shell, _) in points.filter(|(_, p)| **p == Phase::Exploration) {
            if let Some(kept) = kept.get_mut(shell as usize) {
                *kept += 1;
            }
        }
        self.shells
            .iter()
            .zip(kept)
            .map(|(s, kept)| {
                let shell = s.recounted.unwrap_or(Fraction { drawn: s.exploration.shell.drawn, kept });
                ShellVolume { shell, ..s.exploration }
            })
            .collect()
    }

    /// What is known of each shell's volume: from the sampling phase, and from the exploration if it is kept.
    pub(super) fn volumes(&self, samples: &Samples, keep_exploration: bool) -> Vec<ShellVolume> {
        if !keep_exploration {
            return self.shells.iter().map(|s| s.sampling).collect();
        }
        let exploration = self.exploration_volumes(samples);
        self.shells.iter().zip(exploration).map(|(s, e)| e.merge(&s.sampling)).collect()
    }
}

fn count(volume: &mut ShellVolume, drawn: &Drawn) {
    volume.union.add(drawn.union.drawn, drawn.union.kept);
    volume.network.add(drawn.network.drawn, drawn.network.kept);
}
