//! The bounds in use, and the two things that a sampler asks of them: to draw from one, and which of them hold a row.

use std::ops::Range;

#[cfg(feature = "gpu")]
use super::device::DeviceNest;
use super::neural::Teacher;
use super::{BoundError, Cloud, Drawn, Live, NeuralBound, NeuralBoundOptions};
use crate::backend::{CpuPool, DeviceError, Machine};
use crate::batch::Proposal;
use crate::evidence::Fraction;
use crate::rng::Stream;
use crate::samples::{Place, Samples};

/// Draws per task of the pool: enough to fill the networks' matrix products, few enough to balance threads.
pub(crate) const CHUNK: u64 = 1024;

/// The bounds; a row belongs to the last that holds it. The first is the unit cube.
#[derive(Debug)]
pub(crate) struct Nest {
    n_dim: usize,
    bounds: Vec<Bound>,
    /// The same bounds on a device, where that is asked instead.
    #[cfg(feature = "gpu")]
    device: Option<DeviceNest>,
}

#[derive(Debug)]
enum Bound {
    UnitCube { n_dim: usize },
    Neural(Box<NeuralBound>),
}

/// Draws from one bound: those with the numbers `range` of `stream`, from its members by volume or all from the one of a cell.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub bound: usize,
    pub stream: Stream,
    pub range: Range<u64>,
    pub cell: Option<usize>,
}

/// What is asked of the other bounds about rows that were drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Nothing, and only counts are wanted: no row comes back.
    Counts,
    /// Nothing.
    Rows,
    /// Which of the other bounds holds the row, the innermost.
    Holder,
    /// Whether a later bound holds the row: then it is dropped.
    Shell,
    /// The same, and only counts are wanted.
    ShellCounts,
}

impl Ask {
    pub(super) fn keeps_rows(self) -> bool {
        !matches!(self, Self::Counts | Self::ShellCounts)
    }
}

/// What came of a [`Request`].
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// `[n_kept, n_dim]`, row-major.
    pub rows: Vec<f64>,
    /// The cell of each in the bound that was drawn from, `[n_kept]`.
    pub cells: Vec<u32>,
    /// For [`Ask::Holder`]: the bound and the cell that hold each, `[n_kept]`.
    pub holders: Vec<Option<Place>>,
    /// Counts for each cell of the bound.
    pub counts: Vec<CellCounts>,
    /// Where each lies on the device, `[n_kept]`; nothing where there is none.
    pub slots: Vec<u64>,
}

/// What became of the draws from one member.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CellCounts {
    /// In the cube and in no member before it.
    pub union: Fraction,
    /// Of those, accepted by the networks.
    pub network: Fraction,
    /// Of those, held by no later bound; counted for [`Ask::Shell`] and [`Ask::ShellCounts`].
    pub shell: Fraction,
}

impl CellCounts {
    fn add(&mut self, more: &Self) {
        self.union.add(more.union.drawn, more.union.kept);
        self.network.add(more.network.drawn, more.network.kept);
        self.shell.add(more.shell.drawn, more.shell.kept);
    }
}

impl Bound {
    fn draw(&self, stream: &Stream, range: Range<u64>, cell: Option<usize>) -> Drawn {
        match self {
            Self::Neural(bound) => bound.draw(stream, range, cell),
            Self::UnitCube { n_dim } => {
                let cells = vec![0; (range.end - range.start) as usize];
                let rows = range.flat_map(|k| {
                    let mut draw = stream.at(k);
                    (0..*n_dim).map(move |_| draw.uniform())
                });
                // The volume of the cube is known: nothing is counted.
                Drawn { rows: rows.collect(), cells, ..Drawn::default() }
            }
        }
    }

    fn locate(&self, rows: &[f64], n_dim: usize) -> Vec<Option<u32>> {
        match self {
            Self::Neural(bound) => bound.locate(rows),
            Self::UnitCube { .. } => vec![Some(0); rows.len() / n_dim],
        }
    }

    fn log_v_members(&self) -> Vec<f64> {
        match self {
            Self::Neural(bound) => bound.log_v_members(),
            Self::UnitCube { .. } => vec![0.0],
        }
    }
}

