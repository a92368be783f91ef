//! `assay judge` with problem packages in tests/packages, one of each kind, and with invalid
//! packages.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::{Daemon, Options, root};

fn daemon() -> Daemon {
    let profiles = "python,c,cpp";
    Daemon::start(&Options { profiles, floor: 0, config: "[cache]\nmax_bytes = 100000000\n", ..Options::default() })
}

pub fn package(name: &str) -> PathBuf {
    root().join("tests/packages").join(name)
}

/// Exit status, stdout, stderr.
pub fn assay(daemon: &Daemon, args: &[&str]) -> (i32, String, String) {
    let out = Command::new(crate::programs::program("assay"))
        .arg("--socket")
        .arg(daemon.socket())
        .args(args)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (out.status.code().unwrap(), text(out.stdout), text(out.stderr))
}

#[test]
fn every_submission_of_every_package_gets_the_verdict_of_its_folder() {
    let daemon = daemon();
    for name in ["sum", "root", "halves", "guess", "permutation"] {
        let path = package(name);
        let (status, stdout, stderr) = assay(&daemon, &["judge", "--json", path.to_str().unwrap()]);
        let answer: Value = serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{name}: {stdout}{stderr}"));
        let rows = answer["submissions"].as_array().unwrap();
        for row in rows {
            let (verdict, expected) = (&row["verdict"], row["expected"].as_array());
            let expected = expected.unwrap_or_else(|| panic!("{name}: {row:#}"));
            assert!(expected.contains(verdict), "{name} {}: {verdict}: {}", row["submission"], row["message"]);
        }
        assert_eq!((status, answer["as_expected"].as_u64()), (0, Some(rows.len() as u64)), "{name}: {stderr}");
        assert!(rows.len() >= 4, "{name}");
    }
}

#[test]
fn points_come_from_groups() {
    let daemon = daemon();
    let (_, stdout, _) = assay(&daemon, &["judge", "--json", package("halves").to_str().unwrap()]);
    let answer: Value = serde_json::from_str(&stdout).unwrap();
    let points = |name: &str| {
        let rows = answer["submissions"].as_array().unwrap();
        rows.iter().find(|row| row["submission"].as_str().unwrap().contains(name)).unwrap()["points"].as_f64().unwrap()
    };
    assert_eq!((points("full"), points("always"), points("never")), (100.0, 30.0, 0.0));
    assert_eq!(answer["time_limit_s"], 1.0);
}

#[test]
fn an_unexpected_verdict_is_shown_and_sets_the_exit_status() {
    let daemon = daemon();
    let folder = tempfile::tempdir().unwrap();
    let wrong = folder.path().join("accepted/sum.py");
    std::fs::create_dir(wrong.parent().unwrap()).unwrap();
    std::fs::write(&wrong, "print(7)").unwrap();
    let args =
        ["judge", "--time-limit", "1", package("sum").to_str().unwrap(), wrong.to_str().unwrap()].map(str::to_owned);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (status, stdout, _) = assay(&daemon, &args);
    assert_eq!(status, 1);
    assert!(stdout.contains("NO") && stdout.contains("wrong answer") && stdout.contains("0 of 1"), "{stdout}");
    assert!(stdout.contains("Test sample/1: At line 1, column 1: expected \"6\", got \"7\"."), "{stdout}");
}

/// A copy of a package with a change.
fn changed(name: &str, change: impl FnOnce(&Path)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let copied = Command::new("cp").arg("-r").arg(package(name)).arg(folder.path()).status().unwrap();
    assert!(copied.success());
    change(&folder.path().join(name));
    folder
}

