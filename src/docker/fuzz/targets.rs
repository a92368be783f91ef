//! The bodies of the fuzz targets. `cargo fuzz` drives them with new inputs, and `tests/corpus.rs`
//! replays the corpora on stable. No target may panic or hang, or give different results for one
//! input that is split in two ways.

mod scripted;

use scripted::{attach, client};

/// Runs a target; panics when it finds something, or when the name is unknown.
pub fn run(name: &str, data: &[u8]) {
    match name {
        "attach" => attach(data),
        "client" => client(data),
        "errorbody" => errorbody(data),
        "jsonlines" => jsonlines(data),
        "stdcopy" => stdcopy(data),
        "version" => version(data),
        unknown => panic!("no target is named {unknown}"),
    }
}

/// The Engine's multiplexed stream: whole and byte by byte give the same payload and the same end.
fn stdcopy(data: &[u8]) {
    use docker::stdcopy::{Decoder, StdStream};
    let run = |size: usize| {
        let mut decoder = Decoder::new();
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let mut end = Ok(());
        for piece in data.chunks(size) {
            end = decoder.push(piece, |stream, payload| match stream {
                StdStream::Stderr => stderr.extend_from_slice(payload),
                _ => stdout.extend_from_slice(payload),
            });
            if end.is_err() {
                break;
            }
        }
        (stdout, stderr, end.and_then(|()| decoder.finish()))
    };
    let whole = run(data.len().max(1));
    assert!(whole.0.len() + whole.1.len() <= data.len());
    assert_eq!(whole, run(1));
}

/// JSON lines: the same lines for every way to split the input.
fn jsonlines(data: &[u8]) {
    let run = |size: usize| {
        let mut splitter = docker::jsonlines::Splitter::new();
        let mut lines = Vec::new();
        for piece in data.chunks(size) {
            splitter.push(piece);
            while let Ok(Some(line)) = splitter.next_line() {
                lines.push(line.to_vec());
            }
        }
        lines.extend(splitter.finish().map(<[u8]>::to_vec));
        lines
    };
    assert_eq!(run(data.len().max(1)), run(1));
}

/// The body of an error: a text of bounded length, and the same text when an engine sends it.
fn errorbody(data: &[u8]) {
    use docker::error_text;
    let text = error_text(data);
    assert!(text.len() <= 4096);
    let again = serde_json::json!({ "message": &text }).to_string();
    assert_eq!(error_text(again.as_bytes()), text.trim());
}

/// Version strings: a parsed one is displayed as it was, and negotiation stays in our range.
fn version(data: &[u8]) {
    use docker::version::{NEWEST, OLDEST, negotiate};
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(version) = docker::ApiVersion::parse(text) {
        assert_eq!(version.to_string(), text);
        assert!(negotiate(version).map_or(true, |spoken| (OLDEST..=NEWEST).contains(&spoken)));
    }
}
