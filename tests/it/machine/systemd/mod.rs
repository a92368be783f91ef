//! The Debian package on a machine of its own: a container whose PID 1 is Debian's systemd, with
//! Debian's Docker Engine in it. The test installs the package, starts the daemon by its socket,
//! judges, reloads, hangs and kills the daemon, upgrades it under load and removes it. The steps
//! are shell functions in inside.sh.
//!
//! `make test-systemd` does the same with the release build, and builds every image from nothing,
//! with the root unit assay-bootstrap.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use crate::harness::{images, root};

/// Whether this is `make test-systemd`.
fn is_full() -> bool {
    std::env::var("ASSAY_SYSTEMD_FULL").is_ok_and(|full| full == "1")
}

fn run(command: &mut Command) -> Output {
    let done = command.stdin(Stdio::null()).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{command:?}\n--- stdout\n{out}\n--- stderr\n{err}");
    done
}

fn docker(words: &[&str]) -> Output {
    run(Command::new("docker").args(words).env("DOCKER_BUILDKIT", "0"))
}

/// The names of assay's images on the usual engine that match a pattern.
fn tags(pattern: &str) -> Vec<String> {
    let said = docker(&["images", "--format", "{{.Repository}}:{{.Tag}}", "--filter", &format!("reference={pattern}")]);
    String::from_utf8(said.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// A package of the programs under test, of this version.
fn package(folder: &Path, version: &str) -> String {
    let built = crate::programs::programs();
    let bin = if is_full() { built.with_file_name("release") } else { stripped(folder, built) };
    let mut command = Command::new(root().join("scripts/package"));
    command.arg(folder).env("BIN", bin).env("VERSION", version).env("DEB_COMPRESS", "gzip -z1");
    let path = String::from_utf8(run(&mut command).stdout).unwrap();
    Path::new(path.trim()).file_name().unwrap().to_str().unwrap().to_owned()
}

/// The programs without debug information, which is most of a debug build's size.
fn stripped(folder: &Path, built: &Path) -> PathBuf {
    let to = folder.join("bin");
    if !to.exists() {
        std::fs::create_dir(&to).unwrap();
        for name in ["assayd", "assay", "assay-init", "assay-egress"] {
            run(Command::new("strip").arg("-o").arg(to.join(name)).arg(built.join(name)));
        }
    }
    to
}

/// The container's name. Dropping the value removes it and everything in it.
struct Machine(String);

impl Machine {
    fn boot() -> Machine {
        // systemd of Debian 13 does not run on cgroup v1
        crate::harness::build("python-3.11");
        let base = tags("assay/base-bookworm").into_iter().next().expect("there is a base");
        let folder = root().join("tests/it/machine/systemd");
        let image = "assay-test-systemd:latest";
        docker(&["build", "--quiet", "--build-arg", &format!("BASE={base}"), "--tag", image, folder.to_str().unwrap()]);
        let name = format!("assay-test-systemd-{}", std::process::id());
        let machine = Machine(name.clone());
        // what systemd and an engine in a container need, without SYS_RESOURCE, which this machine
        // may not have itself
        docker(&[
            "run",
            "--detach",
            "--name",
            &name,
            "--cap-add=ALL",
            "--cap-drop=SYS_RESOURCE",
            "--cgroupns=host",
            "--security-opt=seccomp=unconfined",
            "--security-opt=apparmor=unconfined",
            "--security-opt=systempaths=unconfined",
            "--volume=/sys/fs/cgroup:/sys/fs/cgroup:rw",
            "--tmpfs=/run:exec",
            "--tmpfs=/run/lock",
            "--tmpfs=/tmp:exec",
            "--volume=/var/lib/docker",
            image,
        ]);
        crate::harness::eventually("systemd is up", || {
            let state =
                Command::new("docker").args(["exec", &name, "systemctl", "is-system-running"]).output().unwrap();
            matches!(state.stdout.as_slice(), b"running\n" | b"degraded\n")
        });
        machine
    }

    fn copy(&self, file: &Path) {
        docker(&["cp", file.to_str().unwrap(), &format!("{}:/root/", self.0)]);
    }

    fn load(&self, images: &[String]) {
        let load = format!("docker save {} | docker exec --interactive {} docker load", images.join(" "), self.0);
        run(Command::new("sh").args(["-c", &load]));
    }

    fn step(&self, words: &[&str]) {
        let begun = Instant::now();
        let done = docker(&[&["exec", &self.0, "bash", "/root/inside.sh"], words].concat());
        eprint!("{:5.1} s  {}", begun.elapsed().as_secs_f64(), String::from_utf8_lossy(&done.stdout));
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rm", "--force", "--volumes", &self.0]).output();
        // what the container's systemd changed in this machine's cgroups would break `docker stats`
        let _ = Command::new(root().join("scripts/forget-cgroups")).output();
    }
}

/// What Debian requires of a package. Exceptions are in scripts/debian/lintian-overrides, each with
/// its reason.
#[test]
fn lintian_has_nothing_to_say_about_the_package() {
    if Command::new("lintian").arg("--version").output().is_err() {
        return crate::harness::skip("there is no lintian");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(package(folder.path(), "0.1.0"));
    let mut lintian = Command::new("lintian");
    lintian.args(["--allow-root", "--tag-display-limit", "0", "--fail-on", "error,warning"]).arg(path);
    let said = String::from_utf8(run(&mut lintian).stdout).unwrap();
    assert!(!said.lines().any(|line| line.starts_with(['E', 'W'])), "{said}");
}

#[test]
fn the_package_is_installed_used_upgraded_and_purged_under_systemd() {
    images();
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (package(folder.path(), "0.1.0"), package(folder.path(), "0.1.1"));
    let machine = Machine::boot();
    machine.copy(&folder.path().join(&first));
    machine.copy(&folder.path().join(&second));
    machine.copy(&root().join("tests/it/machine/systemd/inside.sh"));
    machine.copy(&root().join("scripts/docker-certs"));
    if !is_full() {
        machine.load(&[tags("assay/base"), tags("assay/bash")].concat());
    }
    machine.step(&["prepare"]);
    machine.step(&["install_it", &first]);
    machine.step(&["roles_are_by_group"]);
    machine.step(&["hardened"]);
    machine.step(&["counts_by_cgroup"]);
    machine.step(&["socket_starts_it"]);
    machine.step(&["keeps_history"]);
    machine.step(&["reloads"]);
    machine.step(&["has_an_http_listener"]);
    machine.step(&["is_scraped"]);
    machine.step(&["serves_the_api"]);
    machine.step(&["delivers_callbacks"]);
    machine.step(&["survives_the_watchdog"]);
    machine.step(&["survives_an_engine_restart"]);
    machine.step(&["survives_a_kill"]);
    machine.step(&["engine_over_tls"]);
    machine.step(&["upgrades_under_load", &second, "0.1.1"]);
    machine.step(&["finds_history"]);
    machine.step(&["keeps_tokens"]);
    machine.step(&["keeps_single_use_without_a_tenant"]);
    machine.step(&["refuses_to_break_a_daemon", &second]);
    machine.step(&["removes_and_purges"]);
}

/// Every file below a folder, with the content of small ones.
fn files(folder: &Path) -> std::collections::BTreeMap<PathBuf, String> {
    let mut found = std::collections::BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        for entry in std::fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => {
                    let text = std::fs::read(&path).unwrap();
                    let text =
                        if text.len() < 100_000 { String::from_utf8_lossy(&text).into_owned() } else { String::new() };
                    found.insert(path.strip_prefix(folder).unwrap().to_owned(), text);
                }
            }
        }
    }
    found
}

