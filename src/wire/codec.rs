//! Frames as bytes, and back.
//!
//! This file promises that what `encode_*` writes `decode_*` reads to the same value, that a body which is not exactly
//! one frame is an error (never a panic, never a guess), and that decoding takes no more memory than a small multiple of
//! the body it was given: no length in a body is believed before that many bytes have been seen to be there. It refuses
//! to know about streams: cutting frames out of one is [`super::stream`].
//!
//! ```text
//! frame   := u32 length of (kind + payload) | u8 kind | payload          all integers little-endian
//! string  := u32 length | bytes, UTF-8          bytes := u32 length | bytes
//! list    := u32 count (at most MAX_ITEMS) | items
//! bool    := u8, 0 or 1                          enum := u8
//! ```
//!
//! Kinds that go to the init are below 0x80, kinds that come from it above, so a stream plugged in the wrong way round
//! fails at its first frame.

use super::frame::{
    Collect, Collected, Done, Ended, Fired, FromInit, Hello, Isolation, MAX_CHUNK_BYTES, MAX_FRAME_BYTES, MemorySource,
    Put, Ready, Refused, Relax, Run, RunLimits, Space, Stream, ToInit,
};

/// The most items in one list of a frame (arguments, environment, files).
pub const MAX_ITEMS: usize = 4096;

/// The longest path in a frame, in bytes (PATH_MAX of Linux).
pub const MAX_PATH_BYTES: usize = 4096;

const HELLO: u8 = 0x01;
const PUT: u8 = 0x02;
const RUN: u8 = 0x03;
const STDIN: u8 = 0x04;
const STDIN_END: u8 = 0x05;
const CREDIT: u8 = 0x06;
const KILL: u8 = 0x07;
const PING: u8 = 0x08;
const PROBE: u8 = 0x09;
const COLLECT: u8 = 0x0a;
const READ: u8 = 0x0b;
const RESET: u8 = 0x0c;

const READY: u8 = 0x81;
const PUT_FAILED: u8 = 0x82;
const OUTPUT: u8 = 0x83;
const STDIN_CREDIT: u8 = 0x84;
const DONE: u8 = 0x85;
const PONG: u8 = 0x86;
const FAULT: u8 = 0x87;
const COLLECTED: u8 = 0x88;
const PIECE: u8 = 0x89;
const AUDITED: u8 = 0x8a;

