//! Why an engine cannot be reached, as a sentence and a remedy: the only place that interprets an
//! `errno` of a connect.

use std::fmt;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::endpoint::Endpoint;

/// Why a connect failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectProblem {
    /// The socket file does not exist.
    Missing,
    /// The path is not a socket; the text names what it is, such as "a folder".
    NotASocket(&'static str),
    /// The connection was refused: no process listens.
    Refused,
    /// The socket's permissions exclude this user.
    Denied {
        /// The group that has access, if it has a name.
        group: Option<String>,
    },
    /// The backlog is full, or the connect exceeded its deadline.
    Busy,
    /// The host name does not resolve.
    UnknownHost,
    /// This process, or the machine, has no file descriptor left.
    NoDescriptor,
    /// Anything else, as the operating system describes it.
    Other(String),
}

impl ConnectProblem {
    pub(super) fn of(error: &io::Error, endpoint: &Endpoint) -> ConnectProblem {
        if let Endpoint::Unix(path) = endpoint
            && let Some(kind) = kind_of_non_socket(path)
        {
            return ConnectProblem::NotASocket(kind);
        }
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ConnectProblem::Missing,
            io::ErrorKind::ConnectionRefused => ConnectProblem::Refused,
            io::ErrorKind::PermissionDenied => ConnectProblem::Denied {
                group: match endpoint {
                    Endpoint::Unix(path) => owning_group(path),
                    _ => None,
                },
            },
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ConnectProblem::Busy,
            _ if [Some(nix::libc::EMFILE), Some(nix::libc::ENFILE)].contains(&error.raw_os_error()) => {
                ConnectProblem::NoDescriptor
            }
            _ if error.to_string().contains("lookup") => ConnectProblem::UnknownHost,
            _ => ConnectProblem::Other(error.to_string()),
        }
    }

    /// Whether a later attempt may succeed without any change of configuration.
    pub(super) fn is_transient(&self) -> bool {
        !matches!(self, ConnectProblem::Denied { .. } | ConnectProblem::NotASocket(_))
    }

    pub(super) fn remedy(&self, endpoint: &Endpoint) -> Option<String> {
        Some(match (self, endpoint) {
            (ConnectProblem::Missing | ConnectProblem::Refused, Endpoint::Unix(_)) => {
                "start the engine: sudo systemctl start docker (or: sudo dockerd &)".to_owned()
            }
            (ConnectProblem::Refused, _) => {
                "start the engine there with -H tcp://0.0.0.0:2376 --tlsverify, and open the port".to_owned()
            }
            (ConnectProblem::NotASocket(_), _) => {
                "give the engine's socket, such as unix:///var/run/docker.sock".to_owned()
            }
            (ConnectProblem::Denied { group: Some(group) }, _) => format!(
                "add the daemon's user to the group {group:?} (sudo usermod -aG {group} USER), then log in again; that group is root on this machine"
            ),
            (ConnectProblem::Denied { group: None }, _) => {
                "run as a user that may write to the engine's socket (ls -l shows its group)".to_owned()
            }
            (ConnectProblem::Busy, Endpoint::Unix(_)) => {
                "the engine does not accept connections: look at its log (journalctl -u docker)".to_owned()
            }
            (ConnectProblem::Busy, _) => "check the address, the network and the firewall in between".to_owned(),
            (ConnectProblem::NoDescriptor, _) => {
                "raise the limit of open files (LimitNOFILE= of the unit, ulimit -n); the engine may be well".to_owned()
            }
            (ConnectProblem::UnknownHost, _) => "check the host's name, or give its address".to_owned(),
            _ => return None,
        })
    }
}

impl fmt::Display for ConnectProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ConnectProblem::Missing => "its socket does not exist. Please make sure Docker is running",
            ConnectProblem::NotASocket(kind) => return write!(f, "that is {kind}, not a socket"),
            ConnectProblem::Refused => "nothing listens there. Please make sure Docker is running",
            ConnectProblem::Denied { .. } => "permission denied on its socket",
            ConnectProblem::Busy => "it did not accept the connection in time",
            ConnectProblem::UnknownHost => "its name cannot be resolved",
            ConnectProblem::NoDescriptor => "no file descriptor is left in this process (too many open files)",
            ConnectProblem::Other(text) => text,
        })
    }
}

fn kind_of_non_socket(path: &Path) -> Option<&'static str> {
    let kind = std::fs::metadata(path).ok()?.file_type();
    match kind {
        kind if kind.is_socket() => None,
        kind if kind.is_dir() => Some("a folder"),
        kind if kind.is_file() => Some("a file"),
        _ => Some("something else"),
    }
}

/// The name of the group that owns `socket`. Reads `/etc/group` directly: `getgrgid` loads NSS
/// modules, which a statically linked program must not do.
fn owning_group(socket: &Path) -> Option<String> {
    let gid = std::fs::metadata(socket).ok()?.gid();
    group_name(&std::fs::read_to_string("/etc/group").ok()?, gid)
}

fn group_name(table: &str, gid: u32) -> Option<String> {
    table.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(gid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_found_by_its_number() {
        let table = "root:x:0:\nbroken\ndocker:x:998:ann,bob\n";
        assert_eq!(group_name(table, 998).as_deref(), Some("docker"));
        assert_eq!(group_name(table, 5), None);
    }

    #[test]
    fn a_process_without_descriptors_is_not_a_fault_of_the_engine() {
        let (error, endpoint) = (io::Error::from_raw_os_error(nix::libc::EMFILE), Endpoint::default());
        let problem = ConnectProblem::of(&error, &endpoint);
        assert_eq!(problem, ConnectProblem::NoDescriptor);
        assert!(problem.remedy(&endpoint).unwrap().contains("LimitNOFILE="));
    }

    #[test]
    fn permission_denied_names_the_group_to_join() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docker.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let endpoint = Endpoint::Unix(path);
        let denied = ConnectProblem::of(&io::ErrorKind::PermissionDenied.into(), &endpoint);
        let ConnectProblem::Denied { group: Some(group) } = &denied else { panic!("{denied:?}") };
        assert!(denied.remedy(&endpoint).unwrap().contains(&format!("usermod -aG {group} ")));
    }
}
