//! Images: inspect, list, tag, remove, import, pull, build.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::Method;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::docker::reply::{expect, follow, json};
use crate::docker::request::{Call, encode, whole};
use crate::docker::{Client, Error, Filters, ImageInfo, ImageSummary, Progress, deadlines};

/// A build by the engine's classic builder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuildOptions {
    /// `repo:tag` of the result.
    pub tag: String,
    /// The Dockerfile's path in the context; `Dockerfile` when empty.
    pub dockerfile: String,
    /// Labels of the result.
    pub labels: BTreeMap<String, String>,
    /// Build arguments.
    pub build_args: BTreeMap<String, String>,
    /// The network of RUN steps; the engine's default when absent.
    pub network_mode: Option<String>,
    /// Whether to run every step again.
    pub no_cache: bool,
}

/// `repo/name:tag` in a path: slashes and colons stay.
fn in_path(name: &str) -> String {
    name.split('/').map(|part| encode(part).replace("%3A", ":").replace("%40", "@")).collect::<Vec<_>>().join("/")
}

impl Client {
    /// `GET /images/{name}/json`.
    ///
    /// # Errors
    /// 404 when there is none; see [`Error`].
    pub async fn inspect_image(&self, name: &str) -> Result<ImageInfo, Error> {
        const NAME: &str = "inspect an image";
        let path = format!("/images/{}/json", in_path(name));
        let reply = self.send(Call::new(NAME, Method::GET, path, deadlines::LOOK)).await?;
        json(NAME, expect(NAME, reply, &[200]).await?).await
    }

    /// `GET /images/json`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn list_images(&self, filters: &Filters) -> Result<Vec<ImageSummary>, Error> {
        const NAME: &str = "list images";
        let call = Call::new(NAME, Method::GET, "/images/json", deadlines::LOOK * 2).query("filters", filters.json());
        json(NAME, expect(NAME, self.send(call).await?, &[200]).await?).await
    }

    /// `POST /images/{name}/tag`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn tag_image(&self, name: &str, repo: &str, tag: &str) -> Result<(), Error> {
        const NAME: &str = "tag an image";
        let path = format!("/images/{}/tag", in_path(name));
        let call = Call::new(NAME, Method::POST, path, deadlines::LOOK).query("repo", repo).query("tag", tag);
        expect(NAME, self.send(call).await?, &[201]).await.map(drop)
    }

    /// `DELETE /images/{name}`. One that is not there is a success.
    ///
    /// # Errors
    /// 409 when a container uses it; see [`Error`].
    pub async fn remove_image(&self, name: &str, force: bool) -> Result<(), Error> {
        const NAME: &str = "remove an image";
        let path = format!("/images/{}", in_path(name));
        let call =
            Call::new(NAME, Method::DELETE, path, deadlines::REMOVE).query("force", if force { "1" } else { "0" });
        expect(NAME, self.send(call).await?, &[200, 404]).await.map(drop)
    }

    /// `POST /images/create?fromSrc=-`: a root file system as a tar stream becomes an image.
    ///
    /// # Errors
    /// A bad tar is a 500; an error may come inside a 200 too; see [`Error`].
    pub async fn import_image(
        &self,
        repo: &str,
        tag: &str,
        changes: &[String],
        tar: impl AsyncRead + Send + Unpin + 'static,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<(), Error> {
        const NAME: &str = "import an image";
        let pieces = futures_util::stream::unfold(tar, |mut tar| async move {
            let mut piece = vec![0; 64 * 1024];
            match tar.read(&mut piece).await {
                Ok(0) => None,
                Ok(n) => {
                    piece.truncate(n);
                    Some((Ok(Frame::data(Bytes::from(piece))), tar))
                }
                Err(error) => Some((Err(error), tar)),
            }
        });
        let body = BodyExt::boxed_unsync(StreamBody::new(pieces));
        let mut call = Call::new(NAME, Method::POST, "/images/create", deadlines::TRANSFER)
            .query("fromSrc", "-")
            .query("repo", repo)
            .query("tag", tag)
            .tar(body);
        for change in changes {
            call = call.query("changes", change);
        }
        follow(NAME, expect(NAME, self.send(call).await?, &[200]).await?, progress).await
    }

    /// `POST /images/create?fromImage=`: pulls from a registry. Dropping the future ends the pull.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn pull_image(
        &self,
        name: &str,
        tag: &str,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<(), Error> {
        const NAME: &str = "pull an image";
        let call = Call::new(NAME, Method::POST, "/images/create", deadlines::TRANSFER)
            .query("fromImage", name)
            .query("tag", tag);
        follow(NAME, expect(NAME, self.send(call).await?, &[200]).await?, progress).await
    }

    /// `POST /build` with the classic builder: the id of what was built. Dropping the future ends the build.
    ///
    /// # Errors
    /// A step that fails is [`Error::Reported`] with the engine's words.
    pub async fn build_image(
        &self,
        options: &BuildOptions,
        context_tar: Bytes,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<String, Error> {
        const NAME: &str = "build an image";
        let object = |map: &BTreeMap<String, String>| serde_json::to_string(map).unwrap_or_default();
        let mut call = Call::new(NAME, Method::POST, "/build", deadlines::TRANSFER)
            .query("t", options.tag.clone())
            .query("version", "1")
            .query("rm", "1")
            .query("forcerm", "1")
            .query("labels", object(&options.labels))
            .query("buildargs", object(&options.build_args))
            .tar(whole(context_tar));
        if !options.dockerfile.is_empty() {
            call = call.query("dockerfile", options.dockerfile.clone());
        }
        if let Some(mode) = &options.network_mode {
            call = call.query("networkmode", mode.clone());
        }
        if options.no_cache {
            call = call.query("nocache", "1");
        }
        let reply = expect(NAME, self.send(call).await?, &[200]).await?;
        let mut built = None;
        let mut look = |line: Progress| {
            if let Some(id) = line.aux.as_ref().and_then(|aux| aux.get("ID")).and_then(|id| id.as_str()) {
                built = Some(id.to_owned());
            }
            progress(line);
        };
        follow(NAME, reply, &mut look).await?;
        built.ok_or_else(|| Error::Nonsense { call: NAME, message: "the build ended without an id".to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_name_keeps_its_slashes_and_colons_in_a_path() {
        assert_eq!(in_path("assay/python:0a1b"), "assay/python:0a1b");
        assert_eq!(in_path("sha256:0a1b"), "sha256:0a1b");
        assert_eq!(in_path("a?b#c"), "a%3Fb%23c");
    }
}
