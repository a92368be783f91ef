//! A change of the store, from the call that asks for it to its answer.

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::clock::Moment;
use crate::error::Error;
use crate::settings::Retention;

/// What a commit of a change needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    /// May wait a moment, and may be dropped.
    Later,
    /// Is committed at once, and survives the process.
    Now,
    /// Is fsynced, and survives the machine.
    Synced,
}

/// What a change works on: an open transaction.
pub(crate) struct Rows<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) now: Moment,
    pub(crate) retention: &'a Retention,
    /// Output files to remove once the transaction is on the disk.
    pub(crate) removed: &'a mut Vec<String>,
    /// Reports that the transaction adds to history, less those that it removes.
    pub(crate) added: i64,
}

/// One thing to be done to the store.
pub(crate) trait Change: Send + 'static {
    type Output: Send + 'static;
    const NEED: Need;
    /// Whether it is refused while only the reserve of the disk is left.
    const SPARES_RESERVE: bool = false;
    fn bytes(&self) -> usize;
    fn apply(&self, rows: &mut Rows<'_>) -> rusqlite::Result<Self::Output>;
    /// The change is committed. Its files are named by rows, or to be removed.
    fn committed(&mut self, _output: &Self::Output) {}
    /// It is not known whether the change was made: its files stay for the next opening.
    fn unknown(&mut self) {}
}

/// A change with the call that waits for it.
pub(crate) trait WaitingChange: Send {
    fn need(&self) -> Need;
    fn spares_reserve(&self) -> bool;
    fn bytes(&self) -> usize;
    fn apply(&mut self, rows: &mut Rows<'_>) -> rusqlite::Result<()>;
    /// A commit of it failed in a way that may have made it all the same.
    fn unknown(&mut self);
    fn finish(self: Box<Self>, result: Result<(), Error>);
    /// The process is gone, in a test: no answer, and all files stay.
    #[cfg(test)]
    fn abandon(self: Box<Self>);
}

/// The answer to a change, after its commit.
#[derive(Debug)]
pub struct Receipt<T>(oneshot::Receiver<Result<T, Error>>);

impl<T> Receipt<T> {
    pub(crate) fn new() -> (oneshot::Sender<Result<T, Error>>, Receipt<T>) {
        let (sender, receiver) = oneshot::channel();
        (sender, Receipt(receiver))
    }

    /// Waits. Dropping the future does not undo the change.
    ///
    /// # Errors
    /// The change was not made, or it is not known whether it was.
    pub async fn done(self) -> Result<T, Error> {
        self.0.await.unwrap_or(Err(Error::Closed))
    }

    /// Waits on a thread that may block.
    ///
    /// # Errors
    /// As [`Receipt::done`].
    pub fn wait(self) -> Result<T, Error> {
        self.0.blocking_recv().unwrap_or(Err(Error::Closed))
    }
}

/// The change of one call, and where its answer goes.
pub(crate) struct QueuedChange<C: Change> {
    change: C,
    output: Option<C::Output>,
    reply: Option<oneshot::Sender<Result<C::Output, Error>>>,
}

impl<C: Change> QueuedChange<C> {
    pub(crate) fn new(change: C, reply: Option<oneshot::Sender<Result<C::Output, Error>>>) -> QueuedChange<C> {
        QueuedChange { change, output: None, reply }
    }
}

impl<C: Change> WaitingChange for QueuedChange<C> {
    fn need(&self) -> Need {
        C::NEED
    }

    fn spares_reserve(&self) -> bool {
        C::SPARES_RESERVE
    }

    fn bytes(&self) -> usize {
        // its row, its allocations
        self.change.bytes() + 512
    }

    fn apply(&mut self, rows: &mut Rows<'_>) -> rusqlite::Result<()> {
        self.output = Some(self.change.apply(rows)?);
        Ok(())
    }

    fn unknown(&mut self) {
        self.change.unknown();
    }

    fn finish(mut self: Box<Self>, result: Result<(), Error>) {
        let result = match (result, self.output.take()) {
            (Ok(()), Some(output)) => {
                self.change.committed(&output);
                Ok(output)
            }
            (Ok(()), None) => Err(Error::Closed),
            (Err(error), _) => {
                // a transaction that found no room is rolled back for certain
                if !matches!(error, Error::Full | Error::Busy { .. }) {
                    self.change.unknown();
                }
                Err(error)
            }
        };
        if let Some(reply) = self.reply.take() {
            let _ = reply.send(result);
        }
    }

    #[cfg(test)]
    fn abandon(mut self: Box<Self>) {
        self.change.unknown();
    }
}