impl Nest {
    /// The unit cube alone.
    pub fn unit_cube(n_dim: usize) -> Self {
        Self {
            n_dim,
            bounds: vec![Bound::UnitCube { n_dim }],
            #[cfg(feature = "gpu")]
            device: None,
        }
    }

    /// Moves to `machine` as long as there is only the cube; `hidden` and `n_networks` are the shape of the ensembles to come.
    ///
    /// # Errors
    /// A device that cannot hold them.
    pub fn open(&mut self, machine: &Machine, hidden: &[usize], n_networks: usize) -> Result<(), DeviceError> {
        #[cfg(feature = "gpu")]
        if let Machine::Gpu { gpu, .. } = machine
            && self.bounds.len() == 1
        {
            self.device = Some(DeviceNest::unit_cube(gpu, self.n_dim, hidden, n_networks)?);
        }
        #[cfg(not(feature = "gpu"))]
        let _ = (machine, hidden, n_networks);
        Ok(())
    }

    /// Whether a device is asked.
    pub fn is_on_device(&self) -> bool {
        #[cfg(feature = "gpu")]
        return self.device.is_some();
        #[cfg(not(feature = "gpu"))]
        false
    }

    /// Whether a run with that machine can use the bounds: those on threads go anywhere, those on a device stay there.
    pub fn is_at_home_on(&self, machine: &Machine) -> bool {
        #[cfg(feature = "gpu")]
        if let Some(device) = &self.device {
            return matches!(machine, Machine::Gpu { gpu, .. } if device.gpu().is(gpu));
        }
        let _ = machine;
        true
    }

    /// Goes on in another run, whose machine it is [at home on](Self::is_at_home_on).
    pub fn go_on(&mut self, machine: &Machine) {
        #[cfg(feature = "gpu")]
        if let (Some(device), Machine::Gpu { gpu, .. }) = (&mut self.device, machine) {
            device.go_on_with(gpu);
        }
        #[cfg(not(feature = "gpu"))]
        let _ = machine;
    }

    /// The device that holds the bounds, in words.
    pub fn device_name(&self) -> Option<String> {
        #[cfg(feature = "gpu")]
        return self.device.as_ref().map(|device| device.gpu().name());
        #[cfg(not(feature = "gpu"))]
        None
    }

    /// Number of bounds, the cube among them.
    pub fn len(&self) -> usize {
        self.bounds.len()
    }

    /// A bound of the live points of `cloud`, trained where the nest is; it follows the bound `before`. Cost: see [`NeuralBound`].
    ///
    /// # Errors
    /// [`BoundError`].
    pub fn enclose(
        &mut self,
        cloud: Cloud<'_>,
        live: Live,
        before: usize,
        options: &NeuralBoundOptions,
        stream: Stream,
        pool: &CpuPool,
    ) -> Result<NeuralBound, BoundError> {
        let before = match self.bounds.get(before) {
            Some(Bound::Neural(bound)) => Some(&**bound),
            _ => None,
        };
        let teacher = Teacher::Threads(pool);
        #[cfg(feature = "gpu")]
        let teacher = self.device.as_mut().map_or(teacher, Teacher::Device);
        NeuralBound::enclosing(cloud, live, before, options, stream, teacher)
    }

    /// Puts a bound inside all others.
    ///
    /// # Errors
    /// A device without room.
    pub fn push(&mut self, bound: NeuralBound) -> Result<(), DeviceError> {
        #[cfg(feature = "gpu")]
        let mut bound = bound;
        #[cfg(feature = "gpu")]
        if let Some(device) = &mut self.device {
            device.push(&mut bound)?;
        }
        self.bounds.push(Bound::Neural(Box::new(bound)));
        Ok(())
    }

    /// Bytes that went to a device for training.
    pub fn train_bytes_uploaded(&self) -> u64 {
        #[cfg(feature = "gpu")]
        return self.device.as_ref().map_or(0, DeviceNest::train_bytes_uploaded);
        #[cfg(not(feature = "gpu"))]
        0
    }

