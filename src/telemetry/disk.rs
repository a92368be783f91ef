//! The space of a disk.

use std::path::Path;

use nix::sys::statvfs::statvfs;

/// Space of the disk with a folder, in bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DiskSpace {
    /// For users other than root.
    pub free_bytes: f64,
    pub size_bytes: f64,
}

impl DiskSpace {
    /// `None` if the folder is not there, or may not be looked at.
    pub fn of(folder: &Path) -> Option<DiskSpace> {
        let disk = statvfs(folder).ok()?;
        let block = disk.fragment_size() as f64;
        Some(DiskSpace { free_bytes: disk.blocks_available() as f64 * block, size_bytes: disk.blocks() as f64 * block })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_space_and_one_that_is_not_there_has_none() {
        let disk = DiskSpace::of(Path::new("/")).unwrap();
        assert!(disk.free_bytes <= disk.size_bytes && disk.size_bytes > 0.0);
        assert_eq!(DiskSpace::of(Path::new("/nonexistent")), None);
    }
}
