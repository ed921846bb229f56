//! The contract of every backend: one list of checks, which the tests and the report on a user's own card run alike.

pub mod bounds;
pub mod faults;
pub mod fixtures;
pub mod forms;
pub mod library;
pub mod networks;
pub mod pairs;
mod reference;
pub mod rig;
pub mod tensors;

use livepoint::{Backend, GpuOptions};

/// A check's name and what it does with `T`.
pub type Case<T> = (&'static str, fn(&T));

/// A check on one backend; it panics when it fails.
pub struct Check {
    pub name: String,
    pub run: Box<dyn FnOnce() + Send>,
}

/// Every check of a device.
pub fn on_device(options: &GpuOptions) -> Vec<Check> {
    let mut checks = on_backend(&Backend::from(options.clone()));
    for &(name, check) in library::CASES {
        let options = options.clone();
        checks.push(Check { name: format!("library::{name}"), run: Box::new(move || check(&rig::Rig::new(&options))) });
    }
    // burn takes for granted all that the adapter has.
    let tensors = if *options == options.clone().webgpu_limits(true) { &[] } else { tensors::CASES };
    let rooms = [
        ("bounds", bounds::ON_DEVICES),
        ("pairs", pairs::CASES),
        ("networks", networks::CASES),
        ("tensors", tensors),
        ("faults", faults::CASES),
    ];
    for (room, cases) in rooms {
        for &(name, check) in cases {
            let options = options.clone();
            checks.push(Check { name: format!("{room}::{name}"), run: Box::new(move || check(&options)) });
        }
    }
    checks
}

/// The checks that every backend passes, the CPU too.
pub fn on_backend(backend: &Backend) -> Vec<Check> {
    let check = |&(name, check): &Case<Backend>| {
        let backend = backend.clone();
        Check { name: format!("forms::{name}"), run: Box::new(move || check(&backend)) as Box<dyn FnOnce() + Send> }
    };
    let bounds = |&(name, check): &Case<Backend>| {
        let backend = backend.clone();
        Check { name: format!("bounds::{name}"), run: Box::new(move || check(&backend)) as Box<dyn FnOnce() + Send> }
    };
    forms::CASES.iter().map(check).chain(bounds::ON_BACKENDS.iter().map(bounds)).collect()
}
