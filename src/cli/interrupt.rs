//! Ctrl-C and SIGTERM, for commands that have to clean up before they exit.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Listener for SIGINT and SIGTERM. Once it exists, they no longer end the process by themselves.
#[derive(Debug)]
pub struct Interrupt {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupt {
    /// Starts to listen; `None` if the signal handlers cannot be installed.
    pub fn listen() -> Option<Interrupt> {
        Some(Interrupt {
            interrupt: signal(SignalKind::interrupt()).ok()?,
            terminate: signal(SignalKind::terminate()).ok()?,
        })
    }

    /// Waits for the next signal and returns its exit status: 130 or 143.
    pub async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => 130,
            _ = self.terminate.recv() => 143,
        }
    }
}

/// Waits for the next signal; forever without a listener.
pub async fn next(listener: &mut Option<Interrupt>) -> u8 {
    match listener {
        Some(interrupt) => interrupt.next().await,
        None => std::future::pending().await,
    }
}
