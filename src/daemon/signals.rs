//! The signals that the daemon lives by, with who sent them: the operator's first question about an end that nobody ordered.
//!
//! ```text
//!  a thread of its own waits (signal-hook, siginfo) --queue, bounded--> the daemon's loop
//! ```
//!
//! The thread waits while the queue is full: no signal is lost to others of another kind. Those of one kind that come faster than they
//! are taken are one signal, as the kernel's own are.

use std::io;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::origin::WithOrigin;
use signal_hook::low_level::siginfo::Origin;
use tokio::sync::mpsc;

/// Signals that wait to be taken.
const WAITING: usize = 8;

/// What is wanted of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// SIGTERM, SIGINT: drain and end.
    End,
    /// SIGHUP: a new configuration.
    Reload,
}

/// A signal that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Came {
    /// What it wants.
    pub wish: Wish,
    /// Its name.
    pub name: &'static str,
    /// Who sent it, in words.
    pub sender: String,
}

/// The signals, as they come.
#[derive(Debug)]
pub struct Signals(mpsc::Receiver<Came>);

impl Signals {
    /// Takes the signals over: from now on they end nothing by themselves.
    ///
    /// # Errors
    /// The kernel's, when no handler can be set or no thread be had.
    pub fn listen() -> io::Result<Signals> {
        let mut signals = SignalsInfo::<WithOrigin>::new([SIGTERM, SIGINT, SIGHUP])?;
        let (sender, receiver) = mpsc::channel(WAITING);
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for origin in signals.forever() {
                if sender.blocking_send(came(&origin)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Signals(receiver))
    }

    /// Waits for the next.
    pub async fn next(&mut self) -> Came {
        match self.0.recv().await {
            Some(came) => came,
            None => std::future::pending().await,
        }
    }
}

fn came(origin: &Origin) -> Came {
    let (wish, name) = match origin.signal {
        SIGHUP => (Wish::Reload, "SIGHUP"),
        SIGINT => (Wish::End, "SIGINT"),
        _ => (Wish::End, "SIGTERM"),
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
    Came { wish, name, sender }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_signal_says_what_is_wanted_and_who_sent_it() {
        let mut signals = Signals::listen().unwrap();
        signal_hook::low_level::raise(SIGHUP).unwrap();
        let Came { wish, name, sender } = signals.next().await;
        assert_eq!((wish, name), (Wish::Reload, "SIGHUP"));
        let me = format!("process {}, uid {}", std::process::id(), nix::unistd::getuid());
        assert!(sender.contains(&me), "{sender} is not {me}");
        // an end is heard behind however many others
        for _ in 0..3 * WAITING {
            signal_hook::low_level::raise(SIGHUP).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        signal_hook::low_level::raise(SIGTERM).unwrap();
        // it meets a full queue
        std::thread::sleep(std::time::Duration::from_millis(100));
        let heard = async { while signals.next().await.wish != Wish::End {} };
        tokio::time::timeout(std::time::Duration::from_secs(20), heard).await.unwrap();
    }
}
