//! Images: found when they are there, made when they are not, no registry needed.
//!
//! ```text
//!  images/NAME/Dockerfile --digest--> assay/NAME:DIGEST  there? --yes--> its id
//!                                          | no
//!      assay/base:DIGEST  there? --no--> pull debian:bookworm-slim, else images/base/bootstrap | import
//!                                          v
//!                             classic build over the base, three tries, log kept
//!
//!  any image's id + the init's bytes --> assay/sandbox:HASH   one added file: what a sandbox is created from
//!  r.example/team/tool:1 (a slash, a tag or a digest) --trusted? pull policy--> its id
//! ```
//!
//! [`catalog`] reads definitions and names them by content; [`build`] makes them (`base` where root has to); [`layer`] adds the init; `source` asks registries.

mod base;
pub mod build;
pub mod catalog;
pub mod layer;
mod source;

pub use build::{BuildEvent, Builder, ImageError, ResolvedImage};
pub use catalog::Definition;
pub use source::{Registries, is_registry_name};
