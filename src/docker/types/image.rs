//! Images.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{ContainerConfig, lax};

/// `GET /images/{name}/json`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageInfo {
    /// Id.
    #[serde(deserialize_with = "lax")]
    pub id: String,
    /// Tags.
    #[serde(deserialize_with = "lax")]
    pub repo_tags: Vec<String>,
    /// `name@sha256:...` for each registry that it was pulled from or pushed to.
    #[serde(deserialize_with = "lax")]
    pub repo_digests: Vec<String>,
    /// Bytes.
    #[serde(deserialize_with = "lax")]
    pub size: i64,
    /// When it was made.
    #[serde(deserialize_with = "lax")]
    pub created: String,
    /// Architecture.
    #[serde(deserialize_with = "lax")]
    pub architecture: String,
    /// Configuration.
    pub config: Option<ContainerConfig>,
}

/// A row of `GET /images/json`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageSummary {
    /// Id.
    #[serde(deserialize_with = "lax")]
    pub id: String,
    /// Tags.
    #[serde(deserialize_with = "lax")]
    pub repo_tags: Vec<String>,
    /// Bytes.
    #[serde(deserialize_with = "lax")]
    pub size: i64,
    /// Unix time.
    #[serde(deserialize_with = "lax")]
    pub created: i64,
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
}

/// A line of a pull's, import's or build's progress.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// Which layer.
    pub id: Option<String>,
    /// What happens to it.
    pub status: Option<String>,
    /// A build's output.
    pub stream: Option<String>,
    /// How much of it.
    #[serde(rename = "progressDetail")]
    pub detail: Option<ProgressDetail>,
    /// A result, such as the id of what was built.
    pub aux: Option<serde_json::Value>,
    #[serde(rename = "errorDetail")]
    error_detail: Option<ErrorDetail>,
    error: Option<String>,
}

/// How much is done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ProgressDetail {
    /// Bytes done.
    pub current: Option<i64>,
    /// Bytes in all; negative when that is not known.
    pub total: Option<i64>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct ErrorDetail {
    #[serde(deserialize_with = "lax")]
    message: String,
}

impl Progress {
    /// The id of the image that was built or loaded, if this line tells it.
    pub(crate) fn image_id(&self) -> Option<&str> {
        let aux = self.aux.as_ref().and_then(|aux| aux.get("ID")?.as_str());
        let said = || self.stream.as_deref()?.strip_prefix("Successfully built ").map(str::trim);
        aux.or_else(said)
    }

    /// The error that this line reports, if it does. `error` is deprecated since 1.48, `errorDetail` is what stays.
    pub(crate) fn failure(&self) -> Option<String> {
        match (&self.error_detail, &self.error) {
            (Some(detail), _) if !detail.message.is_empty() => Some(detail.message.clone()),
            (_, Some(message)) => Some(message.clone()),
            (Some(_), None) => Some("an error without words".to_owned()),
            (None, None) => None,
        }
    }
}

/// A layer of an image, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HistoryRow {
    /// Its id; `<missing>` for one that was pulled or built elsewhere.
    #[serde(deserialize_with = "lax")]
    pub id: String,
    /// Unix time.
    #[serde(deserialize_with = "lax")]
    pub created: i64,
    /// What made it.
    #[serde(deserialize_with = "lax")]
    pub created_by: String,
    /// Bytes.
    #[serde(deserialize_with = "lax")]
    pub size: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Progress {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_failure_is_found_in_either_of_its_forms() {
        let both = r#"{"errorDetail":{"code":1,"message":"it broke"},"error":"old words"}"#;
        assert_eq!(line(both).failure().as_deref(), Some("it broke"));
        assert_eq!(line(r#"{"error":"old words"}"#).failure().as_deref(), Some("old words"));
        assert!(line(r#"{"errorDetail":{}}"#).failure().is_some());
        assert!(line(r#"{"stream":"error: not one"}"#).failure().is_none());
    }

    #[test]
    fn an_image_id_is_found_in_either_of_its_forms() {
        assert_eq!(line(r#"{"aux":{"ID":"sha256:ab"}}"#).image_id(), Some("sha256:ab"));
        assert_eq!(line("{\"stream\":\"Successfully built abcdef\\n\"}").image_id(), Some("abcdef"));
        assert_eq!(line(r#"{"stream":"Successfully tagged x"}"#).image_id(), None);
    }

    #[test]
    fn a_reply_without_its_optional_fields_is_understood() {
        let image: ImageInfo = serde_json::from_str(r#"{"Id":"a","RepoTags":null,"Config":null}"#).unwrap();
        assert_eq!(image.repo_tags.len(), 0);
    }
}
