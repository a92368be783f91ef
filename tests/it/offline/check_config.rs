//! `assayd --check-config`: everything that can be known without an engine is checked, and what is
//! in effect is shown.

use std::process::{Command, Output};

use serde_json::Value;

use crate::harness::root;
use crate::programs::program;

const PROFILE: &str = "name = 'own'\nimage = 'bash'\nentry = 'main.sh'\nrun = ['/bin/bash', '{entry}']\n";

/// Checks a configuration with these lines, and with this profile as its only one.
fn check(lines: &str, profile: &str, more: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("profiles")).unwrap();
    if !profile.is_empty() {
        std::fs::write(folder.path().join("profiles/own.toml"), profile).unwrap();
    }
    let images = match lines.contains("[images]") {
        true if lines.contains("\ndir") => String::new(),
        true => images().replace("[images]\n", ""),
        false => images(),
    };
    let text = format!("{lines}\n{images}[profiles]\ndir = 'profiles'\n[instance]\nstate_dir = 'state'\n");
    std::fs::write(folder.path().join("assayd.toml"), text).unwrap();
    let mut command = Command::new(program("assayd"));
    std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ASSAY_")).for_each(|(name, _)| {
        command.env_remove(name);
    });
    command.arg("--config").arg(folder.path().join("assayd.toml")).arg("--check-config").args(more);
    command.output().unwrap()
}

