//! Frames as bytes: `[length u32][kind u8][fields]`, little-endian, strings and lists behind their u32 count.
//!
//! Encoding appends to a buffer of the caller's. Decoding takes one frame's body, reads every byte of it or fails, and
//! never reserves more memory than the body is long.

use super::frame::{
    Done, Ended, Fired, FromInit, Hello, MAX_FRAME_BYTES, MemorySource, Put, Ready, Run, RunLimits, Stream, ToInit,
};

/// What is wrong with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeError {
    /// It ends too early.
    Short,
    /// It goes on after its end.
    Trailing,
    /// A kind, or another choice, that does not exist.
    Unknown(u8),
    /// Text that is not UTF-8.
    NotUtf8,
}

impl std::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DecodeError::Short => f.write_str("a frame ends too early"),
            DecodeError::Trailing => f.write_str("a frame goes on after its end"),
            DecodeError::Unknown(kind) => write!(f, "a frame says {kind}, which means nothing"),
            DecodeError::NotUtf8 => f.write_str("a frame's text is not UTF-8"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// Writes fields.
struct Writer<'a>(&'a mut Vec<u8>);

impl Writer<'_> {
    fn u8(&mut self, value: u8) {
        self.0.push(value);
    }
    fn bool(&mut self, value: bool) {
        self.u8(u8::from(value));
    }
    fn u16(&mut self, value: u16) {
        self.0.extend(value.to_le_bytes());
    }
    fn u32(&mut self, value: u32) {
        self.0.extend(value.to_le_bytes());
    }
    fn i32(&mut self, value: i32) {
        self.0.extend(value.to_le_bytes());
    }
    fn u64(&mut self, value: u64) {
        self.0.extend(value.to_le_bytes());
    }
    fn bytes(&mut self, value: &[u8]) {
        self.u32(value.len() as u32);
        self.0.extend_from_slice(value);
    }
    fn text(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }
    fn texts(&mut self, values: &[String]) {
        self.u32(values.len() as u32);
        for value in values {
            self.text(value);
        }
    }
}

/// Reads fields.
struct Reader<'a>(&'a [u8]);

type Read<T> = Result<T, DecodeError>;

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(DecodeError::Short)?;
        self.0 = rest;
        Ok(*head)
    }
    fn u8(&mut self) -> Read<u8> {
        Ok(self.array::<1>()?[0])
    }
    fn bool(&mut self) -> Read<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(DecodeError::Unknown(other)),
        }
    }
    fn u16(&mut self) -> Read<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }
    fn u32(&mut self) -> Read<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }
    fn i32(&mut self) -> Read<i32> {
        Ok(i32::from_le_bytes(self.array()?))
    }
    fn u64(&mut self) -> Read<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }
    fn bytes(&mut self) -> Read<&'a [u8]> {
        let length = self.u32()? as usize;
        if length > self.0.len() {
            return Err(DecodeError::Short);
        }
        let (head, rest) = self.0.split_at(length);
        self.0 = rest;
        Ok(head)
    }
    fn text(&mut self) -> Read<String> {
        std::str::from_utf8(self.bytes()?).map(str::to_owned).map_err(|_| DecodeError::NotUtf8)
    }
    /// A list; each entry takes at least four bytes, so a count cannot reserve more than the body is long.
    fn list<T>(&mut self, mut entry: impl FnMut(&mut Self) -> Read<T>) -> Read<Vec<T>> {
        let count = self.u32()? as usize;
        if count > self.0.len() / 4 {
            return Err(DecodeError::Short);
        }
        (0..count).map(|_| entry(self)).collect()
    }
    fn texts(&mut self) -> Read<Vec<String>> {
        self.list(Reader::text)
    }
    fn end<T>(self, value: T) -> Read<T> {
        if self.0.is_empty() { Ok(value) } else { Err(DecodeError::Trailing) }
    }
}

