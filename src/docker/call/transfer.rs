//! Image transfers with progress: pull, import, load, build.
//!
//! The engine answers 200 when a transfer begins, so a failure arrives as a line of the stream:
//! every line is checked, and a stream that is cut is a failure too.

use std::collections::BTreeMap;
use std::io::Cursor;

use bytes::Bytes;
use tokio::io::AsyncRead;

use crate::client::Client;
use crate::deadlines;
use crate::error::Error;
use crate::op::Op;
use crate::registry::{Credentials, ImageName};
use crate::request::Call;
use crate::types::ProgressMessage;

/// Options of a build with the classic builder, which needs no session and still exists in Docker
/// 29.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuildOptions {
    /// `name:tag` of the result; no name if empty.
    pub tag: String,
    /// The Dockerfile's path inside the context; `Dockerfile` if empty.
    pub dockerfile: String,
    /// Labels of the resulting image.
    pub labels: BTreeMap<String, String>,
    /// Values for `ARG`. They remain visible in the image's history.
    pub build_args: BTreeMap<String, String>,
    /// The network of `RUN` steps, such as `none`; the engine's default if `None`.
    pub network_mode: Option<String>,
    /// Do not use cached steps.
    pub no_cache: bool,
    /// Memory limit of a `RUN` step, in bytes, without swap; no limit if `None`.
    pub memory: Option<i64>,
}

impl Client {
    /// `POST /images/create?fromImage=`: pulls from a registry. At most 60 s of silence.
    ///
    /// If dropped: the engine stops pulling and keeps complete layers.
    ///
    /// # Errors
    /// 404 (no such image, or no access to it) before the pull begins, [`Error::Reported`] after;
    /// 500: the registry cannot be reached or rejects the credentials.
    pub async fn pull_image(
        &self,
        image: &ImageName,
        credentials: Option<&Credentials>,
        progress: &mut (dyn FnMut(ProgressMessage) + Send),
    ) -> Result<(), Error> {
        static OP: Op = Op::post("pull an image").within(deadlines::TRANSFER_IDLE);
        let mut call =
            Call::new(&OP, "/images/create").query("fromImage", image.repository()).query("tag", image.tag_or_digest());
        if let Some(credentials) = credentials {
            call = call.header("x-registry-auth", credentials.header());
        }
        self.call(call, &[200]).await?.follow(deadlines::TRANSFER_IDLE, progress).await
    }

    /// `POST /images/create?fromSrc=-`: makes an image of one layer from a tar archive, which is
    /// streamed. `changes` are Dockerfile instructions such as `LABEL a=b`. At most 60 s of
    /// silence, also of the archive's reader.
    ///
    /// If dropped: the engine sees a cut archive and makes no image; if the whole archive had
    /// arrived, the image may appear.
    ///
    /// # Errors
    /// 500 or [`Error::Reported`]: not a valid archive; [`Error::Upload`]: reading it failed.
    pub async fn import_image(
        &self,
        repo: &str,
        tag: &str,
        changes: &[String],
        tar: impl AsyncRead + Send + Unpin + 'static,
        progress: &mut (dyn FnMut(ProgressMessage) + Send),
    ) -> Result<(), Error> {
        static OP: Op = Op::post("import an image").within(deadlines::TRANSFER_IDLE);
        let mut call = Call::new(&OP, "/images/create").query("fromSrc", "-").query("repo", repo).query("tag", tag);
        for change in changes {
            call = call.query("changes", change);
        }
        self.call(call.tar(tar), &[200]).await?.follow(deadlines::TRANSFER_IDLE, progress).await
    }

    /// `POST /images/load`: loads an archive written by `docker save`, with its image names. At
    /// most 60 s of silence.
    ///
    /// If dropped: complete layers and images remain.
    ///
    /// # Errors
    /// 500 or [`Error::Reported`]: not a valid archive; [`Error::Upload`]: reading it failed.
    pub async fn load_images(
        &self,
        tar: impl AsyncRead + Send + Unpin + 'static,
        progress: &mut (dyn FnMut(ProgressMessage) + Send),
    ) -> Result<(), Error> {
        static OP: Op = Op::post("load images").within(deadlines::TRANSFER_IDLE);
        let call = Call::new(&OP, "/images/load").flag("quiet", false).tar(tar);
        self.call(call, &[200]).await?.follow(deadlines::TRANSFER_IDLE, progress).await
    }

    /// `POST /build` with the classic builder: builds the tar archive `context_tar`, which contains
    /// the Dockerfile, and returns the image's id. At most 600 s of silence.
    ///
    /// If dropped: the engine cancels the build and removes its containers; complete steps stay in
    /// its cache.
    ///
    /// # Errors
    /// [`Error::Reported`] with the builder's message: a step failed.
    pub async fn build_image(
        &self,
        options: &BuildOptions,
        context_tar: Bytes,
        progress: &mut (dyn FnMut(ProgressMessage) + Send),
    ) -> Result<String, Error> {
        static OP: Op = Op::post("build an image").within(deadlines::BUILD_IDLE);
        let non_empty = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let json = |map: &BTreeMap<String, String>| (!map.is_empty()).then(|| serde_json::json!(map).to_string());
        let memory = options.memory.map(|bytes| bytes.to_string());
        let call = Call::new(&OP, "/build")
            .query("version", "1")
            .flag("rm", true)
            .flag("forcerm", true)
            .optional("t", non_empty(&options.tag))
            .optional("dockerfile", non_empty(&options.dockerfile))
            .optional("labels", json(&options.labels))
            .optional("buildargs", json(&options.build_args))
            .optional("networkmode", options.network_mode.as_deref())
            .optional("nocache", options.no_cache.then_some("1"))
            .optional("memory", memory.as_deref())
            .optional("memswap", memory.as_deref())
            .tar(Cursor::new(context_tar));
        let (mut full, mut short) = (None, None);
        let mut find_id = |line: ProgressMessage| {
            match line.image_id().map(str::to_owned) {
                id @ Some(_) if line.aux.is_some() => full = id,
                id @ Some(_) => short = id,
                None => {}
            }
            progress(line);
        };
        self.call(call, &[200]).await?.follow(deadlines::BUILD_IDLE, &mut find_id).await?;
        full.or(short).ok_or_else(|| Error::bad_reply(&OP, "the build ended without an id"))
    }
}
