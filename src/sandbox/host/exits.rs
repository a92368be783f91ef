//! How containers ended, from the engine's events.

use std::collections::VecDeque;

use docker::EngineEvent;

/// Limit on remembered exits: more than can run at a time.
const MAX_EXITS: usize = 1024;

/// The exit code of a container that was killed with SIGKILL.
pub(super) const KILLED: i64 = 137;
/// The exit code that the engine reports when it does not know the real one.
const UNKNOWN_EXIT: i64 = 255;

/// How a container ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ContainerEnd {
    /// The kernel killed a process in it because it was out of memory.
    pub oom: bool,
    /// The init's exit code. `None` if the engine did not report it.
    pub exit_code: Option<i64>,
}

impl ContainerEnd {
    /// Whether the init was killed because the container was out of memory. A program's OOM kill
    /// alone does not end the init.
    pub fn is_out_of_memory(&self) -> bool {
        self.oom && self.exit_code.is_none_or(|code| code == KILLED)
    }

    /// Whether the init exited by itself. Nothing in a sandbox can send SIGKILL to the init, so a
    /// killed one was killed from outside.
    pub fn is_its_own(&self) -> bool {
        !self.oom && self.exit_code.is_some_and(|code| code != KILLED && code != UNKNOWN_EXIT)
    }
}

/// The most recent exits by container id, oldest first.
#[derive(Debug, Default)]
pub(super) struct ContainerExits(VecDeque<(String, ContainerEnd)>);

impl ContainerExits {
    /// Records an `oom` or a `die` event. A container may have both, in any order.
    pub(super) fn record_exit(&mut self, event: &EngineEvent) {
        let index = self.0.iter().position(|(id, _)| *id == event.actor.id).unwrap_or_else(|| {
            if self.0.len() == MAX_EXITS {
                self.0.pop_front();
            }
            self.0.push_back((event.actor.id.clone(), ContainerEnd::default()));
            self.0.len() - 1
        });
        let Some((_, end)) = self.0.get_mut(index) else { return };
        match event.action.as_str() {
            "oom" => end.oom = true,
            _ => end.exit_code = event.actor.attributes.get("exitCode").and_then(|code| code.parse().ok()),
        }
    }

    pub(super) fn get(&self, container: &str) -> ContainerEnd {
        self.0.iter().find(|(id, _)| id == container).map(|(_, end)| *end).unwrap_or_default()
    }
}
