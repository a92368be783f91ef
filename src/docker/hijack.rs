//! A connection taken over from HTTP: the raw stream of an attach.
//!
//! Three measured properties of the engine shape this file:
//! - It discards its buffered reader when it hands the connection over, so bytes sent before the
//!   101 are lost. Nothing can be written here before the head was read.
//! - When we shut down our writing half, it closes the container's output at once (with `StdinOnce`
//!   it ends the container's input). So nothing here ever does that: [`HijackWriter`]'s
//!   `poll_shutdown` only flushes, and dropping the writer has no effect.
//! - Bytes that arrive with the head belong to the stream. The reader returns them first.
//!
//! The connection closes when both halves are dropped. The owner of the reader must keep reading:
//! an engine that cannot deliver output keeps the container's lock, and then even a forced removal
//! hangs (moby issue 41827). Close the attach before removing the container.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, ReadHalf, WriteHalf};
use tokio::time::timeout;

use super::connection::{HttpConnection, take_over};
use super::deadlines;
use super::dial::{BoxedIo, EngineStream};
use super::error::{Error, Phase};
use super::reply::EngineReply;

/// A hijacked connection.
pub struct Hijacked {
    stream: EngineStream,
    leftover: Bytes,
}

/// The reading half. Returns the bytes that came with the head first.
pub struct HijackReader {
    stream: ReadHalf<EngineStream>,
    leftover: Bytes,
}

/// The writing half. It never half-closes: that would lose the container's pending output.
pub struct HijackWriter(WriteHalf<EngineStream>);

impl Hijacked {
    /// Takes the connection over if the engine answered 101.
    pub(super) async fn take(reply: EngineReply) -> Result<Hijacked, Error> {
        let call = reply.op();
        match reply.status() {
            101 => {}
            200..=299 => {
                return Err(Error::bad_reply(call, "the connection was not upgraded (is there a proxy in between?)"));
            }
            _ => return Err(reply.into_error().await),
        }
        let (upgrade, connection) = reply.into_upgrade();
        let task = connection.map(HttpConnection::into_task);
        let after = deadlines::UPGRADE;
        let upgraded = timeout(after, upgrade)
            .await
            .map_err(|_| Error::Timeout { call, phase: Phase::Upgrade, after })?
            .map_err(|source| Error::Broken { call, phase: Phase::Upgrade, source: source.into() })?;
        drop(task);
        let (stream, leftover) = take_over(upgraded)
            .ok_or_else(|| Error::bad_reply(call, "the upgraded connection is not the one that was dialled"))?;
        Ok(Hijacked { stream, leftover })
    }

    /// Wraps a stream that is past its handshake; `leftover` was already read from it.
    pub fn from_stream(stream: BoxedIo, leftover: Bytes) -> Hijacked {
        Hijacked { stream: EngineStream::Custom(stream), leftover }
    }

    /// Splits into two halves. The connection closes when both are dropped.
    pub fn into_split(self) -> (HijackReader, HijackWriter) {
        let (reader, writer) = tokio::io::split(self.stream);
        (HijackReader { stream: reader, leftover: self.leftover }, HijackWriter(writer))
    }
}

impl fmt::Debug for Hijacked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hijacked ({} bytes left over)", self.leftover.len())
    }
}

impl fmt::Debug for HijackReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HijackReader")
    }
}

impl fmt::Debug for HijackWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HijackWriter")
    }
}

impl AsyncRead for HijackReader {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.leftover.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let length = self.leftover.len().min(buf.remaining());
        buf.put_slice(&self.leftover[..length]);
        self.leftover.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for HijackWriter {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    /// Only flushes; see [`HijackWriter`].
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    #[tokio::test]
    async fn the_reader_returns_bytes_that_came_with_the_head_first() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (mut reader, _writer) = Hijacked::from_stream(Box::new(ours), Bytes::from_static(b"abc")).into_split();
        theirs.write_all(b"def").await.unwrap();
        drop(theirs);
        let mut two = [0; 2];
        reader.read_exact(&mut two).await.unwrap();
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).await.unwrap();
        assert_eq!((&two, rest.as_slice()), (b"ab", &b"cdef"[..]));
    }

    #[tokio::test]
    async fn neither_a_shutdown_nor_a_dropped_writer_half_closes() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (mut reader, mut writer) = Hijacked::from_stream(Box::new(ours), Bytes::new()).into_split();
        writer.write_all(b"x").await.unwrap();
        writer.shutdown().await.unwrap();
        drop(writer);
        let mut byte = [0; 1];
        theirs.read_exact(&mut byte).await.unwrap();
        let silence = timeout(Duration::from_millis(50), theirs.read(&mut byte)).await;
        assert!(silence.is_err(), "the peer saw an end of file");
        theirs.write_all(b"y").await.unwrap();
        reader.read_exact(&mut byte).await.unwrap();
        assert_eq!(&byte, b"y");
        drop(reader);
        assert_eq!(theirs.read(&mut byte).await.unwrap(), 0);
    }
}
