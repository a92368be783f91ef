//! Why a sandbox could not be created: whose fault, at which step, and whether to try again.
//!
//! | variant | blame | step | retry |
//! |---|---|---|---|
//! | `Create` | host if unreachable, else assay | of the creation | as the cause says |
//! | `Image` | host if unreachable, else assay | `image` | while it is built |
//! | `HostDown`, `HostRemoved` | host | `host` | `HostDown` only |
//! | `NoUid` | assay | `uid` | yes |
//! | `Limits`, `Denied`, `NeedsCells` | assay | `policy` | no |
//! | `AsksForSplit`, `NeedsUserNamespaces` | assay | `policy` | no |

use std::path::PathBuf;
use std::sync::Arc;

use docker::Error as EngineError;
use protocol::Blame;
use protocol::limits::LimitError;

use crate::image::ImageUnavailable;
use crate::lifecycle::{CreateError, Lost};
use crate::policy::Denial;

/// Why a [`SandboxFactory`](super::SandboxFactory) could not create a sandbox.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// The creation was started and failed.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// The profile's image is missing, being built, or could not be built.
    #[error(transparent)]
    Image(#[from] ImageUnavailable),
    /// The engine does not answer. `source` is the failed probe; `None` while its result is
    /// awaited.
    #[error("{}", source.as_ref().map_or("the engine has not answered".to_owned(), ToString::to_string))]
    HostDown { source: Option<Arc<EngineError>> },
    #[error("the host was removed from the configuration")]
    HostRemoved,
    /// Every uid of the configured range belongs to a sandbox, or is not used any more. `count` is
    /// the size of the range, `floors` the sum of the floors of the host's pools.
    #[error("every uid is in use{}", if *.spent > 0 { format!(", or one of {spent} that cannot be used") } else { String::new() })]
    NoUid { spent: usize, count: usize, floors: usize },
    #[error(transparent)]
    Limits(#[from] LimitError),
    #[error(transparent)]
    Denied(#[from] Denial),
    /// `isolation.require_nonroot` is set, and this sandbox would not have cells.
    #[error("require_nonroot requires cells, which are not available: {reason}")]
    NeedsCells { reason: String },
    /// The same, because the profile itself asks for split. `file` is the profile's, if known.
    #[error("isolation.require_nonroot refuses isolation = \"split\", for which the profile asks")]
    AsksForSplit { file: PathBuf },
    /// `isolation.require_userns` is set, and the engine does not remap users.
    #[error("require_userns requires an engine with user namespaces (userns-remap, rootless), or cells")]
    NeedsUserNamespaces,
}

impl MakeError {
    /// Who is responsible. Never the caller: a submission cannot influence how a sandbox is
    /// created.
    pub fn blame(&self) -> Blame {
        match self {
            MakeError::HostDown { .. } | MakeError::HostRemoved => Blame::Host,
            _ if self.engine_error().is_some_and(EngineError::is_unreachable) => Blame::Host,
            _ => Blame::Assay,
        }
    }

    /// The step that failed, as a short name.
    pub fn step(&self) -> &'static str {
        match self {
            MakeError::Create(error) => error.step(),
            MakeError::Image(_) => "image",
            MakeError::HostDown { .. } | MakeError::HostRemoved => "host",
            MakeError::NoUid { .. } => "uid",
            MakeError::Limits(_)
            | MakeError::Denied(_)
            | MakeError::NeedsCells { .. }
            | MakeError::AsksForSplit { .. }
            | MakeError::NeedsUserNamespaces => "policy",
        }
    }

    /// Whether another attempt may succeed without a change by the operator.
    pub fn is_retryable(&self) -> bool {
        match self {
            MakeError::Create(error) => error.is_retryable(),
            MakeError::Image(error) => error.is_retryable(),
            MakeError::HostDown { .. } | MakeError::NoUid { .. } => true,
            MakeError::HostRemoved
            | MakeError::Limits(_)
            | MakeError::Denied(_)
            | MakeError::NeedsCells { .. }
            | MakeError::AsksForSplit { .. }
            | MakeError::NeedsUserNamespaces => false,
        }
    }

    /// Whether every creation fails until the operator changes something, or until an image that
    /// could not be made is tried again: waiting for a sandbox is in vain.
    pub fn is_hopeless(&self) -> bool {
        match self {
            MakeError::Image(ImageUnavailable::Failed(error)) => !error.is_engine_trouble(),
            MakeError::Image(_) | MakeError::HostRemoved => false,
            other => !other.is_retryable(),
        }
    }

    /// Whether the engine does not have the image that the sandbox was to be made from.
    pub fn is_image_gone(&self) -> bool {
        matches!(self, MakeError::Create(CreateError::Engine { step: "create", source }) if source.is_not_found())
    }

    /// Whether it says nothing that the log does not say elsewhere: a host that is down and an
    /// image that is being built are logged by themselves.
    pub(super) fn is_logged_elsewhere(&self) -> bool {
        match self {
            MakeError::Image(error) => !matches!(error, ImageUnavailable::Failed(_)),
            MakeError::HostDown { .. } | MakeError::HostRemoved => true,
            _ => false,
        }
    }

    /// What the operator can do about it, as a sentence, if known. `profile` is the name of the
    /// profile that the sandbox was for.
    pub fn remedy(&self, profile: &str) -> Option<String> {
        match self {
            MakeError::Image(ImageUnavailable::Failed(error)) => error.remedy(profile),
            MakeError::Image(ImageUnavailable::BuildStarted { .. } | ImageUnavailable::Building { .. }) => {
                Some(format!("Wait until the image is ready; `assay images build {profile}` shows the build."))
            }
            MakeError::NoUid { count, floors, .. } => Some(format!(
                "Raise uids.count, now {count}: one uid for each sandbox, used ones included; the floors of the pools \
                 (pool.floor, profiles.floor) need {floors}, their ceilings more. It takes effect at the next start."
            )),
            MakeError::Denied(denial) => Some(denial.remedy.to_string()),
            MakeError::Limits(_) => Some("Correct the limits of the profile.".to_owned()),
            MakeError::NeedsCells { .. } => Some(
                "Make cells possible (`assay doctor` says how), or set isolation.require_nonroot = false.".to_owned(),
            ),
            MakeError::AsksForSplit { file } => {
                Some(format!("Remove the line isolation = \"split\" from {}, then `assay reload`.", file.display()))
            }
            MakeError::NeedsUserNamespaces => Some(
                "Turn on userns-remap in the engine, or make cells possible (`assay doctor` says how), or set \
                 isolation.require_userns = false."
                    .to_owned(),
            ),
            MakeError::Create(CreateError::Hello(Lost::Protocol(_) | Lost::Fault(_))) => Some(
                "If it repeats: install assayd and assay-init of one release (images.init), for the processor of the \
                 engine's machine."
                    .to_owned(),
            ),
            other => other.engine_error().and_then(EngineError::remedy).or_else(|| other.remedy_of_creation()),
        }
    }

    /// What to do about a creation that the engine refuses, or fails at, for a reason of its own.
    fn remedy_of_creation(&self) -> Option<String> {
        let failed = self.is_failed_creation() && self.engine_error().is_some_and(|e| e.status() >= Some(500));
        Some(match (failed, self.is_failed_creation() && self.is_hopeless()) {
            (true, _) => {
                "Read the engine's log (journalctl -u docker). If a file of an image is damaged or missing: assay hosts \
                 drain NAME, remove the image and those made of it (docker rmi --force), assay hosts resume NAME; it \
                 is built again."
            }
            (false, true) => {
                "Correct what the engine refuses in the profile or in [engine] (runtime, apparmor_profile), or \
                 configure the engine (docker info shows what it has)."
            }
            (false, false) => return None,
        }
        .to_owned())
    }

    /// The error as a part of a sentence that stands alone.
    pub fn sentence(&self) -> String {
        match self {
            MakeError::Create(_)
            | MakeError::Image(ImageUnavailable::Failed(_))
            | MakeError::HostDown { source: Some(_) } => format!("failed to {self}"),
            _ => self.to_string(),
        }
    }

    /// The engine's error at the bottom, if there is one.
    pub fn engine_error(&self) -> Option<&EngineError> {
        match self {
            MakeError::Create(error) => error.engine_error(),
            MakeError::Image(error) => error.engine_error(),
            MakeError::HostDown { source } => source.as_deref(),
            _ => None,
        }
    }

    /// Whether a creation was really attempted. An image that is being built and a host that is
    /// down have rows of their own and are not counted as failed creations.
    pub fn is_failed_creation(&self) -> bool {
        matches!(self, MakeError::Create(_))
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;
    use std::time::Duration;

    use docker::{Op, Phase};

    use super::*;
    use crate::image::ImageError;

    static OP: Op = Op::get("create the container");

    fn timeout() -> EngineError {
        EngineError::Timeout { call: &OP, phase: Phase::Head, after: Duration::from_secs(1) }
    }

    #[test]
    fn an_engine_error_is_still_the_source_of_a_failed_creation() {
        let error = MakeError::from(CreateError::Engine { step: "create", source: timeout() });
        assert_eq!((error.step(), error.is_failed_creation()), ("create", true));
        assert!(error.source().is_some_and(|source| source.is::<EngineError>()), "{error:?}");
        assert!(matches!(error.engine_error(), Some(EngineError::Timeout { .. })));
    }

    #[test]
    fn a_host_that_is_down_is_to_blame_and_nothing_else_is() {
        let down = MakeError::HostDown { source: Some(Arc::new(timeout())) };
        let no_uid = MakeError::NoUid { spent: 0, count: 4, floors: 6 };
        assert_eq!((down.blame(), down.is_retryable()), (Blame::Host, true));
        assert_eq!((no_uid.blame(), no_uid.is_retryable()), (Blame::Assay, true));
        assert_eq!(MakeError::NeedsUserNamespaces.blame(), Blame::Assay);
        assert!(no_uid.remedy("c").is_some_and(|remedy| remedy.contains("now 4") && remedy.contains("need 6")));
    }

    #[test]
    fn an_error_is_hopeless_only_if_the_operator_must_change_something() {
        let missing = || ImageError::Missing { name: "x".to_owned(), tag: "assay/x:1".to_owned() };
        let hopeless = [
            MakeError::Image(missing().into()),
            MakeError::NeedsUserNamespaces,
            MakeError::NeedsCells { reason: String::new() },
            MakeError::AsksForSplit { file: "/p/c.toml".into() },
            MakeError::Create(CreateError::Mismatch(String::new())),
            MakeError::Create(CreateError::Hello(Lost::Protocol(String::new()))),
        ];
        assert!(hopeless.iter().all(|error| error.is_hopeless() && !error.is_logged_elsewhere()));
        assert!(hopeless.iter().all(|error| error.remedy("c").is_some()));
        let told = hopeless.each_ref().map(|error| error.remedy("c").unwrap_or_default());
        assert!(told[0].contains("assay images build c;"), "{told:?}");
        assert!(told[3].contains("/p/c.toml") && !told[3].contains("require_nonroot"), "{told:?}");
        let said = hopeless.each_ref().map(MakeError::sentence);
        assert!(said[0].starts_with("failed to find image") && said[1].starts_with("require_userns"), "{said:?}");
        let passing = [
            MakeError::Image(ImageError::Engine(timeout()).into()),
            MakeError::Image(ImageUnavailable::BuildStarted { name: "x".to_owned() }),
            MakeError::HostDown { source: None },
            MakeError::NoUid { spent: 0, count: 4, floors: 6 },
            MakeError::Create(CreateError::Engine { step: "create", source: timeout() }),
        ];
        assert!(passing.iter().all(|error| !error.is_hopeless()));
        let failed =
            EngineError::Status { call: &OP, status: 500, message: "open overlay2/x: no such file".to_owned() };
        let failed = MakeError::Create(CreateError::Engine { step: "create", source: failed });
        assert!(!failed.is_hopeless() && failed.remedy("c").is_some_and(|remedy| remedy.contains("docker rmi")));
        assert!(passing[1].remedy("c").is_some_and(|remedy| remedy.contains("assay images build c")));
    }
}
