//! The base's root file system when no registry is reached: a tar stream out of Debian's packages, from a script that needs
//! root.
//!
//! ```text
//!  we are root                --> images/base/bootstrap | import
//!  we are not, systemd is there --> /run/assay/bootstrap.sock: a unit of root's runs the same script, its output is the stream
//! ```
//!
//! The unit takes no input, and whether its script succeeded is seen by the stream itself: a tar that is whole ends in
//! zeros, which a script that failed never wrote.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncBufRead as _, AsyncBufReadExt as _, AsyncRead, BufReader, ReadBuf};
use tokio::net::UnixStream;

/// Where systemd listens for us (assay-bootstrap.socket).
pub(super) const SOCKET: &str = "/run/assay/bootstrap.sock";

/// The zeros that a tar ends in: two blocks.
const END: usize = 1024;

/// A stream of root's, which counts the zeros at its end.
#[derive(Debug)]
pub(super) struct Tar {
    stream: BufReader<UnixStream>,
    zeros: Arc<AtomicUsize>,
}

/// Says whether the stream was whole, once it is read.
#[derive(Debug, Clone)]
pub(super) struct Whole(Arc<AtomicUsize>);

impl Whole {
    pub(super) fn is_whole(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= END
    }
}

impl Tar {
    /// Asks for one, and waits for its first byte; none when the script failed before it wrote any.
    pub(super) async fn ask(socket: &Path) -> io::Result<Option<(Tar, Whole)>> {
        let mut stream = BufReader::with_capacity(64 * 1024, UnixStream::connect(socket).await?);
        let first = tokio::time::timeout(super::build::BOOTSTRAP_PATIENCE, stream.fill_buf()).await;
        if first.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??.is_empty() {
            return Ok(None);
        }
        let zeros = Arc::new(AtomicUsize::new(0));
        Ok(Some((Tar { stream, zeros: zeros.clone() }, Whole(zeros))))
    }
}

impl AsyncRead for Tar {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Poll::Ready(bytes) = Pin::new(&mut this.stream).poll_fill_buf(context) else { return Poll::Pending };
        let bytes = bytes?;
        let taken = bytes.len().min(into.remaining());
        let bytes = &bytes[..taken];
        into.put_slice(bytes);
        match bytes.iter().rposition(|byte| *byte != 0) {
            Some(last) => this.zeros.store(taken - last - 1, Ordering::Relaxed),
            None => drop(this.zeros.fetch_add(taken, Ordering::Relaxed)),
        }
        Pin::new(&mut this.stream).consume(taken);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// What came of a stream of these pieces: the bytes, and whether it was whole.
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
        let (mut tar, whole) = Tar::ask(&path).await.unwrap()?;
        let mut bytes = Vec::new();
        tar.read_to_end(&mut bytes).await.unwrap();
        Some((bytes, whole.is_whole()))
    }

    #[tokio::test]
    async fn a_stream_is_whole_when_it_ends_as_a_tar_does() {
        let tar = tar::Builder::new(Vec::new()).into_inner().unwrap();
        assert_eq!(
            read(vec![b"x".repeat(100_000), tar.clone()]).await.unwrap(),
            ([b"x".repeat(100_000), tar].concat(), true)
        );
        assert!(!read(vec![b"x".repeat(100_000), vec![0; END - 1]]).await.unwrap().1);
        assert!(!read(vec![vec![0; 4000], b"x".to_vec()]).await.unwrap().1);
        assert!(read(vec![vec![1], vec![0; END / 2], vec![0; END / 2]]).await.unwrap().1);
        assert!(read(vec![]).await.is_none(), "a stream of nothing is none");
    }
}
