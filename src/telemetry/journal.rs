//! Sends log lines to the systemd journal (JOURNAL_NATIVE_PROTOCOL): one datagram per line, one
//! `NAME=value` per row.
//!
//! Each field appears twice: as a journal field, for `journalctl ASSAY_SUBMISSION=...`, and after
//! the message in MESSAGE, because `journalctl -u assayd` shows nothing else. Every value is
//! cleaned, so none needs the protocol's form for multi-line values, and bounded, so a line always
//! fits in one datagram.
//!
//! A line that the journal does not accept within [`SEND_TIMEOUT`] is dropped, so that judging
//! never waits for the journal. The next line that is sent carries the number of dropped lines.
//! (`tracing-journald` has neither the timeout nor the count.)

use std::fmt::{Debug, Write as _};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::text::{clean, quoted};

/// Where the journal listens.
pub const SOCKET: &str = "/run/systemd/journal/socket";

const SEND_TIMEOUT: Duration = Duration::from_millis(50);

/// Prefix of our fields' names in the journal.
const PREFIX: &str = "ASSAY_";

/// A connection to the journal, as a layer of the log.
#[derive(Debug)]
pub struct Journal {
    socket: UnixDatagram,
    /// Lines dropped since the last one that was sent.
    lost: AtomicU64,
}

impl Journal {
    /// # Errors
    /// There is no journal on this machine.
    pub fn open() -> io::Result<Journal> {
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(SEND_TIMEOUT))?;
        // a test datagram; the journal ignores empty ones
        socket.send_to(&[], SOCKET)?;
        Ok(Journal { socket, lost: AtomicU64::new(0) })
    }
}

#[derive(Default)]
struct EventFields {
    message: String,
    /// All fields except the message, in order.
    others: Vec<(&'static str, String)>,
}

impl EventFields {
    fn put(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message = clean(value),
            name => self.others.push((name, clean(value))),
        }
    }
}

impl Visit for EventFields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field, &format!("{value:?}"));
    }
}

/// Syslog priority. Info maps to informational (6), so that `journalctl -p notice` shows only
/// warnings and errors.
fn priority(level: &Level) -> u8 {
    match *level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

fn datagram(event: &Event<'_>, lost: u64) -> String {
    let mut fields = EventFields::default();
    event.record(&mut fields);
    if lost > 0 {
        fields.others.push(("lines_lost", lost.to_string()));
    }
    let metadata = event.metadata();
    let mut out = format!(
        "PRIORITY={}\nSYSLOG_IDENTIFIER=assayd\nTARGET={}\nMESSAGE={}",
        priority(metadata.level()),
        metadata.target(),
        fields.message
    );
    for (name, value) in &fields.others {
        let _ = write!(out, " {name}={}", quoted(value));
    }
    out.push('\n');
    for (name, value) in &fields.others {
        let name: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
        let _ = writeln!(out, "{PREFIX}{name}={value}");
    }
    if let (Some(file), Some(line)) = (metadata.file(), metadata.line()) {
        let _ = writeln!(out, "CODE_FILE={file}\nCODE_LINE={line}");
    }
    out
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if self.socket.send_to(datagram(event, lost).as_bytes(), SOCKET).is_err() {
            self.lost.fetch_add(lost + 1, Ordering::Relaxed);
        }
    }
}
