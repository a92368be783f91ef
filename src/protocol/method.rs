//! The methods and notifications of the socket protocol, and the role that each method needs.

use strum::{EnumString, IntoStaticStr, VariantArray};

/// Every method. Parsing a name ([`std::str::FromStr`]) is the only way from a request's text to a
/// method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EnumString, IntoStaticStr, VariantArray)]
pub enum Method {
    #[strum(serialize = "submission.run")]
    SubmissionRun,
    #[strum(serialize = "submission.submit")]
    SubmissionSubmit,
    #[strum(serialize = "submission.wait")]
    SubmissionWait,
    #[strum(serialize = "submission.get")]
    SubmissionGet,
    #[strum(serialize = "submission.cancel")]
    SubmissionCancel,
    #[strum(serialize = "submission.input")]
    SubmissionInput,
    #[strum(serialize = "submission.logs")]
    SubmissionLogs,
    #[strum(serialize = "submission.list")]
    SubmissionList,
    #[strum(serialize = "submission.stats")]
    SubmissionStats,
    #[strum(serialize = "receipt.get")]
    ReceiptGet,
    #[strum(serialize = "blob.put")]
    BlobPut,
    #[strum(serialize = "blob.get")]
    BlobGet,
    #[strum(serialize = "daemon.status")]
    DaemonStatus,
    #[strum(serialize = "daemon.health")]
    DaemonHealth,
    #[strum(serialize = "daemon.drain")]
    DaemonDrain,
    #[strum(serialize = "daemon.reload")]
    DaemonReload,
    #[strum(serialize = "daemon.pause")]
    DaemonPause,
    #[strum(serialize = "daemon.resume")]
    DaemonResume,
    #[strum(serialize = "pool.list")]
    PoolList,
    #[strum(serialize = "host.list")]
    HostList,
    #[strum(serialize = "host.drain")]
    HostDrain,
    #[strum(serialize = "host.resume")]
    HostResume,
    #[strum(serialize = "profile.list")]
    ProfileList,
    #[strum(serialize = "sandbox.list")]
    SandboxList,
    #[strum(serialize = "image.list")]
    ImageList,
    #[strum(serialize = "image.build")]
    ImageBuild,
    #[strum(serialize = "image.pull")]
    ImagePull,
    #[strum(serialize = "image.prune")]
    ImagePrune,
    #[strum(serialize = "store.backup")]
    StoreBackup,
    #[strum(serialize = "store.check")]
    StoreCheck,
    #[strum(serialize = "store.vacuum")]
    StoreVacuum,
    #[strum(serialize = "store.forget")]
    StoreForget,
    #[strum(serialize = "token.add")]
    TokenAdd,
    #[strum(serialize = "token.list")]
    TokenList,
    #[strum(serialize = "token.revoke")]
    TokenRevoke,
    #[strum(serialize = "session.code")]
    SessionCode,
    #[strum(serialize = "rpc.discover")]
    RpcDiscover,
}

impl Method {
    /// All methods, in the order of the reference.
    pub const ALL: &'static [Method] = Method::VARIANTS;

