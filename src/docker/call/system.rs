//! The engine itself: ping, version, info, events, df.

use std::fmt;

use tokio::time::{Instant, sleep};

use crate::reply::Lines;
use crate::request::Call;
use crate::{Client, DiskUsage, Error, Event, Filters, Info, Ping, VersionInfo, deadlines};

impl Client {
    /// `GET /_ping`, without a version: asks what the engine speaks and settles on it. 5 s for the head.
    ///
    /// Dropped: nothing is left behind, nothing is remembered.
    ///
    /// # Errors
    /// Besides the usual, [`Error::Version`] when there is none in common; the version is then forgotten.
    pub async fn ping(&self) -> Result<Ping, Error> {
        let mut call = Call::get("ping the engine", "/_ping");
        let reply = self.send_as(&mut call, None).await?.accept(&[200]).await?;
        let (offered, api_version) = self.settle(reply.header("api-version"))?;
        let server = reply.header("server").map(str::to_owned);
        let podman = reply.header("libpod-api-version").is_some();
        reply.finish().await;
        Ok(Ping { offered, api_version, server, podman })
    }

    /// `GET /version`: the engine's build. 5 s for the head. Dropped: nothing is left behind.
    ///
    /// # Errors
    /// The usual.
    pub async fn version(&self) -> Result<VersionInfo, Error> {
        let call = Call::get("ask the engine's version", "/version");
        self.call(call, &[200]).await?.json().await
    }

    /// `GET /info`: the engine's machine and configuration. 10 s for the head. Dropped: nothing is left behind.
    ///
    /// # Errors
    /// The usual.
    pub async fn info(&self) -> Result<Info, Error> {
        let call = Call::get("ask about the engine", "/info").within(deadlines::LIST);
        self.call(call, &[200]).await?.json().await
    }

    /// `GET /system/df`: what takes the engine's disk. It counts files, so 60 s for the head. Dropped: the count goes on.
    ///
    /// Engines before 23 count for one client at a time and refuse the others. Those wait here for their turn, 60 s at most.
    ///
    /// # Errors
    /// The usual; 500 when others were counting all the while.
    pub async fn disk_usage(&self) -> Result<DiskUsage, Error> {
        let patience = Instant::now() + deadlines::COUNT;
        loop {
            let call = Call::get("ask about the engine's disk", "/system/df").within(deadlines::COUNT);
            match self.call(call, &[200]).await {
                Err(error) if error.is_counting() && Instant::now() < patience => sleep(deadlines::COUNT_AGAIN).await,
                reply => return reply?.json().await,
            }
        }
    }

    /// `GET /events`: from now on. 5 s for the head, no bound for silence.
    ///
    /// A hint, not a record: engines drop events of a reader that is slow for 100 ms, so list after every connect and now
    /// and then. Dropped: the connection closes, with the [`Events`] too.
    ///
    /// # Errors
    /// The usual.
    pub async fn events(&self, filters: &Filters) -> Result<Events, Error> {
        let call = Call::get("follow the engine's events", "/events").maybe("filters", filters.json());
        Ok(Events(self.call(call, &[200]).await?.lines(None)))
    }
}

/// A stream of events. Dropping it closes the connection.
pub struct Events(Lines);

impl Events {
    /// The next event; none when the engine ended the stream. Cancel-safe.
    ///
    /// # Errors
    /// A connection that broke, or a line that is not an event.
    pub async fn next(&mut self) -> Result<Option<Event>, Error> {
        self.0.next().await
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Events")
    }
}
