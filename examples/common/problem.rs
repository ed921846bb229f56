//! Problems of known log Z by name.

use std::path::{Path, PathBuf};

use livepoint::testing::{Problem, RV7_HELP, all, problem, rv7};

use crate::common::usage_error;

/// Names the data file of problem rv7 when `--data` does not.
pub const RV7_VARIABLE: &str = "LIVEPOINT_RV7_DATA";

/// The problem of that name; `data` is the file of rv7. Ends the program when there is none, or when its data are not there.
pub fn find(name: &str, data: Option<&Path>) -> Problem {
    if name == "rv7" {
        let Some(path) = data.map(PathBuf::from).or_else(|| std::env::var_os(RV7_VARIABLE).map(PathBuf::from)) else {
            usage_error(&format!("problem rv7 needs a data file: name it by --data or {RV7_VARIABLE}; {RV7_HELP}"))
        };
        return rv7(path).unwrap_or_else(|error| usage_error(&error.to_string()));
    }
    problem(name).unwrap_or_else(|| {
        let names: Vec<&str> = all().iter().map(|problem| problem.name).chain(["rv7"]).collect();
        usage_error(&format!("there is no problem `{name}`; there are {}", names.join(", ")))
    })
}
