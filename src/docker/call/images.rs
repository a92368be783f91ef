//! Images as objects: inspect, list, tag, remove, prune; and pull policies.

use serde::{Deserialize, Serialize};

use super::containers::require_label;
use crate::client::Client;
use crate::deadlines;
use crate::error::Error;
use crate::op::Op;
use crate::path;
use crate::registry::{Credentials, ImageName};
use crate::request::Call;
use crate::types::{Filters, ImageInfo, ImageSummary, ProgressMessage, Pruned};

/// Not a call of its own: [`Client::ensure_image`] reports its own failures under this name.
static FIND: Op = Op::get("find an image");

/// When an image is pulled from its registry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum PullPolicy {
    /// Before every use.
    Always,
    /// If the engine has no image of that name.
    #[default]
    IfMissing,
    /// Never: the image must be present.
    Never,
}

/// An image to ensure: its name, when to pull it, and with which login.
#[derive(Debug, Clone)]
pub struct Pull {
    pub image: ImageName,
    pub policy: PullPolicy,
    /// The login at the registry; anonymous if `None`.
    pub credentials: Option<Credentials>,
}

impl Client {
    /// `GET /images/{name}/json`. 5 s for the head. If dropped: no effect.
    ///
    /// # Errors
    /// 404: no such image.
    pub async fn inspect_image(&self, name: &str) -> Result<ImageInfo, Error> {
        static OP: Op = Op::get("inspect an image");
        let call = Call::new(&OP, format!("/images/{}/json", path::image(&OP, name)?));
        self.call(call, &[200]).await?.json().await
    }

    /// `GET /images/json`. 10 s for the head. If dropped: no effect.
    ///
    /// # Errors
    /// No error specific to this call.
    pub async fn list_images(&self, filters: &Filters) -> Result<Vec<ImageSummary>, Error> {
        static OP: Op = Op::get("list images").within(deadlines::LIST);
        let call = Call::new(&OP, "/images/json").optional("filters", filters.json());
        self.call(call, &[200]).await?.json().await
    }

    /// `POST /images/{name}/tag`. 5 s for the head. If dropped: the tag may exist; tagging again is
    /// harmless.
    ///
    /// # Errors
    /// 404: no such image.
    pub async fn tag_image(&self, name: &str, repo: &str, tag: &str) -> Result<(), Error> {
        static OP: Op = Op::post("tag an image");
        let call =
            Call::new(&OP, format!("/images/{}/tag", path::image(&OP, name)?)).query("repo", repo).query("tag", tag);
        self.call(call, &[201]).await.map(drop)
    }

    /// `DELETE /images/{name}`: removes a name, and with the last name the image. An absent image
    /// is a success. 60 s for the head. If dropped: the removal continues.
    ///
    /// # Errors
    /// 409: a container uses it.
    pub async fn remove_image(&self, name: &str, force: bool) -> Result<(), Error> {
        static OP: Op = Op::delete("remove an image").within(deadlines::REMOVE);
        let call = Call::new(&OP, format!("/images/{}", path::image(&OP, name)?)).flag("force", force);
        self.call(call, &[200, 404]).await.map(drop)
    }

    /// `DELETE /images/{name}?noprune=true`: like [`Client::remove_image`], but the images that it
    /// was made of stay, even if they have no name. 60 s for the head. If dropped: the removal
    /// continues.
    ///
    /// # Errors
    /// 409: a container uses it.
    pub async fn remove_image_alone(&self, name: &str) -> Result<(), Error> {
        static OP: Op = Op::delete("remove an image").within(deadlines::REMOVE);
        let call = Call::new(&OP, format!("/images/{}", path::image(&OP, name)?)).flag("noprune", true);
        self.call(call, &[200, 404]).await.map(drop)
    }

    /// `POST /images/prune`: removes images without a name, or with the filter `dangling=false` all
    /// that no container uses. A label filter is required: without one, images of other programs
    /// would be removed. 300 s for the head. If dropped: it continues.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] without a label; 409: another prune is running.
    pub async fn prune_images(&self, filters: &Filters) -> Result<Pruned, Error> {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        struct Report {
            images_deleted: Option<Vec<Deleted>>,
            space_reclaimed: Option<i64>,
        }
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        struct Deleted {
            deleted: Option<String>,
        }
        static OP: Op = Op::post("prune images").within(deadlines::PRUNE);
        require_label(&OP, filters)?;
        let call = Call::new(&OP, "/images/prune").optional("filters", filters.json());
        let report: Report = self.call(call, &[200]).await?.json().await?;
        let deleted = report.images_deleted.unwrap_or_default();
        Ok(Pruned {
            removed: deleted.into_iter().filter_map(|image| image.deleted).collect(),
            bytes: report.space_reclaimed.unwrap_or_default(),
        })
    }

    /// Returns the image of a name, pulled according to its policy. An image named by its digest is
    /// checked against the digest, and is not pulled if present, because it cannot have changed.
    ///
    /// # Errors
    /// 404: it is absent and must not be pulled; the errors of [`Client::pull_image`];
    /// [`Error::BadReply`]: the image has another digest.
    pub async fn ensure_image(
        &self,
        pull: &Pull,
        progress: &mut (dyn FnMut(ProgressMessage) + Send),
    ) -> Result<ImageInfo, Error> {
        let name = pull.image.to_string();
        let present = match self.inspect_image(&name).await {
            Err(error) if error.is_not_found() => None,
            other => Some(other?),
        };
        let pinned = pull.image.digest().is_some();
        match (pull.policy, present) {
            (PullPolicy::Never | PullPolicy::IfMissing, Some(image)) => return check_digest(&pull.image, image),
            (PullPolicy::Always, Some(image)) if pinned => return check_digest(&pull.image, image),
            (PullPolicy::Never, None) => {
                let message = format!("No such image: {name}, and its pull policy is never");
                return Err(Error::Status { call: &FIND, status: 404, message });
            }
            _ => {}
        }
        self.pull_image(&pull.image, pull.credentials.as_ref(), progress).await?;
        check_digest(&pull.image, self.inspect_image(&name).await?)
    }
}

/// Returns the image, unless its name has a digest that is not the image's.
fn check_digest(name: &ImageName, image: ImageInfo) -> Result<ImageInfo, Error> {
    let Some(digest) = name.digest() else { return Ok(image) };
    let matches = |text: &String| text.rsplit_once('@').is_some_and(|(_, found)| found == digest);
    if image.repo_digests.iter().any(matches) || image.id == digest {
        return Ok(image);
    }
    let message = format!("it has the digests {:?}, but {digest} was requested", image.repo_digests);
    Err(Error::bad_reply(&FIND, message))
}
