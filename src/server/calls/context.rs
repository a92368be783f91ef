//! A call, whichever door it came by: who calls, the bytes that it holds, and its result.

use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use super::error::CallError;
use super::peer::Peer;
use super::socket_bytes::{ByteAccount, HeldBytes};
use super::state::Daemon;
use super::to_value;
use protocol::ReportText;
use scheduler::Viewer;

/// What a call knows of its caller.
pub(crate) struct CallContext {
    pub(crate) daemon: Arc<Daemon>,
    pub(crate) peer: Peer,
    /// Counts the bytes of the caller's messages.
    pub(crate) account: ByteAccount,
}

impl CallContext {
    pub(crate) fn new(daemon: Arc<Daemon>, peer: Peer) -> CallContext {
        let account = daemon.connections.byte_account(peer.principal.account());
        CallContext { daemon, peer, account }
    }

    /// Counts a submission that was refused.
    pub(crate) fn count_refused(&self, error: &CallError) {
        self.daemon.metrics.count_refused_submission(error.code);
    }

    /// Whose submissions the caller sees.
    pub(crate) fn viewer(&self) -> Viewer {
        match self.peer.is_admin {
            true => Viewer::Admin,
            false => Viewer::Principal(self.peer.principal.clone()),
        }
    }
}

/// When a call was received.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReceivedAt {
    pub(crate) first_byte: Instant,
    pub(crate) last_byte: Instant,
}

/// The result of a call as JSON. The tree that it was made of is gone.
#[derive(Debug)]
pub(crate) enum ResultText {
    Made(String),
    Report(ReportText),
}

impl ResultText {
    pub(crate) fn of(result: &impl Serialize) -> ResultText {
        ResultText::Made(to_value(result).to_string())
    }

    pub(crate) fn as_str(&self) -> &str {
        match self {
            ResultText::Made(text) => text,
            ResultText::Report(report) => report.as_str(),
        }
    }
}

/// Result of a call.
#[derive(Debug)]
pub(crate) struct CallReply {
    pub(crate) result: ResultText,
    /// When the report became available; used to time the reply. `None` for replies that are not
    /// reports.
    pub(crate) ready_at: Option<Instant>,
    /// Counts a reply that had to wait for its turn, or was counted before it was made.
    pub(crate) held: Option<HeldBytes>,
}

impl From<ResultText> for CallReply {
    fn from(result: ResultText) -> CallReply {
        CallReply { result, ready_at: None, held: None }
    }
}

pub(crate) type CallResult = Result<ResultText, CallError>;
