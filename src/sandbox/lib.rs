//! Everything that owns containers.
//!
//! | module | purpose |
//! |---|---|
//! | [`policy`] | which containers may exist: a specification in, approval or denial out; pure |
//! | [`image`] | images found or built without a registry, and the layer with the init |
//! | [`lifecycle`] | one sandbox from creation to removal; the task that owns its connection |
//! | [`pool`] | the ready sandboxes of one profile: how many to create, which to lease |
//! | [`host`] | one Docker host: client, health, images, pools, capacity |

pub mod host;
pub mod image;
pub mod lifecycle;
pub mod policy;
pub mod pool;
