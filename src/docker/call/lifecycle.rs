//! Containers as processes: attach, start, stop, kill, wait, logs, top, stats.
//!
//! To lose neither output nor the exit status: create, attach (which waits for the 101),
//! [`Client::begin_wait`] with [`WaitCondition::NextExit`], then start. Close the attach before
//! removing.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;

use crate::client::Client;
use crate::deadlines;
use crate::error::{Error, shorten};
use crate::hijack::Hijacked;
use crate::op::Op;
use crate::path;
use crate::reply::{EngineReply, ReplyLines};
use crate::request::Call;
use crate::stdcopy::{Decoder, StdStream, StdcopyError};
use crate::types::{Stats, Top, WaitCondition};

impl Client {
    /// `POST /containers/{id}/attach`: takes over the connection, with all three streams. 5 s for
    /// the head, 5 s for the upgrade.
    ///
    /// Attach before the start, or the first output is lost. Attaching to a container that never
    /// starts, or has exited, succeeds and stays silent forever: set a deadline for the first byte.
    /// Attach only once: a second client gets a copy of the output, and its input is mixed in. If
    /// dropped: the connection closes, which for a `StdinOnce` container ends its input.
    ///
    /// # Errors
    /// 404: no such container; 409: it is paused or restarting.
    pub async fn attach(&self, id: &str) -> Result<Hijacked, Error> {
        static OP: Op = Op::post("attach to a container");
        let mut call = Call::new(&OP, format!("/containers/{}/attach", path::name(&OP, id)?))
            .flag("stream", true)
            .flag("stdin", true)
            .flag("stdout", true)
            .flag("stderr", true)
            .upgrade();
        // `Hijacked::take` checks the status: here a 200 is an error.
        Hijacked::take(self.send(&mut call).await?).await
    }

    /// `POST /containers/{id}/start`; a container that already runs is a success. 30 s for the
    /// head.
    ///
    /// When this returns, PID 1 may not have run yet. If dropped: the start continues.
    ///
    /// # Errors
    /// 400 or 404 (the command is not valid; the status depends on the engine's version) are final:
    /// remove the container.
    pub async fn start_container(&self, id: &str) -> Result<(), Error> {
        static OP: Op = Op::post("start a container").within(deadlines::START);
        let call = Call::new(&OP, format!("/containers/{}/start", path::name(&OP, id)?));
        self.call(call, &[204, 304]).await.map(drop)
    }

    /// `POST /containers/{id}/stop`: sends the stop signal, and SIGKILL after `grace`. A container
    /// that is not running or does not exist is a success. `grace` (rounded up to seconds) plus
    /// 15 s for the head. If dropped: the stop continues.
    ///
    /// # Errors
    /// 500: the engine could not stop it.
    pub async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), Error> {
        static OP: Op = Op::post("stop a container");
        let seconds = grace.as_secs() + u64::from(grace.subsec_nanos() > 0);
        let call = Call::new(&OP, format!("/containers/{}/stop", path::name(&OP, id)?))
            .within(Duration::from_secs(seconds).saturating_add(deadlines::KILL))
            .query("t", seconds.to_string());
        self.call(call, &[204, 304, 404]).await.map(drop)
    }

    /// `POST /containers/{id}/kill` with SIGKILL; returns when the container has exited. A
    /// container that is not running or does not exist is a success. 15 s for the head. If dropped:
    /// the kill continues.
    ///
    /// # Errors
    /// 500: the engine could not kill it.
    pub async fn kill_container(&self, id: &str) -> Result<(), Error> {
        static OP: Op = Op::post("kill a container").within(deadlines::KILL);
        let call = Call::new(&OP, format!("/containers/{}/kill", path::name(&OP, id)?));
        self.call(call, &[204, 404, 409]).await.map(drop)
    }

    /// `POST /containers/{id}/wait`: waits for the condition and returns the exit status. To avoid
    /// a race with the start, see [`Client::begin_wait`]. If dropped: the engine stops waiting.
    ///
    /// # Errors
    /// 404: no such container; [`Error::Reported`]: the engine could not wait.
    pub async fn wait_container(&self, id: &str, condition: WaitCondition) -> Result<i64, Error> {
        self.begin_wait(id, condition).await?.exit_status().await
    }

    /// Begins a wait. When this returns, the engine is waiting, so a later exit is not missed. 5 s
    /// for the head. If dropped: the engine stops waiting.
    ///
    /// # Errors
    /// 404: no such container.
    pub async fn begin_wait(&self, id: &str, condition: WaitCondition) -> Result<Wait, Error> {
        static OP: Op = Op::post("wait for a container");
        let call =
            Call::new(&OP, format!("/containers/{}/wait", path::name(&OP, id)?)).query("condition", condition.as_str());
        Ok(Wait(self.call(call, &[200]).await?))
    }

    /// `GET /containers/{id}/logs` of a container without a terminal. 5 s for the head; silence is
    /// bounded to 10 s unless the log is followed. If dropped, now or as a [`LogStream`]: the
    /// connection closes.
    ///
    /// # Errors
    /// 404: no such container; 501 or 400 with the log driver `none`.
    pub async fn logs(&self, id: &str, options: &LogOptions) -> Result<LogStream, Error> {
        static OP: Op = Op::get("read a container's log");
        let call = Call::new(&OP, format!("/containers/{}/logs", path::name(&OP, id)?))
            .flag("stdout", true)
            .flag("stderr", true)
            .flag("follow", options.follow)
            .flag("timestamps", options.timestamps)
            .optional("since", options.since.map(|seconds| seconds.to_string()))
            .query("tail", options.tail.map_or_else(|| "all".to_owned(), |lines| lines.to_string()));
        let reply = self.call(call, &[200]).await?;
        let idle = (!options.follow).then_some(deadlines::BODY_IDLE);
        Ok(LogStream { reply, idle, decoder: Decoder::new() })
    }

    /// `GET /containers/{id}/top`: its processes. 5 s for the head. If dropped: no effect.
    ///
    /// # Errors
    /// 404: no such container; 409 (500 before Docker 25): it is not running.
    pub async fn top(&self, id: &str) -> Result<Top, Error> {
        static OP: Op = Op::get("list a container's processes");
        let call = Call::new(&OP, format!("/containers/{}/top", path::name(&OP, id)?));
        self.call(call, &[200]).await?.json().await
    }

    /// `GET /containers/{id}/stats`: one sample, taken immediately (`one-shot`). 10 s for the head.
    /// If dropped: no effect.
    ///
    /// # Errors
    /// 404: no such container.
    pub async fn stats(&self, id: &str) -> Result<Stats, Error> {
        static OP: Op = Op::get("read a container's counters").within(deadlines::STATS);
        let call = Call::new(&OP, format!("/containers/{}/stats", path::name(&OP, id)?))
            .flag("stream", false)
            .flag("one-shot", true);
        self.call(call, &[200]).await?.json().await
    }

    /// `GET /containers/{id}/stats`: one sample per second for as long as the container exists.
    /// 10 s for the head. If dropped, now or as a [`StatsStream`]: the connection closes.
    ///
    /// # Errors
    /// 404: no such container.
    pub async fn stats_stream(&self, id: &str) -> Result<StatsStream, Error> {
        static OP: Op = Op::get("follow a container's counters").within(deadlines::STATS);
        let call = Call::new(&OP, format!("/containers/{}/stats", path::name(&OP, id)?)).flag("stream", true);
        Ok(StatsStream(self.call(call, &[200]).await?.lines(Some(deadlines::BODY_IDLE))))
    }
}

