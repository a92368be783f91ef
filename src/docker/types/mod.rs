//! Request and reply types, with the fields that this client uses, by family of endpoints.
//!
//! Every field of a reply may be absent or `null`: API 1.52 drops empty fields, and Podman omits
//! others. An engine silently ignores request fields that it does not know, so a caller that relies
//! on a limit must read [`Created::warnings`] and check the limit from inside the container. Fields
//! without a note exist in API 1.41.

mod container;
mod image;
mod network;
mod system;

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

pub use container::*;
pub use image::*;
pub use network::*;
pub use system::*;

/// Deserializes a field that may be absent or `null` to its default.
fn lax<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// Filters of a list, of events or of a prune. All keys must match; the values of a key are
/// alternatives, except for labels, which must all match.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    pub fn new() -> Filters {
        Filters::default()
    }

    /// Adds a value to a key.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Filters {
        self.0.entry(key.to_owned()).or_default().push(value.to_owned());
        self
    }

    /// Whether a key has a value that is not empty.
    pub fn has(&self, key: &str) -> bool {
        self.0.get(key).is_some_and(|values| values.iter().any(|value| !value.is_empty()))
    }

    /// The query parameter; `None` without any filter.
    pub(super) fn json(&self) -> Option<String> {
        (!self.0.is_empty()).then(|| serde_json::json!(self.0).to_string())
    }
}
