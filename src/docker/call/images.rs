//! Images at rest: inspect, list, history, tag, remove, prune, commit; and what pull policies make of a name.

use serde::{Deserialize, Serialize};

use super::containers::only_by_label;
use crate::path;
use crate::registry::{Credentials, ImageName};
use crate::request::Call;
use crate::{Client, Error, Filters, HistoryRow, ImageInfo, ImageSummary, Progress, Pruned, deadlines};

/// When an image is asked of its registry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PullPolicy {
    /// Before every use.
    Always,
    /// When the engine has none of that name.
    #[default]
    IfMissing,
    /// Never: it must be there.
    Never,
}

/// A pull: what, when, and as whom.
#[derive(Debug, Clone)]
pub struct Pull {
    /// The image.
    pub image: ImageName,
    /// When it is pulled.
    pub policy: PullPolicy,
    /// As whom; as nobody when absent.
    pub credentials: Option<Credentials>,
}

impl Client {
    /// `GET /images/{name}/json`. 5 s for the head. Dropped: nothing is left behind.
    ///
    /// # Errors
    /// 404 when there is none.
    pub async fn inspect_image(&self, name: &str) -> Result<ImageInfo, Error> {
        const NAME: &str = "inspect an image";
        let call = Call::get(NAME, format!("/images/{}/json", path::image(NAME, name)?));
        self.call(call, &[200]).await?.json().await
    }

    /// `GET /images/json`. 10 s for the head. Dropped: nothing is left behind.
    ///
    /// # Errors
    /// The usual.
    pub async fn list_images(&self, filters: &Filters) -> Result<Vec<ImageSummary>, Error> {
        let call = Call::get("list images", "/images/json").within(deadlines::LIST).maybe("filters", filters.json());
        self.call(call, &[200]).await?.json().await
    }

    /// `GET /images/{name}/history`: its layers, newest first. 5 s for the head. Dropped: nothing is left behind.
    ///
    /// # Errors
    /// 404 when there is none.
    pub async fn image_history(&self, name: &str) -> Result<Vec<HistoryRow>, Error> {
        const NAME: &str = "read an image's history";
        let call = Call::get(NAME, format!("/images/{}/history", path::image(NAME, name)?));
        self.call(call, &[200]).await?.json().await
    }

    /// `POST /images/{name}/tag`. 5 s for the head. Dropped: the name may be given or not; asking again is harmless.
    ///
    /// # Errors
    /// 404 when there is none.
    pub async fn tag_image(&self, name: &str, repo: &str, tag: &str) -> Result<(), Error> {
        const NAME: &str = "tag an image";
        let call =
            Call::post(NAME, format!("/images/{}/tag", path::image(NAME, name)?)).query("repo", repo).query("tag", tag);
        self.call(call, &[201]).await.map(drop)
    }

    /// `DELETE /images/{name}`: a name, and the image with its last one; one that is not there is a success. 60 s for the
    /// head. Dropped: the removal goes on.
    ///
    /// # Errors
    /// 409 when a container uses it.
    pub async fn remove_image(&self, name: &str, force: bool) -> Result<(), Error> {
        const NAME: &str = "remove an image";
        let call = Call::delete(NAME, format!("/images/{}", path::image(NAME, name)?))
            .within(deadlines::REMOVE)
            .flag("force", force);
        self.call(call, &[200, 404]).await.map(drop)
    }

    /// `POST /images/prune`: removes images without a name, or with the filter `dangling=false` all that no container uses.
    /// Only by label: one without would take everybody's. 300 s for the head. Dropped: it goes on.
    ///
    /// # Errors
    /// [`Error::Refused`] without a label; 409 when another prune is under way.
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
        const NAME: &str = "prune images";
        only_by_label(NAME, filters)?;
        let call = Call::post(NAME, "/images/prune").within(deadlines::LAYERS).maybe("filters", filters.json());
        let report: Report = self.call(call, &[200]).await?.json().await?;
        let deleted = report.images_deleted.unwrap_or_default();
        Ok(Pruned {
            removed: deleted.into_iter().filter_map(|image| image.deleted).collect(),
            bytes: report.space_reclaimed.unwrap_or_default(),
        })
    }

    /// `POST /commit`: a container's file system as an image; its id. `changes` are Dockerfile instructions. The container is
    /// paused meanwhile. 300 s for the head. Dropped: the image may appear.
    ///
    /// # Errors
    /// 404: no such container.
    pub async fn commit_container(&self, id: &str, repo: &str, tag: &str, changes: &[String]) -> Result<String, Error> {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        struct Committed {
            id: String,
        }
        const NAME: &str = "commit a container";
        let mut call = Call::post(NAME, "/commit")
            .within(deadlines::LAYERS)
            .query("container", path::name(NAME, id)?)
            .query("repo", repo)
            .query("tag", tag)
            .flag("pause", true);
        for change in changes {
            call = call.query("changes", change);
        }
        // the body is a container's configuration, and must be one
        let call = call.json(&serde_json::json!({}))?;
        let committed: Committed = self.call(call, &[201]).await?.json().await?;
        Ok(committed.id)
    }

    /// The image of a name, pulled as its policy says. One that is named by its digest is checked against it, and is never
    /// pulled when it is there: it can't have changed.
    ///
    /// # Errors
    /// 404 when it is not there and not to be pulled; what a pull ends with; [`Error::Nonsense`] for another digest.
    pub async fn ensure_image(
        &self,
        pull: &Pull,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<ImageInfo, Error> {
        let name = pull.image.to_string();
        let there = match self.inspect_image(&name).await {
            Err(error) if error.is_not_found() => None,
            other => Some(other?),
        };
        let pinned = pull.image.digest().is_some();
        match (pull.policy, there) {
            (PullPolicy::Never | PullPolicy::IfMissing, Some(image)) => return pinned_to(&pull.image, image),
            (PullPolicy::Always, Some(image)) if pinned => return pinned_to(&pull.image, image),
            (PullPolicy::Never, None) => {
                let message = format!("No such image: {name}, and its pull policy is never");
                return Err(Error::Status { call: "find an image", status: 404, message });
            }
            _ => {}
        }
        self.pull_image(&pull.image, pull.credentials.as_ref(), progress).await?;
        pinned_to(&pull.image, self.inspect_image(&name).await?)
    }
}

/// The image, when it has the digest that its name promises.
fn pinned_to(name: &ImageName, image: ImageInfo) -> Result<ImageInfo, Error> {
    let Some(digest) = name.digest() else { return Ok(image) };
    let bears = |text: &String| text.rsplit_once('@').is_some_and(|(_, found)| found == digest);
    if image.repo_digests.iter().any(bears) || image.id == digest {
        return Ok(image);
    }
    let message = format!("it has the digests {:?}, and {digest} was asked for", image.repo_digests);
    Err(Error::nonsense("find an image", message))
}
