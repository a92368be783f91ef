//! Errors in a submission: the field, what is wrong with it, and the remedy.

/// Why a submission was rejected. `field` is the path of the field in the request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// The field has an invalid value.
    #[error("{field}: {message}")]
    Bad {
        field: String,
        /// What is wrong, and what would be right.
        message: String,
    },
    #[error("{field}: the profile {requested:?} does not exist; the profiles are {known}")]
    UnknownProfile {
        field: String,
        requested: String,
        /// The profiles that exist, separated by commas.
        known: String,
    },
    /// The caller has no such blob, or no longer.
    #[error("{field}: you have no blob {blob:?}; upload it again with blob.put")]
    NoBlob { field: String, blob: String },
    /// The field exceeds a bound of the daemon.
    #[error("{field}: {message}")]
    TooLarge {
        field: String,
        /// The bound that it exceeds.
        message: String,
    },
    /// The field exceeds what any submission may have.
    #[error("{field}: {message}")]
    Denied {
        field: String,
        /// The range that is allowed.
        message: String,
    },
}

impl Rejected {
    /// The path of the rejected field.
    pub fn field(&self) -> &str {
        match self {
            Rejected::UnknownProfile { field, .. }
            | Rejected::Bad { field, .. }
            | Rejected::NoBlob { field, .. }
            | Rejected::TooLarge { field, .. }
            | Rejected::Denied { field, .. } => field,
        }
    }
}
