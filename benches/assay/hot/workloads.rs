//! The programs that the hot benchmarks run.

use std::os::unix::process::CommandExt;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, unshare};
use nix::unistd::{Pid, chdir, chroot};
use serde_json::{Value, json};

use crate::bare::bare_command;

/// A program that runs in a sandbox and bare.
pub struct Workload {
    pub title: &'static str,
    pub profile: &'static str,
    pub image: &'static str,
    /// The bare commands, in order.
    bare: &'static [&'static [&'static str]],
    /// Files of the bare command and of the submission.
    pub files: &'static [(&'static str, &'static str)],
    /// Its output; set if further tests of the same submission are measured too.
    pub prints: Option<&'static str>,
    /// The test file of a suite.
    pub suite: Option<(&'static str, &'static str)>,
    /// Target for the ratio to the bare command's time.
    pub target: f64,
    /// It gets one in so many of the runs.
    pub share: usize,
    /// Whether the profile has hot runtimes.
    pub is_hot: bool,
}

const PYTHON: &[&[&str]] = &[&["/usr/bin/python3", "main.py"]];
const HELLO_CPP: &str = "#include <bits/stdc++.h>\nint main() { std::cout << \"hello\\n\"; }\n";
pub const HELLO_JAVA: &str =
    "public class Main { public static void main(String[] args) { System.out.println(\"hello\"); } }\n";

pub const WORKLOADS: &[Workload] = &[
    Workload {
        title: "Python print(1)",
        profile: "python",
        image: "python",
        bare: PYTHON,
        files: &[("main.py", "print(1)\n")],
        prints: Some("1\n"),
        suite: None,
        target: 0.35,
        share: 1,
        is_hot: true,
    },
    Workload {
        title: "Python that imports numpy",
        profile: "python-numpy",
        image: "python",
        bare: PYTHON,
        files: &[("main.py", "import numpy\nprint(numpy.arange(5).sum())\n")],
        prints: Some("10\n"),
        suite: None,
        target: 0.10,
        share: 3,
        is_hot: true,
    },
    Workload {
        title: "pytest with one trivial test",
        profile: "python-pytest",
        image: "python",
        bare: &[&["/usr/bin/python3", "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_one.py"]],
        files: &[("one.py", "def one(): return 1\n")],
        prints: None,
        suite: Some(("test_one.py", "from one import one\ndef test_one(): assert one() == 1\n")),
        target: 0.30,
        share: 4,
        is_hot: true,
    },
    Workload {
        title: "node console.log(1)",
        profile: "javascript",
        image: "javascript",
        bare: &[&["/usr/bin/node", "main.js"]],
        files: &[("main.js", "console.log(1)\n")],
        prints: Some("1\n"),
        suite: None,
        target: 0.40,
        share: 4,
        is_hot: true,
    },
    Workload {
        title: "Java hello, compile and run",
        profile: "java",
        image: "java",
        bare: &[
            &[
                "/usr/bin/javac",
                "-J-XX:+UseSerialGC",
                "-J-XX:TieredStopAtLevel=1",
                "-encoding",
                "UTF-8",
                "-d",
                ".",
                "Main.java",
            ],
            &[
                "/usr/bin/java",
                "-XX:+UseSerialGC",
                "-XX:-UsePerfData",
                "-XX:MaxRAMPercentage=70",
                "-Xss64m",
                "-cp",
                ".",
                "Main",
            ],
        ],
        files: &[("Main.java", HELLO_JAVA)],
        prints: None,
        suite: None,
        target: 0.35,
        share: 10,
        is_hot: true,
    },
    Workload {
        title: "C++ with bits/stdc++.h, compile and run",
        profile: "cpp",
        image: "cpp",
        bare: &[&["/usr/bin/g++", "-O2", "-std=c++20", "-o", "main", "main.cpp"], &["./main"]],
        files: &[("main.cpp", HELLO_CPP)],
        prints: None,
        suite: None,
        target: 0.50,
        share: 10,
        is_hot: false,
    },
];

impl Workload {
    /// The `n`th submission. Compiled programs differ in a comment, so that no compilation is
    /// cached.
    pub fn submission(&self, n: usize, prewarm: bool) -> Value {
        let comment =
            if self.image == "java" || self.image == "cpp" { format!("// {n} {prewarm}\n") } else { String::new() };
        let file = |(path, content): &(&str, &str)| json!({ "path": path, "content": format!("{content}{comment}") });
        let files: Vec<Value> = self.files.iter().map(file).collect();
        let mut submission = json!({ "language": self.profile, "files": files, "prewarm": prewarm });
        if let Some((path, content)) = self.suite {
            submission["suite"] = json!({ "format": "pytest", "files": [{ "path": path, "content": content }] });
        }
        submission
    }

    /// Writes the files of the bare command into the root file system.
    pub fn write_files(&self, root: &Path) {
        let folder = root.join("work");
        std::fs::create_dir_all(&folder).unwrap();
        for (path, content) in self.files.iter().chain(&self.suite) {
            std::fs::write(folder.join(path), content).unwrap();
        }
    }

    /// Runs the bare commands; with `one_cpu` on a single CPU, as a sandbox of this profile has.
    pub fn run_bare(&self, root: &Path, one_cpu: bool) {
        for words in self.bare {
            let root = root.to_owned();
            // A JVM finds its libraries through /proc.
            let needs_proc = self.image == "java";
            let mut command = bare_command(words[0], &words[1..], "/usr/local/bin:/usr/bin:/bin");
            // SAFETY: only system calls between fork and exec.
            unsafe {
                command.pre_exec(move || {
                    if one_cpu {
                        let mut first = CpuSet::new();
                        first.set(0)?;
                        sched_setaffinity(Pid::from_raw(0), &first)?;
                    }
                    if needs_proc {
                        unshare(CloneFlags::CLONE_NEWNS)?;
                        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
                        mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
                    }
                    chroot(root.as_path())?;
                    if needs_proc {
                        mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), None::<&str>)?;
                    }
                    chdir("/work")?;
                    Ok(())
                })
            };
            let output = command.output().unwrap();
            assert!(output.status.success(), "{output:?}");
        }
    }
}
