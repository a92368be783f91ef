//! The daemon's metrics, assembled for `/metrics`. Each layer writes its own; metrics that belong
//! to no layer are written here.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::counts::HttpMetrics;
use crate::calls::Daemon;
use telemetry::disk::DiskSpace;
use telemetry::metrics::{MetricsSource, MetricsWriter, Unit, labels};
use telemetry::process;

/// All metrics of a daemon.
#[derive(Debug)]
pub(super) struct DaemonMetrics {
    pub(super) daemon: Arc<Daemon>,
    pub(super) http: Arc<HttpMetrics>,
    pub(super) state_dir: PathBuf,
}

impl MetricsSource for DaemonMetrics {
    fn write(&self, writer: &mut MetricsWriter<'_>) -> fmt::Result {
        let Daemon { instance, commit, fleet, submissions, metrics, .. } = &*self.daemon;
        let build = labels!(version = env!("CARGO_PKG_VERSION"), commit = commit, instance = instance);
        writer.infos("assay_build", "The daemon.", [build])?;
        let draining = f64::from(u8::from(submissions.is_draining()));
        writer.gauge("assay_draining", "1 while the daemon takes no more work.", None, draining)?;
        submissions.write_metrics(writer)?;
        metrics.write_metrics(writer)?;
        fleet.write_metrics(writer)?;
        self.write_disk(writer)?;
        self.http.write(writer)?;
        process::write(writer)
    }
}

impl DaemonMetrics {
    /// Disk below the state folder, which holds kept submissions, build logs and the compile cache.
    fn write_disk(&self, writer: &mut MetricsWriter<'_>) -> fmt::Result {
        let Some(disk) = DiskSpace::of(&self.state_dir) else { return Ok(()) };
        let bytes = Some(Unit::Bytes);
        let help = "Free bytes of the disk with the state folder, for users other than root.";
        writer.gauge("assay_state_disk_free", help, bytes.clone(), disk.free_bytes)?;
        writer.gauge("assay_state_disk_size", "Bytes of the disk with the state folder.", bytes, disk.size_bytes)
    }
}
