//! Events of submissions as callers get them.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use judge::events::SubmissionEvent;
use protocol::results::{EventBody, EventData, EventKind, UsageRow};
use wire::frame::OutputStream;

/// The event with its number.
pub(crate) fn event_body(id: &str, seq: u64, event: SubmissionEvent) -> EventBody {
    let body =
        |kind, test, data| EventBody { id: id.to_owned(), seq, kind, test, data, data_b64: None, dropped_bytes: None };
    match event {
        SubmissionEvent::Accepted => body(EventKind::Accepted, None, None),
        SubmissionEvent::Running => body(EventKind::State, None, Some(EventData::Text("running".to_owned()))),
        SubmissionEvent::Compile { outcome } => body(EventKind::Compile, None, Some(EventData::Outcome(outcome))),
        SubmissionEvent::Test { name, verdict } => body(EventKind::Test, Some(name), Some(EventData::Verdict(verdict))),
        SubmissionEvent::Usage { test, usage } => {
            let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
            let data = UsageRow { wall_ms: ms(usage.wall), cpu_ms: ms(usage.cpu), memory_bytes: usage.memory_bytes };
            body(EventKind::Usage, test, Some(EventData::Usage(data)))
        }
        SubmissionEvent::Output { test, stream, data } => {
            let kind = match stream {
                OutputStream::Stdout => EventKind::Stdout,
                OutputStream::Stderr => EventKind::Stderr,
            };
            match String::from_utf8(data) {
                Ok(text) => body(kind, test, Some(EventData::Text(text))),
                Err(error) => EventBody { data_b64: Some(BASE64.encode(error.as_bytes())), ..body(kind, test, None) },
            }
        }
    }
}
