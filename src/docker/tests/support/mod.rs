//! Helpers shared with the tests that need a real engine, which include this file.

mod authority;
mod requests;

use std::time::Duration;

use docker::HijackReader;
use docker::stdcopy::{Decoder, StdStream};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

pub use authority::Authority;
pub use requests::read_request;

/// A tar archive with one file.
pub fn one_file(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, name, content).unwrap();
    archive.into_inner().unwrap()
}

/// Reads an attach until at least `bytes` bytes of the stream `wanted` arrived, or to its end.
pub async fn read(reader: &mut HijackReader, decoder: &mut Decoder, wanted: StdStream, bytes: usize) -> String {
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
    while text.len() < bytes {
        let read = timeout(Duration::from_secs(20), reader.read(&mut buffer));
        let count = read.await.expect("silence on the attach").unwrap();
        if count == 0 {
            break;
        }
        let sink = |stream, piece: &[u8]| {
            if stream == wanted {
                text.extend_from_slice(piece)
            }
        };
        decoder.push(&buffer[..count], sink).unwrap();
    }
    String::from_utf8(text).unwrap()
}
