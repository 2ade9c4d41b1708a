//! From bytes to a checked plan. Nothing that these bytes say is believed before `parse` returns it.

use super::check;
use super::model::Plan;
use std::fmt;

/// The longest plan, in bytes.
pub const MAX_BYTES: usize = 1 << 20;

/// Why a plan is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanError {
    /// More than [`MAX_BYTES`].
    Size(usize),
    /// Not JSON, or not of these fields and types.
    Shape {
        /// JSON path, `.` for the whole.
        path: String,
        /// What was expected and found, with line and column.
        cause: String,
    },
    /// Of the right type, but a value that may not be.
    Value {
        /// JSON path.
        path: String,
        /// What is wrong with it.
        cause: String,
    },
}

impl PlanError {
    /// The JSON path it is about, `.` for the whole.
    pub fn path(&self) -> &str {
        match self {
            Self::Size(_) => ".",
            Self::Shape { path, .. } | Self::Value { path, .. } => path,
        }
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Size(bytes) => write!(f, "the plan is {bytes} bytes long, more than {MAX_BYTES}"),
            Self::Shape { path, cause } | Self::Value { path, cause } => {
                write!(f, "plan: {path}: {cause}")
            }
        }
    }
}

impl std::error::Error for PlanError {}

/// A checked plan, or what is wrong with it. Safe on any bytes: no panic, memory bounded by [`MAX_BYTES`], and the
/// depth of nesting by serde_json (128).
pub fn parse(bytes: &[u8]) -> Result<Plan, PlanError> {
    if bytes.len() > MAX_BYTES {
        return Err(PlanError::Size(bytes.len()));
    }
    let plan: Plan = serde_json::from_slice(bytes).or_else(|_| explain(bytes))?;
    check::plan(&plan)?;
    Ok(plan)
}

/// A plan that is compiled into this binary. A test checks each of them as [`parse`] would: they change with the
/// binary alone, and are as trusted as its code.
pub(super) fn parse_built_in(text: &'static str) -> Result<Plan, PlanError> {
    serde_json::from_str(text).or_else(|_| explain(text.as_bytes()))
}

/// Read again, keeping track of the path: twice as slow, and only needed once something is wrong.
fn explain(bytes: &[u8]) -> Result<Plan, PlanError> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let plan = serde_path_to_error::deserialize(&mut reader).map_err(|error| PlanError::Shape {
        path: known(&error.path().to_string()),
        cause: error.inner().to_string(),
    })?;
    reader.end().map_err(|error| PlanError::Shape {
        path: ".".to_owned(),
        cause: error.to_string(),
    })?;
    Ok(plan)
}

/// The path without the step that ended before it had a name.
fn known(path: &str) -> String {
    let path = path.trim_end_matches('?').trim_end_matches('.');
    if path.is_empty() {
        ".".to_owned()
    } else {
        path.to_owned()
    }
}
