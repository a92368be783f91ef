//! Threads that do nothing but count as tasks.
#![allow(unsafe_code)]

use super::errno::{Errno, check};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::libc;

/// A parked thread's page: a word, and the stack, on which it makes one system call.
const PAGE_BYTES: usize = 4096;

/// How often [`ParkedThreads::release`] looks for a thread that is not asleep yet, or not gone yet.
const MAX_LOOKS: u32 = 10_000;

/// How many of these looks follow one another, and the pause before each later one.
const QUICK_LOOKS: u32 = 100;
const LOOK_PAUSE: Duration = Duration::from_micros(100);

/// Threads of this process that sleep until they are released.
///
/// They touch no memory except their pages, hold no lock, and have every signal blocked, so that
/// the process may fork as if it had one thread. A forked process has no copy of their pages.
#[derive(Default)]
pub struct ParkedThreads {
    all: Vec<ParkedThread>,
    /// Pages of threads that are gone.
    free: Vec<ParkedThread>,
}

/// One thread's page, which stays mapped for as long as the process lives. It begins with a word
/// that is not 0 while the thread exists: the kernel sets and clears it.
struct ParkedThread {
    page: NonNull<AtomicU32>,
}

impl ParkedThread {
    fn new() -> Result<Self, Errno> {
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping, which nothing refers to.
        let page = unsafe { libc::mmap(std::ptr::null_mut(), PAGE_BYTES, rights, kind, -1, 0) };
        if page == libc::MAP_FAILED {
            return Err(libc::ENOMEM);
        }
        // SAFETY: only forked processes see a difference, and they use no parked thread.
        let _ = unsafe { libc::madvise(page, PAGE_BYTES, libc::MADV_DONTFORK) };
        NonNull::new(page.cast()).map(|page| Self { page }).ok_or(libc::ENOMEM)
    }

    fn tid(&self) -> &AtomicU32 {
        // SAFETY: mapped, aligned, and never a reference to anything else.
        unsafe { self.page.as_ref() }
    }
}

/// What all parked threads sleep on. Its value never changes.
static BED: AtomicU32 = AtomicU32::new(0);

fn futex(operation: i32, value: u32) -> i64 {
    let no_time = std::ptr::null::<libc::timespec>();
    // SAFETY: a static word, and no time-out.
    unsafe { libc::syscall(libc::SYS_futex, BED.as_ptr(), operation | libc::FUTEX_PRIVATE_FLAG, value, no_time) }
}

extern "C" fn park(_: *mut libc::c_void) -> libc::c_int {
    // fails only if interrupted, and no signal is unblocked
    while futex(libc::FUTEX_WAIT, 0) != 0 {}
    0
}

impl ParkedThreads {
    #[cfg(test)]
    fn count(&self) -> usize {
        self.all.len()
    }

    /// Starts one more.
    pub fn park(&mut self) -> Result<(), Errno> {
        let thread = self.free.pop().map_or_else(ParkedThread::new, Ok)?;
        // not 0 before the kernel sets it
        thread.tid().store(u32::MAX, Ordering::SeqCst);
        let top = thread.page.as_ptr().cast::<u8>().wrapping_add(PAGE_BYTES).cast();
        let shared = libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_SIGHAND | libc::CLONE_SYSVSEM;
        let flags = shared | libc::CLONE_THREAD | libc::CLONE_CHILD_CLEARTID;
        let tid = thread.tid().as_ptr();
        let (none, no_tls) = (std::ptr::null_mut::<libc::c_void>(), std::ptr::null_mut::<libc::c_void>());
        let no_tid = std::ptr::null_mut::<u32>();
        // SAFETY: the page is the thread's alone until the word is 0. The thread shares this
        // thread's TLS, of which it uses nothing: its one call does not fail.
        let started = check(i64::from(unsafe { libc::clone(park, top, flags, none, no_tid, no_tls, tid) }));
        match started {
            Ok(_) => self.all.push(thread),
            Err(_) => self.free.push(thread),
        }
        started.map(drop)
    }

    /// Ends this many, and waits until they are gone.
    pub fn release(&mut self, count: usize) {
        let mut left = count.min(self.all.len());
        let end = self.all.len() - left;
        for look in 0..MAX_LOOKS {
            if left > 0 {
                let woken = futex(libc::FUTEX_WAKE, u32::try_from(left).unwrap_or(u32::MAX));
                left -= usize::try_from(woken).unwrap_or(0).min(left);
            }
            let (gone, all) =
                std::mem::take(&mut self.all).into_iter().partition(|thread| thread.tid().load(Ordering::SeqCst) == 0);
            self.all = all;
            self.free.extend::<Vec<_>>(gone);
            if self.all.len() <= end {
                break;
            }
            // on a busy machine they may have to wait for their turn
            match look {
                0..QUICK_LOOKS => std::thread::yield_now(),
                _ => std::thread::sleep(LOOK_PAUSE),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tasks() -> usize {
        std::fs::read_dir("/proc/self/task").unwrap().count()
    }

    /// Bytes that a fork does not copy: `dc` among the flags of a mapping (proc(5)).
    fn unforked() -> usize {
        let text = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut bytes = 0;
        let mut all = 0;
        for line in text.lines() {
            let mut fields = line.split_whitespace();
            match fields.next() {
                Some("Size:") => bytes = fields.next().unwrap().parse::<usize>().unwrap() * 1024,
                Some("VmFlags:") if fields.any(|flag| flag == "dc") => all += bytes,
                _ => {}
            }
        }
        all
    }

    #[test]
    fn pages_of_parked_threads_are_not_copied_by_a_fork() {
        let mut parked = ParkedThreads::default();
        let before = unforked();
        for _ in 0..8 {
            parked.park().unwrap();
        }
        assert!(unforked() >= before + 8 * PAGE_BYTES);
        parked.release(usize::MAX);
    }

    #[test]
    fn parked_threads_count_as_tasks_until_they_are_released() {
        let mut parked = ParkedThreads::default();
        let before = tasks();
        for _ in 0..20 {
            parked.park().unwrap();
        }
        assert!(tasks() >= before + 10, "other tests may have ended threads");
        parked.release(15);
        assert_eq!(parked.count(), 5);
        parked.park().unwrap();
        parked.release(usize::MAX);
        assert_eq!(parked.count(), 0);
    }
}
