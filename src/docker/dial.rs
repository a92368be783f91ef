//! A fresh connection.

use tokio::net::UnixStream;

use super::deadlines;
use super::endpoint::Endpoint;
use super::error::Error;

/// Connects.
pub(super) async fn dial(endpoint: &Endpoint, call: &'static str) -> Result<UnixStream, Error> {
    let Endpoint::Unix(path) = endpoint;
    match tokio::time::timeout(deadlines::CONNECT, UnixStream::connect(path)).await {
        Ok(connected) => connected.map_err(|source| Error::Connect { endpoint: endpoint.clone(), source }),
        Err(_) => Err(Error::Timeout { call, phase: "connect", after: deadlines::CONNECT }),
    }
}
