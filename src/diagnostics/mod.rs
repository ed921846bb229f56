//! Checks of a sampler's claims against problems whose answer is known.

mod calibration;

pub use calibration::{Calibration, CalibrationError, EXACT, MAX_RELATIVE_BIAS, Pulls, accept, holm};
