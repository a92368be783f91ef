//! Everything that is written in the metrics. Each layer writes its own; what belongs to none of them stands here.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use nix::sys::statvfs::statvfs;

use super::tally::Tally;
use crate::rpc::Daemon;
use crate::telemetry::metrics::{self, Sheet, Unit, labels};
use crate::telemetry::process;

/// The book of a daemon.
#[derive(Debug)]
pub(super) struct Book {
    pub(super) daemon: Arc<Daemon>,
    pub(super) tally: Arc<Tally>,
    /// The state folder.
    pub(super) state: PathBuf,
}

impl metrics::Book for Book {
    fn write(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let Daemon { instance, scheduler, tally, .. } = &*self.daemon;
        let build = labels!(version = env!("CARGO_PKG_VERSION"), instance = instance);
        sheet.infos("assay_build", "The daemon.", [build])?;
        let draining = f64::from(u8::from(scheduler.is_draining()));
        sheet.gauge("assay_draining", "1 while the daemon takes no more work.", None, draining)?;
        scheduler.write_metrics(sheet)?;
        tally.write_metrics(sheet)?;
        scheduler.fleet().write_metrics(sheet)?;
        self.write_disk(sheet)?;
        self.tally.write(sheet)?;
        process::write(sheet)
    }
}

impl Book {
    /// The disk below the state folder: kept submissions, build logs and the cache go there.
    fn write_disk(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let Ok(disk) = statvfs(&self.state) else { return Ok(()) };
        let (block, bytes) = (disk.fragment_size() as f64, Some(Unit::Bytes));
        let free = disk.blocks_available() as f64 * block;
        let help = "Free bytes of the disk with the state folder, for who is not root.";
        sheet.gauge("assay_state_disk_free", help, bytes.clone(), free)?;
        let size = disk.blocks() as f64 * block;
        sheet.gauge("assay_state_disk_size", "Bytes of the disk with the state folder.", bytes, size)
    }
}
