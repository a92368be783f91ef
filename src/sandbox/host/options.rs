//! What a host needs at its start.

use std::path::PathBuf;
use std::sync::Arc;

use config::ImageFolders;
use docker::Client;
use protocol::{Profile, ReusePolicy};
use tokio::sync::Notify;

use super::call_metrics::EngineCallMetrics;
use crate::image::Registries;
use crate::lifecycle::Slots;

#[derive(Debug)]
pub struct HostOptions {
    /// The host's name in reports.
    pub name: String,
    pub client: Client,
    /// Where its address is set, such as `/etc/assay/assayd.toml:3: engine.host`.
    pub address_setting: String,
    /// The observer of `client`.
    pub calls: Arc<EngineCallMetrics>,
    /// The value of the instance label: the instance's name and random id.
    pub instance: String,
    /// Creations at a time.
    pub max_creating: usize,
    /// CPUs that running submissions may reserve, per CPU of the host.
    pub cpu_overcommit: f64,
    /// The OCI runtime of the sandboxes; `None` for the engine's default.
    pub runtime: Option<String>,
    /// The AppArmor profile of cells.
    pub apparmor: Option<String>,
    /// Require cells, in which nothing runs as root.
    pub require_nonroot: bool,
    /// Require that root in a sandbox is not root outside: a remapping engine, or cells.
    pub require_userns: bool,
    /// Whose used sandboxes serve again.
    pub reuse: ReusePolicy,
    /// Notified when a waiting submission may be served.
    pub capacity_changed: Arc<Notify>,
    pub slots: Slots,
    /// The folders of the images' definitions.
    pub images_dir: ImageFolders,
    /// The folder of build logs.
    pub logs_dir: PathBuf,
    pub registries: Registries,
    /// Whether missing images are built without a request.
    pub build_missing: bool,
    /// The content of the init program.
    pub init: Vec<u8>,
    pub profiles: Vec<Arc<Profile>>,
}
