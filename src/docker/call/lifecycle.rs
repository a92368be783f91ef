//! Containers as processes: attach, start, stop, kill, wait, logs, top, stats.
//!
//! The order that loses nothing: create, attach (wait for its 101), [`Client::begin_wait`] with
//! [`WaitCondition::NextExit`], start. Close the attach before removing.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;

use crate::error::shorten;
use crate::path;
use crate::reply::{Lines, Reply};
use crate::request::Call;
use crate::stdcopy::{self, Decoder};
use crate::{Client, Error, Hijacked, Stats, Top, WaitCondition, deadlines};

impl Client {
    /// `POST /containers/{id}/attach`, all three streams: the connection itself. 5 s for the head, 5 s for the upgrade.
    ///
    /// Attach before the start, or the first output is lost. Attaching to a container that never starts, or has exited,
    /// succeeds and then stays silent for ever: give the first byte a deadline. Attach once only: a second client gets a copy
    /// of the output and mixes its input in. Dropped: the connection closes, which for a `StdinOnce` container ends its input.
    ///
    /// # Errors
    /// 404; 409 when it is paused or restarting.
    pub async fn attach(&self, id: &str) -> Result<Hijacked, Error> {
        const NAME: &str = "attach to a container";
        let mut call = Call::post(NAME, format!("/containers/{}/attach", path::name(NAME, id)?))
            .flag("stream", true)
            .flag("stdin", true)
            .flag("stdout", true)
            .flag("stderr", true)
            .upgrade();
        // The hijack judges the status: a 200 is an error here.
        Hijacked::take(self.send(&mut call).await?).await
    }

    /// `POST /containers/{id}/start`; one that runs already is a success. 30 s for the head.
    ///
    /// When this returns, PID 1 may not have run yet. Dropped: the start goes on.
    ///
    /// # Errors
    /// 400 or 404 (a bad command, by engine version) are final: remove the container.
    pub async fn start_container(&self, id: &str) -> Result<(), Error> {
        const NAME: &str = "start a container";
        let call = Call::post(NAME, format!("/containers/{}/start", path::name(NAME, id)?)).within(deadlines::START);
        self.call(call, &[204, 304]).await.map(drop)
    }

    /// `POST /containers/{id}/stop`: its stop signal, and SIGKILL after `grace`. One that does not run, or is not there, is a
    /// success. `grace` (whole seconds, rounded up) and 15 s for the head. Dropped: the stop goes on.
    ///
    /// # Errors
    /// 500 when the engine could not end it.
    pub async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), Error> {
        const NAME: &str = "stop a container";
        let seconds = grace.as_secs() + u64::from(grace.subsec_nanos() > 0);
        let call = Call::post(NAME, format!("/containers/{}/stop", path::name(NAME, id)?))
            .within(Duration::from_secs(seconds).saturating_add(deadlines::KILL))
            .query("t", seconds.to_string());
        self.call(call, &[204, 304, 404]).await.map(drop)
    }

    /// `POST /containers/{id}/kill` with SIGKILL; returns once it is dead. One that does not run, or is not there, is a
    /// success. 15 s for the head. Dropped: the kill goes on.
    ///
    /// # Errors
    /// 500 when the engine could not kill it.
    pub async fn kill_container(&self, id: &str) -> Result<(), Error> {
        const NAME: &str = "kill a container";
        let call = Call::post(NAME, format!("/containers/{}/kill", path::name(NAME, id)?)).within(deadlines::KILL);
        self.call(call, &[204, 404, 409]).await.map(drop)
    }

    /// `POST /containers/{id}/wait`: the exit status, when the condition holds. See [`Client::begin_wait`] for waiting
    /// without a race. Dropped: the engine stops waiting.
    ///
    /// # Errors
    /// 404, or what the engine could not wait for.
    pub async fn wait_container(&self, id: &str, condition: WaitCondition) -> Result<i64, Error> {
        self.begin_wait(id, condition).await?.exit_status().await
    }

    /// Begins a wait: when this returns, the engine is waiting, and a start can't be missed. 5 s for the head. Dropped: the
    /// engine stops waiting.
    ///
    /// # Errors
    /// 404.
    pub async fn begin_wait(&self, id: &str, condition: WaitCondition) -> Result<Wait, Error> {
        const NAME: &str = "wait for a container";
        let call = Call::post(NAME, format!("/containers/{}/wait", path::name(NAME, id)?))
            .query("condition", condition.as_str());
        Ok(Wait(self.call(call, &[200]).await?))
    }

    /// `GET /containers/{id}/logs` of one without a terminal. 5 s for the head; a log that is followed has no bound for
    /// silence, another 10 s. Dropped: the connection closes, with the [`Logs`] too.
    ///
    /// # Errors
    /// 404; 501 or 400 with the log driver `none`.
    pub async fn logs(&self, id: &str, options: &LogsOptions) -> Result<Logs, Error> {
        const NAME: &str = "read a container's log";
        let call = Call::get(NAME, format!("/containers/{}/logs", path::name(NAME, id)?))
            .flag("stdout", true)
            .flag("stderr", true)
            .flag("follow", options.follow)
            .flag("timestamps", options.timestamps)
            .maybe("since", options.since.map(|seconds| seconds.to_string()))
            .query("tail", options.tail.map_or_else(|| "all".to_owned(), |lines| lines.to_string()));
        let reply = self.call(call, &[200]).await?;
        let idle = (!options.follow).then_some(deadlines::BODY_IDLE);
        Ok(Logs { reply, idle, decoder: Decoder::new() })
    }

    /// `GET /containers/{id}/top`: its processes. 5 s for the head. Dropped: nothing is left behind.
    ///
    /// # Errors
    /// 404; 409 (500 before 25) when it does not run.
    pub async fn top(&self, id: &str) -> Result<Top, Error> {
        const NAME: &str = "list a container's processes";
        let call = Call::get(NAME, format!("/containers/{}/top", path::name(NAME, id)?));
        self.call(call, &[200]).await?.json().await
    }

    /// `GET /containers/{id}/stats`, one sample at once (`one-shot`, 1.41). 10 s for the head. Dropped: nothing is left
    /// behind.
    ///
    /// # Errors
    /// 404.
    pub async fn stats(&self, id: &str) -> Result<Stats, Error> {
        const NAME: &str = "read a container's counters";
        let call = Call::get(NAME, format!("/containers/{}/stats", path::name(NAME, id)?))
            .within(deadlines::STATS)
            .flag("stream", false)
            .flag("one-shot", true);
        self.call(call, &[200]).await?.json().await
    }

    /// The same, a sample each second for as long as the container is there. 10 s for the head. Dropped: the connection
    /// closes, with the [`StatsStream`] too.
    ///
    /// # Errors
    /// 404.
    pub async fn stats_stream(&self, id: &str) -> Result<StatsStream, Error> {
        const NAME: &str = "follow a container's counters";
        let call = Call::get(NAME, format!("/containers/{}/stats", path::name(NAME, id)?))
            .within(deadlines::STATS)
            .flag("stream", true);
        Ok(StatsStream(self.call(call, &[200]).await?.lines(Some(deadlines::BODY_IDLE))))
    }
}

