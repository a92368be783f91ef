//! One Docker host, and the [`Fleet`] of all hosts.
//!
//! ```text
//!          +-- HostMonitor  health, engine facts, exits  <-- watch: probes, events, sweeps
//!   Host --+-- Capacity     CPUs and memory for runs
//!          +-- Images       found, built, layered with the init
//!          '-- Pools        one per profile              <-- factory creates their sandboxes
//! ```
//!
//! [`health`] decides from observations whether a host is given work. When an engine answers for
//! the first time or again, left-over sandboxes are swept and the pools start over.

mod call_metrics;
pub mod capacity;
mod exits;
mod factory;
mod fleet;
mod handle;
pub mod health;
mod images;
mod metrics;
mod monitor;
mod options;
mod start;
mod watch;

pub use call_metrics::{CallErrorKind, CallMetrics, EngineCallMetrics};
pub use exits::ContainerEnd;
pub use fleet::Fleet;
pub use handle::{BusyGuard, Host, first_probes_done};
pub use images::{Images, LayeredImage};
pub use monitor::{EngineFacts, HostHealth, HostMonitor};
pub use options::HostOptions;
