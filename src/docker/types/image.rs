//! Types of the image endpoints.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{ContainerConfig, lax};

/// An image as inspected (`GET /images/{name}/json`).
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageInfo {
    #[serde(deserialize_with = "lax")]
    pub id: String,
    #[serde(deserialize_with = "lax")]
    pub repo_tags: Vec<String>,
    /// `name@sha256:...` for each registry it was pulled from or pushed to.
    #[serde(deserialize_with = "lax")]
    pub repo_digests: Vec<String>,
    /// The size in bytes.
    #[serde(deserialize_with = "lax")]
    pub size: i64,
    /// Build time, in RFC 3339.
    #[serde(deserialize_with = "lax")]
    pub created: String,
    #[serde(deserialize_with = "lax")]
    pub architecture: String,
    pub config: Option<ContainerConfig>,
}

/// An image in a list (`GET /images/json`).
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageSummary {
    #[serde(deserialize_with = "lax")]
    pub id: String,
    #[serde(deserialize_with = "lax")]
    pub repo_tags: Vec<String>,
    /// The size in bytes.
    #[serde(deserialize_with = "lax")]
    pub size: i64,
    /// Unix time in seconds.
    #[serde(deserialize_with = "lax")]
    pub created: i64,
    pub labels: Option<BTreeMap<String, String>>,
}

/// A line of the progress stream of a pull, import, load or build.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ProgressMessage {
    /// The layer's id, in a pull.
    pub id: Option<String>,
    /// What is being done.
    pub status: Option<String>,
    /// Output of a build.
    pub stream: Option<String>,
    #[serde(rename = "progressDetail")]
    pub detail: Option<ProgressDetail>,
    /// A result, such as the id of the built image.
    pub aux: Option<serde_json::Value>,
    #[serde(rename = "errorDetail")]
    error_detail: Option<ErrorDetail>,
    error: Option<String>,
}

/// Progress of one layer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ProgressDetail {
    /// Bytes transferred so far.
    pub current: Option<i64>,
    /// Total bytes; negative if unknown.
    pub total: Option<i64>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct ErrorDetail {
    #[serde(deserialize_with = "lax")]
    message: String,
}

impl ProgressMessage {
    /// The id of the built or loaded image, if this line contains it.
    pub(crate) fn image_id(&self) -> Option<&str> {
        let aux = self.aux.as_ref().and_then(|aux| aux.get("ID")?.as_str());
        let from_text = || self.stream.as_deref()?.strip_prefix("Successfully built ").map(str::trim);
        aux.or_else(from_text)
    }

    /// The error that this line reports, if any. `error` is deprecated since API 1.48 in favour of
    /// `errorDetail`.
    pub(crate) fn failure(&self) -> Option<String> {
        match (&self.error_detail, &self.error) {
            (Some(detail), _) if !detail.message.is_empty() => Some(detail.message.clone()),
            (_, Some(message)) => Some(message.clone()),
            (Some(_), None) => Some("an error without a message".to_owned()),
            (None, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> ProgressMessage {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_failure_is_found_in_either_form() {
        let both = r#"{"errorDetail":{"code":1,"message":"it broke"},"error":"old text"}"#;
        assert_eq!(line(both).failure().as_deref(), Some("it broke"));
        assert_eq!(line(r#"{"error":"old text"}"#).failure().as_deref(), Some("old text"));
        assert!(line(r#"{"errorDetail":{}}"#).failure().is_some());
        assert!(line(r#"{"stream":"error: not one"}"#).failure().is_none());
    }

    #[test]
    fn an_image_id_is_found_in_either_form() {
        assert_eq!(line(r#"{"aux":{"ID":"sha256:ab"}}"#).image_id(), Some("sha256:ab"));
        assert_eq!(line("{\"stream\":\"Successfully built abcdef\\n\"}").image_id(), Some("abcdef"));
        assert_eq!(line(r#"{"stream":"Successfully tagged x"}"#).image_id(), None);
    }

    #[test]
    fn a_reply_with_null_fields_is_parsed() {
        let image: ImageInfo = serde_json::from_str(r#"{"Id":"a","RepoTags":null,"Config":null}"#).unwrap();
        assert_eq!(image.repo_tags.len(), 0);
    }
}
