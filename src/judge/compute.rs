//! Work that keeps a thread busy: reading what callers and programs wrote, and comparing it. They
//! choose how much that is, so large pieces leave the runtime's other tasks to other threads.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Bytes up to which the work takes well under a millisecond.
pub const SMALL_BYTES: usize = 64 * 1024;

/// Does work on this many bytes.
pub fn on_bytes<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    let has_other_threads =
        || Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread);
    if bytes > SMALL_BYTES && has_other_threads() { tokio::task::block_in_place(work) } else { work() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn large_work_leaves_other_tasks_a_thread() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let work = tokio::spawn(async move { on_bytes(SMALL_BYTES + 1, move || receiver.recv().unwrap()) });
        // runs only if the one thread of the runtime is not kept
        tokio::spawn(async move { sender.send(7).unwrap() });
        assert_eq!(work.await.unwrap(), 7);
    }
}
