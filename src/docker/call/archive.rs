//! Files in and out of a container, as tar archives.

use base64::Engine as _;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::path;
use crate::request::Call;
use crate::{Client, Error, PathStat, deadlines};

impl Client {
    /// `HEAD /containers/{id}/archive`: what stands at a path. 5 s for the head. Dropped: nothing is left behind.
    ///
    /// # Errors
    /// 404: no such container or path.
    pub async fn stat_path(&self, id: &str, file: &str) -> Result<PathStat, Error> {
        const NAME: &str = "look at a path in a container";
        let call = Call::head_of(NAME, format!("/containers/{}/archive", path::name(NAME, id)?)).query("path", file);
        let reply = self.call(call, &[200]).await?;
        let header =
            reply.header("x-docker-container-path-stat").ok_or_else(|| Error::nonsense(NAME, "it does not say"))?;
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(header)
            .map_err(|_| Error::nonsense(NAME, "what stands there is not base64"))?;
        serde_json::from_slice(&bytes).map_err(|error| Error::nonsense(NAME, error))
    }

    /// `GET /containers/{id}/archive`: a file or a folder as a tar archive, written to `into` as it comes; its size in bytes.
    /// 5 s for the head, at most 60 s of silence, at most `limit` bytes. Dropped: nothing is left behind.
    ///
    /// # Errors
    /// 404: no such container or path; [`Error::TooLarge`]; what `into` says when it takes no more ([`Error::Upload`]).
    pub async fn get_archive(
        &self,
        id: &str,
        file: &str,
        limit: usize,
        into: &mut (impl AsyncWrite + Unpin + Send),
    ) -> Result<u64, Error> {
        const NAME: &str = "copy from a container";
        let call = Call::get(NAME, format!("/containers/{}/archive", path::name(NAME, id)?)).query("path", file);
        let mut reply = self.call(call, &[200]).await?;
        let mut taken = 0;
        while let Some(piece) = reply.piece(Some(deadlines::TRANSFER_IDLE)).await? {
            taken += piece.len() as u64;
            if taken > limit as u64 {
                return Err(Error::TooLarge { call: NAME, limit });
            }
            into.write_all(&piece).await.map_err(|source| Error::Upload { call: NAME, source })?;
        }
        into.flush().await.map_err(|source| Error::Upload { call: NAME, source })?;
        Ok(taken)
    }

    /// `PUT /containers/{id}/archive`: unpacks a tar archive below a folder that exists. Not onto tmpfs mounts of a container
    /// that is not running, nor with a read-only root. At most 60 s of silence. Dropped: what was unpacked stays.
    ///
    /// # Errors
    /// 404: no such container or folder; 400 for a bad archive; 403 for a read-only place.
    pub async fn put_archive(
        &self,
        id: &str,
        folder: &str,
        tar: impl AsyncRead + Send + Unpin + 'static,
    ) -> Result<(), Error> {
        const NAME: &str = "copy into a container";
        let call = Call::put(NAME, format!("/containers/{}/archive", path::name(NAME, id)?))
            .within(deadlines::TRANSFER_IDLE)
            .query("path", folder)
            .tar(tar);
        self.call(call, &[200]).await.map(drop)
    }
}
