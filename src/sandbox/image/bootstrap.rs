//! The base image's root file system from the helper unit: a tar stream of Debian's packages,
//! written by a script that needs root.
//!
//! ```text
//!  daemon is root            --> images/base/bootstrap | import
//!  not root, with systemd    --> /run/assay/bootstrap.sock: a root unit runs the same script;
//!                                its output is the stream
//! ```
//!
//! The unit takes no input. Whether its script succeeded is visible in the stream: a complete tar
//! ends in two blocks of zeros, which a failed script never writes.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncBufRead as _, AsyncBufReadExt as _, AsyncRead, BufReader, ReadBuf};
use tokio::net::UnixStream;

/// The socket of the unit that makes the default suite, or another one.
pub(super) fn socket(suite: Option<&str>) -> PathBuf {
    let suite = suite.map(|suite| format!("-{suite}")).unwrap_or_default();
    PathBuf::from(format!("/run/assay/bootstrap{suite}.sock"))
}

/// Time until a bootstrap writes its first byte. It downloads a hundred packages first.
pub(super) const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// Zeros at the end of a tar: two blocks of 512 bytes.
const TAR_END_ZEROS: usize = 1024;

/// The helper unit's stream. Counts the zeros at its end.
#[derive(Debug)]
pub(super) struct BootstrapStream {
    stream: BufReader<UnixStream>,
    zeros: Arc<AtomicUsize>,
}

/// Tells whether the stream was complete, once it has been read to its end.
#[derive(Debug, Clone)]
pub(super) struct StreamEnd(Arc<AtomicUsize>);

impl StreamEnd {
    pub(super) fn is_complete(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= TAR_END_ZEROS
    }
}

impl BootstrapStream {
    /// Connects, which starts the script, and waits for the first byte. `None` when the script
    /// failed before it wrote any.
    pub(super) async fn open(socket: &Path) -> io::Result<Option<(BootstrapStream, StreamEnd)>> {
        let mut stream = BufReader::with_capacity(64 * 1024, UnixStream::connect(socket).await?);
        let first = tokio::time::timeout(FIRST_BYTE_TIMEOUT, stream.fill_buf()).await;
        if first.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??.is_empty() {
            return Ok(None);
        }
        let zeros = Arc::new(AtomicUsize::new(0));
        Ok(Some((BootstrapStream { stream, zeros: zeros.clone() }, StreamEnd(zeros))))
    }
}

impl AsyncRead for BootstrapStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Poll::Ready(bytes) = Pin::new(&mut this.stream).poll_fill_buf(context) else { return Poll::Pending };
        let bytes = bytes?;
        let count = bytes.len().min(buffer.remaining());
        let bytes = &bytes[..count];
        buffer.put_slice(bytes);
        match bytes.iter().rposition(|byte| *byte != 0) {
            Some(last) => this.zeros.store(count - last - 1, Ordering::Relaxed),
            None => drop(this.zeros.fetch_add(count, Ordering::Relaxed)),
        }
        Pin::new(&mut this.stream).consume(count);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// Sends these pieces through a socket. Returns the bytes read and whether they were complete.
    async fn read(pieces: Vec<Vec<u8>>) -> Option<(Vec<u8>, bool)> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            for piece in pieces {
                stream.write_all(&piece).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        let (mut tar, end) = BootstrapStream::open(&path).await.unwrap()?;
        let mut bytes = Vec::new();
        tar.read_to_end(&mut bytes).await.unwrap();
        Some((bytes, end.is_complete()))
    }

    #[tokio::test]
    async fn a_stream_is_complete_when_it_ends_as_a_tar_does() {
        let tar = tar::Builder::new(Vec::new()).into_inner().unwrap();
        assert_eq!(
            read(vec![b"x".repeat(100_000), tar.clone()]).await.unwrap(),
            ([b"x".repeat(100_000), tar].concat(), true)
        );
        assert!(!read(vec![b"x".repeat(100_000), vec![0; TAR_END_ZEROS - 1]]).await.unwrap().1);
        assert!(!read(vec![vec![0; 4000], b"x".to_vec()]).await.unwrap().1);
        assert!(read(vec![vec![1], vec![0; TAR_END_ZEROS / 2], vec![0; TAR_END_ZEROS / 2]]).await.unwrap().1);
        assert!(read(vec![]).await.is_none(), "an empty stream is a failure");
    }
}