#[test]
fn an_invalid_package_is_reported_as_one_clear_error() {
    let daemon = daemon();
    let fails = |folder: &tempfile::TempDir, name: &str, parts: &[&str]| {
        let (status, _, stderr) = assay(&daemon, &["judge", folder.path().join(name).to_str().unwrap()]);
        assert_eq!((status, stderr.trim().lines().count()), (2, 1), "{stderr}");
        assert!(parts.iter().all(|part| stderr.contains(part)), "{parts:?}: {stderr}");
    };
    let remove = |path: &str| {
        let path = path.to_owned();
        move |root: &Path| std::fs::remove_file(root.join(path)).unwrap()
    };
    fails(&changed("sum", remove("data/secret/02.ans")), "sum", &["02.ans", "is missing next to 02.in"]);
    fails(&changed("sum", remove("problem.yaml")), "sum", &["problem.yaml", "is this a problem package?"]);
    let write = |path: &str, text: &str| {
        let (path, text) = (path.to_owned(), text.to_owned());
        move |root: &Path| std::fs::write(root.join(path), text).unwrap()
    };
    fails(&changed("sum", write("problem.yaml", "a: [")), "sum", &["problem.yaml", "is not valid YAML"]);
    fails(&changed("sum", write("problem.yaml", "type: multi-step")), "sum", &["multi-step", "not supported"]);
    fails(&changed("sum", write("problem.yaml", "problem_format_version: 2031-01")), "sum", &["2031-01"]);
    fails(&changed("sum", write("problem.yaml", "validation: custom")), "sum", &["output_validators", "is missing"]);
    fails(
        &changed("root", write(".timelimit", "soon")),
        "root",
        &[".timelimit", "expected a positive number of seconds"],
    );
    fails(
        &changed("root", write("problem.yaml", "validator_flags: float_tolerance")),
        "root",
        &["expected a number after it"],
    );
    fails(&changed("root", write("problem.yaml", "validator_flags: nearly")), "root", &["no flag \"nearly\""]);
    let link = |root: &Path| {
        std::fs::remove_file(root.join("data/secret/01.in")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.join("data/secret/01.in")).unwrap();
    };
    fails(&changed("sum", link), "sum", &["01.in", "leads out of the package"]);
    let empty = |root: &Path| std::fs::remove_dir_all(root.join("data")).unwrap();
    fails(&changed("sum", empty), "sum", &["has no tests"]);
    let nothing = |root: &Path| std::fs::remove_dir_all(root.join("submissions")).unwrap();
    fails(&changed("sum", nothing), "sum", &["submissions", "name the submissions"]);
    let bad_jury = write("submissions/accepted/sum.py", "print(1)");
    fails(&changed("sum", bad_jury), "sum", &["accepted/sum.py should be accepted", "use --time-limit"]);
}

/// A zip of files with any names, valid or not.
fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    use std::io::Write;
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, data) in files {
        let options = zip::write::SimpleFileOptions::default();
        writer.start_file(*name, options).unwrap();
        writer.write_all(data).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

#[test]
fn a_zip_is_a_package_unless_it_leads_out_of_itself() {
    let daemon = daemon();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.zip");
    let judge = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        assay(&daemon, &["judge", "--json", path.to_str().unwrap()])
    };
    let whole: [(&str, &[u8]); 5] = [
        ("echo/problem.yaml", b"name: Echo"),
        ("echo/.timelimit", b"1"),
        ("echo/data/secret/1.in", b"5"),
        ("echo/data/secret/1.ans", b"5"),
        ("echo/submissions/accepted/echo.py", b"print(input())"),
    ];
    let (status, stdout, stderr) = judge(&zip(&whole));
    assert_eq!(status, 0, "{stdout}{stderr}");
    for name in ["../out.txt", "a/../../out.txt", "/etc/assay-out.txt", "..\\out.txt"] {
        let (status, _, stderr) = judge(&zip(&[("problem.yaml", b"name: x"), (name, b"x")]));
        assert_eq!(status, 2, "{name}");
        assert!(stderr.contains("leads out of the package"), "{name}: {stderr}");
    }
    let (status, _, stderr) = judge(b"PK\x03\x04 nonsense");
    assert!(status == 2 && stderr.contains("neither a folder nor a zip"), "{stderr}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}
