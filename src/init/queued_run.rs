//! A run that arrived while another one is running, or before the sandbox is ready for it.

use super::input::BufferedInput;
use wire::frame::Run;

/// The run that is next.
pub struct QueuedRun {
    pub run: Run,
    /// What arrived for it.
    pub input: BufferedInput,
}

impl QueuedRun {
    #[must_use]
    pub fn new(run: Run) -> Self {
        Self { run, input: BufferedInput::default() }
    }
}
