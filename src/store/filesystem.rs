//! Which file system a folder is on. SQLite's write-ahead log needs locks and shared memory that
//! network file systems do not have.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::OpenError;

/// File systems whose other clients see files without our locks. Of those in user space by their
/// subtype; an unknown one is taken for local.
const NETWORK: [&str; 22] = [
    "9p",
    "afs",
    "ceph",
    "cifs",
    "coda",
    "lustre",
    "ncpfs",
    "nfs",
    "nfs4",
    "smb3",
    "smbfs",
    "beegfs",
    "gpfs",
    "fuse.ceph",
    "fuse.ceph-fuse",
    "fuse.davfs",
    "fuse.glusterfs",
    "fuse.juicefs",
    "fuse.rclone",
    "fuse.s3fs",
    "fuse.sshfs",
    "davfs",
];

/// Refuses a folder on a network file system.
pub(crate) fn refuse_network(folder: &Path) -> Result<(), OpenError> {
    let device = std::fs::metadata(folder).map_err(OpenError::io("look at", folder))?.dev();
    // without /proc the check is left out: SQLite then fails by itself, or the disk is local
    let Ok(mounts) = std::fs::read_to_string("/proc/self/mountinfo") else { return Ok(()) };
    match kind_of_device(&mounts, device).filter(|kind| NETWORK.contains(kind)) {
        None => Ok(()),
        Some(kind) => Err(OpenError::Network { folder: folder.to_owned(), kind: kind.to_owned() }),
    }
}

/// The file system's name in the lines of mountinfo (proc_pid_mountinfo(5)).
fn kind_of_device(mounts: &str, device: u64) -> Option<&str> {
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let wanted = format!("{major}:{minor}");
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some(wanted.as_str()))?;
    line.split_once(" - ")?.1.split(' ').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_a_file_system_is_read_by_its_device() {
        let mounts = "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
                      40 22 0:45 / /srv rw,relatime - nfs4 server:/srv rw,vers=4.2\n\
                      41 22 0:46 / /mnt rw - fuse.sshfs me@there:/ rw\n";
        let kind = |major, minor| kind_of_device(mounts, nix::sys::stat::makedev(major, minor));
        assert_eq!((kind(254, 0), kind(0, 45), kind(0, 46)), (Some("ext4"), Some("nfs4"), Some("fuse.sshfs")));
        assert_eq!(kind(0, 47), None);
        assert!(["nfs4", "fuse.sshfs"].iter().all(|kind| NETWORK.contains(kind)) && !NETWORK.contains(&"ext4"));
    }

    #[test]
    fn a_local_folder_is_not_refused() {
        refuse_network(tempfile::tempdir().unwrap().path()).unwrap();
    }
}