#[test]
fn make_install_keeps_edited_files_and_make_uninstall_removes_what_it_installed() {
    let folder = tempfile::tempdir().unwrap();
    let bin = stripped(folder.path(), crate::programs::programs());
    let to = folder.path().join("root");
    let make = |target: &str| {
        let mut command = Command::new("make");
        command
            .args(["--silent", target])
            .current_dir(root())
            .env("BIN", &bin)
            .env("DESTDIR", &to)
            .env("PREFIX", "/opt/assay");
        String::from_utf8(run(&mut command).stdout).unwrap()
    };
    make("install");
    let first = files(&to);
    for path in [
        "opt/assay/bin/assayd",
        "opt/assay/bin/assay-init",
        "opt/assay/bin/assay-egress",
        "opt/assay/share/bash-completion/completions/assay",
        "opt/assay/share/man/man1/assay.1.gz",
        "opt/assay/share/assay/docker-certs",
        "opt/assay/share/man/man8/assayd.8.gz",
        "opt/assay/share/man/man8/assay-egress.8.gz",
        "etc/systemd/system/assay-http.socket",
        "etc/systemd/system/assay-egress.socket",
    ] {
        assert!(first.contains_key(Path::new(path)), "{path} is missing: {:?}", first.keys());
    }
    let unit = &first[Path::new("etc/systemd/system/assayd.service")];
    assert!(unit.contains("ExecStart=/opt/assay/bin/assayd\n") && !unit.contains("/usr/bin/"), "{unit}");
    let toml = &first[Path::new("etc/assay/assayd.toml")];
    let images = "dir = [\"/etc/assay/images\", \"/opt/assay/share/assay/images\"]";
    assert!(toml.contains(images), "{toml}");

    let edited = to.join("etc/assay/profiles/bash.toml");
    std::fs::write(&edited, "# mine\n").unwrap();
    assert!(make("install").contains("kept /etc/assay/profiles/bash.toml"));
    let second = files(&to);
    assert_eq!(second[Path::new("etc/assay/profiles/bash.toml")], "# mine\n");
    assert_eq!(second[Path::new("etc/assay/profiles/bash.toml.new")], first[Path::new("etc/assay/profiles/bash.toml")]);

    // a configuration of 0.1 has no `reuse`: a drop-in keeps what it promised, and make says so
    assert!(!to.join("etc/assay/assayd.toml.d").exists());
    let path = to.join("etc/assay/assayd.toml");
    let old: Vec<&str> = toml.lines().filter(|line| !line.starts_with("reuse = ")).collect();
    std::fs::write(&path, old.join("\n")).unwrap();
    for says in [true, false] {
        assert_eq!(make("install").contains("50-reuse.toml keeps reuse"), says);
    }
    let drop_in = std::fs::read_to_string(to.join("etc/assay/assayd.toml.d/50-reuse.toml")).unwrap();
    assert_eq!(drop_in, "[isolation]\nreuse = \"tenant\"\n");

    make("uninstall");
    let left = files(&to);
    assert!(left.keys().all(|path| path.starts_with("etc/assay")), "{:?}", left.keys());
}

