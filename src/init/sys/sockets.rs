//! What sockets take that no cgroup is charged: memory of TCP and UDP sockets, from what /proc
//! tells, and descriptors in flight.

use super::files::{control_socket, read_text, send_fds};
use super::rights::with_open_files;
use nix::libc;

/// Memory of a TCP socket that was made in an interrupt, as the other end of a connection. No
/// cgroup is charged for it, whether it is accepted or not.
const SOCKET_BYTES: u64 = 4096;

/// TCP sockets, and UDP sockets, that are taken to be charged, as those that a process makes are.
const CHARGED_SOCKETS: u64 = 512;

/// Memory of a connection in TIME_WAIT, made in an interrupt, too.
const TIME_WAIT_BYTES: u64 = 512;

/// Memory of a UDP socket that may share its port (SO_REUSEPORT): the kernel keeps a list for each
/// port, which no cgroup is charged.
const SHARED_PORT_BYTES: u64 = 2048;

/// How many TCP and UDP sockets there are, as sockstat and sockstat6 tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SocketCounts {
    tcp: u64,
    udp: u64,
    time_wait: u64,
}

impl SocketCounts {
    /// Of the network namespace of a process; none when it does not exist.
    #[must_use]
    pub fn of(pid: i32) -> Self {
        let read = |file: &str| read_text(&format!("/proc/{pid}/net/{file}"));
        Self::parse(&read("sockstat"), &read("sockstat6"))
    }

    fn parse(v4: &str, v6: &str) -> Self {
        // `TCP: inuse 2 orphan 0 tw 1 alloc 9 mem 0`, `UDP6: inuse 0`
        let count = |name: &str, key: &str| -> u64 {
            let line = v4.lines().chain(v6.lines()).find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let mut words = line.unwrap_or_default().split_ascii_whitespace();
            words.find(|word| *word == key).and_then(|_| words.next()?.parse().ok()).unwrap_or(0)
        };
        Self {
            tcp: count("TCP", "inuse") + count("TCP6", "inuse"),
            udp: count("UDP", "inuse") + count("UDP6", "inuse"),
            time_wait: count("TCP", "tw"),
        }
    }

    /// Memory of sockets that no cgroup is charged, in bytes: of those that interrupts made, and of
    /// shared ports.
    #[must_use]
    pub fn uncharged_bytes(&self) -> u64 {
        let beyond = |count: u64| count.saturating_sub(CHARGED_SOCKETS);
        beyond(self.tcp) * SOCKET_BYTES + self.time_wait * TIME_WAIT_BYTES + beyond(self.udp) * SHARED_PORT_BYTES
    }

    /// Whether a socket can have something in its buffers.
    #[must_use]
    pub fn have_queues(&self) -> bool {
        self.tcp + self.udp > 0
    }
}

/// Bytes in the buffers of the TCP and UDP sockets in the network namespace of a process, without
/// the kernel's overhead. Reads a line for each socket.
#[must_use]
pub fn queued_bytes(pid: i32) -> u64 {
    let tables = ["tcp", "tcp6", "udp", "udp6"].map(|file| read_text(&format!("/proc/{pid}/net/{file}")));
    tables.iter().flat_map(|table| table.lines().skip(1)).filter_map(queued).sum()
}

/// The fifth word is TX_QUEUE:RX_QUEUE, in hexadecimal.
fn queued(line: &str) -> Option<u64> {
    let (sent, received) = line.split_ascii_whitespace().nth(4)?.split_once(':')?;
    Some(u64::from_str_radix(sent, 16).ok()? + u64::from_str_radix(received, 16).ok()?)
}

/// Whether this process's user has more descriptors in flight than `most`. The kernel refuses one
/// more if they exceed the limit of open files, so that limit is lowered for a moment.
#[must_use]
pub fn has_more_in_flight(most: u64) -> bool {
    let Ok((end, other)) = control_socket() else { return false };
    with_open_files(most, || send_fds(&end, 0, [&other])) == Ok(Err(libc::ETOOMANYREFS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_that_interrupts_made_are_counted() {
        let v4 = "sockets: used 1003\nTCP: inuse 1510 orphan 7 tw 20 alloc 5000 mem 9\nUDP: inuse 1 mem 0\n";
        let v6 = "TCP6: inuse 2\nUDP6: inuse 0\n";
        let counts = SocketCounts::parse(v4, v6);
        assert_eq!(counts, SocketCounts { tcp: 1512, udp: 1, time_wait: 20 });
        assert_eq!(counts.uncharged_bytes(), 1000 * SOCKET_BYTES + 20 * TIME_WAIT_BYTES);
        let usual = SocketCounts::parse("sockets: used 3\nTCP: inuse 200 orphan 0 tw 0 alloc 9 mem 0\n", "");
        assert_eq!((usual.uncharged_bytes(), usual.have_queues()), (0, true));
        assert_eq!(SocketCounts::parse("", ""), SocketCounts::default());
        let ports = SocketCounts::parse("UDP: inuse 600 mem 0\n", "UDP6: inuse 12\n");
        assert_eq!(ports.uncharged_bytes(), 100 * SHARED_PORT_BYTES);
    }

    #[test]
    fn both_queues_of_a_socket_are_counted() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000010:00000002 00:00000000 00000000     0";
        assert_eq!(queued(line), Some(18));
    }
}
