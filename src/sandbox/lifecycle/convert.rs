//! Converts the types of the protocol crate to those of the wire crate.

use std::time::Duration;

use protocol::prewarm::MAX_PREWARMED;
use protocol::{Limits, PrewarmedRuntime, Profile, Relaxation};
use wire::frame::{MAX_PREPARED, Prepare, Relax, RunLimits};

const _: () = assert!(MAX_PREWARMED <= MAX_PREPARED);

/// Nanoseconds, capped at `u64::MAX`.
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

pub fn run_limits(limits: &Limits) -> RunLimits {
    RunLimits {
        cpu_ns: nanos(limits.cpu),
        wall_ns: nanos(limits.wall),
        output_bytes: limits.output_bytes,
        file_bytes: limits.file_bytes,
        open_files: limits.open_files,
        pids: limits.pids,
        memory_bytes: limits.memory_bytes,
    }
}

/// System calls that a profile allows in addition to the default ones.
pub fn relax(allowed: &[Relaxation]) -> Relax {
    let bits = |relaxation: &Relaxation| match relaxation {
        Relaxation::Ptrace => Relax::PTRACE,
        Relaxation::SysvIpc => Relax::SYSV_IPC,
        Relaxation::PosixMq => Relax::POSIX_MQ,
        Relaxation::IoUring => Relax::IO_URING,
        Relaxation::Pty => Relax::PTY,
        Relaxation::Timerfd => Relax::TIMERFD,
    };
    allowed.iter().map(bits).fold(Relax::NONE, Relax::with)
}

/// The runtimes that a profile's sandboxes prewarm.
pub fn prewarmed_runtimes(profile: &Profile, limits: &Limits) -> Vec<Prepare> {
    let env: Vec<(String, String)> = profile.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    let prepare = |(id, runtime): (usize, PrewarmedRuntime)| Prepare {
        id: id as u32,
        argv: runtime.argv,
        stands_for: runtime.stands_for,
        entry_word: runtime.entry_word as u32,
        env: env.clone(),
        exact: runtime.exact,
        forks: runtime.forks,
        load: runtime.load,
        limits: run_limits(limits),
        relax: relax(&profile.allow),
    };
    profile.prewarmed_runtimes().into_iter().enumerate().map(prepare).collect()
}
