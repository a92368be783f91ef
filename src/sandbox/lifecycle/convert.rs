//! What the model calls things, as the wire calls them.

use std::time::Duration;

use protocol::prewarm::MAX_PREWARMED;
use protocol::{Limits, Profile, Relaxation};
use wire::frame::{MAX_PREPARED, Prepare, Relax, RunLimits};

/// Nanoseconds, as many as a frame can say.
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A run's limits.
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

/// System calls that a profile's programs may make beside the usual ones.
pub fn relax(allowed: &[Relaxation]) -> Relax {
    let bits = |relaxation: &Relaxation| match relaxation {
        Relaxation::Ptrace => Relax::PTRACE,
        Relaxation::SysvIpc => Relax::SYSV_IPC,
        Relaxation::PosixMq => Relax::POSIX_MQ,
        Relaxation::IoUring => Relax::IO_URING,
    };
    allowed.iter().map(bits).fold(Relax::NONE, Relax::with)
}

const _: () = assert!(MAX_PREWARMED <= MAX_PREPARED);

/// The runtimes that wait in a profile's idle sandboxes.
pub fn prepares(profile: &Profile, limits: &Limits) -> Vec<Prepare> {
    let env: Vec<(String, String)> = profile.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    let prepare = |(hot, waiter): (usize, protocol::PrewarmedRuntime)| Prepare {
        id: hot as u32,
        argv: waiter.argv,
        stands_for: waiter.stands_for,
        env: env.clone(),
        exact: waiter.exact,
        forks: waiter.forks,
        load: waiter.load,
        limits: run_limits(limits),
        relax: relax(&profile.allow),
    };
    profile.prewarmed_runtimes().into_iter().enumerate().map(prepare).collect()
}