/// A wait that has begun. Dropping it ends the wait.
pub struct Wait(EngineReply);

impl Wait {
    /// Waits without a deadline and returns the exit status.
    ///
    /// # Errors
    /// The connection broke, or the engine could not wait ([`Error::Reported`]).
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
        let call = self.0.op();
        let waited: Waited = self.0.json_unbounded().await?;
        match waited.error {
            Some(error) if !error.message.is_empty() => Err(Error::Reported { call, message: shorten(&error.message) }),
            _ => Ok(waited.status_code),
        }
    }
}

/// Which part of a log to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Continue with new lines as they are written.
    pub follow: bool,
    /// Prefix each line with its time, in RFC 3339.
    pub timestamps: bool,
    /// Only lines since this Unix time, in seconds.
    pub since: Option<i64>,
    /// Only this number of last lines.
    pub tail: Option<u64>,
}

/// A container's log. Dropping it closes the connection.
pub struct LogStream {
    reply: EngineReply,
    idle: Option<Duration>,
    decoder: Decoder,
}

impl LogStream {
    /// Reads the next bytes and passes each piece to `sink`; returns false at the end. Not
    /// cancel-safe.
    ///
    /// # Errors
    /// The connection broke, the stream is not valid, or the engine reported an error in it.
    pub async fn next(&mut self, mut sink: impl FnMut(StdStream, &[u8])) -> Result<bool, Error> {
        let call = self.reply.op();
        let failed = |error: StdcopyError| match error {
            StdcopyError::Reported(message) => Error::Reported { call, message: shorten(&message) },
            other => Error::bad_reply(call, other),
        };
        match self.reply.piece(self.idle).await? {
            Some(piece) => self.decoder.push(&piece, &mut sink).map_err(failed).map(|()| true),
            None => self.decoder.finish().map_err(failed).map(|()| false),
        }
    }

    /// The whole log, both streams in the order of arrival; at most `limit` bytes.
    ///
    /// # Errors
    /// Those of [`LogStream::next`], and [`Error::TooLarge`].
    pub async fn text(mut self, limit: usize) -> Result<Bytes, Error> {
        let (call, mut all) = (self.reply.op(), Vec::new());
        while self.next(|_, piece| all.extend_from_slice(piece)).await? {
            if all.len() > limit {
                return Err(Error::TooLarge { call, limit });
            }
        }
        Ok(all.into())
    }
}

/// A container's counters, one sample per second. Dropping it closes the connection.
pub struct StatsStream(ReplyLines);

impl StatsStream {
    /// The next sample; `None` when the container was removed. Cancel-safe.
    ///
    /// # Errors
    /// The connection broke, or a line is not a valid sample.
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
plain_debug!(Wait LogStream StatsStream);
