//! Files of the daemon in a sandbox: put before a run, kept from a compile step, collected after a
//! run.

use super::driver::{MIB, Sandbox};
use super::untouchable;
use wire::frame::{Collect, Ended, FromInit, IsolationMode, Put, Refused, ToInit};

both!(
    a_file_is_put_in_pieces_and_cannot_be_changed,
    a_put_replaces_whatever_the_program_left_in_its_place,
    runs_are_refused_after_a_failed_put,
    only_regular_files_of_the_last_run_are_collected,
    kept_files_belong_to_root_and_the_rest_is_cleaned,
    kept_files_are_moved_out_of_the_programs_folder_without_extra_space,
    a_pattern_that_matches_more_than_can_be_kept_is_reported_missing,
);

fn a_file_is_put_in_pieces_and_cannot_be_changed(isolation: IsolationMode) {
    let mut sandbox = Sandbox::open(isolation);
    sandbox.put("data/in/file", 0o600, b"one");
    sandbox.put("other", 0o755, b"x");
    let piece = Put { path: "data/in/file".into(), mode: 0, append: true, data: b" two".to_vec() };
    sandbox.send(&ToInit::Put(piece));
    let text = sandbox.run(&["/probe", "tamper", "/box/data/in/file"]).text();
    assert_eq!(text, untouchable(isolation));
    for folder in ["/box/data", "/box/data/in"] {
        let text = sandbox.run(&["/probe", "rename", folder, "/box/elsewhere"]).text();
        let busy = ["16", "18"].contains(&text.as_str());
        assert!(if isolation == IsolationMode::Cell { busy } else { text == "1" }, "{folder}: {text}");
    }
    assert_eq!(sandbox.run(&["/probe", "create", "/box/data/in/new", "x"]).done.ended, Ended::Exited(0));
    assert_eq!(sandbox.run(&["/probe", "cat", "data/in/file"]).text(), "one two");
    assert_eq!(sandbox.run_clean(&["/probe", "cat", "data/in/file"]).text(), "one two");
}

fn a_put_replaces_whatever_the_program_left_in_its_place(isolation: IsolationMode) {
    let mut sandbox = Sandbox::open(isolation);
    sandbox.run(&["/probe", "link", "/box/a", "/etc"]);
    sandbox.run(&["/probe", "litter"]);
    sandbox.run(&["/probe", "link", "/box/c", "/box/probe"]);
    sandbox.put("a/x", 0o644, b"1");
    sandbox.put("d/x", 0o644, b"2");
    sandbox.put("c", 0o644, b"3");
    assert_eq!(sandbox.run(&["/probe", "cat", "a/x"]).text(), "1");
    assert_eq!(sandbox.run(&["/probe", "cat", "d/x"]).text(), "2");
    assert_eq!(sandbox.run(&["/probe", "cat", "c"]).text(), "3");
}

fn runs_are_refused_after_a_failed_put(isolation: IsolationMode) {
    let mut sandbox = Sandbox::open(isolation);
    sandbox.put("../x", 0o644, b"1");
    assert_eq!(sandbox.expect(), FromInit::PutFailed { path: "../x".into(), errno: 22 });
    sandbox.put("a", 0o644, b"1");
    let end = sandbox.run(&["/probe", "true"]);
    assert_eq!(end.done.ended, Ended::NotStarted { step: "put ../x".into(), errno: 22 });
}

fn kept_files_belong_to_root_and_the_rest_is_cleaned(isolation: IsolationMode) {
    let mut sandbox = Sandbox::open(isolation);
    let end = sandbox.run_with(&["/probe", "create", "/box/out", "kept"], |r| {
        r.keep = vec!["out".into(), "gone".into()];
    });
    assert_eq!(end.done.keep_missing, ["gone"]);
    let end = sandbox.run(&["/probe", "litter"]);
    assert_eq!(end.done.ended, Ended::Exited(0), "{:?}", String::from_utf8_lossy(&end.stderr));
    let text = sandbox.run_clean(&["/probe", "tamper", "/box/out"]).text();
    assert_eq!(text, untouchable(isolation));
    assert_eq!(sandbox.run(&["/probe", "cat", "out"]).text(), "kept");
    for gone in ["/box/d", "/tmp/f"] {
        let end = sandbox.run(&["/probe", "cat", gone]);
        assert_eq!(end.done.ended, Ended::Exited(2), "{gone}");
    }
    let end = sandbox.run_with(&["/probe", "link", "/box/l", "/etc/passwd"], |r| {
        r.keep = vec!["l".into()];
        r.remove_after = vec!["out".into()];
    });
    assert_eq!(end.done.keep_missing, ["l"]);
    assert_eq!(sandbox.run(&["/probe", "cat", "out"]).done.ended, Ended::Exited(2));
}

