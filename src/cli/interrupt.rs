//! Ctrl-C and SIGTERM, for commands that have something to give back before they end.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What ends a command from outside. From its making on, the signals end nothing by themselves.
#[derive(Debug)]
pub struct Interrupt {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupt {
    /// Listens; none where the process may not.
    pub fn listen() -> Option<Interrupt> {
        Some(Interrupt {
            interrupt: signal(SignalKind::interrupt()).ok()?,
            terminate: signal(SignalKind::terminate()).ok()?,
        })
    }

    /// Waits for the next; answers the exit status that shells know it by: 130 or 143.
    pub async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => 130,
            _ = self.terminate.recv() => 143,
        }
    }
}

/// The next of what may not be listened to: never.
pub async fn next(of: &mut Option<Interrupt>) -> u8 {
    match of {
        Some(interrupt) => interrupt.next().await,
        None => std::future::pending().await,
    }
}
