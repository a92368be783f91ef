//! The reading side of a sandbox's connection: bytes, then the engine's stream frames, then our
//! frames.

use std::time::Duration;

use docker::{HijackReader, HijackWriter, stdcopy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wire::codec::{decode_from_init, encode_to_init};
use wire::frame::{FromInit, InitHello, Ready, ToInit};
use wire::stream::FrameReader;

use super::messages::Lost;

/// The init writes to stderr only when it panics. This much is kept for the log, in bytes.
const MAX_STDERR: usize = 2048;

const READ_BUFFER_BYTES: usize = 64 * 1024;

pub(super) struct Inbound {
    reader: HijackReader,
    demultiplexer: stdcopy::Decoder,
    frames: FrameReader,
    buffer: Vec<u8>,
    /// The beginning of the init's stderr.
    stderr: Vec<u8>,
}

impl Inbound {
    pub(super) fn new(reader: HijackReader) -> Inbound {
        Inbound {
            reader,
            demultiplexer: stdcopy::Decoder::new(),
            frames: FrameReader::new(),
            buffer: vec![0; READ_BUFFER_BYTES],
            stderr: Vec::new(),
        }
    }

    /// Reads once and feeds the decoders. Cancel-safe: a cancelled read has consumed nothing.
    pub(super) async fn fill(&mut self) -> Result<(), Lost> {
        let count = self.reader.read(&mut self.buffer).await.map_err(|error| Lost::Io(error.to_string()))?;
        if count == 0 {
            let stderr = String::from_utf8_lossy(&self.stderr).into_owned();
            return Err(if stderr.is_empty() { Lost::Eof } else { Lost::Fault(stderr) });
        }
        let Inbound { demultiplexer, frames, stderr, buffer, .. } = self;
        demultiplexer
            .push(&buffer[..count], |stream, payload| match stream {
                stdcopy::StdStream::Stderr => {
                    let room = MAX_STDERR.saturating_sub(stderr.len());
                    stderr.extend_from_slice(&payload[..payload.len().min(room)]);
                }
                _ => frames.push(payload),
            })
            .map_err(|error| Lost::Protocol(error.to_string()))
    }

    /// The next complete frame among the bytes read so far.
    pub(super) fn next(&mut self) -> Result<Option<FromInit>, Lost> {
        let broken = |error: &dyn std::fmt::Display| Lost::Protocol(error.to_string());
        match self.frames.next().map_err(|error| broken(&error))? {
            None => Ok(None),
            Some(body) => decode_from_init(body).map(Some).map_err(|error| broken(&error)),
        }
    }
}

/// The first exchange: Hello, then a Ready that echoes the nonce.
pub(super) async fn exchange_hello(
    inbound: &mut Inbound,
    writer: &mut HijackWriter,
    hello: InitHello,
    deadline: Duration,
) -> Result<Ready, Lost> {
    let nonce = hello.nonce;
    let mut bytes = Vec::new();
    encode_to_init(&ToInit::Hello(hello), &mut bytes);
    let exchange = async {
        writer.write_all(&bytes).await.map_err(|error| Lost::Io(error.to_string()))?;
        loop {
            match inbound.next()? {
                Some(FromInit::Ready(ready)) if ready.nonce == nonce => return Ok(*ready),
                Some(FromInit::Fault { message }) => return Err(Lost::Fault(message.escape_debug().to_string())),
                Some(_) => return Err(Lost::Protocol("the first frame is not a Ready with our nonce".to_owned())),
                None => inbound.fill().await?,
            }
        }
    };
    tokio::time::timeout(deadline, exchange).await.unwrap_or(Err(Lost::Silent))
}