/// Why a body is not a frame. Always the fault of whoever wrote it; reading it again won't help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeError {
    /// The body ends before its payload does.
    Short(&'static str),
    /// The body goes on after its payload.
    Trailing(usize),
    /// No frame of this direction has this kind.
    Kind(u8),
    /// A string is not UTF-8.
    Utf8(&'static str),
    /// A length or a count is over its bound.
    TooLong {
        /// Which field.
        field: &'static str,
        /// What the frame says.
        got: usize,
        /// Its bound.
        most: usize,
    },
    /// An enumeration or a bool has a value that doesn't exist.
    Value {
        /// Which field.
        field: &'static str,
        /// What the frame says.
        got: u8,
    },
}

impl std::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Short(field) => write!(f, "read a frame: the body ends in the middle of {field}"),
            Self::Trailing(n) => write!(f, "read a frame: {n} bytes too many"),
            Self::Kind(kind) => write!(f, "read a frame: unknown kind {kind:#04x}"),
            Self::Utf8(field) => write!(f, "read a frame: {field} is not UTF-8"),
            Self::TooLong { field, got, most } => {
                write!(f, "read a frame: {field} has {got}, more than {most}")
            }
            Self::Value { field, got } => write!(f, "read a frame: {field} has no value {got}"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// Appends `frame` to `out`.
///
/// The writer keeps the bounds (`MAX_CHUNK_BYTES` of data, [`MAX_ITEMS`], `MAX_FRAME_BYTES` in all): the other side ends
/// the session over a frame beyond them. [`to_init_fits`] tells beforehand.
pub fn encode_to_init(frame: &ToInit, out: &mut Vec<u8>) {
    let start = begin(out);
    let mut w = Writer(out);
    match frame {
        ToInit::Hello(hello) => {
            w.u8(HELLO);
            w.u16(hello.version);
            w.raw(&hello.nonce);
            w.u32(hello.uid);
            w.u32(hello.gid);
            w.u8(match hello.isolation {
                Isolation::Split => 1,
                Isolation::Cell => 2,
            });
            let space = &hello.space;
            for v in [space.box_bytes, space.tmp_bytes, space.shm_bytes] {
                w.u64(v);
            }
            w.u32(space.inodes);
        }
        ToInit::Put(put) => {
            w.u8(PUT);
            w.bytes(put.path.as_bytes());
            w.u32(put.mode);
            w.bool(put.append);
            w.bytes(&put.data);
        }
        ToInit::Run(run) => {
            w.u8(RUN);
            w.run(run);
        }
        ToInit::Stdin { run, data } => {
            w.u8(STDIN);
            w.u32(*run);
            w.bytes(data);
        }
        ToInit::StdinEnd { run } => {
            w.u8(STDIN_END);
            w.u32(*run);
        }
        ToInit::Credit { run, bytes } => {
            w.u8(CREDIT);
            w.u32(*run);
            w.u32(*bytes);
        }
        ToInit::Kill { run } => {
            w.u8(KILL);
            w.u32(*run);
        }
        ToInit::Ping { token } => {
            w.u8(PING);
            w.u64(*token);
        }
        ToInit::Probe => w.u8(PROBE),
        ToInit::Reset => w.u8(RESET),
        ToInit::Collect(collect) => {
            w.u8(COLLECT);
            w.strings(&collect.patterns);
            w.u32(collect.max_files);
            w.u64(collect.max_bytes);
        }
        ToInit::Read { file, at } => {
            w.u8(READ);
            w.u32(*file);
            w.u64(*at);
        }
    }
    end(out, start);
}

/// Whether the init will accept `frame`: every bound that [`decode_to_init`] and the stream reader check.
#[must_use]
pub fn to_init_fits(frame: &ToInit) -> bool {
    let mut bytes = Vec::new();
    encode_to_init(frame, &mut bytes);
    let body = bytes.get(4..).unwrap_or_default();
    body.len() <= MAX_FRAME_BYTES && decode_to_init(body).is_ok()
}

/// Appends `frame` to `out`. Bounds as in [`encode_to_init`].
pub fn encode_from_init(frame: &FromInit, out: &mut Vec<u8>) {
    let start = match frame {
        FromInit::Output { run, stream, data } => return encode_output(*run, *stream, data, out),
        _ => begin(out),
    };
    let mut w = Writer(out);
    match frame {
        FromInit::Ready(ready) => {
            w.u8(READY);
            w.ready(ready);
        }
        FromInit::PutFailed { path, errno } => {
            w.u8(PUT_FAILED);
            w.bytes(path.as_bytes());
            w.i32(*errno);
        }
        FromInit::Output { .. } => {}
        FromInit::StdinCredit { run, bytes } => {
            w.u8(STDIN_CREDIT);
            w.u32(*run);
            w.u32(*bytes);
        }
        FromInit::Done(done) => {
            w.u8(DONE);
            w.done(done);
        }
        FromInit::Collected(collected) => {
            w.u8(COLLECTED);
            w.collected(collected);
        }
        FromInit::Audited { residue } => {
            w.u8(AUDITED);
            w.strings(residue);
        }
        FromInit::Piece { file, data } => {
            w.u8(PIECE);
            w.u32(*file);
            w.bytes(data);
        }
        FromInit::Pong { token } => {
            w.u8(PONG);
            w.u64(*token);
        }
        FromInit::Fault { message } => {
            w.u8(FAULT);
            w.bytes(message.as_bytes());
        }
    }
    end(out, start);
}

/// Appends an [`FromInit::Output`] without owning its data: the init's hot path.
pub fn encode_output(run: u32, stream: Stream, data: &[u8], out: &mut Vec<u8>) {
    let start = begin(out);
    let mut w = Writer(out);
    w.u8(OUTPUT);
    w.u32(run);
    w.u8(match stream {
        Stream::Stdout => 1,
        Stream::Stderr => 2,
    });
    w.bytes(data);
    end(out, start);
}

/// Reads the body of one frame (kind and payload, without the length) that was meant for an init.
pub fn decode_to_init(body: &[u8]) -> Result<ToInit, DecodeError> {
    let mut r = Reader(body);
    let frame = match r.u8("kind")? {
        HELLO => ToInit::Hello(Hello {
            version: r.u16("version")?,
            nonce: r.nonce()?,
            uid: r.u32("uid")?,
            gid: r.u32("gid")?,
            isolation: match r.u8("isolation")? {
                1 => Isolation::Split,
                2 => Isolation::Cell,
                got => return Err(DecodeError::Value { field: "isolation", got }),
            },
            space: Space {
                box_bytes: r.u64("box")?,
                tmp_bytes: r.u64("tmp")?,
                shm_bytes: r.u64("shm")?,
                inodes: r.u32("inodes")?,
            },
        }),
        PUT => ToInit::Put(Put {
            path: r.string("path", MAX_PATH_BYTES)?,
            mode: r.u32("mode")?,
            append: r.bool("append")?,
            data: r.bytes("data", MAX_CHUNK_BYTES)?.to_vec(),
        }),
        RUN => ToInit::Run(r.run()?),
        STDIN => ToInit::Stdin { run: r.u32("run")?, data: r.bytes("data", MAX_CHUNK_BYTES)?.to_vec() },
        STDIN_END => ToInit::StdinEnd { run: r.u32("run")? },
        CREDIT => ToInit::Credit { run: r.u32("run")?, bytes: r.u32("bytes")? },
        KILL => ToInit::Kill { run: r.u32("run")? },
        PING => ToInit::Ping { token: r.u64("token")? },
        PROBE => ToInit::Probe,
        RESET => ToInit::Reset,
        COLLECT => ToInit::Collect(Collect {
            patterns: r.strings("patterns", MAX_PATH_BYTES)?,
            max_files: r.u32("files")?,
            max_bytes: r.u64("bytes")?,
        }),
        READ => ToInit::Read { file: r.u32("file")?, at: r.u64("at")? },
        kind => return Err(DecodeError::Kind(kind)),
    };
    r.end(frame)
}

/// Reads the body of one frame that came from an init. The init is believed to be ours, but its bytes crossed a
/// sandbox: the same strictness holds.
pub fn decode_from_init(body: &[u8]) -> Result<FromInit, DecodeError> {
    let mut r = Reader(body);
    let frame = match r.u8("kind")? {
        READY => FromInit::Ready(Box::new(r.ready()?)),
        PUT_FAILED => FromInit::PutFailed { path: r.string("path", MAX_PATH_BYTES)?, errno: r.i32("errno")? },
        OUTPUT => FromInit::Output {
            run: r.u32("run")?,
            stream: match r.u8("stream")? {
                1 => Stream::Stdout,
                2 => Stream::Stderr,
                got => {
                    return Err(DecodeError::Value { field: "stream", got });
                }
            },
            data: r.bytes("data", MAX_CHUNK_BYTES)?.to_vec(),
        },
        STDIN_CREDIT => FromInit::StdinCredit { run: r.u32("run")?, bytes: r.u32("bytes")? },
        DONE => FromInit::Done(Box::new(r.done()?)),
        COLLECTED => FromInit::Collected(r.collected()?),
        AUDITED => FromInit::Audited { residue: r.strings("residue", MAX_PATH_BYTES)? },
        PIECE => FromInit::Piece { file: r.u32("file")?, data: r.bytes("data", MAX_CHUNK_BYTES)?.to_vec() },
        PONG => FromInit::Pong { token: r.u64("token")? },
        FAULT => FromInit::Fault { message: r.string("message", MAX_FRAME_BYTES)? },
        kind => return Err(DecodeError::Kind(kind)),
    };
    r.end(frame)
}

fn begin(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    start
}

fn end(out: &mut [u8], start: usize) {
    // A frame beyond u32 cannot be built within the bounds; saturating makes the reader refuse it.
    let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&length.to_le_bytes());
    }
}

