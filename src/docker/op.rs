//! The kinds of calls: name, HTTP method and head deadline, apart from any arguments.

use std::fmt;
use std::time::Duration;

use http::Method;

use super::deadlines;

/// A kind of call. One static per endpoint, next to the call that uses it.
#[derive(Debug, PartialEq, Eq)]
pub struct Op {
    /// The call as errors and metrics name it, such as "start a container".
    pub name: &'static str,
    /// The bound of the head phase; for an upload, the longest silence.
    pub head: Duration,
    /// Takes no container lock and does no lengthy work, so a late head means that the engine
    /// itself hangs. Other calls may be late because one container is stuck (moby issue 41827).
    pub immediate: bool,
    pub(super) method: Method,
}

impl Op {
    const fn new(method: Method, name: &'static str) -> Op {
        Op { name, head: deadlines::INSPECT, immediate: false, method }
    }

    /// A `GET` with a head deadline of [`deadlines::INSPECT`].
    pub const fn get(name: &'static str) -> Op {
        Op::new(Method::GET, name)
    }

    pub(super) const fn head_request(name: &'static str) -> Op {
        Op::new(Method::HEAD, name)
    }

    pub(super) const fn post(name: &'static str) -> Op {
        Op::new(Method::POST, name)
    }

    pub(super) const fn put(name: &'static str) -> Op {
        Op::new(Method::PUT, name)
    }

    pub(super) const fn delete(name: &'static str) -> Op {
        Op::new(Method::DELETE, name)
    }

    pub(super) const fn within(mut self, head: Duration) -> Op {
        self.head = head;
        self
    }

    pub(super) const fn immediate(mut self) -> Op {
        self.immediate = true;
        self
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
