//! Networks: create, list, inspect, remove.

use serde::Deserialize;

use crate::client::Client;
use crate::deadlines;
use crate::error::Error;
use crate::op::Op;
use crate::path;
use crate::request::Call;
use crate::types::{Filters, NetworkInfo, NetworkSpec};

impl Client {
    /// `POST /networks/create`: returns the network's id. 15 s for the head. If dropped after the
    /// request was sent: the network may exist; inspect it by name.
    ///
    /// # Errors
    /// 409: the name is in use; 403: the name is reserved.
    pub async fn create_network(&self, spec: &NetworkSpec) -> Result<String, Error> {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        struct Created {
            id: String,
        }
        static OP: Op = Op::post("create a network").within(deadlines::CREATE);
        path::name(&OP, &spec.name)?;
        let call = Call::new(&OP, "/networks/create").json(spec)?;
        let created: Created = self.call(call, &[201]).await?.json().await?;
        Ok(created.id)
    }

    /// `GET /networks`. 10 s for the head. If dropped: no effect.
    ///
    /// # Errors
    /// No error specific to this call.
    pub async fn list_networks(&self, filters: &Filters) -> Result<Vec<NetworkInfo>, Error> {
        static OP: Op = Op::get("list networks").within(deadlines::LIST);
        let call = Call::new(&OP, "/networks").optional("filters", filters.json());
        self.call(call, &[200]).await?.json().await
    }

    /// `GET /networks/{id}`. 5 s for the head. If dropped: no effect.
    ///
    /// # Errors
    /// 404: no such network.
    pub async fn inspect_network(&self, id: &str) -> Result<NetworkInfo, Error> {
        static OP: Op = Op::get("inspect a network");
        let call = Call::new(&OP, format!("/networks/{}", path::name(&OP, id)?));
        self.call(call, &[200]).await?.json().await
    }

    /// `DELETE /networks/{id}`; an absent network is a success. 15 s for the head. If dropped: the
    /// removal continues.
    ///
    /// # Errors
    /// 403 or 409: it is in use, or predefined by the engine.
    pub async fn remove_network(&self, id: &str) -> Result<(), Error> {
        static OP: Op = Op::delete("remove a network").within(deadlines::KILL);
        let call = Call::new(&OP, format!("/networks/{}", path::name(&OP, id)?));
        self.call(call, &[200, 204, 404]).await.map(drop)
    }
}
