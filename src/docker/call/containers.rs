//! Containers: create, attach, start, wait, kill, update, inspect, list, remove.

use http::Method;

use crate::docker::reply::{expect, json, json_patiently};
use crate::docker::request::{Call, checked};
use crate::docker::types::{Updated, Waited};
use crate::docker::{
    Client, ContainerInfo, ContainerSpec, ContainerSummary, Created, Error, Filters, Hijacked, UpdateResources,
    deadlines,
};

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitCondition {
    /// It doesn't run (a created one doesn't).
    NotRunning,
    /// Its next end.
    NextExit,
    /// It is gone.
    Removed,
}

impl WaitCondition {
    fn as_str(self) -> &'static str {
        match self {
            WaitCondition::NotRunning => "not-running",
            WaitCondition::NextExit => "next-exit",
            WaitCondition::Removed => "removed",
        }
    }
}

/// How a removal went. All three are success; the last one is not finished yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// It is gone now.
    Removed,
    /// It was gone already.
    AlreadyGone,
    /// Somebody else is removing it: look again later, don't ask again at once.
    InProgress,
}

impl Client {
    /// `POST /containers/create`. The one call that is not idempotent: choose a unique name, and a create whose reply
    /// was lost can be found by it. Dropping the future does not undo it.
    ///
    /// # Errors
    /// 404 when the image is missing, 409 when the name is taken; see [`Error`].
    pub async fn create_container(&self, name: &str, spec: &ContainerSpec) -> Result<Created, Error> {
        const NAME: &str = "create a container";
        let call = Call::new(NAME, Method::POST, "/containers/create", deadlines::CREATE)
            .query("name", checked(NAME, name)?)
            .json(spec)?;
        json(NAME, expect(NAME, self.send(call).await?, &[201]).await?).await
    }

    /// `POST /containers/{id}/attach`, both ways. Attach before the start, once, and always drain (ENGINE 1.8).
    ///
    /// # Errors
    /// Anything but a 101; see [`Error`].
    pub async fn attach(&self, id: &str) -> Result<Hijacked, Error> {
        const NAME: &str = "attach to a container";
        let path = format!("/containers/{}/attach", checked(NAME, id)?);
        let call = Call::new(NAME, Method::POST, path, deadlines::ATTACH)
            .query("stream", "1")
            .query("stdin", "1")
            .query("stdout", "1")
            .query("stderr", "1")
            .header("Connection", "Upgrade")
            .header("Upgrade", "tcp");
        Hijacked::take(NAME, self.send(call).await?).await
    }

    /// `POST /containers/{id}/start`. A container that runs already is a success.
    ///
    /// # Errors
    /// 400 or 404 are never worth a retry; see [`Error`].
    pub async fn start_container(&self, id: &str) -> Result<(), Error> {
        const NAME: &str = "start a container";
        let path = format!("/containers/{}/start", checked(NAME, id)?);
        let reply = self.send(Call::new(NAME, Method::POST, path, deadlines::START)).await?;
        expect(NAME, reply, &[204, 304]).await.map(drop)
    }

    /// `POST /containers/{id}/wait`: the exit status, when the condition holds. Waits as long as it takes.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn wait_container(&self, id: &str, condition: WaitCondition) -> Result<i64, Error> {
        const NAME: &str = "wait for a container";
        let path = format!("/containers/{}/wait", checked(NAME, id)?);
        let call = Call::new(NAME, Method::POST, path, deadlines::NONE).query("condition", condition.as_str());
        let reply = expect(NAME, self.send(call).await?, &[200]).await?;
        Ok(json_patiently::<Waited>(NAME, reply).await?.status_code)
    }

    /// `POST /containers/{id}/kill` with SIGKILL. One that doesn't run, or is not there, is a success.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn kill_container(&self, id: &str) -> Result<(), Error> {
        const NAME: &str = "kill a container";
        let path = format!("/containers/{}/kill", checked(NAME, id)?);
        let reply = self.send(Call::new(NAME, Method::POST, path, deadlines::KILL)).await?;
        expect(NAME, reply, &[204, 404, 409]).await.map(drop)
    }

    /// `POST /containers/{id}/update`: the engine's warnings, which mean that a limit was dropped.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn update_container(&self, id: &str, resources: &UpdateResources) -> Result<Vec<String>, Error> {
        const NAME: &str = "update a container";
        let path = format!("/containers/{}/update", checked(NAME, id)?);
        let call = Call::new(NAME, Method::POST, path, deadlines::UPDATE).json(resources)?;
        let reply = expect(NAME, self.send(call).await?, &[200]).await?;
        Ok(json::<Updated>(NAME, reply).await?.warnings)
    }

    /// `DELETE /containers/{id}`, its anonymous volumes too.
    ///
    /// # Errors
    /// 500 may be worth a retry (a device is busy); see [`Error`].
    pub async fn remove_container(&self, id: &str, force: bool) -> Result<Removal, Error> {
        const NAME: &str = "remove a container";
        let path = format!("/containers/{}", checked(NAME, id)?);
        let call = Call::new(NAME, Method::DELETE, path, deadlines::REMOVE)
            .query("v", "1")
            .query("force", if force { "1" } else { "0" });
        match expect(NAME, self.send(call).await?, &[204]).await {
            Ok(_) => Ok(Removal::Removed),
            Err(Error::Status { status: 404, .. }) => Ok(Removal::AlreadyGone),
            Err(Error::Status { status: 409, message, .. }) if message.contains("already in progress") => {
                Ok(Removal::InProgress)
            }
            Err(error) => Err(error),
        }
    }

    /// `GET /containers/{id}/json`.
    ///
    /// # Errors
    /// 404 when it is gone; see [`Error`].
    pub async fn inspect_container(&self, id: &str) -> Result<ContainerInfo, Error> {
        const NAME: &str = "inspect a container";
        let path = format!("/containers/{}/json", checked(NAME, id)?);
        let reply = self.send(Call::new(NAME, Method::GET, path, deadlines::LOOK)).await?;
        json(NAME, expect(NAME, reply, &[200]).await?).await
    }

    /// `GET /containers/json`; with `all`, those too that don't run.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn list_containers(&self, all: bool, filters: &Filters) -> Result<Vec<ContainerSummary>, Error> {
        const NAME: &str = "list containers";
        let call = Call::new(NAME, Method::GET, "/containers/json", deadlines::LOOK * 2)
            .query("all", if all { "1" } else { "0" })
            .query("filters", filters.json());
        json(NAME, expect(NAME, self.send(call).await?, &[200]).await?).await
    }
}
