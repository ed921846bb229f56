//! The nest of bounds for tests: built, drawn from and asked on threads or on a device.

use std::ops::Range;

use ndarray::ArrayView2;

use crate::backend::Machine;
use crate::bound::{Ask, BoundError, Cloud, Live, Nest, NeuralBoundOptions, Request, UnionOptions};
use crate::rng::Stream;
use crate::samples::{Phase, Place, Samples};
use crate::{Backend, DeviceError, NetworkOptions};

/// Bounds on one machine, and the points that they are built from.
pub struct TestNest {
    nest: Nest,
    machine: Machine,
    samples: Samples,
    options: NeuralBoundOptions,
}

/// What came of draws.
#[derive(Debug, Default)]
pub struct TestDraws {
    /// `[n_kept, n_dim]`
    pub rows: Vec<f64>,
    /// `[n_kept]`
    pub cells: Vec<u32>,
    /// Bound and cell that hold each, where that was asked, `[n_kept]`.
    pub holders: Vec<Option<(usize, usize)>>,
    /// Of all cells together: drawn, in the cell, accepted by networks, held by no later bound.
    pub counts: [u64; 4],
    /// Volume that draws start from, as a logarithm.
    pub log_volume: f64,
    /// Where on a device each lies.
    pub slots: Vec<u64>,
}

/// What is asked about draws.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TestAsk {
    /// Nothing.
    Rows,
    /// Which earlier bound holds them.
    Holder,
    /// Whether a later bound does: then they are dropped.
    Shell,
}

impl TestNest {
    /// The unit cube on the machine of `backend`.
    ///
    /// # Errors
    /// In words.
    pub fn new(backend: &Backend, n_dim: usize, n_networks: usize, periodic: Vec<usize>) -> Result<Self, String> {
        let (machine, _) = Machine::open(backend, "test", Ok(())).map_err(|error| error.to_string())?;
        let network = NetworkOptions::default();
        let mut nest = Nest::unit_cube(n_dim);
        nest.open(&machine, &network.hidden_layer_sizes, n_networks).map_err(|error| error.to_string())?;
        let options = NeuralBoundOptions {
            union: UnionOptions { enlarge_per_dim: 1.1, n_points_min: n_dim + 50, cube_dims: true },
            split_threshold: 10.0,
            periodic,
            n_networks,
            network,
        };
        Ok(Self { nest, machine, samples: Samples::new(n_dim, 0), options })
    }

    /// Adds points to the ledger.
    ///
    /// # Errors
    /// A device that fails.
    pub fn learn(&mut self, u: ArrayView2<f64>, log_l: &[f64]) -> Result<(), DeviceError> {
        for (row, &log_l) in u.rows().into_iter().zip(log_l) {
            let place = Place { shell: 0, cell: 0 };
            self.samples.push(&row.to_vec(), log_l, &[], f64::NEG_INFINITY, place, Phase::Exploration);
        }
        self.nest.append(&self.samples, log_l.len())
    }

    /// Puts a bound around the points of log L from `threshold` on, which stand for a volume `log_volume`; what the training took: CPU seconds, summed over
    /// threads, or on a device seconds by the clock.
    ///
    /// # Errors
    /// [`BoundError`].
    pub fn enclose(&mut self, threshold: f64, log_volume: f64, stream: Stream) -> Result<f64, BoundError> {
        let ids: Vec<usize> = (0..self.samples.len()).collect();
        let rows = self.samples.select(&ids);
        let cloud = Cloud { u: rows.view(), log_l: self.samples.log_l(), ids: &ids };
        let live = Live { threshold, at_edge: false, log_volume };
        let innermost = self.nest.len() - 1;
        let bound = self.nest.enclose(cloud, live, innermost, &self.options, stream, self.machine.pool())?;
        let seconds = bound.train_s();
        self.nest.push(bound)?;
        Ok(seconds)
    }

    /// Takes away the innermost bounds, so that `n` are left.
    pub fn truncate(&mut self, n: usize) {
        self.nest.truncate(n);
    }

