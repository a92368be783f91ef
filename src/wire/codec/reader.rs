//! Values out of a frame's payload. No length is believed before that many bytes are seen to be there.

use super::{DecodeError, MAX_ITEMS, MAX_PATH_BYTES};
use crate::frame::{
    Collected, Done, Ended, Fired, MAX_FRAME_BYTES, MemoryMethod, OutputStream, Ready, Refused, Relax, Run, RunLimits,
};

pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, n: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let (head, tail) = self.0.split_at_checked(n).ok_or(DecodeError::Short(field))?;
        self.0 = tail;
        Ok(head)
    }
    pub(super) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or(DecodeError::Short(field))?;
        self.0 = tail;
        Ok(*head)
    }
    pub(super) fn nonce(&mut self) -> Result<[u8; 16], DecodeError> {
        self.array("nonce")
    }
    pub(super) fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.array::<1>(field).map(|[b]| b)
    }
    pub(super) fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.array(field).map(u16::from_le_bytes)
    }
    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.array(field).map(u32::from_le_bytes)
    }
    pub(super) fn i32(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        self.array(field).map(i32::from_le_bytes)
    }
    pub(super) fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.array(field).map(u64::from_le_bytes)
    }
    pub(super) fn bool(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            got => Err(DecodeError::Value { field, got }),
        }
    }
    pub(super) fn length(&mut self, field: &'static str, most: usize) -> Result<usize, DecodeError> {
        let got = usize::try_from(self.u32(field)?).unwrap_or(usize::MAX);
        if got > most {
            return Err(DecodeError::TooLong { field, got, most });
        }
        Ok(got)
    }
    pub(super) fn bytes(&mut self, field: &'static str, most: usize) -> Result<&'a [u8], DecodeError> {
        let n = self.length(field, most)?;
        self.take(n, field)
    }
    pub(super) fn string(&mut self, field: &'static str, most: usize) -> Result<String, DecodeError> {
        let bytes = self.bytes(field, most)?;
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| DecodeError::Utf8(field))
    }
    pub(super) fn strings(&mut self, field: &'static str, most: usize) -> Result<Vec<String>, DecodeError> {
        let n = self.length(field, MAX_ITEMS)?;
        // No with_capacity: the count is believed one item at a time.
        (0..n).map(|_| self.string(field, most)).collect()
    }
    pub(super) fn end<T>(self, frame: T) -> Result<T, DecodeError> {
        match self.0.len() {
            0 => Ok(frame),
            n => Err(DecodeError::Trailing(n)),
        }
    }

    pub(super) fn stream(&mut self) -> Result<OutputStream, DecodeError> {
        match self.u8("stream")? {
            1 => Ok(OutputStream::Stdout),
            2 => Ok(OutputStream::Stderr),
            got => Err(DecodeError::Value { field: "stream", got }),
        }
    }

    pub(super) fn run(&mut self) -> Result<Run, DecodeError> {
        let run = self.u32("run")?;
        let argv = self.strings("argv", MAX_FRAME_BYTES)?;
        Ok(Run {
            run,
            argv,
            env: self.env()?,
            limits: self.run_limits()?,
            clean: self.bool("clean")?,
            keep: self.strings("keep", MAX_PATH_BYTES)?,
            remove_after: self.strings("remove_after", MAX_PATH_BYTES)?,
            truncate_output: self.bool("truncate_output")?,
            relax: Relax(self.u32("relax")?),
            report_output_ends: self.bool("report_output_ends")?,
            usage_interval_ns: self.u64("tell_usage")?,
            more: self.bool("more")?,
            hot: self.bool("hot")?,
        })
    }

    pub(super) fn env(&mut self) -> Result<Vec<(String, String)>, DecodeError> {
        let n = self.length("env", MAX_ITEMS)?;
        (0..n).map(|_| Ok((self.string("env", MAX_FRAME_BYTES)?, self.string("env", MAX_FRAME_BYTES)?))).collect()
    }

    pub(super) fn run_limits(&mut self) -> Result<RunLimits, DecodeError> {
        Ok(RunLimits {
            cpu_ns: self.u64("cpu")?,
            wall_ns: self.u64("wall")?,
            output_bytes: self.u64("output")?,
            file_bytes: self.u64("file")?,
            open_files: self.u32("open files")?,
            pids: self.u32("pids")?,
            memory_bytes: self.u64("memory")?,
        })
    }

    /// A step and its errno, if there is one.
    pub(super) fn failed(&mut self) -> Result<Option<(String, i32)>, DecodeError> {
        Ok(match self.bool("failed")? {
            false => None,
            true => Some((self.string("step", MAX_PATH_BYTES)?, self.i32("errno")?)),
        })
    }

    pub(super) fn collected(&mut self) -> Result<Collected, DecodeError> {
        let n = self.length("files", MAX_ITEMS)?;
        let files = (0..n)
            .map(|_| Ok((self.string("path", MAX_PATH_BYTES)?, self.u64("size")?)))
            .collect::<Result<_, DecodeError>>()?;
        let n = self.length("refused", MAX_ITEMS)?;
        let refused = (0..n)
            .map(|_| {
                let path = self.string("path", MAX_PATH_BYTES)?;
                let why = match self.u8("reason")? {
                    1 => Refused::NotAFile,
                    2 => Refused::TooLarge,
                    3 => Refused::TooMany,
                    4 => Refused::Name,
                    5 => Refused::Unreadable,
                    got => return Err(DecodeError::Value { field: "reason", got }),
                };
                Ok((path, why))
            })
            .collect::<Result<_, DecodeError>>()?;
        Ok(Collected { files, refused })
    }

    pub(super) fn ready(&mut self) -> Result<Ready, DecodeError> {
        Ok(Ready {
            version: self.u16("version")?,
            nonce: self.nonce()?,
            cgroup_version: self.u8("cgroup version")?,
            memory_bytes: self.u64("memory")?,
            swap_bytes: self.u64("swap")?,
            pids: self.u64("pids")?,
            nano_cpus: self.u64("cpus")?,
            cap_eff: self.u64("cap_eff")?,
            cap_bnd: self.u64("cap_bnd")?,
            no_new_privs: self.bool("no_new_privs")?,
            seccomp: self.u8("seccomp")?,
            uid: self.u32("uid")?,
            userns_remapped: self.bool("userns")?,
            only_loopback: self.bool("loopback")?,
            readonly_root: self.bool("readonly root")?,
            box_tmpfs: self.bool("box")?,
            memory_used_bytes: self.u64("memory used")?,
            kernel: self.string("kernel", MAX_PATH_BYTES)?,
            no_cell: self.failed()?,
        })
    }

    pub(super) fn done(&mut self) -> Result<Done, DecodeError> {
        Ok(Done {
            run: self.u32("run")?,
            ended: match self.u8("ended")? {
                1 => Ended::Exited(self.u8("status")?),
                2 => Ended::Signaled(self.u8("signal")?),
                3 => Ended::NotStarted { step: self.string("step", MAX_PATH_BYTES)?, errno: self.i32("errno")? },
                got => {
                    return Err(DecodeError::Value { field: "ended", got });
                }
            },
            fired: match self.u8("fired")? {
                0 => Fired::None,
                1 => Fired::Cpu,
                2 => Fired::Wall,
                3 => Fired::Output,
                4 => Fired::Memory,
                5 => Fired::Kill,
                got => {
                    return Err(DecodeError::Value { field: "fired", got });
                }
            },
            wall_ns: self.u64("wall")?,
            cpu_ns: self.u64("cpu")?,
            user_ns: self.u64("user")?,
            system_ns: self.u64("system")?,
            memory_bytes: self.u64("memory")?,
            memory_source: match self.u8("memory source")? {
                1 => MemoryMethod::CgroupPeak,
                2 => MemoryMethod::Sampled,
                3 => MemoryMethod::MaxRss,
                got => {
                    return Err(DecodeError::Value { field: "memory source", got });
                }
            },
            max_rss_bytes: self.u64("max rss")?,
            oom_kills: self.u64("oom kills")?,
            pids_denied: self.u64("pids denied")?,
            survivors: self.u32("survivors")?,
            stdout_bytes: self.u64("stdout")?,
            stderr_bytes: self.u64("stderr")?,
            keep_missing: self.strings("keep_missing", MAX_PATH_BYTES)?,
            setup_ns: self.u64("setup")?,
            hot: self.bool("hot")?,
            clean: self.bool("clean")?,
        })
    }
}
