//! What goes to the engine and what comes back: only the fields that are used, by family.
//!
//! Every field of a reply may be absent or `null`: API 1.52 drops empty fields, Podman leaves others out. Requests are written
//! in full, because an engine ignores a field it does not know without a word: who relies on a limit reads
//! [`Created::warnings`] and checks the limit from the inside. A field without a note exists in API 1.41.

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

/// A field that may be absent, `null`, or there.
fn lax<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// Filters of a listing, of events or of a prune: a key's values are alternatives, keys are conditions (labels: all of them).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    /// No filter.
    pub fn new() -> Filters {
        Filters::default()
    }

    /// One more value of a key.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Filters {
        self.0.entry(key.to_owned()).or_default().push(value.to_owned());
        self
    }

    /// Whether a key has a value.
    pub fn names(&self, key: &str) -> bool {
        self.0.get(key).is_some_and(|values| values.iter().any(|value| !value.is_empty()))
    }

    /// The query parameter, unless there is no filter.
    pub(super) fn json(&self) -> Option<String> {
        (!self.0.is_empty()).then(|| serde_json::json!(self.0).to_string())
    }
}