    /// The proposal of rows that lie at `slots`, on the device too where all of them are still there.
    ///
    /// # Errors
    /// A device that fails.
    pub fn propose(&mut self, slots: &[u64], proposal: Proposal) -> Result<Proposal, DeviceError> {
        #[cfg(feature = "gpu")]
        if let Some(device) = &mut self.device {
            let slots = if slots.len() == proposal.u.nrows() { slots } else { &[] };
            return Ok(Proposal { device: device.gather(slots)?, ..proposal });
        }
        let _ = slots;
        Ok(proposal)
    }

    /// The last `n` points of the ledger are new: the leading ones of the last proposal.
    ///
    /// # Errors
    /// A device that fails.
    pub fn append(&mut self, samples: &Samples, n: usize) -> Result<(), DeviceError> {
        #[cfg(feature = "gpu")]
        if let Some(device) = &mut self.device {
            return device.append(samples, n);
        }
        let _ = (samples, n);
        Ok(())
    }

    /// Moves the innermost bound to the place `at`, in front of those that were there.
    pub fn move_innermost_to(&mut self, at: usize) {
        #[cfg(feature = "gpu")]
        if let Some(device) = &mut self.device {
            device.move_innermost_to(at);
        }
        self.bounds[at..].rotate_right(1);
    }

    /// Takes away the innermost bounds, so that `n` are left.
    pub fn truncate(&mut self, n: usize) {
        self.bounds.truncate(n);
        #[cfg(feature = "gpu")]
        if let Some(device) = &mut self.device {
            device.truncate(n);
        }
    }

    /// Keeps the bounds that `keep` `[n_bounds]` names.
    pub fn retain(&mut self, keep: &[bool]) {
        #[cfg(feature = "gpu")]
        if let Some(device) = &mut self.device {
            device.retain(keep);
        }
        let mut keep = keep.iter();
        self.bounds.retain(|_| keep.next().copied().unwrap_or(true));
    }

    /// Gives up a part, from 0 to 1, of what was done for the recall in each cell of the innermost bound; false when there was nothing to give up.
    ///
    /// # Errors
    /// A device that fails.
    pub fn relax(&mut self, part: f32) -> Result<bool, DeviceError> {
        let Some(Bound::Neural(bound)) = self.bounds.last_mut() else { return Ok(false) };
        let relaxed = bound.relax(part);
        #[cfg(feature = "gpu")]
        if let Some(device) = self.device.as_ref().filter(|_| relaxed) {
            device.rewrite_innermost(bound)?;
        }
        Ok(relaxed)
    }

    /// Logarithm of the volume of each member of a bound, before any counted fraction.
    pub fn log_v_members(&self, bound: usize) -> Vec<f64> {
        #[cfg(feature = "gpu")]
        if let Some(device) = &self.device {
            return device.log_v_members(bound);
        }
        self.bounds[bound].log_v_members()
    }

    /// Does what `requests` want, one answer for each. Rows are in the order of their numbers.
    ///
    /// # Errors
    /// A device that fails.
    pub fn draw(&mut self, requests: &[Request], ask: Ask, pool: &CpuPool) -> Result<Vec<Answer>, DeviceError> {
        #[cfg(feature = "gpu")]
        if let Some(device) = &mut self.device {
            return device.draw(requests, ask);
        }
        Ok(self.draw_on_threads(requests, ask, pool))
    }

    /// Lets a device begin with requests that [`draw`](Self::draw) will be asked for next, while the host does something else; false where there is none.
    ///
    /// # Errors
    /// A device that fails.
    pub fn draw_ahead(&mut self, requests: &[Request], ask: Ask) -> Result<bool, DeviceError> {
        #[cfg(feature = "gpu")]
        if let Some(device) = &mut self.device {
            device.draw_ahead(requests, ask)?;
            return Ok(true);
        }
        let _ = (requests, ask);
        Ok(false)
    }

