//! Every frame decodes to what was encoded, and nothing else is accepted.

use super::*;
use crate::frame::{
    Collect, Collected, Done, Ended, Fired, InitHello, IsolationMode, MAX_CHUNK_BYTES, MemoryMethod, Prepare, Put,
    Ready, Refused, Relax, RunLimits, Space,
};
use proptest::collection::vec;
use proptest::prelude::*;

pub fn to_init() -> impl Strategy<Value = ToInit> {
    let limits = (any::<[u64; 5]>(), any::<u32>(), any::<u32>()).prop_map(|(v, open_files, pids)| RunLimits {
        cpu_ns: v[0],
        wall_ns: v[1],
        output_bytes: v[2],
        file_bytes: v[3],
        open_files,
        pids,
        memory_bytes: v[4],
    });
    let strings = || vec(".{0,9}", 0..4);
    let run = (
        any::<[u32; 2]>(),
        strings(),
        [(); 2].map(|()| vec((".{0,9}", ".{0,9}"), 0..4)),
        limits.clone(),
        any::<[bool; 5]>(),
        strings(),
        strings(),
        any::<u64>(),
    )
        .prop_map(|([run, relax], argv, [env, live_env], limits, flags, keep, remove_after, usage_interval_ns)| {
            ToInit::Run(Run {
                run,
                argv,
                env,
                limits,
                clean: flags[0],
                keep,
                remove_after,
                truncate_output: flags[1],
                relax: Relax(relax),
                report_output_ends: flags[2],
                usage_interval_ns,
                more: flags[3],
                hot: flags[4],
                live_env,
            })
        });
    let arguments = || vec(".{0,9}", 0..3);
    let prepare = (
        any::<[u32; 3]>(),
        arguments(),
        arguments(),
        vec((".{0,9}", ".{0,9}"), 0..3),
        arguments(),
        (limits, any::<[bool; 2]>()),
    )
        .prop_map(|([id, relax, entry_word], argv, stands_for, env, load, (limits, [exact, forks]))| {
            let relax = Relax(relax);
            ToInit::Prepare(Prepare { id, argv, stands_for, entry_word, exact, forks, env, load, limits, relax })
        });
    let bytes = || vec(any::<u8>(), 0..300);
    prop_oneof![
        (any::<u16>(), any::<[u8; 16]>(), any::<[u32; 3]>(), any::<[u64; 3]>(), any::<bool>()).prop_map(
            |(version, nonce, [uid, gid, inodes], [box_bytes, tmp_bytes, shm_bytes], cell)| {
                let isolation = if cell { IsolationMode::Cell } else { IsolationMode::Split };
                let space = Space { box_bytes, tmp_bytes, shm_bytes, inodes };
                ToInit::Hello(InitHello { version, nonce, uid, gid, isolation, space })
            }
        ),
        (strings(), any::<u32>(), any::<u64>()).prop_map(|(patterns, max_files, max_bytes)| {
            ToInit::Collect(Collect { patterns, max_files, max_bytes })
        }),
        (any::<u32>(), any::<u64>()).prop_map(|(file, at)| ToInit::Read { file, at }),
        (".{0,20}", any::<u32>(), any::<bool>(), bytes())
            .prop_map(|(path, mode, append, data)| { ToInit::Put(Put { path, mode, append, data }) }),
        run,
        prepare,
        (any::<u32>(), bytes()).prop_map(|(run, data)| ToInit::Stdin { run, data }),
        any::<u32>().prop_map(|run| ToInit::StdinEnd { run }),
        any::<[u32; 2]>().prop_map(|[run, bytes]| ToInit::Credit { run, bytes }),
        any::<u32>().prop_map(|run| ToInit::Kill { run }),
        any::<u64>().prop_map(|token| ToInit::Ping { token }),
        Just(ToInit::Probe),
        Just(ToInit::Reset),
        Just(ToInit::DropPrepared),
    ]
}

