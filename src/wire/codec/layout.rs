//! The layout of every frame, record and enumeration: one list of fields each, in their order on
//! the wire, from which both the encoder and the decoder are made.

use super::error::DecodeError;
use super::field::{
    Bool, CHUNK, Field, I32, List, Nested, Nonce, Optional, PATH, Pair, PayloadReader, RelaxBits, TEXT, U8, U16, U32,
    U64, WireRecord,
};
use crate::frame::{
    Collect, Collected, Done, Ended, Fired, FromInit, InitHello, IsolationMode, MemoryMethod, OutputStream, Prepare,
    Put, Ready, Refused, Run, RunLimits, Space, ToInit,
};

/// Implements [`WireRecord`] for a struct: its fields in this order, each with its encoding.
macro_rules! record {
    ($record:ident { $($name:ident: $field:expr),* $(,)? }) => {
        impl WireRecord for $record {
            fn write(&self, out: &mut Vec<u8>) {
                $($field.write(&self.$name, out);)*
            }
            fn read(from: &mut PayloadReader<'_>) -> Result<Self, DecodeError> {
                Ok($record { $($name: $field.read(from, stringify!($name))?),* })
            }
        }
    };
}

/// Implements [`WireRecord`] for an enumeration: a tag byte, then the fields of the variant.
/// `tag_name` names the tag in errors, `unknown` makes the error for an undefined one.
macro_rules! tagged {
    ($type:ident, $tag_name:literal, $unknown:ident; $($tag:tt $variant:ident
        $({ $($name:ident: $field:expr),* })? $(($inner:ident: $inner_field:expr))?),* $(,)?) => {
        impl WireRecord for $type {
            fn write(&self, out: &mut Vec<u8>) {
                match self {
                    $($type::$variant $({ $($name),* })? $(($inner))? => {
                        out.push($tag);
                        $($($field.write($name, out);)*)?
                        $($inner_field.write($inner, out);)?
                    })*
                }
            }
            fn read(from: &mut PayloadReader<'_>) -> Result<Self, DecodeError> {
                match U8.read(from, $tag_name)? {
                    $($tag => Ok($type::$variant
                        $({ $($name: $field.read(from, stringify!($name))?),* })?
                        $(($inner_field.read(from, stringify!($inner))?))?),)*
                    got => Err($unknown($tag_name, got)),
                }
            }
        }
    };
}

fn unknown_kind(_field: &'static str, got: u8) -> DecodeError {
    DecodeError::Kind(got)
}

fn unknown_value(field: &'static str, got: u8) -> DecodeError {
    DecodeError::Value { field, got }
}

/// Kind of the Run frame.
pub(super) const RUN: u8 = 0x03;
/// Kind of the Output frame.
pub(super) const OUTPUT: u8 = 0x83;

tagged! { ToInit, "kind", unknown_kind;
    0x01 Hello(hello: Nested),
    0x02 Put(put: Nested),
    RUN  Run(run: Nested),
    0x04 Stdin { run: U32, data: CHUNK },
    0x05 StdinEnd { run: U32 },
    0x06 Credit { run: U32, bytes: U32 },
    0x07 Kill { run: U32 },
    0x08 Ping { token: U64 },
    0x09 Probe,
    0x0a Collect(collect: Nested),
    0x0b Read { file: U32, at: U64 },
    0x0c Reset,
    0x0d Prepare(prepare: Nested),
    0x0e DropPrepared,
}

tagged! { FromInit, "kind", unknown_kind;
    0x81 Ready(ready: Nested),
    0x82 PutFailed { path: PATH, errno: I32 },
    OUTPUT Output { run: U32, stream: Nested, data: CHUNK },
    0x84 StdinCredit { run: U32, bytes: U32 },
    0x85 Done(done: Nested),
    0x86 Pong { token: U64 },
    0x87 Fault { message: TEXT },
    0x88 Collected(collected: Nested),
    0x89 Piece { file: U32, data: CHUNK },
    0x8a Audited { residue: List(PATH) },
    0x8b OutputEnd { run: U32, stream: Nested },
    0x8c Usage { run: U32, wall_ns: U64, cpu_ns: U64, memory_bytes: U64 },
    0x8d Prepared { id: U32, failed: Optional(Pair(PATH, I32)), took_ns: U64, memory_bytes: U64 },
    0x8e SocketsLeft,
}

