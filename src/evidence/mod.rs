//! Evidence and its error: pure f64 functions of what the ledger holds.

mod shell;

pub use shell::{ErrorTerms, Evidence, Fraction, ShellEvidence, ShellVolume, shell_evidence, shell_log_weights};
