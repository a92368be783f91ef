//! Why a request becomes no work: the field, what is wrong with it, and the remedy.

/// What is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// A field is wrong.
    #[error("{field}: {message}")]
    Bad {
        /// Where.
        field: String,
        /// What is wrong, and what would be right.
        message: String,
    },
    /// There is no such profile.
    #[error("{field}: there is no profile {given:?}; there are {known}")]
    UnknownProfile {
        /// Where.
        field: String,
        /// What was asked for.
        given: String,
        /// What there is.
        known: String,
    },
    /// A blob is not (or no longer) there.
    #[error("{field}: there is no blob {blob:?} of yours; put it again")]
    NoBlob {
        /// Where.
        field: String,
        /// Which.
        blob: String,
    },
    /// More than the daemon takes.
    #[error("{field}: {message}")]
    TooLarge {
        /// Where.
        field: String,
        /// How much is allowed.
        message: String,
    },
    /// Policy says never.
    #[error("{field}: {message}")]
    Denied {
        /// Where.
        field: String,
        /// What is allowed.
        message: String,
    },
}

impl Rejected {
    /// The field that is to blame.
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
