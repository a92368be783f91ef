//! What a cell costs next to a loop of the system calls that it is made of: the CPU time of the
//! whole machine until the kernel has let go of everything, network namespaces included.

use std::path::Path;
use std::process::Command;

use wire::codec::{encode_from_init, encode_to_init};
use wire::frame::{Done, FromInit, InitHello, IsolationMode, Relax, Run, RunLimits, Space, ToInit, VERSION};

use crate::programs::program;
use crate::sample::Sample;

const UID: u32 = 51_777;
const ROUNDS: usize = 7;

/// Prints the CPU time of one cell, both ways in turn.
pub fn all(count: usize) {
    let root = tempfile::tempdir().unwrap();
    let tag = format!("assay-bench-cells-{}", std::process::id());
    make_image(root.path(), &tag);
    let count = count.to_string();
    let done = kind_of_done().to_string();
    let mut loops = [Vec::new(), Vec::new()];
    let mut once = [Vec::new(), Vec::new()];
    let mut inits = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        let rows = [
            (&mut loops, vec!["loop", &count]),
            (&mut once, vec!["once", &count]),
            (&mut inits, vec!["init", &count, &done]),
        ];
        for (row, arguments) in rows {
            let taken = run(&tag, &arguments, count.parse().unwrap());
            row.iter_mut().zip(taken).for_each(|(all, one)| all.push(one));
        }
    }
    let _ = Command::new("docker").args(["rmi", "-f", &tag]).output();
    println!("\nCPU time of a cell with a program that does nothing (ms), {ROUNDS} rounds of {count}");
    let [machine, container] = loops.map(Sample);
    let [once_machine, once_container] = once.map(Sample);
    let [init_machine, init_container] = inits.map(Sample);
    machine.print("the same system calls in a loop: the whole machine", None);
    once_machine.print("and the mounts of all cells made once: the whole machine", Some(&machine));
    init_machine.print("assay-init: the whole machine", Some(&machine));
    container.print("the same system calls in a loop: without kernel threads", None);
    once_container.print("and the mounts of all cells made once: without kernel threads", Some(&container));
    init_container.print("assay-init: without kernel threads", Some(&container));
}

/// An image with the init, the loop, and the frames that the init gets.
fn make_image(root: &Path, tag: &str) {
    for folder in ["box", "tmp", "proc", "sys", "dev", "etc"] {
        std::fs::create_dir(root.join(folder)).unwrap();
    }
    std::fs::copy(program("assay-init"), root.join("init")).unwrap();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/assay/cells.c");
    let status = Command::new("gcc").args(["-static", "-O1", "-w", "-o"]).arg(root.join("cells")).arg(source).status();
    assert!(status.unwrap().success());
    let mut bytes = Vec::new();
    encode_to_init(&ToInit::Hello(hello()), &mut bytes);
    std::fs::write(root.join("hello"), &bytes).unwrap();
    bytes.clear();
    encode_to_init(&ToInit::Run(run_true()), &mut bytes);
    std::fs::write(root.join("run"), &bytes).unwrap();
    let script = format!("tar -C {} -cf - . | docker import - {tag}", root.display());
    assert!(Command::new("sh").args(["-c", &script]).output().unwrap().status.success());
}

fn hello() -> InitHello {
    let space = Space { box_bytes: 192 << 20, tmp_bytes: 64 << 20, shm_bytes: 16 << 20, inodes: 32 * 1024 };
    InitHello { version: VERSION, nonce: [7; 16], uid: UID, gid: UID, isolation: IsolationMode::Cell, space }
}

fn run_true() -> Run {
    Run {
        run: 1,
        argv: vec!["/cells".to_owned(), "true".to_owned()],
        env: Vec::new(),
        live_env: Vec::new(),
        limits: RunLimits {
            cpu_ns: 10_000_000_000,
            wall_ns: 10_000_000_000,
            output_bytes: 1 << 20,
            file_bytes: 1 << 20,
            open_files: 64,
            pids: 32,
            memory_bytes: 256 << 20,
        },
        clean: true,
        keep: Vec::new(),
        remove_after: Vec::new(),
        truncate_output: false,
        relax: Relax::NONE,
        report_output_ends: false,
        usage_interval_ns: 0,
        more: true,
        hot: false,
    }
}

/// The byte that the frame of a run's end begins with.
fn kind_of_done() -> u8 {
    let mut bytes = Vec::new();
    let done = Done::not_started(1, String::new(), 0, 0, true);
    encode_from_init(&FromInit::Done(Box::new(done)), &mut bytes);
    bytes[4]
}

/// Milliseconds for each cell: of the machine, of the container.
fn run(tag: &str, arguments: &[&str], count: usize) -> [f64; 2] {
    let seccomp = concat!("seccomp=", env!("CARGO_MANIFEST_DIR"), "/config/seccomp/cell.json");
    let box_mount = format!("/box:exec,size=192m,uid={UID}");
    let user = format!("{UID}:{UID}");
    let output = Command::new("docker")
        .args(["run", "--rm", "--network", "none", "--read-only", "--cap-drop", "ALL", "--user", &user])
        .args(["--security-opt", "systempaths=unconfined", "--security-opt", seccomp])
        .args(["--security-opt", "no-new-privileges", "--memory", "512m", "--pids-limit", "128"])
        .args(["--cgroupns", "private", "--tmpfs", &box_mount, "--tmpfs", "/tmp", tag, "/cells"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let numbers: Vec<f64> = text.split_whitespace().map(|word| word.parse().unwrap()).collect();
    [numbers[0] / count as f64 / 1e6, numbers[1] / count as f64 / 1e6]
}
