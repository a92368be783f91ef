//! Images on the move: pull, import, load, build, with their progress.
//!
//! All answer 200 as soon as they begin, so a failure arrives as a line of the stream: every line is searched for one, and a
//! stream that is cut is a failure too.

use std::collections::BTreeMap;
use std::io::Cursor;

use bytes::Bytes;
use tokio::io::AsyncRead;

use crate::registry::{Credentials, ImageName};
use crate::request::Call;
use crate::{Client, Error, Progress, deadlines};

/// A build by the engine's classic builder, which needs no session of its own and is still there in 29.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuildOptions {
    /// `name:tag` for the result; empty for none.
    pub tag: String,
    /// The Dockerfile's path inside the context; empty means `Dockerfile`.
    pub dockerfile: String,
    /// Labels of the result.
    pub labels: BTreeMap<String, String>,
    /// Values for `ARG`. They stay visible in the image's history.
    pub build_args: BTreeMap<String, String>,
    /// The network of `RUN` steps, such as `none`; the engine's default when absent.
    pub network_mode: Option<String>,
    /// Build every step anew.
    pub no_cache: bool,
    /// Memory of a `RUN` step, in bytes, without swap; no limit when absent.
    pub memory: Option<i64>,
}

impl Client {
    /// `POST /images/create?fromImage=`: pulls from a registry. At most 60 s of silence.
    ///
    /// Dropped: the engine stops pulling and keeps the layers that were done.
    ///
    /// # Errors
    /// 404 (no such image, or no right to it) before it begins, [`Error::Reported`] after; 500 when the registry is not
    /// reached or does not accept the credentials.
    pub async fn pull_image(
        &self,
        image: &ImageName,
        credentials: Option<&Credentials>,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<(), Error> {
        let mut call = Call::post("pull an image", "/images/create")
            .within(deadlines::TRANSFER_IDLE)
            .query("fromImage", image.repository())
            .query("tag", image.tag_or_digest());
        if let Some(credentials) = credentials {
            call = call.header("x-registry-auth", credentials.header());
        }
        self.call(call, &[200]).await?.follow(deadlines::TRANSFER_IDLE, progress).await
    }

    /// `POST /images/create?fromSrc=-`: an image of one layer out of a tar archive, which is streamed. `changes` are
    /// Dockerfile instructions such as `LABEL a=b`. At most 60 s of silence, of the archive's reader as well.
    ///
    /// Dropped: the engine sees a cut archive and makes no image; if all of it had arrived, the image may appear.
    ///
    /// # Errors
    /// 500 or [`Error::Reported`] for a bad archive; [`Error::Upload`] for one that can't be read.
    pub async fn import_image(
        &self,
        repo: &str,
        tag: &str,
        changes: &[String],
        tar: impl AsyncRead + Send + Unpin + 'static,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<(), Error> {
        let mut call = Call::post("import an image", "/images/create")
            .within(deadlines::TRANSFER_IDLE)
            .query("fromSrc", "-")
            .query("repo", repo)
            .query("tag", tag);
        for change in changes {
            call = call.query("changes", change);
        }
        self.call(call.tar(tar), &[200]).await?.follow(deadlines::TRANSFER_IDLE, progress).await
    }

    /// `POST /images/load`: what `docker save` wrote, with all its names. At most 60 s of silence.
    ///
    /// Dropped: layers and images that were done stay.
    ///
    /// # Errors
    /// 500 or [`Error::Reported`] for a bad archive; [`Error::Upload`] for one that can't be read.
    pub async fn load_images(
        &self,
        tar: impl AsyncRead + Send + Unpin + 'static,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<(), Error> {
        let call =
            Call::post("load images", "/images/load").within(deadlines::TRANSFER_IDLE).flag("quiet", false).tar(tar);
        self.call(call, &[200]).await?.follow(deadlines::TRANSFER_IDLE, progress).await
    }

    /// `POST /build` with the classic builder, out of a tar archive with a Dockerfile in it: the id of what was built. At most
    /// 600 s of silence.
    ///
    /// Dropped: the engine cancels the build and removes its containers; steps that were done stay in its cache.
    ///
    /// # Errors
    /// [`Error::Reported`] for a step that failed, with the builder's words.
    pub async fn build_image(
        &self,
        options: &BuildOptions,
        context_tar: Bytes,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<String, Error> {
        const NAME: &str = "build an image";
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let object = |map: &BTreeMap<String, String>| (!map.is_empty()).then(|| serde_json::json!(map).to_string());
        let memory = options.memory.map(|bytes| bytes.to_string());
        let call = Call::post(NAME, "/build")
            .within(deadlines::BUILD_IDLE)
            .query("version", "1")
            .flag("rm", true)
            .flag("forcerm", true)
            .maybe("t", some(&options.tag))
            .maybe("dockerfile", some(&options.dockerfile))
            .maybe("labels", object(&options.labels))
            .maybe("buildargs", object(&options.build_args))
            .maybe("networkmode", options.network_mode.as_deref())
            .maybe("nocache", options.no_cache.then_some("1"))
            .maybe("memory", memory.as_deref())
            .maybe("memswap", memory.as_deref())
            .tar(Cursor::new(context_tar));
        let (mut full, mut short) = (None, None);
        let mut look = |line: Progress| {
            match line.image_id().map(str::to_owned) {
                id @ Some(_) if line.aux.is_some() => full = id,
                id @ Some(_) => short = id,
                None => {}
            }
            progress(line);
        };
        self.call(call, &[200]).await?.follow(deadlines::BUILD_IDLE, &mut look).await?;
        full.or(short).ok_or_else(|| Error::nonsense(NAME, "the build ended without an id"))
    }
}
