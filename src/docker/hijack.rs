//! A connection that was HTTP and is now a raw, two-way stream.
//!
//! It is a type of its own because its rules are its own (ENGINE 1.8): not a byte is sent before the 101 has come,
//! it is never half-closed, whoever holds it always drains it, and it never goes back anywhere.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Response;
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, ReadHalf, WriteHalf};

use super::error::Error;
use super::reply;

/// A hijacked connection. hyper's upgraded stream gives back first what it had read too much.
#[derive(Debug)]
pub struct Hijacked {
    io: TokioIo<Upgraded>,
}

/// Its reading half.
#[derive(Debug)]
pub struct HijackReader(ReadHalf<TokioIo<Upgraded>>);

/// Its writing half. It has no shutdown: a half-close would lose what the container has yet to say.
#[derive(Debug)]
pub struct HijackWriter(WriteHalf<TokioIo<Upgraded>>);

impl Hijacked {
    /// Takes the connection over, when the engine agreed to switch.
    pub(super) async fn take(call: &'static str, reply: Response<Incoming>) -> Result<Hijacked, Error> {
        let reply = reply::expect(call, reply, &[101]).await?;
        let upgraded = hyper::upgrade::on(reply).await.map_err(|source| Error::Transport {
            call,
            phase: "upgrade",
            source: Box::new(source),
        })?;
        Ok(Hijacked { io: TokioIo::new(upgraded) })
    }

    /// Two halves. The connection closes when both are dropped.
    pub fn into_split(self) -> (HijackReader, HijackWriter) {
        let (reader, writer) = tokio::io::split(self.io);
        (HijackReader(reader), HijackWriter(writer))
    }
}

impl AsyncRead for HijackReader {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for HijackWriter {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    /// Does nothing: see the type's own words.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
