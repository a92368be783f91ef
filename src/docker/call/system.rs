//! The engine itself: ping, version, info, events, disk usage.

use std::fmt;

use tokio::time::{Instant, sleep};

use crate::client::Client;
use crate::deadlines;
use crate::error::Error;
use crate::op::Op;
use crate::reply::ReplyLines;
use crate::request::Call;
use crate::types::{DiskUsage, EngineEvent, Filters, Info, Ping, VersionInfo};

impl Client {
    /// `GET /_ping`, without a version: negotiates the API version. 5 s for the head. If dropped:
    /// no effect; the negotiated version stays as it was.
    ///
    /// # Errors
    /// [`Error::Version`] if there is no common version; the negotiated version is then reset.
    pub async fn ping(&self) -> Result<Ping, Error> {
        static OP: Op = Op::get("ping the engine").immediate();
        let mut call = Call::new(&OP, "/_ping");
        let reply = self.send_as(&mut call, None).await?.accept(&[200]).await?;
        let (offered, api_version) = self.set_version(reply.header("api-version"))?;
        let server = reply.header("server").map(str::to_owned);
        let podman = reply.header("libpod-api-version").is_some();
        reply.discard().await;
        Ok(Ping { offered, api_version, server, podman })
    }

    /// `GET /version`: the engine's build. 5 s for the head. If dropped: no effect.
    ///
    /// # Errors
    /// No error specific to this call.
    pub async fn version(&self) -> Result<VersionInfo, Error> {
        static OP: Op = Op::get("ask the engine's version").immediate();
        let call = Call::new(&OP, "/version");
        self.call(call, &[200]).await?.json().await
    }

    /// `GET /info`: the engine's machine and configuration. 10 s for the head. If dropped: no
    /// effect.
    ///
    /// # Errors
    /// No error specific to this call.
    pub async fn info(&self) -> Result<Info, Error> {
        static OP: Op = Op::get("ask about the engine").within(deadlines::LIST).immediate();
        let call = Call::new(&OP, "/info");
        self.call(call, &[200]).await?.json().await
    }

    /// `GET /system/df`: the engine's disk usage. The engine walks all files, so 60 s for the head.
    /// If dropped: the engine completes its walk.
    ///
    /// Engines before 23 serve one client at a time and refuse the others. This call retries for
    /// 60 s.
    ///
    /// # Errors
    /// 500: other clients' calls were running for 60 s.
    pub async fn disk_usage(&self) -> Result<DiskUsage, Error> {
        static OP: Op = Op::get("ask about the engine's disk").within(deadlines::DISK_USAGE);
        let deadline = Instant::now() + deadlines::DISK_USAGE;
        loop {
            let call = Call::new(&OP, "/system/df");
            match self.call(call, &[200]).await {
                Err(error) if error.is_disk_usage_busy() && Instant::now() < deadline => {
                    sleep(deadlines::DISK_USAGE_RETRY).await;
                }
                reply => return reply?.json().await,
            }
        }
    }

    /// `GET /events`: events from now on. 5 s for the head, silence is not bounded.
    ///
    /// Delivery is not reliable: engines drop events when a reader is slow for 100 ms. So list the
    /// objects after every connect and periodically. If dropped, now or as [`Events`]: the
    /// connection closes.
    ///
    /// # Errors
    /// No error specific to this call.
    pub async fn events(&self, filters: &Filters) -> Result<Events, Error> {
        static OP: Op = Op::get("follow the engine's events");
        let call = Call::new(&OP, "/events").optional("filters", filters.json());
        Ok(Events(self.call(call, &[200]).await?.lines(None)))
    }
}

/// A stream of events. Dropping it closes the connection.
pub struct Events(ReplyLines);

impl Events {
    /// The next event; `None` when the engine ended the stream. Cancel-safe.
    ///
    /// # Errors
    /// The connection broke, or a line is not a valid event.
    pub async fn next(&mut self) -> Result<Option<EngineEvent>, Error> {
        self.0.next().await
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Events")
    }
}
