//! Which containers may exist. Pure: a plan is built into a specification, which is approved or
//! denied. Nothing else in the program can make an [`Approved`].
//!
//! ```text
//! SandboxPlan --build--> ContainerSpec --approve--> Approved | Denial{rule, field, remedy}
//! ```
//!
//! The rules read the specification that goes to the engine, not the plan, so that a mistake in
//! `build` is caught like a mistake in the configuration.

mod rules;
mod spec;

pub use rules::{Approved, Denial, approve};
pub use spec::{
    CELL_SECCOMP, INIT_PATH, LABEL_INSTANCE, LABEL_ISOLATION, LABEL_PROFILE, LABEL_SLOT, MEMORY_RESERVE_BYTES,
    MemoryOverheads, PIDS_RESERVE, SHM_BYTES, SPLIT_CAPS_MASK, SandboxPlan, TMPFS_INODES, build,
};
