//! What a part of the report found: a table for people, the same numbers for programs.

use serde_json::Value;

pub struct Section {
    /// Title, a blank line, the rest.
    pub markdown: String,
    pub json: Value,
    pub passed: bool,
}
