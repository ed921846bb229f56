//! The two machines of a run as the result states them: which backends they turned out to be, and what they are made of.

use crate::backend::{Backend, BackendError, Backends, Machine};

/// The two halves of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Half {
    Likelihood,
    Sampler,
}

/// What was asked for until it is opened, and then what it turned out to be.
#[derive(Debug, Clone)]
pub(super) struct Machines {
    pub(super) backends: Backends,
    pub(super) likelihood_device: Option<String>,
    pub(super) sampler_device: Option<String>,
    pub(super) notes: Vec<String>,
}

impl Machines {
    pub(super) fn new(asked: &Backends) -> Self {
        Self { backends: asked.clone(), likelihood_device: None, sampler_device: None, notes: Vec::new() }
    }

    /// Opens one half and writes down what it is; `device_can` as in [`Machine::open`].
    ///
    /// # Errors
    /// As [`Machine::open`].
    pub(super) fn open(
        &mut self,
        half: Half,
        asked: &Backend,
        device_can: Result<(), &'static str>,
    ) -> Result<Machine, BackendError> {
        let name = match half {
            Half::Likelihood => "likelihood",
            Half::Sampler => "sampler",
        };
        let (machine, why) = Machine::open(asked, name, device_can)?;
        if let Some(why) = why {
            self.notes.push(format!("{name}: auto took the CPU, for {why}"));
        }
        let (backend, device) = match half {
            Half::Likelihood => (&mut self.backends.likelihood, &mut self.likelihood_device),
            Half::Sampler => (&mut self.backends.sampler, &mut self.sampler_device),
        };
        *backend = machine.backend(asked);
        *device = Some(machine.device_name());
        Ok(machine)
    }
}