/// `would_start` of the package's postinst, with these answers of systemd about the service.
fn would_start(folder: &Path, pid: u32, environment: &str) -> Output {
    let script = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    };
    script("systemctl", &format!("case $* in *MainPID*) echo {pid} ;; *Environment*) echo '{environment}' ;; esac"));
    // this machine need not have the user
    script("setpriv", "echo \"$*\" >>\"${0%/*}/asked\"; while [ \"${1#--}\" != \"$1\" ]; do shift; done; exec \"$@\"");
    let postinst = std::fs::read_to_string(root().join("scripts/debian/postinst")).unwrap();
    let function = postinst.split("\nwould_start() {").nth(1).unwrap().split("\n}\n").next().unwrap();
    let function = function.replace("/usr/bin/assayd", crate::programs::program("assayd"));
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let script = format!("set -e\nwould_start() {{{function}\n}}\nwould_start");
    Command::new("sh").args(["-c", &script]).env("PATH", path).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn the_package_asks_the_new_program_with_the_options_and_the_environment_of_the_service() {
    let folder = tempfile::tempdir().unwrap();
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let daemon = crate::harness::Daemon::start_bare(&crate::harness::Options {
        profiles: "bash",
        engine: Some("unix:///nonexistent/docker.sock"),
        env: &[("PATH", &path)],
        ..crate::harness::Options::default()
    });
    let ask = |environment: &str| {
        let output = would_start(folder.path(), daemon.pid(), environment);
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(ask(""), (true, String::new()));
    let asked = std::fs::read_to_string(folder.path().join("asked")).unwrap();
    assert!(asked.starts_with("--reuid=assay --regid=assay --init-groups /"), "{asked}");
    // what a drop-in of the unit sets now counts, although the daemon that runs does not have it
    let (is_accepted, said) = ask("\"A=b c\" ASSAY_QUEUE_MAX=many");
    assert!(!is_accepted && said.contains("ASSAY_QUEUE_MAX: queue.max"), "{said}");
    // the file that its options name counts
    let config = daemon.folder.path().join("assayd.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}\n[queue]\nmaxx = 3\n")).unwrap();
    let (is_accepted, said) = ask("");
    assert!(!is_accepted && said.contains("did you mean queue.max?"), "{said}");
}
