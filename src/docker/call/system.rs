//! The engine itself: ping, version, info, events.

use http::Method;

use crate::docker::reply::{Lines, expect, json};
use crate::docker::request::Call;
use crate::docker::{ApiVersion, Client, Error, Event, Filters, Info, Ping, VersionInfo, deadlines};

impl Client {
    /// `GET /_ping`, without a version: asks what the engine speaks and settles on it.
    ///
    /// # Errors
    /// No answer; no version in it; one that is too old.
    pub async fn ping(&self) -> Result<Ping, Error> {
        const NAME: &str = "ping the engine";
        let reply = self.send_as(Call::new(NAME, Method::GET, "/_ping", deadlines::LOOK), None).await?;
        let reply = expect(NAME, reply, &[200]).await?;
        let header = |name: &str| reply.headers().get(name).and_then(|value| value.to_str().ok());
        let offered = header("Api-Version").and_then(ApiVersion::parse).ok_or_else(|| Error::Nonsense {
            call: NAME,
            message: "there is no API version in it; is this a Docker Engine?".to_owned(),
        })?;
        Ok(Ping {
            api_version: self.settle(offered)?,
            server: header("Server").map(str::to_owned),
            podman: header("Libpod-API-Version").is_some(),
        })
    }

    /// `GET /version`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn version(&self) -> Result<VersionInfo, Error> {
        const NAME: &str = "ask the engine's version";
        let reply = self.send(Call::new(NAME, Method::GET, "/version", deadlines::LOOK)).await?;
        json(NAME, expect(NAME, reply, &[200]).await?).await
    }

    /// `GET /info`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn info(&self) -> Result<Info, Error> {
        const NAME: &str = "ask about the engine";
        let reply = self.send(Call::new(NAME, Method::GET, "/info", deadlines::LOOK * 2)).await?;
        json(NAME, expect(NAME, reply, &[200]).await?).await
    }

    /// `GET /events`: from now on. A hint only: engines drop events of a reader that is slow for 100 ms.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn events(&self, filters: &Filters) -> Result<Events, Error> {
        const NAME: &str = "follow the engine's events";
        let call = Call::new(NAME, Method::GET, "/events", deadlines::LOOK).query("filters", filters.json());
        let reply = expect(NAME, self.send(call).await?, &[200]).await?;
        Ok(Events(Lines::new(NAME, reply, deadlines::NONE)))
    }
}

/// A stream of events. Dropping it closes the connection.
#[derive(Debug)]
pub struct Events(Lines);

impl Events {
    /// The next event; none when the engine ended the stream. Cancel-safe.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn next(&mut self) -> Result<Option<Event>, Error> {
        self.0.next().await
    }
}
