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

mod reader;
mod writer;

use self::reader::Reader;
use self::writer::Writer;
use super::frame::{
    Collect, FromInit, InitHello, IsolationMode, MAX_CHUNK_BYTES, MAX_FRAME_BYTES, OutputStream, Prepare, Put, Relax,
    Run, Space, ToInit,
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
const PREPARE: u8 = 0x0d;

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
const OUTPUT_END: u8 = 0x8b;
const USAGE: u8 = 0x8c;
const PREPARED: u8 = 0x8d;

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
                IsolationMode::Split => 1,
                IsolationMode::Cell => 2,
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
            out.truncate(start);
            return encode_run(run, out);
        }
        ToInit::Prepare(prepare) => {
            w.u8(PREPARE);
            w.u32(prepare.id);
            w.strings(&prepare.argv);
            w.strings(&prepare.stands_for);
            w.bool(prepare.exact);
            w.bool(prepare.forks);
            w.env(&prepare.env);
            w.strings(&prepare.load);
            w.run_limits(&prepare.limits);
            w.u32(prepare.relax.0);
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

/// Appends a [`ToInit::Run`] without owning it.
pub fn encode_run(run: &Run, out: &mut Vec<u8>) {
    let start = begin(out);
    let mut w = Writer(out);
    w.u8(RUN);
    w.run(run);
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
        FromInit::Prepared { id, failed, took_ns, memory_bytes } => {
            w.u8(PREPARED);
            w.u32(*id);
            w.failed(failed.as_ref());
            w.u64(*took_ns);
            w.u64(*memory_bytes);
        }
        FromInit::PutFailed { path, errno } => {
            w.u8(PUT_FAILED);
            w.bytes(path.as_bytes());
            w.i32(*errno);
        }
        FromInit::Output { .. } => {}
        FromInit::OutputEnd { run, stream } => {
            w.u8(OUTPUT_END);
            w.u32(*run);
            w.stream(*stream);
        }
        FromInit::Usage { run, wall_ns, cpu_ns, memory_bytes } => {
            w.u8(USAGE);
            w.u32(*run);
            [wall_ns, cpu_ns, memory_bytes].into_iter().for_each(|number| w.u64(*number));
        }
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
pub fn encode_output(run: u32, stream: OutputStream, data: &[u8], out: &mut Vec<u8>) {
    let start = begin(out);
    let mut w = Writer(out);
    w.u8(OUTPUT);
    w.u32(run);
    w.stream(stream);
    w.bytes(data);
    end(out, start);
}

/// Reads the body of one frame (kind and payload, without the length) that was meant for an init.
pub fn decode_to_init(body: &[u8]) -> Result<ToInit, DecodeError> {
    let mut r = Reader(body);
    let frame = match r.u8("kind")? {
        HELLO => ToInit::Hello(InitHello {
            version: r.u16("version")?,
            nonce: r.nonce()?,
            uid: r.u32("uid")?,
            gid: r.u32("gid")?,
            isolation: match r.u8("isolation")? {
                1 => IsolationMode::Split,
                2 => IsolationMode::Cell,
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
        PREPARE => ToInit::Prepare(Prepare {
            id: r.u32("id")?,
            argv: r.strings("argv", MAX_FRAME_BYTES)?,
            stands_for: r.strings("stands_for", MAX_FRAME_BYTES)?,
            exact: r.bool("exact")?,
            forks: r.bool("forks")?,
            env: r.env()?,
            load: r.strings("load", MAX_PATH_BYTES)?,
            limits: r.run_limits()?,
            relax: Relax(r.u32("relax")?),
        }),
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
        PREPARED => FromInit::Prepared {
            id: r.u32("id")?,
            failed: r.failed()?,
            took_ns: r.u64("took")?,
            memory_bytes: r.u64("memory")?,
        },
        PUT_FAILED => FromInit::PutFailed { path: r.string("path", MAX_PATH_BYTES)?, errno: r.i32("errno")? },
        OUTPUT => FromInit::Output {
            run: r.u32("run")?,
            stream: r.stream()?,
            data: r.bytes("data", MAX_CHUNK_BYTES)?.to_vec(),
        },
        OUTPUT_END => FromInit::OutputEnd { run: r.u32("run")?, stream: r.stream()? },
        USAGE => FromInit::Usage {
            run: r.u32("run")?,
            wall_ns: r.u64("wall")?,
            cpu_ns: r.u64("cpu")?,
            memory_bytes: r.u64("memory")?,
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

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