fn images() -> String {
    format!("[images]\ndir = '{}'\n", root().join("images").display())
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn what_cannot_work_is_refused() {
    let floor = format!("{PROFILE}[pool]\nfloor = 20\n");
    let long = format!("[socket]\npath = '/{}'", "x".repeat(110));
    let cases: [(&str, &str, String, &[&str]); 16] = [
        (
            "a group",
            "[socket]\nsubmit = ['group:no-such-group']",
            PROFILE.to_owned(),
            &["assayd.toml:2: socket.submit", "no-such-group"],
        ),
        ("no folder of images", "[images]\ndir = '/nonexistent'", PROFILE.to_owned(), &["/nonexistent", "images.dir"]),
        ("an image", "", PROFILE.replace("'bash'", "'bsah'"), &["profile own", "bsah", "perhaps \"bash\""]),
        ("an untrusted image", "", PROFILE.replace("'bash'", "'docker.io/x/y:1'"), &["profile own", "images.trusted"]),
        ("a placeholder", "", PROFILE.replace("{entry}", "{enrty}"), &["own.toml:4", "run", "{entry}"]),
        ("too few uids", "[uids]\ncount = 3", floor, &["assayd.toml:2: uids.count", "20 sandboxes", "pool.floor"]),
        ("an init", "[images]\ninit = '/etc/hosts'", PROFILE.to_owned(), &["images.init", "not a program"]),
        ("a long path", &long, PROFILE.to_owned(), &["socket.path", "at most 107 bytes"]),
        ("a section of profiles", "[limits]\nmemory = '1MiB'", PROFILE.to_owned(), &["assayd.toml:1", "profiles.dir"]),
        ("no profile", "", String::new(), &["has no profile", "profiles.dir"]),
        (
            "a mode",
            "[socket]\nmode = '0000'",
            PROFILE.to_owned(),
            &["assayd.toml:2: socket.mode", "lets no caller connect"],
        ),
        (
            "a file above the socket",
            "[socket]\npath = '/etc/hosts/a'",
            PROFILE.to_owned(),
            &["socket.path", "/etc/hosts is not a folder"],
        ),
        (
            "a file above the HTTP socket",
            "[http]\nlisten = 'unix:/etc/hosts/h'",
            PROFILE.to_owned(),
            &["http.listen", "/etc/hosts is not a folder"],
        ),
        (
            "a file for an engine",
            "[engine]\nhost = '/etc/hosts'",
            PROFILE.to_owned(),
            &["/etc/hosts is not a socket", "engine.host"],
        ),
        ("a program as init", "[images]\ninit = '/bin/sh'", PROFILE.to_owned(), &["images.init", "another program"]),
        ("a folder at the socket's path", "[socket]\npath = 'profiles'", PROFILE.to_owned(), &["is not a socket"]),
    ];
    for (what, lines, profile, expected) in cases {
        let output = check(lines, &profile, &[]);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{what}: {said}");
        assert!(expected.iter().all(|text| said.contains(text)), "{what}: {said}");
    }
}

#[test]
fn the_effective_limits_of_every_profile_are_shown() {
    let profile = format!("{PROFILE}preset = 'lesson'\nlimits = {{ memory = '64MiB' }}\n[pool]\nfloor = 3\n");
    let output = check("", &profile, &[]);
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", stderr(&output));
    let line =
        shown.lines().find(|line| line.starts_with("#   own: image bash, ")).unwrap_or_else(|| panic!("{shown}"));
    for text in ["3 to 8 sandboxes", "memory 64MiB", "pids 50", "cpus 0.5", "cpu 10s"] {
        assert!(line.contains(text), "no {text} in {line}");
    }
    let json: Value = serde_json::from_slice(&check("", &profile, &["--json"]).stdout).unwrap();
    assert_eq!(json["profiles"], serde_json::json!(["own"]));
    assert_eq!(json["effective_profiles"][0]["limits"]["memory_bytes"], 64 << 20);
    assert_eq!((&json["effective_profiles"][0]["floor"], json["faults"].as_array().unwrap().len()), (&3.into(), 0));
}

#[test]
fn settings_without_effect_are_warnings() {
    let output = check("", &format!("{PROFILE}keep = ['a']\n"), &[]);
    assert!(output.status.success());
    let said = stderr(&output);
    assert!(said.contains("own.toml:5: keep has no effect without a compile command"), "{said}");
}

#[test]
fn settings_of_an_engine_that_its_address_makes_useless_are_warnings() {
    for (setting, address) in [("tls_dir = '/nonexistent'", "'/x.sock'"), ("allow_plaintext = true", "'/x.sock'")] {
        let output = check(&format!("[engine]\nhost = {address}\n{setting}\n"), PROFILE, &[]);
        let key = setting.split(' ').next().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        let expected = format!("assayd.toml:3: engine.{key} has no effect with unix:///x.sock");
        assert!(stderr(&output).contains(&expected), "{}", stderr(&output));
    }
}

#[test]
fn an_engine_whose_socket_is_not_there_is_a_warning() {
    let output = check("[engine]\nhost = '/run/dokcer.sock'\n", PROFILE, &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("the host local has no engine at /run/dokcer.sock"), "{}", stderr(&output));
}

#[test]
fn a_variable_that_is_not_utf_8_is_refused() {
    use std::os::unix::ffi::OsStrExt;
    let mut command = Command::new(program("assayd"));
    command.env("ASSAY_QUEUE_MAX", std::ffi::OsStr::from_bytes(b"\xff")).arg("--check-config");
    let output = command.output().unwrap();
    assert!(!output.status.success() && stderr(&output).contains("ASSAY_QUEUE_MAX"), "{}", stderr(&output));
}

#[test]
fn misspelt_names_beside_a_file_that_is_named_by_a_relative_path_are_warnings() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["profiles", "profile", "profiles.d", "asayd.toml.d", "images"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
    }
    std::fs::write(folder.path().join("profiles/own.toml"), PROFILE).unwrap();
    std::fs::write(folder.path().join("assayd.toml"), format!("{}[profiles]\ndir = 'profiles'\n", images())).unwrap();
    let mut command = Command::new(program("assayd"));
    let output = command.current_dir(&folder).args(["--config", "assayd.toml", "--check-config"]).output().unwrap();
    let said = stderr(&output);
    assert_eq!(said.lines().filter(|line| line.contains("is not read")).count(), 3, "{said}");
    for expected in
        ["profile is not read: profiles", "profiles.d is not read: profiles", "asayd.toml.d is not read: drop"]
    {
        assert!(said.contains(expected), "no {expected} in {said}");
    }
}

#[test]
fn two_hosts_that_are_one_engine_are_a_warning() {
    let host = |name: &str| format!("[[hosts]]\nname = '{name}'\nhost = 'unix:///run/x.sock'\n");
    let output = check(&(host("near") + &host("far")), PROFILE, &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("the hosts near and far are the same engine"), "{}", stderr(&output));
}

#[test]
fn a_closed_pipe_ends_it_without_a_message() {
    let script = format!("{} --check-config 2>&1 >&3 | cat", program("assayd"));
    let piped = format!("exec 3> >(exec head -c 1 >/dev/null); sleep 0.2; {script}");
    let output = Command::new("bash").args(["-c", &piped]).env_remove("ASSAY_CONFIG").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!said.contains("panicked"), "{said}");
    // a reader that is gone before the first byte
    let gone = format!("({} --check-config; true) | true", program("assayd"));
    let output = Command::new("bash").args(["-c", &gone]).output().unwrap();
    assert!(!stderr(&output).contains("panicked"), "{}", stderr(&output));
}
