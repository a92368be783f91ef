//! Containers as objects: create, inspect, list, update, remove, prune.

use serde::Deserialize;

use crate::client::Client;
use crate::deadlines;
use crate::error::Error;
use crate::op::Op;
use crate::path;
use crate::request::Call;
use crate::types::{
    ContainerInfo, ContainerSpec, ContainerSummary, Created, Filters, Pruned, Removal, UpdateResources,
};

impl Client {
    /// `POST /containers/create`. Never pulls. 15 s for the head.
    ///
    /// The only call in this file that is not idempotent. If its reply is lost, the container is
    /// inspected by its name and returned if it has the requested labels ([`Created::recovered`]).
    /// So make names unique: a second attempt under the same name is a conflict instead of a second
    /// container.
    ///
    /// If dropped after the request was sent: the container may exist; remove it by `name`.
    ///
    /// # Errors
    /// 404: no such image. 409: the name is in use.
    pub async fn create_container(&self, name: &str, spec: &ContainerSpec) -> Result<Created, Error> {
        static OP: Op = Op::post("create a container").within(deadlines::CREATE);
        let name = path::name(&OP, name)?;
        let call = Call::new(&OP, "/containers/create").query("name", name).json(spec)?;
        let created = async { self.call(call, &[201]).await?.json::<Created>().await }.await;
        match created {
            Ok(created) if created.id.is_empty() => Err(Error::bad_reply(&OP, "it has no container id")),
            Err(lost) if lost.may_have_happened() && lost.status().is_none() => {
                match self.inspect_container(name).await {
                    Ok(found) if has_labels(&found, spec) => {
                        Ok(Created { id: found.id, warnings: Vec::new(), recovered: true })
                    }
                    _ => Err(lost),
                }
            }
            // Podman reports the conflict as a 500
            Err(Error::Status { status: 500, message, .. }) if message.contains("name is already in use") => {
                Err(Error::Status { call: &OP, status: 409, message })
            }
            other => other,
        }
    }

    /// `GET /containers/{id}/json`. 5 s for the head. If dropped: no effect.
    ///
    /// # Errors
    /// 404: no such container. A timeout means that something holds the container's lock, often
    /// output that no client reads.
    pub async fn inspect_container(&self, id: &str) -> Result<ContainerInfo, Error> {
        static OP: Op = Op::get("inspect a container");
        let call = Call::new(&OP, format!("/containers/{}/json", path::name(&OP, id)?));
        self.call(call, &[200]).await?.json().await
    }

    /// `GET /containers/json`; `all` includes containers that are not running. 10 s for the head.
    /// If dropped: no effect.
    ///
    /// # Errors
    /// No error specific to this call.
    pub async fn list_containers(&self, all: bool, filters: &Filters) -> Result<Vec<ContainerSummary>, Error> {
        static OP: Op = Op::get("list containers").within(deadlines::LIST).immediate();
        let call = Call::new(&OP, "/containers/json").flag("all", all).optional("filters", filters.json());
        self.call(call, &[200]).await?.json().await
    }

    /// `POST /containers/{id}/update`: changes limits. Returns the engine's warnings; a warning
    /// means that a limit was ignored. 15 s for the head.
    ///
    /// If dropped: the limits may have changed; set them again, or remove the container.
    ///
    /// # Errors
    /// 404: no such container; 409: it is being removed; 500: the kernel refuses (on cgroup v1,
    /// memory below the current usage).
    pub async fn update_container(&self, id: &str, resources: &UpdateResources) -> Result<Vec<String>, Error> {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        struct Updated {
            warnings: Option<Vec<String>>,
        }
        static OP: Op = Op::post("update a container").within(deadlines::UPDATE);
        let call = Call::new(&OP, format!("/containers/{}/update", path::name(&OP, id)?)).json(resources)?;
        let updated: Updated = self.call(call, &[200]).await?.json().await?;
        Ok(updated.warnings.unwrap_or_default())
    }

    /// `DELETE /containers/{id}`, with its anonymous volumes; `force` kills it first. 60 s for the
    /// head.
    ///
    /// Close its attach first: output that no client reads can block the removal indefinitely. If
    /// dropped: the removal continues.
    ///
    /// # Errors
    /// 409: it is running and `force` is false. 500 (a device is busy) is retryable; the name stays
    /// in use until then.
    pub async fn remove_container(&self, id: &str, force: bool) -> Result<Removal, Error> {
        static OP: Op = Op::delete("remove a container").within(deadlines::REMOVE);
        let call = Call::new(&OP, format!("/containers/{}", path::name(&OP, id)?)).flag("v", true).flag("force", force);
        match self.call(call, &[204, 404]).await {
            Ok(reply) if reply.status() == 404 => Ok(Removal::AlreadyGone),
            Ok(_) => Ok(Removal::Removed),
            // the text is the same from Docker 1.12 to 29
            Err(Error::Status { status: 409, message, .. }) if message.contains("already in progress") => {
                Ok(Removal::InProgress)
            }
            Err(error) => Err(error),
        }
    }

    /// `POST /containers/prune`: removes stopped containers. A label filter is required: without
    /// one, containers of other programs would be removed. 300 s for the head. If dropped: it
    /// continues.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] without a label; 409: another prune is running.
    pub async fn prune_containers(&self, filters: &Filters) -> Result<Pruned, Error> {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        struct Report {
            containers_deleted: Option<Vec<String>>,
            space_reclaimed: Option<i64>,
        }
        static OP: Op = Op::post("prune containers").within(deadlines::PRUNE);
        require_label(&OP, filters)?;
        let call = Call::new(&OP, "/containers/prune").optional("filters", filters.json());
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

/// Refuses a prune without a label filter: it would remove objects of other programs.
pub(super) fn require_label(call: &'static Op, filters: &Filters) -> Result<(), Error> {
    match filters.has("label") {
        true => Ok(()),
        false => {
            Err(Error::invalid(call, "a label filter is required; without one, objects of others would be removed"))
        }
    }
}