    pub fn name(self) -> &'static str {
        self.into()
    }

    pub fn role(self) -> Role {
        match self {
            Method::SubmissionRun | Method::SubmissionSubmit | Method::BlobPut => Role::Submit,
            Method::DaemonDrain
            | Method::DaemonReload
            | Method::DaemonPause
            | Method::DaemonResume
            | Method::HostDrain
            | Method::HostResume
            | Method::ImageBuild
            | Method::ImagePull
            | Method::ImagePrune
            | Method::StoreBackup
            | Method::StoreCheck
            | Method::StoreVacuum
            | Method::StoreForget
            | Method::TokenAdd
            | Method::TokenList
            | Method::TokenRevoke
            | Method::SessionCode => Role::Admin,
            Method::SubmissionWait
            | Method::SubmissionGet
            | Method::SubmissionCancel
            | Method::SubmissionInput
            | Method::SubmissionLogs
            | Method::SubmissionList
            | Method::SubmissionStats
            | Method::ReceiptGet
            | Method::BlobGet
            | Method::DaemonStatus
            | Method::DaemonHealth
            | Method::PoolList
            | Method::HostList
            | Method::ProfileList
            | Method::SandboxList
            | Method::ImageList
            | Method::RpcDiscover => Role::Any,
        }
    }

    /// One line for lists of methods.
    pub fn summary(self) -> &'static str {
        match self {
            Method::SubmissionRun => "judge a submission and return its report",
            Method::SubmissionSubmit => "submit a submission that outlives the connection",
            Method::SubmissionWait => "wait for the report of a submission",
            Method::SubmissionGet => "the state of a submission, and its report when it is done",
            Method::SubmissionCancel => "cancel a submission; idempotent",
            Method::SubmissionInput => "feed the standard input of a submission with `stdin_open`",
            Method::SubmissionLogs => "the kept output of a submission",
            Method::SubmissionList => "the submissions of the caller's uid, or history; those of all uids for an admin",
            Method::SubmissionStats => "counts of finished submissions by language, tenant and verdict",
            Method::ReceiptGet => "the signed receipt of a finished submission",
            Method::BlobPut => "upload content that is larger than a line, in pieces",
            Method::BlobGet => "download a piece of a blob",
            Method::DaemonStatus => "instance, hosts, pools, queue, counters, stages",
            Method::DaemonHealth => "whether the daemon can judge, and why not",
            Method::DaemonDrain => "admit no more submissions, finish the running ones, exit",
            Method::DaemonReload => "apply the changed configuration, all of it or nothing",
            Method::DaemonPause => "admit no more submissions until `daemon.resume`; the daemon stays",
            Method::DaemonResume => "admit submissions again",
            Method::PoolList => "the pools",
            Method::HostList => "the Docker hosts",
            Method::HostDrain => "give a host no more work",
            Method::HostResume => "give a drained host work again",
            Method::ProfileList => "the profiles: the valid values of `language`",
            Method::SandboxList => "the live sandboxes; those in use by other uids only for an admin",
            Method::ImageList => "the images that the profiles need",
            Method::ImageBuild => "build the image of a profile if it is missing",
            Method::ImagePull => "pull the image of a profile, even if the engine has it",
            Method::ImagePrune => "remove assay's own images that no profile and no container needs",
            Method::StoreBackup => "copy the store into the state folder while it is in use",
            Method::StoreCheck => "read the whole store and say what is wrong with it",
            Method::StoreVacuum => "write the store anew, as small as it can be",
            Method::StoreForget => "remove everything that is kept of a tenant",
            Method::TokenAdd => "make a token for the HTTP API, which is shown this once",
            Method::TokenList => "the tokens of the HTTP API, without the tokens themselves",
            Method::TokenRevoke => "end a token and its browser sessions, at once",
            Method::SessionCode => "make a code that logs a browser in as the caller, once, within a minute",
            Method::RpcDiscover => "the methods, as an OpenRPC document",
        }
    }

    /// Notifications that may precede the response.
    pub fn notification(self) -> Option<Notification> {
        match self {
            Method::SubmissionRun | Method::SubmissionWait => Some(Notification::SubmissionEvent),
            Method::ImageBuild | Method::ImagePull => Some(Notification::ImageProgress),
            _ => None,
        }
    }

    /// Whether a call hands in a submission; refusals of such calls are counted.
    pub fn is_submitting(self) -> bool {
        matches!(self, Method::SubmissionRun | Method::SubmissionSubmit)
    }

    /// Whether a call waits for a report; the end of the daemon waits until such responses are
    /// written.
    pub fn waits_for_report(self) -> bool {
        matches!(self, Method::SubmissionRun | Method::SubmissionWait)
    }

    /// Whether the published schema requires `params`.
    pub fn requires_params(self) -> bool {
        matches!(
            self,
            Method::SubmissionRun
                | Method::SubmissionSubmit
                | Method::SubmissionWait
                | Method::SubmissionGet
                | Method::SubmissionCancel
                | Method::SubmissionInput
                | Method::SubmissionLogs
                | Method::SubmissionList
                | Method::ReceiptGet
                | Method::StoreForget
                | Method::TokenAdd
                | Method::TokenRevoke
                | Method::BlobPut
                | Method::BlobGet
        )
    }
}

/// Messages from the daemon without an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
pub enum Notification {
    #[strum(serialize = "server.hello")]
    ServerHello,
    #[strum(serialize = "submission.event")]
    SubmissionEvent,
    #[strum(serialize = "image.progress")]
    ImageProgress,
}

impl Notification {
    pub const ALL: &'static [Notification] = Notification::VARIANTS;

    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// What a caller must be allowed to do to call a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Every caller that may connect.
    Any,
    /// Callers that may submit (`socket.submit`).
    Submit,
    /// Callers that may change the daemon (`socket.admin`).
    Admin,
}

impl Role {
    /// The name in the configuration; `None` for [`Role::Any`].
    pub fn as_str(self) -> Option<&'static str> {
        match self {
            Role::Any => None,
            Role::Submit => Some("submit"),
            Role::Admin => Some("admin"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_parses_to_its_method() {
        for method in Method::ALL {
            assert_eq!(method.name().parse(), Ok(*method));
        }
        assert!("submission.walk".parse::<Method>().is_err());
    }
}
