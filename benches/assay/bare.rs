//! The peers: a program executed directly in the image's root file system, and `docker run`.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::PRINT_ONE;
use crate::sample::{Sample, measure};

/// An image's root file system in a temporary folder, with `main.py`.
pub struct RootFs(pub PathBuf);

impl RootFs {
    pub fn export(image: &str) -> RootFs {
        let path = std::env::temp_dir().join(format!("assay-bench-root-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        let name = format!("assay-bench-export-{}", std::process::id());
        let script = format!(
            "docker create --name {name} {image} true >/dev/null && docker export {name} | tar -C {} -xf - ; docker rm {name} >/dev/null",
            path.display()
        );
        let status = Command::new("sh").arg("-c").arg(script).status().unwrap();
        assert!(status.success());
        std::fs::write(path.join("main.py"), PRINT_ONE).unwrap();
        RootFs(path)
    }
}

impl Drop for RootFs {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A command with an empty stdin and the environment of a sandbox.
pub fn bare_command(program: &str, args: &[&str], path: &str) -> Command {
    let environment: BTreeMap<&str, &str> =
        BTreeMap::from([("PATH", path), ("HOME", "/tmp"), ("LANG", "C.UTF-8"), ("PYTHONDONTWRITEBYTECODE", "1")]);
    let mut command = Command::new(program);
    command.args(args).env_clear().envs(environment).stdin(Stdio::null());
    command
}

/// Runs the root file system's Python and returns its output.
pub fn bare_python(root: &Path, args: &[&str]) -> Vec<u8> {
    let root = root.to_owned();
    let mut command = bare_command("/usr/bin/python3", args, "/usr/bin:/bin");
    // SAFETY: only system calls between fork and exec.
    unsafe {
        command.pre_exec(move || {
            nix::unistd::chroot(root.as_path())?;
            nix::unistd::chdir("/")?;
            Ok(())
        })
    };
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

/// Runs `print(1)` in the root file system.
pub fn bare_print_one(root: &Path) {
    assert_eq!(bare_python(root, &["main.py"]), b"1\n");
}

/// Whether the docker command is installed and has an engine.
pub fn has_docker_cli() -> bool {
    Command::new("docker").arg("version").output().is_ok_and(|output| output.status.success())
}

/// Runs `print(1)` by `docker run`, hardened like a sandbox.
pub fn docker_run(image: &str) {
    let output = Command::new("docker")
        .args(["run", "--rm", "--network", "none", "--read-only", "--cap-drop", "ALL", "--user", "52000:52000"])
        .args(["--security-opt", "no-new-privileges", "--memory", "256m", "--memory-swap", "256m", "--cpus", "1"])
        .args(["--pids-limit", "64", "--tmpfs", "/box:exec,mode=1777", "--tmpfs", "/tmp", "--log-driver", "none"])
        .args([image, "/usr/bin/python3", "-c", "print(1)"])
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"1\n", "{output:?}");
}

/// Times `docker exec` into a running container, which has no isolation between runs.
pub fn docker_exec(image: &str, runs: usize, interval: Duration) -> Sample {
    let name = format!("assay-bench-exec-{}", std::process::id());
    let docker = |args: &[&str]| Command::new("docker").args(args).output().unwrap();
    let sleep = ["run", "-d", "--rm", "--network", "none", "--name", &name, image, "sleep", "600"];
    assert!(docker(&sleep).status.success());
    let sample = measure(runs, interval, || {
        let output = docker(&["exec", &name, "/usr/bin/python3", "-c", "print(1)"]);
        assert_eq!(output.stdout, b"1\n");
    });
    docker(&["rm", "-f", &name]);
    sample
}
