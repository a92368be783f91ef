//! Who makes a request, once that is known, and what it may ask for. Pure.
//!
//! Whose submissions and blobs a caller reaches is decided where they are found, by its principal:
//! those of another caller are as absent as those that never were.

use super::error::AccessError;
use super::secret::SecretHash;
use crate::calls::peer::Peer;

/// How a caller is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IdentityKind {
    /// By a token in the header.
    Token,
    /// By the cookie of a browser session.
    Session,
    /// By its uid, on a Unix socket.
    PeerUid,
    /// A browser that has a cookie and no token.
    Browser,
    /// No credential at all: a principal for this one request.
    OneShot,
}

impl IdentityKind {
    /// The word for metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            IdentityKind::Token => "token",
            IdentityKind::Session => "session",
            IdentityKind::PeerUid => "uid",
            IdentityKind::Browser => "anonymous",
            IdentityKind::OneShot => "one_shot",
        }
    }
}

/// What an identity rests on: when it is gone, so is the identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Grant {
    Token(SecretHash),
    Session(SecretHash),
    Uid { uid: u32, gid: u32 },
    Anonymous { is_remote: bool },
}

/// A caller that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Whose submissions, quotas and history its requests are, and its roles.
    pub peer: Peer,
    pub kind: IdentityKind,
    /// When it is over, in milliseconds since 1970.
    pub expires_ms: Option<i64>,
    pub(super) grant: Grant,
}

impl Identity {
    /// Whether nothing of it is left after the request: its runs are `fresh`, and their ids the
    /// server's.
    pub fn is_one_shot(&self) -> bool {
        self.kind == IdentityKind::OneShot
    }

    /// Whether the operator does not know who it is.
    pub fn is_anonymous(&self) -> bool {
        matches!(self.kind, IdentityKind::Browser | IdentityKind::OneShot)
    }
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::VariantArray)]
pub enum ApiAction {
    /// A run that is waited for, under an id of the server's.
    Submit,
    /// A submission with an id of the caller's, or `Idempotency-Key`.
    SubmitNamed,
    /// A submission that is not waited for.
    SubmitLater,
    RunCode,
    List,
    Read,
    Cancel,
    Follow,
    Input,
    Receipt,
    PutBlob,
    GetBlob,
    Profiles,
    Status,
    OpenApi,
    OpenSession,
    CloseSession,
}

impl ApiAction {
    /// What a route asks for at the least, by the name of its operation.
    pub fn of_operation(operation: &str) -> Option<ApiAction> {
        Some(match operation {
            "submit" => ApiAction::Submit,
            "runCode" => ApiAction::RunCode,
            "listSubmissions" => ApiAction::List,
            "getSubmission" => ApiAction::Read,
            "cancelSubmission" => ApiAction::Cancel,
            "followSubmission" => ApiAction::Follow,
            "sendInput" => ApiAction::Input,
            "getReceipt" => ApiAction::Receipt,
            "putBlob" => ApiAction::PutBlob,
            "getBlob" => ApiAction::GetBlob,
            "listProfiles" => ApiAction::Profiles,
            "getStatus" => ApiAction::Status,
            "getOpenApi" => ApiAction::OpenApi,
            "openSession" => ApiAction::OpenSession,
            "closeSession" => ApiAction::CloseSession,
            _ => return None,
        })
    }
}

/// Whether a caller may ask for this at all.
///
/// # Errors
/// It lacks a role, or is anonymous.
pub fn may(identity: &Identity, action: ApiAction) -> Result<(), AccessError> {
    let submits = || match identity.peer.may_submit {
        true => Ok(()),
        false => Err(AccessError::MissingRole { role: "submit" }),
    };
    let stays = || if identity.is_one_shot() { Err(AccessError::OneShot) } else { Ok(()) };
    match action {
        ApiAction::Submit | ApiAction::RunCode => submits(),
        ApiAction::SubmitNamed | ApiAction::SubmitLater | ApiAction::PutBlob => submits().and_then(|()| stays()),
        ApiAction::List => stays(),
        // names of hosts and versions of engines
        ApiAction::Status if identity.is_anonymous() => Err(AccessError::Anonymous),
        ApiAction::Status
        | ApiAction::Read
        | ApiAction::Cancel
        | ApiAction::Follow
        | ApiAction::Input
        | ApiAction::Receipt
        | ApiAction::GetBlob
        | ApiAction::Profiles
        | ApiAction::OpenApi
        | ApiAction::OpenSession
        | ApiAction::CloseSession => Ok(()),
    }
}
