//! A container's id.

use std::fmt;

/// The full id of a container, as the engine reports it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId(String);

impl ContainerId {
    pub fn new(id: String) -> ContainerId {
        ContainerId(id)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first twelve digits, as the Docker CLI shows them.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

/// Shows the short form.
impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}