record! { InitHello {
    version: U16,
    nonce: Nonce,
    uid: U32,
    gid: U32,
    isolation: Nested,
    space: Nested,
} }

record! { Space { box_bytes: U64, tmp_bytes: U64, shm_bytes: U64, inodes: U32 } }

record! { Put { path: PATH, mode: U32, append: Bool, data: CHUNK } }

record! { Run {
    run: U32,
    argv: List(TEXT),
    env: List(Pair(TEXT, TEXT)),
    limits: Nested,
    clean: Bool,
    keep: List(PATH),
    remove_after: List(PATH),
    truncate_output: Bool,
    relax: RelaxBits,
    report_output_ends: Bool,
    usage_interval_ns: U64,
    more: Bool,
    hot: Bool,
    live_env: List(Pair(TEXT, TEXT)),
} }

record! { RunLimits {
    cpu_ns: U64,
    wall_ns: U64,
    output_bytes: U64,
    file_bytes: U64,
    open_files: U32,
    pids: U32,
    memory_bytes: U64,
} }

record! { Prepare {
    id: U32,
    argv: List(TEXT),
    stands_for: List(TEXT),
    entry_word: U32,
    exact: Bool,
    forks: Bool,
    env: List(Pair(TEXT, TEXT)),
    load: List(PATH),
    limits: Nested,
    relax: RelaxBits,
} }

record! { Collect { patterns: List(PATH), max_files: U32, max_bytes: U64 } }

record! { Collected { files: List(Pair(PATH, U64)), refused: List(Pair(PATH, Nested)) } }

record! { Ready {
    version: U16,
    nonce: Nonce,
    cgroup_version: U8,
    memory_bytes: U64,
    swap_bytes: U64,
    pids: U64,
    nano_cpus: U64,
    cap_eff: U64,
    cap_bnd: U64,
    no_new_privs: Bool,
    seccomp: U8,
    uid: U32,
    userns_remapped: Bool,
    only_loopback: Bool,
    readonly_root: Bool,
    box_tmpfs: Bool,
    uid_is_spent: Bool,
    memory_used_bytes: U64,
    kernel: PATH,
    no_cell: Optional(Pair(PATH, I32)),
} }

record! { Done {
    run: U32,
    ended: Nested,
    fired: Nested,
    wall_ns: U64,
    cpu_ns: U64,
    user_ns: U64,
    system_ns: U64,
    memory_bytes: U64,
    memory_source: Nested,
    max_rss_bytes: U64,
    oom_kills: U64,
    pids_denied: U64,
    survivors: U32,
    stdout_bytes: U64,
    stderr_bytes: U64,
    keep_missing: List(PATH),
    setup_ns: U64,
    hot: Bool,
    clean: Bool,
} }

tagged! { IsolationMode, "isolation", unknown_value;
    1 Split,
    2 Cell,
}

tagged! { OutputStream, "stream", unknown_value;
    1 Stdout,
    2 Stderr,
}

tagged! { Ended, "ended", unknown_value;
    1 Exited(status: U8),
    2 Signaled(signal: U8),
    3 NotStarted { step: PATH, errno: I32 },
}

tagged! { Fired, "fired", unknown_value;
    0 None,
    1 Cpu,
    2 Wall,
    3 Output,
    4 Memory,
    5 Kill,
}

tagged! { MemoryMethod, "memory_source", unknown_value;
    1 CgroupPeak,
    2 Sampled,
    3 MaxRss,
}

tagged! { Refused, "refused", unknown_value;
    1 NotAFile,
    2 TooLarge,
    3 TooMany,
    4 Name,
    5 Unreadable,
}