/// Appends a frame: reserves the length, writes kind and fields, fills the length in.
fn framed(out: &mut Vec<u8>, kind: u8, fields: impl FnOnce(&mut Writer<'_>)) {
    let begin = out.len();
    out.extend([0; 4]);
    out.push(kind);
    fields(&mut Writer(out));
    let length = out.len() - begin - 4;
    debug_assert!(length <= MAX_FRAME_BYTES, "a frame of {length} bytes");
    out[begin..begin + 4].copy_from_slice(&(length as u32).to_le_bytes());
}

/// Appends a frame for the init.
pub fn encode_to_init(frame: &ToInit, out: &mut Vec<u8>) {
    match frame {
        ToInit::Hello(hello) => framed(out, 1, |w| {
            w.u16(hello.version);
            w.0.extend(hello.nonce);
            w.u32(hello.uid);
            w.u32(hello.gid);
        }),
        ToInit::Put(put) => framed(out, 2, |w| {
            w.text(&put.path);
            w.u32(put.mode);
            w.bool(put.append);
            w.bytes(&put.data);
        }),
        ToInit::Run(run) => framed(out, 3, |w| {
            w.u32(run.run);
            w.texts(&run.argv);
            w.u32(run.env.len() as u32);
            for (name, value) in &run.env {
                w.text(name);
                w.text(value);
            }
            let limits = &run.limits;
            for value in [limits.cpu_ns, limits.wall_ns, limits.output_bytes, limits.file_bytes, limits.memory_bytes] {
                w.u64(value);
            }
            w.u32(limits.open_files);
            w.u32(limits.pids);
            w.bool(run.clean);
            w.texts(&run.keep);
            w.texts(&run.remove_after);
            w.bool(run.truncate_output);
        }),
        ToInit::Stdin { run, data } => framed(out, 4, |w| {
            w.u32(*run);
            w.bytes(data);
        }),
        ToInit::StdinEnd { run } => framed(out, 5, |w| w.u32(*run)),
        ToInit::Credit { run, bytes } => framed(out, 6, |w| {
            w.u32(*run);
            w.u32(*bytes);
        }),
        ToInit::Kill { run } => framed(out, 7, |w| w.u32(*run)),
        ToInit::Ping { token } => framed(out, 8, |w| w.u64(*token)),
        ToInit::Probe => framed(out, 9, |_| ()),
    }
}

/// Reads one frame's body from a host.
///
/// # Errors
/// See [`DecodeError`].
pub fn decode_to_init(body: &[u8]) -> Result<ToInit, DecodeError> {
    let mut r = Reader(body);
    let frame = match r.u8()? {
        1 => ToInit::Hello(Hello { version: r.u16()?, nonce: r.array()?, uid: r.u32()?, gid: r.u32()? }),
        2 => ToInit::Put(Put { path: r.text()?, mode: r.u32()?, append: r.bool()?, data: r.bytes()?.to_vec() }),
        3 => ToInit::Run(Run {
            run: r.u32()?,
            argv: r.texts()?,
            env: r.list(|r| Ok((r.text()?, r.text()?)))?,
            limits: RunLimits {
                cpu_ns: r.u64()?,
                wall_ns: r.u64()?,
                output_bytes: r.u64()?,
                file_bytes: r.u64()?,
                memory_bytes: r.u64()?,
                open_files: r.u32()?,
                pids: r.u32()?,
            },
            clean: r.bool()?,
            keep: r.texts()?,
            remove_after: r.texts()?,
            truncate_output: r.bool()?,
        }),
        4 => ToInit::Stdin { run: r.u32()?, data: r.bytes()?.to_vec() },
        5 => ToInit::StdinEnd { run: r.u32()? },
        6 => ToInit::Credit { run: r.u32()?, bytes: r.u32()? },
        7 => ToInit::Kill { run: r.u32()? },
        8 => ToInit::Ping { token: r.u64()? },
        9 => ToInit::Probe,
        other => return Err(DecodeError::Unknown(other)),
    };
    r.end(frame)
}

/// Appends a frame for the host.
pub fn encode_from_init(frame: &FromInit, out: &mut Vec<u8>) {
    match frame {
        FromInit::Ready(ready) => framed(out, 1, |w| encode_ready(ready, w)),
        FromInit::PutFailed { path, errno } => framed(out, 2, |w| {
            w.text(path);
            w.i32(*errno);
        }),
        FromInit::Output { run, stream, data } => framed(out, 3, |w| {
            w.u32(*run);
            w.u8(match stream {
                Stream::Stdout => 1,
                Stream::Stderr => 2,
            });
            w.bytes(data);
        }),
        FromInit::StdinCredit { run, bytes } => framed(out, 4, |w| {
            w.u32(*run);
            w.u32(*bytes);
        }),
        FromInit::Done(done) => framed(out, 5, |w| encode_done(done, w)),
        FromInit::Pong { token } => framed(out, 6, |w| w.u64(*token)),
        FromInit::Fault { message } => framed(out, 7, |w| w.text(message)),
    }
}

/// Reads one frame's body from an init.
///
/// # Errors
/// See [`DecodeError`].
pub fn decode_from_init(body: &[u8]) -> Result<FromInit, DecodeError> {
    let mut r = Reader(body);
    let frame = match r.u8()? {
        1 => FromInit::Ready(Box::new(decode_ready(&mut r)?)),
        2 => FromInit::PutFailed { path: r.text()?, errno: r.i32()? },
        3 => {
            let run = r.u32()?;
            let stream = match r.u8()? {
                1 => Stream::Stdout,
                2 => Stream::Stderr,
                other => return Err(DecodeError::Unknown(other)),
            };
            FromInit::Output { run, stream, data: r.bytes()?.to_vec() }
        }
        4 => FromInit::StdinCredit { run: r.u32()?, bytes: r.u32()? },
        5 => FromInit::Done(Box::new(decode_done(&mut r)?)),
        6 => FromInit::Pong { token: r.u64()? },
        7 => FromInit::Fault { message: r.text()? },
        other => return Err(DecodeError::Unknown(other)),
    };
    r.end(frame)
}

fn encode_ready(ready: &Ready, w: &mut Writer<'_>) {
    w.u16(ready.version);
    w.0.extend(ready.nonce);
    w.u8(ready.cgroup_version);
    for value in [
        ready.memory_bytes,
        ready.swap_bytes,
        ready.pids,
        ready.nano_cpus,
        ready.cap_eff,
        ready.cap_bnd,
        ready.memory_used_bytes,
    ] {
        w.u64(value);
    }
    w.u8(ready.seccomp);
    w.u32(ready.uid);
    for value in [ready.no_new_privs, ready.userns_remapped, ready.only_loopback, ready.readonly_root, ready.box_tmpfs]
    {
        w.bool(value);
    }
    w.text(&ready.kernel);
}

fn decode_ready(r: &mut Reader<'_>) -> Read<Ready> {
    Ok(Ready {
        version: r.u16()?,
        nonce: r.array()?,
        cgroup_version: r.u8()?,
        memory_bytes: r.u64()?,
        swap_bytes: r.u64()?,
        pids: r.u64()?,
        nano_cpus: r.u64()?,
        cap_eff: r.u64()?,
        cap_bnd: r.u64()?,
        memory_used_bytes: r.u64()?,
        seccomp: r.u8()?,
        uid: r.u32()?,
        no_new_privs: r.bool()?,
        userns_remapped: r.bool()?,
        only_loopback: r.bool()?,
        readonly_root: r.bool()?,
        box_tmpfs: r.bool()?,
        kernel: r.text()?,
    })
}

fn encode_done(done: &Done, w: &mut Writer<'_>) {
    w.u32(done.run);
    match &done.ended {
        Ended::Exited(status) => {
            w.u8(1);
            w.u8(*status);
        }
        Ended::Signaled(signal) => {
            w.u8(2);
            w.u8(*signal);
        }
        Ended::NotStarted { step, errno } => {
            w.u8(3);
            w.text(step);
            w.i32(*errno);
        }
    }
    w.u8(match done.fired {
        Fired::None => 0,
        Fired::Cpu => 1,
        Fired::Wall => 2,
        Fired::Output => 3,
        Fired::Memory => 4,
        Fired::Kill => 5,
    });
    w.u8(match done.memory_source {
        MemorySource::CgroupPeak => 1,
        MemorySource::Sampled => 2,
        MemorySource::MaxRss => 3,
    });
    for value in [
        done.wall_ns,
        done.cpu_ns,
        done.user_ns,
        done.system_ns,
        done.memory_bytes,
        done.max_rss_bytes,
        done.oom_kills,
        done.pids_denied,
        done.stdout_bytes,
        done.stderr_bytes,
        done.setup_ns,
    ] {
        w.u64(value);
    }
    w.u32(done.survivors);
    w.texts(&done.keep_missing);
    w.bool(done.clean);
}

fn decode_done(r: &mut Reader<'_>) -> Read<Done> {
    Ok(Done {
        run: r.u32()?,
        ended: match r.u8()? {
            1 => Ended::Exited(r.u8()?),
            2 => Ended::Signaled(r.u8()?),
            3 => Ended::NotStarted { step: r.text()?, errno: r.i32()? },
            other => return Err(DecodeError::Unknown(other)),
        },
        fired: match r.u8()? {
            0 => Fired::None,
            1 => Fired::Cpu,
            2 => Fired::Wall,
            3 => Fired::Output,
            4 => Fired::Memory,
            5 => Fired::Kill,
            other => return Err(DecodeError::Unknown(other)),
        },
        memory_source: match r.u8()? {
            1 => MemorySource::CgroupPeak,
            2 => MemorySource::Sampled,
            3 => MemorySource::MaxRss,
            other => return Err(DecodeError::Unknown(other)),
        },
        wall_ns: r.u64()?,
        cpu_ns: r.u64()?,
        user_ns: r.u64()?,
        system_ns: r.u64()?,
        memory_bytes: r.u64()?,
        max_rss_bytes: r.u64()?,
        oom_kills: r.u64()?,
        pids_denied: r.u64()?,
        stdout_bytes: r.u64()?,
        stderr_bytes: r.u64()?,
        setup_ns: r.u64()?,
        survivors: r.u32()?,
        keep_missing: r.texts()?,
        clean: r.bool()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn samples_to_init() -> Vec<ToInit> {
        let limits = RunLimits {
            cpu_ns: 1,
            wall_ns: 2,
            output_bytes: 3,
            file_bytes: 4,
            open_files: 5,
            pids: 6,
            memory_bytes: 7,
        };
        vec![
            ToInit::Hello(Hello { version: 1, nonce: [9; 16], uid: 52000, gid: 52001 }),
            ToInit::Put(Put { path: "a/b".to_owned(), mode: 0o755, append: true, data: vec![1, 2, 3] }),
            ToInit::Run(Run {
                run: 4,
                argv: vec!["x".to_owned(), "é".to_owned()],
                env: vec![("A".to_owned(), "B".to_owned())],
                limits,
                clean: true,
                keep: vec!["main".to_owned()],
                remove_after: vec!["t".to_owned()],
                truncate_output: false,
            }),
            ToInit::Stdin { run: 1, data: vec![0; 10] },
            ToInit::StdinEnd { run: 1 },
            ToInit::Credit { run: 1, bytes: 2 },
            ToInit::Kill { run: 1 },
            ToInit::Ping { token: u64::MAX },
            ToInit::Probe,
        ]
    }

    fn samples_from_init() -> Vec<FromInit> {
        let done = |ended, fired, memory_source| {
            FromInit::Done(Box::new(Done {
                run: 1,
                ended,
                fired,
                wall_ns: 1,
                cpu_ns: 2,
                user_ns: 3,
                system_ns: 4,
                memory_bytes: 5,
                memory_source,
                max_rss_bytes: 6,
                oom_kills: 7,
                pids_denied: 8,
                survivors: 9,
                stdout_bytes: 10,
                stderr_bytes: 11,
                keep_missing: vec!["k".to_owned()],
                setup_ns: 12,
                clean: true,
            }))
        };
        vec![
            FromInit::Ready(Box::new(Ready { kernel: "6.1".to_owned(), no_new_privs: true, ..Ready::default() })),
            FromInit::PutFailed { path: "p".to_owned(), errno: -1 },
            FromInit::Output { run: 1, stream: Stream::Stderr, data: vec![0xff] },
            FromInit::StdinCredit { run: 1, bytes: 9 },
            done(Ended::Exited(3), Fired::None, MemorySource::CgroupPeak),
            done(Ended::Signaled(9), Fired::Memory, MemorySource::Sampled),
            done(Ended::NotStarted { step: "execve".to_owned(), errno: 2 }, Fired::Kill, MemorySource::MaxRss),
            FromInit::Pong { token: 1 },
            FromInit::Fault { message: "m".to_owned() },
        ]
    }

    #[test]
    fn every_frame_comes_back_as_it_went() {
        for frame in samples_to_init() {
            let mut bytes = Vec::new();
            encode_to_init(&frame, &mut bytes);
            assert_eq!(decode_to_init(&bytes[4..]), Ok(frame));
        }
        for frame in samples_from_init() {
            let mut bytes = Vec::new();
            encode_from_init(&frame, &mut bytes);
            assert_eq!(decode_from_init(&bytes[4..]), Ok(frame));
        }
    }

    #[test]
    fn a_frame_that_is_cut_or_goes_on_is_refused() {
        for frame in samples_to_init() {
            let mut bytes = Vec::new();
            encode_to_init(&frame, &mut bytes);
            for cut in 4..bytes.len() {
                assert!(decode_to_init(&bytes[4..cut]).is_err(), "{frame:?} cut at {cut}");
            }
            bytes.push(0);
            assert_eq!(decode_to_init(&bytes[4..]), Err(DecodeError::Trailing));
        }
        for frame in samples_from_init() {
            let mut bytes = Vec::new();
            encode_from_init(&frame, &mut bytes);
            for cut in 4..bytes.len() {
                assert!(decode_from_init(&bytes[4..cut]).is_err(), "{frame:?} cut at {cut}");
            }
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = decode_to_init(&bytes);
            let _ = decode_from_init(&bytes);
        }

        #[test]
        fn what_decodes_encodes_to_the_same_bytes(kind in 1u8..10, rest in proptest::collection::vec(any::<u8>(), 0..128)) {
            let mut body = vec![kind];
            body.extend(rest);
            if let Ok(frame) = decode_to_init(&body) {
                let mut bytes = Vec::new();
                encode_to_init(&frame, &mut bytes);
                prop_assert_eq!(&bytes[4..], &body[..]);
            }
            if let Ok(frame) = decode_from_init(&body) {
                let mut bytes = Vec::new();
                encode_from_init(&frame, &mut bytes);
                prop_assert_eq!(&bytes[4..], &body[..]);
            }
        }
    }
}