struct Writer<'a>(&'a mut Vec<u8>);

impl Writer<'_> {
    fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
    fn u8(&mut self, v: u8) {
        self.0.push(v);
    }
    fn u16(&mut self, v: u16) {
        self.raw(&v.to_le_bytes());
    }
    fn u32(&mut self, v: u32) {
        self.raw(&v.to_le_bytes());
    }
    fn i32(&mut self, v: i32) {
        self.raw(&v.to_le_bytes());
    }
    fn u64(&mut self, v: u64) {
        self.raw(&v.to_le_bytes());
    }
    fn bool(&mut self, v: bool) {
        self.u8(u8::from(v));
    }
    fn bytes(&mut self, v: &[u8]) {
        self.count(v.len());
        self.raw(v);
    }
    fn count(&mut self, v: usize) {
        self.u32(u32::try_from(v).unwrap_or(u32::MAX));
    }
    fn strings(&mut self, v: &[String]) {
        self.count(v.len());
        for s in v {
            self.bytes(s.as_bytes());
        }
    }

    fn run(&mut self, run: &Run) {
        self.u32(run.run);
        self.strings(&run.argv);
        self.count(run.env.len());
        for (name, value) in &run.env {
            self.bytes(name.as_bytes());
            self.bytes(value.as_bytes());
        }
        let l = &run.limits;
        for v in [l.cpu_ns, l.wall_ns, l.output_bytes, l.file_bytes] {
            self.u64(v);
        }
        self.u32(l.open_files);
        self.u32(l.pids);
        self.u64(l.memory_bytes);
        self.bool(run.clean);
        self.strings(&run.keep);
        self.strings(&run.remove_after);
        self.bool(run.truncate_output);
        self.u32(run.relax.0);
    }

    fn collected(&mut self, collected: &Collected) {
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

    fn ready(&mut self, r: &Ready) {
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
        self.bool(r.no_cell.is_some());
        if let Some((step, errno)) = &r.no_cell {
            self.bytes(step.as_bytes());
            self.i32(*errno);
        }
    }

    fn done(&mut self, d: &Done) {
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
            MemorySource::CgroupPeak => 1,
            MemorySource::Sampled => 2,
            MemorySource::MaxRss => 3,
        });
        for v in [d.max_rss_bytes, d.oom_kills, d.pids_denied] {
            self.u64(v);
        }
        self.u32(d.survivors);
        self.u64(d.stdout_bytes);
        self.u64(d.stderr_bytes);
        self.strings(&d.keep_missing);
        self.u64(d.setup_ns);
        self.bool(d.clean);
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let (head, tail) = self.0.split_at_checked(n).ok_or(DecodeError::Short(field))?;
        self.0 = tail;
        Ok(head)
    }
    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or(DecodeError::Short(field))?;
        self.0 = tail;
        Ok(*head)
    }
    fn nonce(&mut self) -> Result<[u8; 16], DecodeError> {
        self.array("nonce")
    }
    fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.array::<1>(field).map(|[b]| b)
    }
    fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.array(field).map(u16::from_le_bytes)
    }
    fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.array(field).map(u32::from_le_bytes)
    }
    fn i32(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        self.array(field).map(i32::from_le_bytes)
    }
    fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.array(field).map(u64::from_le_bytes)
    }
    fn bool(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            got => Err(DecodeError::Value { field, got }),
        }
    }
    fn length(&mut self, field: &'static str, most: usize) -> Result<usize, DecodeError> {
        let got = usize::try_from(self.u32(field)?).unwrap_or(usize::MAX);
        if got > most {
            return Err(DecodeError::TooLong { field, got, most });
        }
        Ok(got)
    }
    fn bytes(&mut self, field: &'static str, most: usize) -> Result<&'a [u8], DecodeError> {
        let n = self.length(field, most)?;
        self.take(n, field)
    }
    fn string(&mut self, field: &'static str, most: usize) -> Result<String, DecodeError> {
        let bytes = self.bytes(field, most)?;
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| DecodeError::Utf8(field))
    }
    fn strings(&mut self, field: &'static str, most: usize) -> Result<Vec<String>, DecodeError> {
        let n = self.length(field, MAX_ITEMS)?;
        // No with_capacity: the count is believed one item at a time.
        (0..n).map(|_| self.string(field, most)).collect()
    }
    fn end<T>(self, frame: T) -> Result<T, DecodeError> {
        match self.0.len() {
            0 => Ok(frame),
            n => Err(DecodeError::Trailing(n)),
        }
    }

    fn run(&mut self) -> Result<Run, DecodeError> {
        let run = self.u32("run")?;
        let argv = self.strings("argv", MAX_FRAME_BYTES)?;
        let n = self.length("env", MAX_ITEMS)?;
        let env = (0..n)
            .map(|_| Ok((self.string("env", MAX_FRAME_BYTES)?, self.string("env", MAX_FRAME_BYTES)?)))
            .collect::<Result<_, DecodeError>>()?;
        Ok(Run {
            run,
            argv,
            env,
            limits: RunLimits {
                cpu_ns: self.u64("cpu")?,
                wall_ns: self.u64("wall")?,
                output_bytes: self.u64("output")?,
                file_bytes: self.u64("file")?,
                open_files: self.u32("open files")?,
                pids: self.u32("pids")?,
                memory_bytes: self.u64("memory")?,
            },
            clean: self.bool("clean")?,
            keep: self.strings("keep", MAX_PATH_BYTES)?,
            remove_after: self.strings("remove_after", MAX_PATH_BYTES)?,
            truncate_output: self.bool("truncate_output")?,
            relax: Relax(self.u32("relax")?),
        })
    }

    fn collected(&mut self) -> Result<Collected, DecodeError> {
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

    fn ready(&mut self) -> Result<Ready, DecodeError> {
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
            no_cell: match self.bool("no cell")? {
                false => None,
                true => Some((self.string("step", MAX_PATH_BYTES)?, self.i32("errno")?)),
            },
        })
    }

    fn done(&mut self) -> Result<Done, DecodeError> {
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
                1 => MemorySource::CgroupPeak,
                2 => MemorySource::Sampled,
                3 => MemorySource::MaxRss,
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
            clean: self.bool("clean")?,
        })
    }
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
