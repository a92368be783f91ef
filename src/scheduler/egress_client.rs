//! Asks assay-egress on its socket: one request and one reply per connection
//! ([`protocol::egress`]).

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use protocol::egress::{EgressReply, EgressRequest, MAX_EGRESS_LINE_BYTES};

/// How long it may take: ten seconds of its own for a call, as long to read the request, and some
/// time for a busy machine.
const REPLY_TIME: Duration = Duration::from_secs(25);

/// Why assay-egress did not reply.
#[derive(Debug, thiserror::Error)]
pub(super) enum EgressUnreachable {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("no reply in {} s", REPLY_TIME.as_secs())]
    Silent,
    #[error("its reply cannot be read; both programs have to be of the same version")]
    Unreadable,
}

/// Sends a request, with the body of a callback, and waits for the reply.
pub(super) async fn ask(socket: &Path, request: &EgressRequest, body: &[u8]) -> Result<EgressReply, EgressUnreachable> {
    let mut line = serde_json::to_vec(request).map_err(io::Error::other)?;
    line.push(b'\n');
    let exchange = async {
        let mut stream = UnixStream::connect(socket).await?;
        // one that refuses the request hangs up, and its reply can be read all the same
        let sent: io::Result<()> = async {
            stream.write_all(&line).await?;
            stream.write_all(body).await
        }
        .await;
        let mut reply = Vec::new();
        let read = (&mut stream).take(MAX_EGRESS_LINE_BYTES as u64).read_to_end(&mut reply).await;
        match (reply.is_empty(), sent.and(read)) {
            (false, _) => Ok(reply),
            (true, Err(error)) => Err(error),
            (true, Ok(_)) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it hung up without a reply")),
        }
    };
    let reply = tokio::time::timeout(REPLY_TIME, exchange).await.map_err(|_| EgressUnreachable::Silent)??;
    serde_json::from_slice(&reply).map_err(|_| EgressUnreachable::Unreadable)
}