    fn draw_on_threads(&self, requests: &[Request], ask: Ask, pool: &CpuPool) -> Vec<Answer> {
        let mut tasks = Vec::new();
        for (k, Request { range, .. }) in requests.iter().enumerate() {
            tasks.extend(range.clone().step_by(CHUNK as usize).map(|s| (k, s..(s + CHUNK).min(range.end))));
        }
        let done = pool.map(tasks.len(), |t| {
            let (k, range) = &tasks[t];
            self.draw_chunk(&requests[*k], range.clone(), ask)
        });
        let empty = |request: &Request| {
            let counts = vec![CellCounts::default(); self.bounds[request.bound].log_v_members().len()];
            Answer { counts, ..Answer::default() }
        };
        let mut answers: Vec<Answer> = requests.iter().map(empty).collect();
        for ((k, _), chunk) in tasks.iter().zip(done) {
            let answer = &mut answers[*k];
            answer.rows.extend_from_slice(&chunk.rows);
            answer.cells.extend_from_slice(&chunk.cells);
            answer.holders.extend_from_slice(&chunk.holders);
            answer.counts.iter_mut().zip(&chunk.counts).for_each(|(sum, counts)| sum.add(counts));
        }
        answers
    }

    fn draw_chunk(&self, request: &Request, range: Range<u64>, ask: Ask) -> Answer {
        let n_dim = self.n_dim;
        let bound = &self.bounds[request.bound];
        let Drawn { mut rows, mut cells, union, network } = bound.draw(&request.stream, range, request.cell);
        let mut counts: Vec<CellCounts> = vec![CellCounts::default(); bound.log_v_members().len()];
        for (counts, (union, network)) in counts.iter_mut().zip(union.into_iter().zip(network)) {
            (counts.union, counts.network) = (union, network);
        }
        let mut holders = Vec::new();
        match ask {
            Ask::Counts | Ask::Rows => {}
            Ask::Holder => {
                let others = (0..self.bounds.len()).filter(|k| *k != request.bound);
                holders = self.holders(&rows, others);
            }
            Ask::Shell | Ask::ShellCounts => {
                cells.iter().for_each(|cell| counts[*cell as usize].shell.drawn += 1);
                for later in &self.bounds[request.bound + 1..] {
                    if rows.is_empty() {
                        break;
                    }
                    let inside = later.locate(&rows, n_dim);
                    let mut kept = 0;
                    for (k, _) in inside.iter().enumerate().filter(|(_, inside)| inside.is_none()) {
                        rows.copy_within(k * n_dim..(k + 1) * n_dim, kept * n_dim);
                        cells[kept] = cells[k];
                        kept += 1;
                    }
                    rows.truncate(kept * n_dim);
                    cells.truncate(kept);
                }
                cells.iter().for_each(|cell| counts[*cell as usize].shell.kept += 1);
            }
        }
        if !ask.keeps_rows() {
            (rows, cells) = (Vec::new(), Vec::new());
        }
        Answer { rows, cells, holders, counts, slots: Vec::new() }
    }

    /// The innermost bound of `among` that holds each of `rows` `[n, n_dim]`, and the cell there; none for rows that none of them holds.
    ///
    /// # Errors
    /// A device that fails.
    pub fn locate(
        &mut self,
        rows: &[f64],
        among: Range<usize>,
        pool: &CpuPool,
    ) -> Result<Vec<Option<Place>>, DeviceError> {
        #[cfg(feature = "gpu")]
        if let Some(device) = &mut self.device {
            return device.locate(rows, among);
        }
        let d = self.n_dim;
        let chunk = |r: Range<usize>| self.holders(&rows[r.start * d..r.end * d], among.clone());
        Ok(pool.map_chunks(rows.len() / d, CHUNK as usize, chunk).concat())
    }

    /// The last of the bounds `among` that holds each row.
    fn holders(&self, rows: &[f64], among: impl DoubleEndedIterator<Item = usize>) -> Vec<Option<Place>> {
        let n_dim = self.n_dim;
        let mut holders = vec![None; rows.len() / n_dim];
        let mut open: Vec<usize> = (0..holders.len()).collect();
        for shell in among.rev() {
            if open.is_empty() {
                break;
            }
            let rest: Vec<f64> = open.iter().flat_map(|&k| &rows[k * n_dim..(k + 1) * n_dim]).copied().collect();
            for (&k, cell) in open.iter().zip(self.bounds[shell].locate(&rest, n_dim)) {
                holders[k] = cell.map(|cell| Place { shell: shell as u32, cell });
            }
            open.retain(|&k| holders[k].is_none());
        }
        holders
    }
}
