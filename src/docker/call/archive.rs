//! Files in a container: stat, copy out and copy in, as tar archives.

use base64::Engine as _;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::client::Client;
use crate::deadlines;
use crate::error::Error;
use crate::op::Op;
use crate::path;
use crate::request::Call;
use crate::types::PathStat;

impl Client {
    /// `HEAD /containers/{id}/archive`: metadata of a path. 5 s for the head. If dropped: no
    /// effect.
    ///
    /// # Errors
    /// 404: no such container or path.
    pub async fn stat_path(&self, id: &str, file: &str) -> Result<PathStat, Error> {
        static OP: Op = Op::head_request("look at a path in a container");
        let call = Call::new(&OP, format!("/containers/{}/archive", path::name(&OP, id)?)).query("path", file);
        let reply = self.call(call, &[200]).await?;
        let header = reply
            .header("x-docker-container-path-stat")
            .ok_or_else(|| Error::bad_reply(&OP, "the header with the metadata is missing"))?;
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(header)
            .map_err(|_| Error::bad_reply(&OP, "the header with the metadata is not base64"))?;
        serde_json::from_slice(&bytes).map_err(|error| Error::bad_reply(&OP, error))
    }

    /// `GET /containers/{id}/archive`: writes a file or a folder to `into` as a tar archive, and
    /// returns the archive's size in bytes. 5 s for the head, at most 60 s of silence, at most
    /// `limit` bytes. If dropped: no effect on the engine.
    ///
    /// # Errors
    /// 404: no such container or path; [`Error::TooLarge`]; [`Error::Upload`] if writing to `into`
    /// fails.
    pub async fn get_archive(
        &self,
        id: &str,
        file: &str,
        limit: usize,
        into: &mut (impl AsyncWrite + Unpin + Send),
    ) -> Result<u64, Error> {
        static OP: Op = Op::get("copy from a container");
        let call = Call::new(&OP, format!("/containers/{}/archive", path::name(&OP, id)?)).query("path", file);
        let mut reply = self.call(call, &[200]).await?;
        let mut received = 0;
        while let Some(piece) = reply.piece(Some(deadlines::TRANSFER_IDLE)).await? {
            received += piece.len() as u64;
            if received > limit as u64 {
                return Err(Error::TooLarge { call: &OP, limit });
            }
            into.write_all(&piece).await.map_err(|source| Error::Upload { call: &OP, source })?;
        }
        into.flush().await.map_err(|source| Error::Upload { call: &OP, source })?;
        Ok(received)
    }

    /// `PUT /containers/{id}/archive`: unpacks a tar archive into an existing folder. Fails with a
    /// read-only root, and does not reach tmpfs mounts of a container that is not running. At most
    /// 60 s of silence. If dropped: files that were already unpacked remain.
    ///
    /// # Errors
    /// 404: no such container or folder; 400: not a valid archive; 403: the path is read-only.
    pub async fn put_archive(
        &self,
        id: &str,
        folder: &str,
        tar: impl AsyncRead + Send + Unpin + 'static,
    ) -> Result<(), Error> {
        static OP: Op = Op::put("copy into a container").within(deadlines::TRANSFER_IDLE);
        let call =
            Call::new(&OP, format!("/containers/{}/archive", path::name(&OP, id)?)).query("path", folder).tar(tar);
        self.call(call, &[200]).await.map(drop)
    }
}
