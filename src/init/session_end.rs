//! Why a session with the daemon ends.

/// See the head of this file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEnd {
    /// The daemon is gone, silent, or asked for it.
    Disconnected,
    /// A protocol or internal error, to be reported.
    Fault(String),
    /// Sockets of earlier runs stay in use, to be reported.
    SocketsLeft,
}

impl From<String> for SessionEnd {
    fn from(message: String) -> Self {
        Self::Fault(message)
    }
}
