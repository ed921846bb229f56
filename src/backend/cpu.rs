//! A rayon pool of its own for each half of a run; rayon's global pool is never used.

use std::ops::Range;

use rayon::prelude::*;

use super::BackendError;

/// Threads that work on one half of a run.
#[derive(Debug)]
pub struct CpuPool {
    pool: rayon::ThreadPool,
}

impl CpuPool {
    /// Starts `threads` threads (0: as many as rayon chooses) named `livepoint-{role}-{index}`.
    ///
    /// # Errors
    /// More threads than a pool may have, or than the system gives.
    pub fn new(threads: usize, role: &str) -> Result<Self, BackendError> {
        // rayon would silently start fewer.
        let most = rayon::max_num_threads();
        if threads > most {
            let reason = format!("a pool holds at most {most}");
            return Err(BackendError::Threads { threads, role: role.to_owned(), reason });
        }
        let name = role.to_owned();
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(move |index| format!("livepoint-{name}-{index}"))
            .build()
            .map(|pool| Self { pool })
            .map_err(|error| BackendError::Threads { threads, role: role.to_owned(), reason: error.to_string() })
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Runs `task(0..n_tasks)` on the pool; results come in order, so they do not depend on the number of threads.
    pub fn map<T: Send>(&self, n_tasks: usize, task: impl Fn(usize) -> T + Sync + Send) -> Vec<T> {
        self.pool.install(|| (0..n_tasks).into_par_iter().with_max_len(1).map(task).collect())
    }

    /// Cuts `0..n` into consecutive ranges of `chunk` and runs `task` on each; results come in order.
    pub fn map_chunks<T: Send>(
        &self,
        n: usize,
        chunk: usize,
        task: impl Fn(Range<usize>) -> T + Sync + Send,
    ) -> Vec<T> {
        let chunk = chunk.max(1);
        self.map(n.div_ceil(chunk), |i| task(i * chunk..((i + 1) * chunk).min(n)))
    }

    /// Runs `task` on one thread of the pool.
    pub fn install<T: Send>(&self, task: impl FnOnce() -> T + Send) -> T {
        self.pool.install(task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_order_and_on_own_threads() {
        let pool = CpuPool::new(2, "test").unwrap();
        let ranges = pool.map_chunks(10, 4, |range| (range, std::thread::current().name().unwrap().to_owned()));
        assert_eq!(ranges.iter().map(|(range, _)| range.clone()).collect::<Vec<_>>(), [0..4, 4..8, 8..10]);
        assert!(ranges.iter().all(|(_, name)| name.starts_with("livepoint-test-")));
    }
}