fn kept_files_are_moved_out_of_the_programs_folder_without_extra_space(isolation: IsolationMode) {
    let mut sandbox = Sandbox::open(isolation);
    // 40 MiB in a box of 64.
    let end = sandbox.run_with(&["/probe", "bury"], |r| {
        r.limits.file_bytes = 64 * MIB;
        r.keep = vec!["sub/x".into(), "sub/big".into()];
    });
    assert_eq!(end.done.ended, Ended::Exited(0), "{:?}", end.done);
    assert!(end.done.keep_missing.is_empty() && end.done.clean);
    let text = sandbox.run_clean(&["/probe", "tamper", "/box/sub/x"]).text();
    assert_eq!(text, untouchable(isolation));
    assert_eq!(sandbox.run(&["/probe", "cat", "sub/x"]).text(), "kept");
    let end = sandbox.run_with(&["/probe", "cat", "sub/big"], |r| {
        r.limits.output_bytes = 64 * MIB;
        r.limits.wall_ns = 120_000_000_000;
    });
    assert_eq!(end.stdout.len() as u64, 40 * MIB);
}

fn a_pattern_that_matches_more_than_can_be_kept_is_reported_missing(isolation: IsolationMode) {
    let mut sandbox = Sandbox::open(isolation);
    let keep_all = |run: &mut wire::frame::Run| run.keep = vec!["*".into()];
    (0..256).for_each(|n| sandbox.put(&n.to_string(), 0o644, b"x"));
    assert!(sandbox.run_with(&["/probe", "true"], keep_all).done.keep_missing.is_empty());
    sandbox.put("one more", 0o644, b"x");
    assert_eq!(sandbox.run_with(&["/probe", "true"], keep_all).done.keep_missing, ["*"]);
}

fn only_regular_files_of_the_last_run_are_collected(isolation: IsolationMode) {
    let mut sandbox = Sandbox::open(isolation);
    sandbox.put("given", 0o644, b"the host's");
    sandbox.run_with(&["/probe", "leave"], |r| r.limits.file_bytes = 1 << 40);
    let wanted = |patterns: &[&str], max_files, max_bytes| {
        let patterns = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        ToInit::Collect(Collect { patterns, max_files, max_bytes })
    };
    sandbox.send(&wanted(&["out/**"], 100, MIB));
    let FromInit::Collected(collected) = sandbox.expect() else { panic!() };
    let files: Vec<(&str, u64)> = collected.files.iter().map(|(path, size)| (path.as_str(), *size)).collect();
    assert_eq!(files, [("out/closed/inner", 5), ("out/hard", 5), ("out/locked", 6), ("out/plain", 5)]);
    let mut refused = collected.refused;
    refused.sort();
    let refused: Vec<_> = refused.iter().map(|(path, why)| (path.as_str(), *why)).collect();
    assert_eq!(
        refused,
        [
            ("out/fifo", Refused::NotAFile),
            ("out/giant", Refused::TooLarge),
            ("out/link", Refused::NotAFile),
            ("out/new\nline", Refused::Name),
            ("out/socket", Refused::NotAFile),
            ("out/\u{fffd}", Refused::Name),
        ]
    );
    for (file, content) in [(0, "inner"), (1, "plain"), (2, "locked"), (9, "")] {
        sandbox.send(&ToInit::Read { file, at: 0 });
        assert_eq!(sandbox.expect(), FromInit::Piece { file, data: content.into() });
    }
    sandbox.send(&ToInit::Read { file: 1, at: 3 });
    assert_eq!(sandbox.expect(), FromInit::Piece { file: 1, data: "in".into() });
    sandbox.send(&wanted(&["out/plain", "out/locked"], 1, MIB));
    let FromInit::Collected(collected) = sandbox.expect() else { panic!() };
    assert_eq!((collected.files.len(), collected.refused), (1, vec![("out/plain".to_owned(), Refused::TooMany)]));
    // the daemon's file is unchanged
    sandbox.send(&wanted(&["given", "../*", "/etc/passwd"], 9, MIB));
    let FromInit::Collected(collected) = sandbox.expect() else { panic!() };
    assert_eq!(collected.files, [("given".to_owned(), 10)]);
    sandbox.send(&ToInit::Read { file: 0, at: 0 });
    assert_eq!(sandbox.expect(), FromInit::Piece { file: 0, data: b"the host's".to_vec() });
    // the next run removes the files of the last one
    sandbox.run_clean(&["/probe", "true"]);
    sandbox.send(&wanted(&["**"], 9, MIB));
    let FromInit::Collected(collected) = sandbox.expect() else { panic!() };
    assert!(collected.files.iter().all(|(path, _)| path == "given"), "{collected:?}");
}
