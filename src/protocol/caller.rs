//! The identity of a caller.

use serde::{Deserialize, Serialize};

/// The uid that the socket reports and the tenant that the caller states.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Caller {
    /// The uid in SO_PEERCRED.
    pub uid: u32,
    /// Opaque; empty if the caller stated none.
    pub tenant: String,
}
