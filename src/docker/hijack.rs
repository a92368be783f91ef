//! A connection taken over from HTTP: the raw stream behind an attach.
//!
//! Three traps shape this file, all measured (ENGINE section 0). The engine throws away its own buffered reader when it hands
//! over, so a byte sent before the 101 is lost: nothing can be written here before the head was read. Shutting down our
//! writing half makes the engine close the container's output at once (with `StdinOnce` it ends its input): so nothing here
//! ever does that, neither [`HijackWriter`]'s `poll_shutdown`, which only flushes, nor dropping the writer. And bytes that
//! arrived with the head belong to the stream: they come out of the reader first.
//!
//! The connection closes when both halves are gone. Whoever holds the reader must keep reading: an engine that cannot get rid
//! of output keeps the container's lock, and then even its force-removal hangs (moby issue 41827). Close before removing.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, ReadHalf, WriteHalf};
use tokio::time::timeout;

use super::connection::take_over;
use super::deadlines;
use super::dial::{BoxedIo, Stream};
use super::error::{Error, Phase};
use super::reply::Reply;

/// A hijacked connection.
pub struct Hijacked {
    stream: Stream,
    leftover: Bytes,
}

/// Its reading half. Bytes that came with the head first.
pub struct HijackReader {
    stream: ReadHalf<Stream>,
    leftover: Bytes,
}

/// Its writing half. It has no shutdown: a half-close would lose what the container has yet to say.
pub struct HijackWriter(WriteHalf<Stream>);

impl Hijacked {
    /// Takes the connection over, when the engine agreed to switch.
    pub(super) async fn take(reply: Reply) -> Result<Hijacked, Error> {
        let call = reply.call();
        match reply.status() {
            101 => {}
            200..=299 => {
                return Err(Error::nonsense(call, "the connection was not upgraded (is there a proxy in between?)"));
            }
            _ => return Err(reply.refused().await),
        }
        let (call, upgrade, connection) = reply.into_upgrade();
        let driver = connection.map(super::connection::Connection::into_driver);
        let after = deadlines::UPGRADE;
        let upgraded = timeout(after, upgrade)
            .await
            .map_err(|_| Error::Timeout { call, phase: Phase::Upgrade, after })?
            .map_err(|source| Error::Broken { call, phase: Phase::Upgrade, source: source.into() })?;
        drop(driver);
        let (stream, leftover) = take_over(upgraded)
            .ok_or_else(|| Error::nonsense(call, "the upgraded connection is not the one that was dialled"))?;
        Ok(Hijacked { stream, leftover })
    }

    /// A stream that is past its handshake; `leftover` was read off it before.
    pub fn over(stream: BoxedIo, leftover: Bytes) -> Hijacked {
        Hijacked { stream: Stream::Through(stream), leftover }
    }

    /// Two halves. The connection closes when both are dropped.
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

    /// Flushes only: see the type's own words.
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
    async fn bytes_that_came_with_the_head_come_out_first() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (mut reader, _writer) = Hijacked::over(Box::new(ours), Bytes::from_static(b"abc")).into_split();
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
        let (mut reader, mut writer) = Hijacked::over(Box::new(ours), Bytes::new()).into_split();
        writer.write_all(b"x").await.unwrap();
        writer.shutdown().await.unwrap();
        drop(writer);
        let mut byte = [0; 1];
        theirs.read_exact(&mut byte).await.unwrap();
        let silence = timeout(Duration::from_millis(50), theirs.read(&mut byte)).await;
        assert!(silence.is_err(), "the other side saw an end of file");
        theirs.write_all(b"y").await.unwrap();
        reader.read_exact(&mut byte).await.unwrap();
        assert_eq!(&byte, b"y");
        drop(reader);
        assert_eq!(theirs.read(&mut byte).await.unwrap(), 0);
    }
}
