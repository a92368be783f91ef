//! Lines of the log as the journal takes them (systemd's JOURNAL_NATIVE_PROTOCOL): a datagram each, `NAME=value` a line.
//!
//! The fields go twice: as fields, for `journalctl ASSAY_SUBMISSION=...`, and behind the words in MESSAGE, because that is all that
//! `journalctl -u assayd` shows to whoever is called at night. Every value is cleaned, so none needs the protocol's form for
//! values of several lines, and bounded, so a datagram always suffices.
//!
//! A journal that does not take a line within [`PATIENCE`] loses it: judging does not wait for it. The next line that gets through
//! says how many were lost.

use std::fmt::{Debug, Write as _};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::log::{clean, quoted};

/// Where the journal listens.
const SOCKET: &str = "/run/systemd/journal/socket";

/// How long a line may wait for it.
const PATIENCE: Duration = Duration::from_millis(50);

/// What every field's name begins with.
const PREFIX: &str = "ASSAY_";

/// The way to the journal.
#[derive(Debug)]
pub struct Journal {
    socket: UnixDatagram,
    lost: AtomicU64,
}

impl Journal {
    /// Opens the way.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn open() -> io::Result<Journal> {
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(PATIENCE))?;
        // the journal throws an empty one away
        socket.send_to(&[], SOCKET)?;
        Ok(Journal { socket, lost: AtomicU64::new(0) })
    }
}

/// The fields of an event.
#[derive(Default)]
struct Fields {
    words: String,
    rest: Vec<(&'static str, String)>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.words = clean(value),
            name => self.rest.push((name, clean(value))),
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field, &format!("{value:?}"));
    }
}

/// The priorities: info is informational, so that `journalctl -p notice` is what somebody should look at.
fn priority(level: &Level) -> u8 {
    match *level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// The datagram of an event.
fn datagram(event: &Event<'_>, lost: u64) -> String {
    let mut fields = Fields::default();
    event.record(&mut fields);
    if lost > 0 {
        fields.rest.push(("lines_lost", lost.to_string()));
    }
    let about = event.metadata();
    let mut out = format!(
        "PRIORITY={}\nSYSLOG_IDENTIFIER=assayd\nTARGET={}\nMESSAGE={}",
        priority(about.level()),
        about.target(),
        fields.words
    );
    for (name, value) in &fields.rest {
        let _ = write!(out, " {name}={}", quoted(value));
    }
    out.push('\n');
    for (name, value) in &fields.rest {
        let name: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
        let _ = writeln!(out, "{PREFIX}{name}={value}");
    }
    if let (Some(file), Some(line)) = (about.file(), about.line()) {
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
