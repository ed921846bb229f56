//! Priors in words: for people, and for the settings that a result file keeps.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Prior, Source};

/// One parameter of a prior in a form that any JSON file can hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ParameterDescription {
    /// Name of the parameter.
    pub name: String,
    /// Name of the builder method: "uniform", "fixed", "tied", "transform" and so on.
    pub kind: String,
    /// Its arguments by name; infinite ends of a range as the strings "inf" and "-inf".
    pub parameters: BTreeMap<String, Value>,
    /// Whether the two ends of its unit-cube coordinate are the same place.
    pub periodic: bool,
}

/// JSON has no infinities: they are written as strings.
fn number(value: f64) -> Value {
    serde_json::Number::from_f64(value).map_or_else(|| Value::from(value.to_string()), Value::Number)
}

impl Prior {
    /// Every parameter in order of declaration, for the settings of a result file.
    ///
    /// Two priors with equal descriptions are the same but for the code inside their transforms.
    pub fn describe(&self) -> Vec<ParameterDescription> {
        let describe = |(name, source): (&String, &Source)| {
            let (kind, parameters) = match source {
                Source::Distribution(made) => {
                    (made.kind, made.parameters.iter().map(|(key, value)| (key.to_string(), number(*value))).collect())
                }
                Source::Fixed(value) => ("fixed", BTreeMap::from([("value".into(), number(*value))])),
                Source::Tied(target) => ("tied", BTreeMap::from([("to".into(), Value::from(target.as_str()))])),
                Source::Block { block, .. } => {
                    ("transform", BTreeMap::from([("block".into(), Value::from(self.blocks[*block].names().to_vec()))]))
                }
                Source::Refused { kind } => (*kind, BTreeMap::new()),
            };
            let periodic = source.is_sampled() && self.periodic.contains(name);
            ParameterDescription { name: name.clone(), kind: kind.into(), parameters, periodic }
        };
        self.names.iter().zip(&self.sources).map(describe).collect()
    }
}

impl fmt::Display for ParameterDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arguments: Vec<String> = self.parameters.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let periodic = if self.periodic { ", periodic" } else { "" };
        write!(f, "{}: {}({}){periodic}", self.name, self.kind, arguments.join(", "))
    }
}

/// One line for each parameter.
impl fmt::Display for Prior {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.describe().iter().map(ToString::to_string).collect();
        write!(f, "{}", lines.join("\n"))
    }
}

impl fmt::Debug for Prior {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prior").field("parameters", &self.describe()).field("problems", &self.problems).finish()
    }
}
