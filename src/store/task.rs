//! What operators ask the writer for.

use tokio::sync::oneshot;

use crate::error::Error;

/// Removes everything of a tenant: submissions in any state, reports, outputs. Nothing of it is
/// left in any file of the store, damaged files that were set aside included; backups are the
/// operator's. The report of one that still runs is not stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forget {
    /// The tenant; the empty text is that of calls that stated none.
    pub tenant: String,
    /// Only what this principal stored for the tenant.
    pub principal: Option<String>,
}

/// Work for the writer between two groups.
#[derive(Debug)]
pub(crate) enum UpkeepTask {
    Forget { forget: Forget, removed: u64, reply: oneshot::Sender<Result<u64, Error>> },
    Vacuum { reply: oneshot::Sender<Result<u64, Error>> },
}