/// A wait under way. Dropping it ends the wait.
pub struct Wait(Reply);

impl Wait {
    /// Waits, with no bound of its own, and returns the exit status.
    ///
    /// # Errors
    /// A connection that broke, or what the engine could not wait for.
    pub async fn exit_status(self) -> Result<i64, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Waited {
            status_code: i64,
            #[serde(default)]
            error: Option<WaitError>,
        }
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        struct WaitError {
            message: String,
        }
        let call = self.0.call();
        let waited: Waited = self.0.json_someday().await?;
        match waited.error {
            Some(error) if !error.message.is_empty() => Err(Error::Reported { call, message: shorten(&error.message) }),
            _ => Ok(waited.status_code),
        }
    }
}

/// What to read of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogsOptions {
    /// Go on with what is yet to come.
    pub follow: bool,
    /// Each line with its time, RFC 3339.
    pub timestamps: bool,
    /// Only from this Unix time on, in seconds.
    pub since: Option<i64>,
    /// Only the last so many lines.
    pub tail: Option<u64>,
}

/// A log being read. Dropping it closes the connection.
pub struct Logs {
    reply: Reply,
    idle: Option<Duration>,
    decoder: Decoder,
}

impl Logs {
    /// Reads the next bytes and hands each piece to `sink`; false at the end. Not cancel-safe.
    ///
    /// # Errors
    /// A connection that broke, or a stream that is none.
    pub async fn next(&mut self, mut sink: impl FnMut(stdcopy::Stream, &[u8])) -> Result<bool, Error> {
        let call = self.reply.call();
        let odd = |error: stdcopy::StreamError| match error {
            stdcopy::StreamError::Reported(message) => Error::Reported { call, message: shorten(&message) },
            other => Error::nonsense(call, other),
        };
        match self.reply.piece(self.idle).await? {
            Some(piece) => self.decoder.push(&piece, &mut sink).map_err(odd).map(|()| true),
            None => self.decoder.finish().map_err(odd).map(|()| false),
        }
    }

    /// The whole log, both streams in the order in which they came; at most `limit` bytes.
    ///
    /// # Errors
    /// As [`Logs::next`]; [`Error::TooLarge`].
    pub async fn text(mut self, limit: usize) -> Result<Bytes, Error> {
        let (call, mut all) = (self.reply.call(), Vec::new());
        while self.next(|_, piece| all.extend_from_slice(piece)).await? {
            if all.len() > limit {
                return Err(Error::TooLarge { call, limit });
            }
        }
        Ok(all.into())
    }
}

/// Counters, a sample each second. Dropping it closes the connection.
pub struct StatsStream(Lines);

impl StatsStream {
    /// The next sample; none when the container is gone. Cancel-safe.
    ///
    /// # Errors
    /// A connection that broke, or a line that is no sample.
    pub async fn next(&mut self) -> Result<Option<Stats>, Error> {
        self.0.next().await
    }
}

macro_rules! plain_debug {
    ($($name:ident)*) => {
        $(impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($name))
            }
        })*
    };
}
plain_debug!(Wait Logs StatsStream);
