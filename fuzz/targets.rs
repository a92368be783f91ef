//! The bodies of the fuzz targets. `cargo fuzz` drives them with new inputs, `tests/it/corpus.rs` replays the corpora on
//! stable. Each must neither panic, nor hang, nor say different things of one input cut in two ways.
#![allow(dead_code)]

mod scripted;

pub use scripted::{attach, client};

/// A target's body.
pub type Target = fn(&[u8]);

/// Every target; `cargo fuzz list` knows the same names.
pub const ALL: [(&str, Target); 7] = [
    ("attach", attach),
    ("client", client),
    ("errorbody", errorbody),
    ("jsonlines", jsonlines),
    ("stdcopy", stdcopy),
    ("version", version),
    ("wire", wire),
];

/// The Engine's multiplexed stream: whole and byte by byte give the same payload and the same end.
pub fn stdcopy(data: &[u8]) {
    use assay::docker::stdcopy::{Decoder, Stream};
    let run = |size: usize| {
        let mut decoder = Decoder::new();
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let mut end = Ok(());
        for piece in data.chunks(size) {
            end = decoder.push(piece, |stream, payload| match stream {
                Stream::Stderr => stderr.extend_from_slice(payload),
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

/// JSON lines: however they are cut, the same lines.
pub fn jsonlines(data: &[u8]) {
    let run = |size: usize| {
        let mut splitter = assay::docker::jsonlines::Splitter::new();
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

/// The body of an error: some words of bounded length, and the same words when they come again as an engine would send them.
pub fn errorbody(data: &[u8]) {
    use assay::docker::error_text;
    let text = error_text(data);
    assert!(text.len() <= 4096);
    let again = serde_json::json!({ "message": &text }).to_string();
    assert_eq!(error_text(again.as_bytes()), text.trim());
}

/// Version strings: what is read is shown the same, and never outside what we speak.
pub fn version(data: &[u8]) {
    use assay::docker::version::{NEWEST, OLDEST, negotiate};
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(version) = assay::docker::ApiVersion::parse(text) {
        assert_eq!(version.to_string(), text);
        assert!(negotiate(version).map_or(true, |spoken| (OLDEST..=NEWEST).contains(&spoken)));
    }
}

/// The wire: frames however cut; what decodes encodes to the same bytes.
pub fn wire(data: &[u8]) {
    use assay::wire::{codec, stream::FrameReader};
    for size in [1, 7, data.len().max(1)] {
        let mut reader = FrameReader::new();
        for piece in data.chunks(size) {
            reader.push(piece);
            while let Ok(Some(body)) = reader.next() {
                let body = body.to_vec();
                let mut bytes = Vec::new();
                if let Ok(frame) = codec::decode_to_init(&body) {
                    codec::encode_to_init(&frame, &mut bytes);
                    assert_eq!(&bytes[4..], &body[..]);
                }
                bytes.clear();
                if let Ok(frame) = codec::decode_from_init(&body) {
                    codec::encode_from_init(&frame, &mut bytes);
                    assert_eq!(&bytes[4..], &body[..]);
                }
            }
        }
    }
}
