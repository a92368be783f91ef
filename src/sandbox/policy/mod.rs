//! Which containers may exist. Pure: a plan goes in, an [`Approved`] spec or a [`Denial`] comes out, and nothing else
//! in the program can make an `Approved` (invariant 2).
//!
//! ```text
//! SandboxPlan --spec::build--> ContainerSpec --rules::approve--> Approved | Denial{rule, field, remedy}
//! ```
//!
//! The rules read the very spec that goes to the engine, not the plan it came from: a mistake in the builder is
//! caught like a mistake in a configuration.

mod rules;
mod spec;

pub use rules::{Approved, Denial, approve};
pub use spec::{
    CELL_SECCOMP, INIT_PATH, LABEL_INSTANCE, LABEL_ISOLATION, LABEL_PROFILE, LABEL_SLOT, MEMORY_RESERVE_BYTES,
    MemoryOverheads, PIDS_RESERVE, SHM_BYTES, SandboxPlan, TMPFS_INODES, build,
};
