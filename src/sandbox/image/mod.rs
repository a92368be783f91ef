//! Images: found if the engine has them, otherwise built or pulled. No registry is required.
//!
//! ```text
//!  images/NAME/Dockerfile --digest--> assay/NAME:DIGEST  there? --yes--> its id
//!                                          | no
//!      assay/base:DIGEST  there? --no--> pull debian:SUITE-slim, else bootstrap | import
//!                                          v
//!                             classic build over the base, three attempts, log kept
//!
//!  any image's id + the init's bytes --> assay/sandbox:HASH   what sandboxes are created from
//!  r.example/team/tool:1 (a slash, a tag or a digest) --trusted? pull policy--> its id
//! ```
//!
//! [`catalog`] reads definitions, [`build`] builds them, `base` makes the base image, [`layer`]
//! adds the init, `registry` pulls from registries, [`prune`] finds what is left over.

mod base;
mod bootstrap;
pub mod build;
pub mod catalog;
mod error;
mod event;
pub mod layer;
mod log;
pub mod prune;
mod registry;

pub use build::{Builder, check_image};
pub use catalog::Definition;
pub use error::{AttemptError, ImageError, ImageUnavailable};
pub use event::{BuildEvent, BuildWatcher, PullMode, ResolvedImage};
pub use registry::{Registries, is_registry_name};
