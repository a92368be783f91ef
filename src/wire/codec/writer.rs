//! Values into a frame's payload.

use crate::frame::{Collected, Done, Ended, Fired, MemoryMethod, OutputStream, Ready, Refused, Run, RunLimits};

pub(super) struct Writer<'a>(pub(super) &'a mut Vec<u8>);

impl Writer<'_> {
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
    pub(super) fn u8(&mut self, v: u8) {
        self.0.push(v);
    }
    pub(super) fn u16(&mut self, v: u16) {
        self.raw(&v.to_le_bytes());
    }
    pub(super) fn u32(&mut self, v: u32) {
        self.raw(&v.to_le_bytes());
    }
    pub(super) fn i32(&mut self, v: i32) {
        self.raw(&v.to_le_bytes());
    }
    pub(super) fn u64(&mut self, v: u64) {
        self.raw(&v.to_le_bytes());
    }
    pub(super) fn bool(&mut self, v: bool) {
        self.u8(u8::from(v));
    }
    pub(super) fn bytes(&mut self, v: &[u8]) {
        self.count(v.len());
        self.raw(v);
    }
    pub(super) fn count(&mut self, v: usize) {
        self.u32(u32::try_from(v).unwrap_or(u32::MAX));
    }
    pub(super) fn strings(&mut self, v: &[String]) {
        self.count(v.len());
        for s in v {
            self.bytes(s.as_bytes());
        }
    }

    pub(super) fn stream(&mut self, stream: OutputStream) {
        self.u8(match stream {
            OutputStream::Stdout => 1,
            OutputStream::Stderr => 2,
        });
    }

    pub(super) fn run(&mut self, run: &Run) {
        self.u32(run.run);
        self.strings(&run.argv);
        self.env(&run.env);
        self.run_limits(&run.limits);
        self.bool(run.clean);
        self.strings(&run.keep);
        self.strings(&run.remove_after);
        self.bool(run.truncate_output);
        self.u32(run.relax.0);
        self.bool(run.report_output_ends);
        self.u64(run.usage_interval_ns);
        self.bool(run.more);
        self.bool(run.hot);
    }

    pub(super) fn env(&mut self, env: &[(String, String)]) {
        self.count(env.len());
        for (name, value) in env {
            self.bytes(name.as_bytes());
            self.bytes(value.as_bytes());
        }
    }

    pub(super) fn run_limits(&mut self, l: &RunLimits) {
        for v in [l.cpu_ns, l.wall_ns, l.output_bytes, l.file_bytes] {
            self.u64(v);
        }
        self.u32(l.open_files);
        self.u32(l.pids);
        self.u64(l.memory_bytes);
    }

    /// A step and its errno, if there is one.
    pub(super) fn failed(&mut self, failed: Option<&(String, i32)>) {
        self.bool(failed.is_some());
        if let Some((step, errno)) = failed {
            self.bytes(step.as_bytes());
            self.i32(*errno);
        }
    }

    pub(super) fn collected(&mut self, collected: &Collected) {
        self.count(collected.files.len());
        for (path, size) in &collected.files {
            self.bytes(path.as_bytes());
            self.u64(*size);
        }
        self.count(collected.refused.len());
        for (path, why) in &collected.refused {
            self.bytes(path.as_bytes());
            self.u8(match why {
                Refused::NotAFile => 1,
                Refused::TooLarge => 2,
                Refused::TooMany => 3,
                Refused::Name => 4,
                Refused::Unreadable => 5,
            });
        }
    }

    pub(super) fn ready(&mut self, r: &Ready) {
        self.u16(r.version);
        self.raw(&r.nonce);
        self.u8(r.cgroup_version);
        for v in [r.memory_bytes, r.swap_bytes, r.pids, r.nano_cpus, r.cap_eff, r.cap_bnd] {
            self.u64(v);
        }
        self.bool(r.no_new_privs);
        self.u8(r.seccomp);
        self.u32(r.uid);
        self.bool(r.userns_remapped);
        self.bool(r.only_loopback);
        self.bool(r.readonly_root);
        self.bool(r.box_tmpfs);
        self.u64(r.memory_used_bytes);
        self.bytes(r.kernel.as_bytes());
        self.failed(r.no_cell.as_ref());
    }

    pub(super) fn done(&mut self, d: &Done) {
        self.u32(d.run);
        match &d.ended {
            Ended::Exited(status) => {
                self.u8(1);
                self.u8(*status);
            }
            Ended::Signaled(signal) => {
                self.u8(2);
                self.u8(*signal);
            }
            Ended::NotStarted { step, errno } => {
                self.u8(3);
                self.bytes(step.as_bytes());
                self.i32(*errno);
            }
        }
        self.u8(match d.fired {
            Fired::None => 0,
            Fired::Cpu => 1,
            Fired::Wall => 2,
            Fired::Output => 3,
            Fired::Memory => 4,
            Fired::Kill => 5,
        });
        for v in [d.wall_ns, d.cpu_ns, d.user_ns, d.system_ns, d.memory_bytes] {
            self.u64(v);
        }
        self.u8(match d.memory_source {
            MemoryMethod::CgroupPeak => 1,
            MemoryMethod::Sampled => 2,
            MemoryMethod::MaxRss => 3,
        });
        for v in [d.max_rss_bytes, d.oom_kills, d.pids_denied] {
            self.u64(v);
        }
        self.u32(d.survivors);
        self.u64(d.stdout_bytes);
        self.u64(d.stderr_bytes);
        self.strings(&d.keep_missing);
        self.u64(d.setup_ns);
        self.bool(d.hot);
        self.bool(d.clean);
    }
}