    /// Number of bounds, the cube among them.
    #[allow(clippy::len_without_is_empty)] // there is always the cube
    pub fn len(&self) -> usize {
        self.nest.len()
    }

    /// Moves the innermost bound to the place `at`, in front of those that were there.
    pub fn move_innermost_to(&mut self, at: usize) {
        self.nest.move_innermost_to(at);
    }

    /// The draws `range` from a bound, or from one of its cells.
    ///
    /// # Errors
    /// A device that fails.
    pub fn draw(
        &mut self,
        bound: usize,
        cell: Option<usize>,
        stream: Stream,
        range: Range<u64>,
        ask: TestAsk,
    ) -> Result<TestDraws, DeviceError> {
        let log_volume = crate::math::log_sum_exp(&self.nest.log_v_members(bound));
        Ok(TestDraws { log_volume, ..self.draws(&[Request { bound, stream, range, cell }], ask)? })
    }

    /// The draws `range` from each of some bounds, all asked for at once and told together.
    ///
    /// # Errors
    /// A device that fails.
    pub fn draw_from_each(
        &mut self,
        bounds: Range<usize>,
        stream: Stream,
        range: Range<u64>,
        ask: TestAsk,
    ) -> Result<TestDraws, DeviceError> {
        let request = |bound| Request { bound, stream, range: range.clone(), cell: None };
        self.draws(&bounds.map(request).collect::<Vec<_>>(), ask)
    }

    fn draws(&mut self, requests: &[Request], ask: TestAsk) -> Result<TestDraws, DeviceError> {
        let ask = match ask {
            TestAsk::Rows => Ask::Rows,
            TestAsk::Holder => Ask::Holder,
            TestAsk::Shell => Ask::Shell,
        };
        let mut draws = TestDraws::default();
        for answer in self.nest.draw(requests, ask, self.machine.pool())? {
            draws.rows.extend(answer.rows);
            draws.cells.extend(answer.cells);
            let holder = |place: Option<Place>| place.map(|place| (place.shell as usize, place.cell as usize));
            draws.holders.extend(answer.holders.into_iter().map(holder));
            draws.slots.extend(answer.slots);
            for counts in answer.counts {
                let shell = counts.shell.kept;
                let all = [counts.union.drawn, counts.union.kept, counts.network.kept, shell];
                draws.counts.iter_mut().zip(all).for_each(|(sum, count)| *sum += count);
            }
        }
        Ok(draws)
    }

    /// The innermost of some bounds that holds each of `rows` `[n, n_dim]`, and the cell there.
    ///
    /// # Errors
    /// A device that fails.
    pub fn locate(&mut self, rows: &[f64], among: Range<usize>) -> Result<Vec<Option<(usize, usize)>>, DeviceError> {
        let places = self.nest.locate(rows, among, self.machine.pool())?;
        Ok(places.into_iter().map(|place| place.map(|place| (place.shell as usize, place.cell as usize))).collect())
    }

    /// Whether rows that were drawn on a device can still be proposed from there.
    ///
    /// # Errors
    /// A device that fails.
    pub fn are_there(&mut self, draws: &TestDraws, n_dim: usize) -> Result<bool, DeviceError> {
        let rows = ndarray::Array2::from_shape_vec((draws.cells.len(), n_dim), draws.rows.clone()).unwrap_or_default();
        let proposal = self.nest.propose(&draws.slots, crate::batch::Proposal::new(rows))?;
        #[cfg(feature = "gpu")]
        return Ok(proposal.device.is_some());
        #[cfg(not(feature = "gpu"))]
        Ok(proposal.u.is_empty())
    }

    /// Kernels started, waits of the host, bytes uploaded, of those for training, and bytes read back so far.
    pub fn traffic(&self) -> [u64; 5] {
        let traffic = self.machine.traffic();
        let train = self.nest.train_bytes_uploaded();
        [traffic.dispatches, traffic.host_waits, traffic.bytes_uploaded, train, traffic.bytes_read_back]
    }
}
