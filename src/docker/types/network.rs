//! Types of the network endpoints.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::lax;

/// A network to create.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkSpec {
    /// Engines before 25 allow two networks of the same name unless `check_duplicate` is set.
    pub name: String,
    /// Such as `bridge`.
    pub driver: String,
    /// Whether it has no route to the outside.
    pub internal: bool,
    /// Refuse a name that exists. Since API 1.44 this is ignored and always the case.
    pub check_duplicate: bool,
    pub labels: BTreeMap<String, String>,
    pub options: BTreeMap<String, String>,
}

/// A network, in a list or as inspected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkInfo {
    #[serde(alias = "ID", deserialize_with = "lax")]
    pub id: String,
    #[serde(deserialize_with = "lax")]
    pub name: String,
    #[serde(deserialize_with = "lax")]
    pub driver: String,
    /// `local` or `swarm`.
    #[serde(deserialize_with = "lax")]
    pub scope: String,
    /// Whether it has no route to the outside.
    #[serde(deserialize_with = "lax")]
    pub internal: bool,
    #[serde(deserialize_with = "lax")]
    pub labels: BTreeMap<String, String>,
}
