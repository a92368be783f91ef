//! Networks: create, list, inspect, remove.

use serde::Deserialize;

use crate::path;
use crate::request::Call;
use crate::{Client, Error, Filters, NetworkInfo, NetworkSpec, deadlines};

impl Client {
    /// `POST /networks/create`: its id. 15 s for the head. Dropped after the request left: the network may exist; look by name.
    ///
    /// # Errors
    /// 409 when the name is taken; 403 for a name that is reserved.
    pub async fn create_network(&self, spec: &NetworkSpec) -> Result<String, Error> {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        struct Created {
            id: String,
        }
        const NAME: &str = "create a network";
        path::name(NAME, &spec.name)?;
        let call = Call::post(NAME, "/networks/create").within(deadlines::CREATE).json(spec)?;
        let created: Created = self.call(call, &[201]).await?.json().await?;
        Ok(created.id)
    }

    /// `GET /networks`. 10 s for the head. Dropped: nothing is left behind.
    ///
    /// # Errors
    /// The usual.
    pub async fn list_networks(&self, filters: &Filters) -> Result<Vec<NetworkInfo>, Error> {
        let call = Call::get("list networks", "/networks").within(deadlines::LIST).maybe("filters", filters.json());
        self.call(call, &[200]).await?.json().await
    }

    /// `GET /networks/{id}`. 5 s for the head. Dropped: nothing is left behind.
    ///
    /// # Errors
    /// 404.
    pub async fn inspect_network(&self, id: &str) -> Result<NetworkInfo, Error> {
        const NAME: &str = "inspect a network";
        let call = Call::get(NAME, format!("/networks/{}", path::name(NAME, id)?));
        self.call(call, &[200]).await?.json().await
    }

    /// `DELETE /networks/{id}`; one that is not there is a success. 15 s for the head. Dropped: the removal goes on.
    ///
    /// # Errors
    /// 403 or 409: it is in use, or one of the engine's own.
    pub async fn remove_network(&self, id: &str) -> Result<(), Error> {
        const NAME: &str = "remove a network";
        let call = Call::delete(NAME, format!("/networks/{}", path::name(NAME, id)?)).within(deadlines::KILL);
        self.call(call, &[200, 204, 404]).await.map(drop)
    }
}