pub fn from_init() -> impl Strategy<Value = FromInit> {
    let ready = (
        any::<u16>(),
        any::<[u8; 16]>(),
        any::<[u8; 2]>(),
        any::<[u64; 7]>(),
        any::<[bool; 6]>(),
        any::<u32>(),
        ".{0,20}",
        proptest::option::of((".{0,9}", any::<i32>())),
    )
        .prop_map(|(version, nonce, small, big, flags, uid, kernel, no_cell)| {
            FromInit::Ready(Box::new(Ready {
                version,
                nonce,
                cgroup_version: small[0],
                memory_bytes: big[0],
                swap_bytes: big[1],
                pids: big[2],
                nano_cpus: big[3],
                cap_eff: big[4],
                cap_bnd: big[5],
                no_new_privs: flags[0],
                seccomp: small[1],
                uid,
                userns_remapped: flags[1],
                only_loopback: flags[2],
                readonly_root: flags[3],
                box_tmpfs: flags[4],
                uid_is_spent: flags[5],
                memory_used_bytes: big[6],
                kernel,
                no_cell,
            }))
        });
    let ended = prop_oneof![
        any::<u8>().prop_map(Ended::Exited),
        any::<u8>().prop_map(Ended::Signaled),
        (".{0,9}", any::<i32>()).prop_map(|(step, errno)| Ended::NotStarted { step, errno }),
    ];
    let fired = prop_oneof![
        Just(Fired::None),
        Just(Fired::Cpu),
        Just(Fired::Wall),
        Just(Fired::Output),
        Just(Fired::Memory),
        Just(Fired::Kill),
    ];
    let source = prop_oneof![Just(MemoryMethod::CgroupPeak), Just(MemoryMethod::Sampled), Just(MemoryMethod::MaxRss),];
    let done = (any::<[u32; 2]>(), ended, fired, any::<[u64; 11]>(), source, vec(".{0,9}", 0..4), any::<[bool; 2]>())
        .prop_map(|(small, ended, fired, v, memory_source, keep_missing, [hot, clean])| {
            FromInit::Done(Box::new(Done {
                run: small[0],
                ended,
                fired,
                wall_ns: v[0],
                cpu_ns: v[1],
                user_ns: v[2],
                system_ns: v[3],
                memory_bytes: v[4],
                memory_source,
                max_rss_bytes: v[5],
                oom_kills: v[6],
                pids_denied: v[7],
                survivors: small[1],
                stdout_bytes: v[8],
                stderr_bytes: v[9],
                keep_missing,
                setup_ns: v[10],
                hot,
                clean,
            }))
        });
    let refused = prop_oneof![
        Just(Refused::NotAFile),
        Just(Refused::TooLarge),
        Just(Refused::TooMany),
        Just(Refused::Name),
        Just(Refused::Unreadable),
    ];
    let stream = prop_oneof![Just(OutputStream::Stdout), Just(OutputStream::Stderr)];
    prop_oneof![
        ready,
        (any::<u32>(), proptest::option::of((".{0,9}", any::<i32>())), any::<[u64; 2]>())
            .prop_map(|(id, failed, [took_ns, memory_bytes])| FromInit::Prepared { id, failed, took_ns, memory_bytes }),
        (".{0,20}", any::<i32>()).prop_map(|(path, errno)| FromInit::PutFailed { path, errno }),
        (any::<u32>(), stream, vec(any::<u8>(), 0..300)).prop_map(|(run, stream, data)| FromInit::Output {
            run,
            stream,
            data
        }),
        any::<[u32; 2]>().prop_map(|[run, bytes]| FromInit::StdinCredit { run, bytes }),
        (any::<u32>(), any::<[u64; 3]>()).prop_map(|(run, [wall_ns, cpu_ns, memory_bytes])| {
            FromInit::Usage { run, wall_ns, cpu_ns, memory_bytes }
        }),
        any::<u32>().prop_map(|run| FromInit::OutputEnd { run, stream: OutputStream::Stderr }),
        done,
        (vec((".{0,9}", any::<u64>()), 0..4), vec((".{0,9}", refused), 0..4))
            .prop_map(|(files, refused)| FromInit::Collected(Collected { files, refused })),
        (any::<u32>(), vec(any::<u8>(), 0..300)).prop_map(|(file, data)| FromInit::Piece { file, data }),
        vec(".{0,9}", 0..4).prop_map(|residue| FromInit::Audited { residue }),
        any::<u64>().prop_map(|token| FromInit::Pong { token }),
        ".{0,20}".prop_map(|message| FromInit::Fault { message }),
        Just(FromInit::SocketsLeft),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_frame_to_the_init_round_trips_and_no_cut_or_longer_body_decodes(frame in to_init()) {
        let mut bytes = Vec::new();
        encode_to_init(&frame, &mut bytes);
        prop_assert_eq!(bytes.len() - 4, u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize);
        let body = &bytes[4..];
        prop_assert_eq!(decode_to_init(body), Ok(frame.clone()));
        prop_assert!(to_init_fits(&frame));
        for cut in 0..body.len() {
            prop_assert!(decode_to_init(&body[..cut]).is_err());
        }
        let mut more = body.to_vec();
        more.push(0);
        prop_assert_eq!(decode_to_init(&more), Err(DecodeError::Trailing(1)));
        prop_assert!(decode_from_init(body).is_err());
    }

    #[test]
    fn every_frame_from_the_init_round_trips_and_no_cut_or_longer_body_decodes(frame in from_init()) {
        let mut bytes = Vec::new();
        encode_from_init(&frame, &mut bytes);
        let body = &bytes[4..];
        prop_assert_eq!(decode_from_init(body), Ok(frame));
        for cut in 0..body.len() {
            prop_assert!(decode_from_init(&body[..cut]).is_err());
        }
        let mut more = body.to_vec();
        more.push(0);
        prop_assert_eq!(decode_from_init(&more), Err(DecodeError::Trailing(1)));
        prop_assert!(decode_to_init(body).is_err());
    }

    #[test]
    fn arbitrary_bytes_are_a_frame_or_an_error(kind in any::<u8>(), rest in vec(any::<u8>(), 0..200)) {
        let mut body = vec![kind];
        body.extend(rest);
        // An accepted body encodes to the same bytes: each frame has one encoding.
        if let Ok(frame) = decode_to_init(&body) {
            let mut again = Vec::new();
            encode_to_init(&frame, &mut again);
            prop_assert_eq!(&again[4..], &body[..]);
        }
        if let Ok(frame) = decode_from_init(&body) {
            let mut again = Vec::new();
            encode_from_init(&frame, &mut again);
            prop_assert_eq!(&again[4..], &body[..]);
        }
    }

    #[test]
    fn a_flipped_byte_is_a_frame_or_an_error(frame in to_init(), at in any::<prop::sample::Index>(), flip in 1u8..) {
        let mut bytes = Vec::new();
        encode_to_init(&frame, &mut bytes);
        let mut body = bytes[4..].to_vec();
        let at = at.index(body.len());
        body[at] ^= flip;
        prop_assert_ne!(decode_to_init(&body), Ok(frame));
    }
}

#[test]
fn a_length_over_its_bound_is_refused_before_its_bytes_are_read() {
    let mut body = vec![0x04, 1, 0, 0, 0];
    body.extend(u32::MAX.to_le_bytes());
    assert_eq!(
        decode_to_init(&body),
        Err(DecodeError::TooLong { field: "data", got: u32::MAX as usize, most: MAX_CHUNK_BYTES })
    );
    let mut body = vec![layout::RUN, 1, 0, 0, 0];
    body.extend(5000u32.to_le_bytes());
    assert!(matches!(decode_to_init(&body), Err(DecodeError::TooLong { field: "argv", .. })));
}

#[test]
fn invalid_utf8_and_invalid_bools_are_errors() {
    assert_eq!(decode_to_init(&[0x02, 1, 0, 0, 0, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0]), Err(DecodeError::Utf8("path")));
    assert_eq!(
        decode_to_init(&[0x02, 1, 0, 0, 0, b'a', 0, 0, 0, 0, 2, 0, 0, 0, 0]),
        Err(DecodeError::Value { field: "append", got: 2 })
    );
    assert_eq!(decode_to_init(&[]), Err(DecodeError::Short("kind")));
}

#[test]
fn to_init_fits_checks_the_chunk_bound() {
    let run = |n: usize| ToInit::Stdin { run: 1, data: vec![0; n] };
    assert!(to_init_fits(&run(MAX_CHUNK_BYTES)));
    assert!(!to_init_fits(&run(MAX_CHUNK_BYTES + 1)));
}

proptest! {
    #[test]
    fn the_encoders_that_borrow_write_the_same_bytes(to in to_init(), from in from_init()) {
        let (mut owned, mut borrowed) = (Vec::new(), Vec::new());
        if let ToInit::Run(run) = &to {
            encode_to_init(&to, &mut owned);
            encode_run(run, &mut borrowed);
        }
        if let FromInit::Output { run, stream, data } = &from {
            encode_from_init(&from, &mut owned);
            encode_output(*run, *stream, data, &mut borrowed);
        }
        prop_assert_eq!(owned, borrowed);
    }
}
