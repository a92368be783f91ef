//! Containers as things: create, inspect, list, rename, update, remove, prune.

use serde::Deserialize;

use crate::path;
use crate::request::Call;
use crate::{
    Client, ContainerInfo, ContainerSpec, ContainerSummary, Created, Error, Filters, Pruned, Removal, UpdateResources,
    deadlines,
};

impl Client {
    /// `POST /containers/create`. Never pulls. 15 s for the head.
    ///
    /// The one call here that is not idempotent. When its reply is lost, the container is looked for by its name, and is
    /// the answer when it is there with the labels that were asked for ([`Created::recovered`]). So make names unique: a
    /// second try under the same name is a conflict rather than a second container.
    ///
    /// Dropped after the request left: the container may exist; remove it by `name`.
    ///
    /// # Errors
    /// 404: no such image. 409: the name is taken.
    pub async fn create_container(&self, name: &str, spec: &ContainerSpec) -> Result<Created, Error> {
        const NAME: &str = "create a container";
        let name = path::name(NAME, name)?;
        let call = Call::post(NAME, "/containers/create").within(deadlines::CREATE).query("name", name).json(spec)?;
        let created = async { self.call(call, &[201]).await?.json::<Created>().await }.await;
        match created {
            Ok(created) if created.id.is_empty() => Err(Error::nonsense(NAME, "it names no container")),
            Err(lost) if lost.may_have_happened() && lost.status().is_none() => {
                match self.inspect_container(name).await {
                    Ok(found) if has_labels(&found, spec) => {
                        Ok(Created { id: found.id, warnings: Vec::new(), recovered: true })
                    }
                    _ => Err(lost),
                }
            }
            // Podman's way of saying it
            Err(Error::Status { status: 500, message, .. }) if message.contains("name is already in use") => {
                Err(Error::Status { call: NAME, status: 409, message })
            }
            other => other,
        }
    }

    /// `GET /containers/{id}/json`. 5 s for the head. Dropped: nothing is left behind.
    ///
    /// # Errors
    /// 404 when it is gone. A passed deadline means that something holds the container's lock, often output that nobody reads.
    pub async fn inspect_container(&self, id: &str) -> Result<ContainerInfo, Error> {
        const NAME: &str = "inspect a container";
        let call = Call::get(NAME, format!("/containers/{}/json", path::name(NAME, id)?));
        self.call(call, &[200]).await?.json().await
    }

    /// `GET /containers/json`; with `all`, those too that don't run. 10 s for the head. Dropped: nothing is left behind.
    ///
    /// # Errors
    /// The usual.
    pub async fn list_containers(&self, all: bool, filters: &Filters) -> Result<Vec<ContainerSummary>, Error> {
        let call = Call::get("list containers", "/containers/json")
            .within(deadlines::LIST)
            .flag("all", all)
            .maybe("filters", filters.json());
        self.call(call, &[200]).await?.json().await
    }

    /// `POST /containers/{id}/rename`. 5 s for the head. Dropped: it may have either name.
    ///
    /// # Errors
    /// 404; 409 when the name is taken.
    pub async fn rename_container(&self, id: &str, name: &str) -> Result<(), Error> {
        const NAME: &str = "rename a container";
        let call = Call::post(NAME, format!("/containers/{}/rename", path::name(NAME, id)?))
            .query("name", path::name(NAME, name)?);
        self.call(call, &[204]).await.map(drop)
    }

    /// `POST /containers/{id}/update`: the engine's warnings, which mean that a limit was dropped. 15 s for the head.
    ///
    /// Dropped: the change may happen or not; set the limits again, or destroy the container.
    ///
    /// # Errors
    /// 404; 409 when it is being removed; 500 when the kernel refuses (memory below what is in use, on cgroup v1).
    pub async fn update_container(&self, id: &str, resources: &UpdateResources) -> Result<Vec<String>, Error> {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        struct Updated {
            warnings: Option<Vec<String>>,
        }
        const NAME: &str = "update a container";
        let call = Call::post(NAME, format!("/containers/{}/update", path::name(NAME, id)?))
            .within(deadlines::UPDATE)
            .json(resources)?;
        let updated: Updated = self.call(call, &[200]).await?.json().await?;
        Ok(updated.warnings.unwrap_or_default())
    }

    /// `DELETE /containers/{id}`, its anonymous volumes too; with `force` it is killed first. 60 s for the head.
    ///
    /// Close its attach first: output that nobody reads can block the removal for ever. Dropped: the removal goes on.
    ///
    /// # Errors
    /// 409: it runs, and `force` was not given. 500 (a device is busy) is worth another try; the name stays taken until then.
    pub async fn remove_container(&self, id: &str, force: bool) -> Result<Removal, Error> {
        const NAME: &str = "remove a container";
        let call = Call::delete(NAME, format!("/containers/{}", path::name(NAME, id)?))
            .within(deadlines::REMOVE)
            .flag("v", true)
            .flag("force", force);
        match self.call(call, &[204, 404]).await {
            Ok(reply) if reply.status() == 404 => Ok(Removal::AlreadyGone),
            Ok(_) => Ok(Removal::Removed),
            // the same words from 1.12 to 29
            Err(Error::Status { status: 409, message, .. }) if message.contains("already in progress") => {
                Ok(Removal::InProgress)
            }
            Err(error) => Err(error),
        }
    }

    /// `POST /containers/prune`: removes stopped containers. Only by label: one without would take everybody's. 300 s for the
    /// head. Dropped: it goes on.
    ///
    /// # Errors
    /// [`Error::Refused`] without a label; 409 when another prune is under way.
    pub async fn prune_containers(&self, filters: &Filters) -> Result<Pruned, Error> {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        struct Report {
            containers_deleted: Option<Vec<String>>,
            space_reclaimed: Option<i64>,
        }
        const NAME: &str = "prune containers";
        only_by_label(NAME, filters)?;
        let call = Call::post(NAME, "/containers/prune").within(deadlines::LAYERS).maybe("filters", filters.json());
        let report: Report = self.call(call, &[200]).await?.json().await?;
        Ok(Pruned {
            removed: report.containers_deleted.unwrap_or_default(),
            bytes: report.space_reclaimed.unwrap_or_default(),
        })
    }
}

fn has_labels(found: &ContainerInfo, spec: &ContainerSpec) -> bool {
    let labels = found.config.labels.as_ref();
    spec.labels.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
}

/// A prune without a label takes what belongs to others.
pub(super) fn only_by_label(call: &'static str, filters: &Filters) -> Result<(), Error> {
    match filters.names("label") {
        true => Ok(()),
        false => Err(Error::Refused {
            call,
            message: "a label must say whose; without one, everybody's would go".to_owned(),
        }),
    }
}
