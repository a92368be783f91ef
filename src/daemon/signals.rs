//! Signals that the daemon handles, with their sender: an operator wants to know who stopped the
//! daemon.
//!
//! ```text
//!  a thread waits for signals (signal-hook, siginfo) --bounded queue--> main loop
//! ```
//!
//! The thread blocks while the queue is full, so a signal of another kind is never lost. Several
//! signals of one kind that arrive faster than they are handled may merge into one, as in the
//! kernel.

use std::io;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::origin::WithOrigin;
use signal_hook::low_level::siginfo::Origin;
use tokio::sync::mpsc;

const QUEUE_LENGTH: usize = 8;

/// What a signal requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalRequest {
    /// SIGTERM, SIGINT: drain and exit.
    Exit,
    /// SIGHUP: reload the configuration.
    Reload,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignalReceived {
    pub request: SignalRequest,
    pub name: &'static str,
    /// The sending process, for the log.
    pub sender: String,
}

#[derive(Debug)]
pub struct Signals(mpsc::Receiver<SignalReceived>);

impl Signals {
    /// Installs the handlers; from now on the signals do not terminate the process.
    ///
    /// # Errors
    /// A handler or the thread cannot be created.
    pub fn listen() -> io::Result<Signals> {
        let mut signals = SignalsInfo::<WithOrigin>::new([SIGTERM, SIGINT, SIGHUP])?;
        let (sender, receiver) = mpsc::channel(QUEUE_LENGTH);
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for origin in signals.forever() {
                if sender.blocking_send(received(&origin)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Signals(receiver))
    }

    /// Waits for the next signal. Cancel-safe.
    pub async fn next(&mut self) -> SignalReceived {
        match self.0.recv().await {
            Some(signal) => signal,
            None => std::future::pending().await,
        }
    }
}

fn received(origin: &Origin) -> SignalReceived {
    let (request, name) = match origin.signal {
        SIGHUP => (SignalRequest::Reload, "SIGHUP"),
        SIGINT => (SignalRequest::Exit, "SIGINT"),
        _ => (SignalRequest::Exit, "SIGTERM"),
    };
    let sender = match origin.process {
        Some(process) => {
            let comm = std::fs::read_to_string(format!("/proc/{}/comm", process.pid)).unwrap_or_default();
            match comm.trim_end() {
                "" => format!("process {} of uid {}", process.pid, process.uid),
                comm => format!("{} (process {}, uid {})", comm.escape_default(), process.pid, process.uid),
            }
        }
        None => "the kernel".to_owned(),
    };
    SignalReceived { request, name, sender }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_signal_has_its_request_and_sender() {
        let mut signals = Signals::listen().unwrap();
        signal_hook::low_level::raise(SIGHUP).unwrap();
        let SignalReceived { request, name, sender } = signals.next().await;
        assert_eq!((request, name), (SignalRequest::Reload, "SIGHUP"));
        let me = format!("process {}, uid {}", std::process::id(), nix::unistd::getuid());
        assert!(sender.contains(&me), "{sender} is not {me}");
        // SIGTERM is handled after any number of SIGHUPs
        for _ in 0..3 * QUEUE_LENGTH {
            signal_hook::low_level::raise(SIGHUP).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        signal_hook::low_level::raise(SIGTERM).unwrap();
        // SIGTERM arrives at a full queue
        std::thread::sleep(std::time::Duration::from_millis(100));
        let exit = async { while signals.next().await.request != SignalRequest::Exit {} };
        tokio::time::timeout(std::time::Duration::from_secs(20), exit).await.unwrap();
    }
}
