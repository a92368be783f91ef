//! What is said as a warning: settings, variables and files that have no effect.

use super::tests::{EMPTY, PROFILE, TestCase};
use super::*;

#[test]
fn what_a_profile_says_without_effect_is_a_warning() {
    let warnings = |text: &str| {
        let other = PROFILE.replace("'p'", "'q'");
        let files = &[
            ("assayd.toml", "[profiles]\ndir = 'p'\nonly = ['p']"),
            ("p/p.toml", &format!("{PROFILE}{text}") as &str),
            ("p/q.toml", &other),
            ("p/r.toml", &PROFILE.replace("name = 'p'", "name = 'r'")),
        ];
        let (_folder, loaded) = TestCase { files, ..EMPTY }.load();
        let loaded = loaded.unwrap();
        load_profiles_with_warnings(&loaded.config, &loaded.origins).unwrap().warnings
    };
    for (text, expected) in [
        ("suites = 'none'", "p.toml:5: suites has no effect: the profile \"none\" does not exist"),
        ("suites = 'q'", "p.toml:5: suites has no effect: the sandboxes of the profile q are made in another way"),
        ("[imports]\nnumpy = 'none'", "imports.numpy has no effect: the profile \"none\" does not exist"),
        ("[pool]\nhot = 3", "p.toml:6: pool.hot has no effect without a [[prewarm]] runtime"),
        ("[pool]\nhot = 30\n[[prewarm]]\nfork = true", "pool.hot has no effect above the ceiling, 8"),
        ("limits = { cpu = '10s', wall = '1s' }", "p.toml:5: limits.cpu has no effect above"),
        ("[pool]\nceiling = 2000", "the ceiling of the profile p, 2000, has no effect above uids.count, 1024"),
        ("keep = ['a']", "keep has no effect without a compile command"),
        (
            "compile = ['cc', '-o', 'main']\nkeep = ['mian']",
            "p.toml:6: keep: \"mian\" is in no command of the profile; did you mean \"main\"?",
        ),
    ] {
        let found = warnings(text);
        assert!(found.len() == 1 && found[0].contains(expected), "{text}: {found:?}");
    }
    // one that profiles.only leaves out exists
    let kept = ["compile = ['cc', '-oout']\nkeep = ['out']", "compile = ['cc', '{entry}']\nkeep = ['a.out']"];
    for text in
        kept.into_iter().chain(["suites = 'r'", "[imports]\nnumpy = 'r'", "[pool]\nhot = 3\n[[prewarm]]\nfork = true"])
    {
        assert_eq!(warnings(text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn a_program_that_is_not_kept_is_a_warning() {
    let warnings = |run: &str, keep: &str| {
        let profile = PROFILE.replace("'python3', '{entry}'", run) + "compile = ['cc', '{entry}']\n" + keep;
        let files = &[("assayd.toml", "[profiles]\ndir = 'p'"), ("p/p.toml", profile.as_str())];
        let (_folder, loaded) = TestCase { files, ..EMPTY }.load();
        let loaded = loaded.unwrap();
        load_profiles_with_warnings(&loaded.config, &loaded.origins).unwrap().warnings
    };
    for run in ["'./a.out'", "'/box/a.out'"] {
        let found = warnings(run, "");
        assert!(found.len() == 1 && found[0].contains("p.toml:4: run: a.out is not in keep"), "{found:?}");
        assert_eq!(warnings(run, "keep = ['a.out']"), Vec::<String>::new());
    }
    assert_eq!(warnings("'./a.out'", "keep = ['*']"), Vec::<String>::new());
    assert_eq!(warnings("'./{stem}'", ""), Vec::<String>::new());
    assert_eq!(warnings("'/usr/bin/env', './a.out'", ""), Vec::<String>::new());
}

#[test]
fn a_run_command_that_does_not_name_the_submission_is_a_warning() {
    let warnings = |run: &str, more: &str| {
        let profile = PROFILE.replace("'python3', '{entry}'", run) + more;
        let files = &[("assayd.toml", "[profiles]\ndir = 'p'"), ("p/p.toml", profile.as_str())];
        let (_folder, loaded) = TestCase { files, ..EMPTY }.load();
        let loaded = loaded.unwrap();
        load_profiles_with_warnings(&loaded.config, &loaded.origins).unwrap().warnings
    };
    for run in ["'python3'", "'python3', '$entry'"] {
        let found = warnings(run, "");
        assert!(found.len() == 1 && found[0].contains("p.toml:4: run: no word has {entry}"), "{found:?}");
    }
    let entry = "'python3', './main.py'";
    for (run, more) in [(entry, ""), ("'python3'", "finds_start = true"), ("'x'", "compile = ['cc', '{entry}']")] {
        assert_eq!(warnings(run, more), Vec::<String>::new(), "{run}");
    }
}

#[test]
fn a_host_of_a_drop_in_whose_name_is_misspelt_is_a_warning() {
    let host = "[[hosts]]\nname = 'near'\nhost = '/a.sock'";
    let warnings = |name: &str| {
        let drop_in = format!("[[hosts]]\nname = '{name}'\nmax_creating = 1");
        let files = &[("assayd.toml", host), ("assayd.toml.d/1.toml", drop_in.as_str())];
        TestCase { files, ..EMPTY }.load().1.unwrap().warnings
    };
    let found = warnings("nera");
    assert!(found.len() == 1 && found[0].contains("the host nera has no address of its own; did you mean near?"));
    assert_eq!((warnings("near"), warnings("local")), (vec![], vec![]));
}

#[test]
fn settings_of_the_daemon_without_effect_are_warnings() {
    let warnings = |text: &str| {
        let files = &[("assayd.toml", text)];
        TestCase { files, ..EMPTY }.load().1.unwrap().warnings
    };
    let found = warnings("[queue]\nburst_per_uid = 5\nmax = 10\nmax_per_uid = 20");
    let expected = [
        "assayd.toml:2: queue.burst_per_uid has no effect without queue.max_rate_per_uid",
        "assayd.toml:4: queue.max_per_uid has no effect above queue.max, 10",
    ];
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(expected.iter().all(|text| found.iter().any(|warning| warning.ends_with(text))), "{found:?}");
    for text in ["[queue]\nburst_per_uid = 5\nmax_rate_per_uid = 1", "[queue]\nburst_per_uid = 20", "[queue]\nmax = 9"]
    {
        assert_eq!(warnings(text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn files_beside_the_settings_that_are_not_read_are_warnings() {
    let files = &[
        ("assayd.toml", "[profiles]\ndir = 'p'"),
        ("assayd.toml.d/1.toml", ""),
        ("assayd.toml.d/2.conf", ""),
        ("assayd.toml.d/README", ""),
        ("assayd.toml.d/3.toml.disabled", ""),
        ("assayd.toml.d/more/4.toml", ""),
        ("assayd.toml.d/.5.toml", "[queue]\nmaxx = 3"),
        ("assayd.toml.d/.6.toml.swp", ""),
        ("assayd.toml.d/7.TOML", ""),
        ("assayd.d/4.toml", ""),
        ("assayd.toml.D/4.toml", ""),
        ("assay.toml.d/4.toml", ""),
        ("assayd.conf", ""),
        ("assay.toml", ""),
        ("assayd.toml.new", ""),
        ("p.d/p.toml", PROFILE),
        ("state/a.toml", ""),
        ("p/p.toml", PROFILE),
        ("p/q.tml", PROFILE),
        ("p/t.toml.txt", PROFILE),
        ("p/r.toml.dpkg-old", PROFILE),
        ("p/s.toml/p.toml", PROFILE),
    ];
    let (_folder, loaded) = TestCase { files, ..EMPTY }.load();
    let warnings = loaded.unwrap().warnings;
    let expected = [
        "assayd.d is not read",
        "assayd.toml.D is not read: drop-ins are read from",
        "assay.toml.d is not read: drop-ins are read from",
        "assayd.conf is not read",
        "assay.toml is not read: settings are read from",
        "p.d is not read: profiles are read from",
        "2.conf is not read",
        "more is not read: files are read from",
        ".5.toml is not read",
        "7.TOML is not read",
        "q.tml is not read",
        "t.toml.txt is not read",
        "s.toml is not read: files are read from",
    ];
    assert_eq!(warnings.len(), expected.len(), "{warnings:?}");
    assert!(expected.iter().all(|text| warnings.iter().any(|warning| warning.contains(text))), "{warnings:?}");
}

#[test]
fn a_file_in_place_of_the_folder_of_drop_ins_is_a_warning() {
    let files = &[("assayd.toml", ""), ("assayd.toml.d", "[queue]\nmax = 3")];
    let (_folder, loaded) = TestCase { files, ..EMPTY }.load();
    let warnings = loaded.unwrap().warnings;
    assert!(warnings.len() == 1 && warnings[0].contains("assayd.toml.d is not read: it is a file"), "{warnings:?}");
}

#[test]
fn an_unknown_variable_is_a_warning_with_the_nearest_name() {
    let loaded =
        TestCase { variables: &[("ASSAY_QUEUE_MAXX", "3"), ("ASSAY_ZZZZZZZZZ", "3")], ..EMPTY }.load().1.unwrap();
    assert_eq!(loaded.warnings[0], "ASSAY_QUEUE_MAXX sets nothing; did you mean ASSAY_QUEUE_MAX?");
    assert_eq!(loaded.warnings[1], "ASSAY_ZZZZZZZZZ sets nothing; docs/OPERATIONS.md lists all");
}

#[test]
fn a_variable_whose_prefix_is_written_in_another_way_is_a_warning() {
    for (name, near) in [
        ("assay_queue_max", "ASSAY_QUEUE_MAX"),
        ("Assay_Queue_Max", "ASSAY_QUEUE_MAX"),
        ("ASSAYD_QUEUE_MAX", "ASSAY_QUEUE_MAX"),
        ("assayd_queue_maxx", "ASSAY_QUEUE_MAX"),
        ("ASAY_QUEUE_MAX", "ASSAY_QUEUE_MAX"),
        ("ASSAY-QUEUE-MAX", "ASSAY_QUEUE_MAX"),
        ("ASSAYQUEUEMAX", "ASSAY_QUEUE_MAX"),
        ("assay_config", "ASSAY_CONFIG"),
    ] {
        let loaded = TestCase { variables: &[(name, "3")], ..EMPTY }.load().1.unwrap();
        let capitals = if name.to_uppercase() == near { " names of variables are in capitals" } else { "" };
        assert_eq!(loaded.warnings, [format!("{name} sets nothing; did you mean {near}?{capitals}")]);
        assert_eq!(loaded.config.queue.max, Config::default().queue.max);
    }
    for other in ["ESSAY_LENGTH", "PATH", "QUEUE_MAX", "assay"] {
        let loaded = TestCase { variables: &[(other, "3")], ..EMPTY }.load().1.unwrap();
        assert_eq!(loaded.warnings, Vec::<String>::new(), "{other}");
    }
}

#[test]
fn an_api_that_other_machines_reach_is_a_warning() {
    let text = "[http]\nlisten = '0.0.0.0:80'\nallow_remote = true\napi = true\n";
    let all = warnings_of(text);
    assert!(all.iter().any(|warning| warning.contains("assayd.toml:2") && warning.contains("without TLS")), "{all:?}");
    assert!(all.iter().any(|warning| warning.contains("http.hosts has only names of this machine")), "{all:?}");
    let named = warnings_of(&format!("{text}hosts = ['judge.example']\n"));
    assert_eq!(named.len(), 1, "{named:?}");
    for quiet in [text.replace("0.0.0.0", "127.0.0.1"), text.replace("api = true", "api = false")] {
        assert_eq!(warnings_of(&quiet), Vec::<String>::new(), "{quiet}");
    }
}

#[test]
fn rights_without_an_api_are_warnings() {
    let all = warnings_of("[http]\nanonymous = true\nanonymous_remote = true\npeer_uids = [1000]\n");
    assert_eq!(all.len(), 2, "{all:?}");
    assert!(all[0].contains("http.anonymous has no effect without http.api"), "{all:?}");
    assert!(all[1].contains("http.peer_uids has no effect"), "{all:?}");
    let all = warnings_of("[http]\napi = true\nanonymous_remote = true\n");
    assert_eq!(all.len(), 1, "{all:?}");
}

fn warnings_of(text: &str) -> Vec<String> {
    let case = TestCase { files: &[("assayd.toml", text)], ..EMPTY };
    case.load().1.unwrap().warnings
}
