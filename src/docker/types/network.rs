//! Networks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::lax;

/// A network to create.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkSpec {
    /// Its name. Engines before 25 allow two of the same name unless `check_duplicate` says otherwise.
    pub name: String,
    /// `bridge`, ...
    pub driver: String,
    /// No way out of it.
    pub internal: bool,
    /// Refuse a name that exists. Ignored, and always so, since 1.44.
    pub check_duplicate: bool,
    /// How it is found again.
    pub labels: BTreeMap<String, String>,
    /// The driver's options.
    pub options: BTreeMap<String, String>,
}

/// A network, in a list or looked at closely.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkInfo {
    /// Its id.
    #[serde(alias = "ID", deserialize_with = "lax")]
    pub id: String,
    /// Its name.
    #[serde(deserialize_with = "lax")]
    pub name: String,
    /// Its driver.
    #[serde(deserialize_with = "lax")]
    pub driver: String,
    /// `local`, `swarm`.
    #[serde(deserialize_with = "lax")]
    pub scope: String,
    /// No way out of it.
    #[serde(deserialize_with = "lax")]
    pub internal: bool,
    /// Its labels.
    #[serde(deserialize_with = "lax")]
    pub labels: BTreeMap<String, String>,
}
