//! Programs as people write them: what they expect of compilers, runtimes and tools without saying
//! so.

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Caller, Daemon, Options, eventually, patient, with};

fn run(caller: &mut Caller, language: &str, files: &[(&str, &str)]) -> Value {
    let files: Vec<Value> = files.iter().map(|(path, text)| json!({ "path": path, "content": text })).collect();
    caller.ok("submission.run", patient(json!({ "language": language, "files": files })))
}

fn stdout(report: &Value) -> &str {
    assert_eq!(report["verdict"], "accepted", "{report:#}");
    report["run"]["stdout"].as_str().unwrap().trim_end()
}

fn daemon(profiles: &str) -> Daemon {
    let daemon = Daemon::start(&Options { profiles, floor: 0, ..Options::default() });
    let mut caller = daemon.caller();
    profiles.split(',').for_each(|profile| drop(caller.ok("image.build", json!({ "profile": profile }))));
    daemon
}

/// Whether programs run in cells here: they have a passwd entry and hot starts.
fn has_cells(caller: &mut Caller) -> bool {
    let isolation = caller.ok("pool.list", json!({}))["pools"][0]["isolation"].clone();
    assert!(isolation == "cell" || isolation == "split", "{isolation}");
    isolation == "cell"
}

#[test]
fn c_is_gnu17_and_its_output_collides_with_no_folder() {
    let daemon = daemon("c,cpp");
    let mut caller = daemon.caller();
    let gnu = "#include <math.h>\n#include <signal.h>\n#include <stdio.h>\n#include <string.h>\n\
        int main(void) { struct sigaction a; char *s = strdup(\"pi\"); (void)a; printf(\"%s %.2f\\n\", s, M_PI); }";
    assert_eq!(stdout(&run(&mut caller, "c", &[("main.c", gnu), ("main/notes.txt", "x")])), "pi 3.14");
    // other judges' compilers only warn
    let undeclared = "#include <stdio.h>\nint main(void) { alarm(1); printf(\"%d\\n\", (int)alarm(0)); return 0; }";
    assert_eq!(stdout(&run(&mut caller, "c", &[("main.c", undeclared)])), "1");
    let boost = "#include <boost/multiprecision/cpp_int.hpp>\n#include <iostream>\n\
        int main() { boost::multiprecision::cpp_int x = 1; x <<= 70; typeof(1) one = 1; std::cout << x << one << std::endl; }";
    assert_eq!(stdout(&run(&mut caller, "cpp", &[("a.c++", boost)])), "11805916207174113034241");
    let defined = json!({ "language": "c", "compile_args": ["-DANSWER=42", "-O3"],
        "files": [{ "path": "main.c", "content": "#include <stdio.h>\nint main(void) { printf(\"%d\\n\", ANSWER); }" }] });
    assert_eq!(stdout(&caller.ok("submission.run", patient(defined.clone()))), "42");
    let id = caller.send("submission.run", &with(defined, "compile_args", json!(["-O2", "-o", "x"])));
    let error = &caller.answer(id)["error"];
    assert!(error["message"].as_str().unwrap().contains("compile_args[1]"), "{error}");
}

#[test]
fn the_class_with_main_is_found() {
    let daemon = daemon("java");
    let mut caller = daemon.caller();
    let class = |head: &str, name: &str, says: &str| {
        format!("{head} class {name} {{ public static void main(String[] a) {{ System.out.println(\"{says}\"); }} }}")
    };
    let other = format!("class Helper {{}}\n{}", class("", "Solution", "other"));
    assert_eq!(stdout(&run(&mut caller, "java", &[("sol.java", &other)])), "other");
    let package = class("package a.b;\npublic", "Main", "package");
    assert_eq!(stdout(&run(&mut caller, "java", &[("Main.java", &package)])), "package");
    let (first, second) = (class("public", "A", "first"), "class B extends A {}");
    assert_eq!(stdout(&run(&mut caller, "java", &[("B.java", second), ("A.java", &first)])), "first");
    let none = run(&mut caller, "java", &[("Main.java", "public class Main {}")]);
    assert!(none["message"].as_str().unwrap().contains("no class has a method"), "{none:#}");
    let thrown = "public class Main { public static void main(String[] a) {
        throw new IllegalStateException(\"oh\", new Exception(\"why\")); } }";
    let report = run(&mut caller, "java", &[("Main.java", thrown)]);
    let stderr = report["run"]["stderr"].as_str().unwrap();
    assert!(stderr.starts_with("Exception in thread \"main\" java.lang.IllegalStateException: oh\n\tat Main.main("));
    assert!(stderr.contains("Caused by: java.lang.Exception: why") && !stderr.contains("assay"), "{stderr}");
}

#[test]
fn shipped_compilers_know_the_present_language_versions() {
    let daemon = daemon("go,rust,javascript");
    let mut caller = daemon.caller();
    let go = "package main\nimport (\"fmt\"; \"maps\"; \"slices\")\n\
        func main() { for i := range 2 { fmt.Print(i, min(i, 1)) }; fmt.Println(slices.Sorted(maps.Keys(map[int]int{3: 1, 2: 1}))) }";
    assert_eq!(stdout(&run(&mut caller, "go", &[("a.go", go), ("b.go", "package main")])), "0 01 1[2 3]");
    let rust = "fn main() { let Some(x) = Some(4) else { return }; println!(\"{}\", x.is_multiple()); }
        trait Multiple { fn is_multiple(self) -> bool; }
        impl Multiple for u32 { fn is_multiple(self) -> bool { std::sync::LazyLock::force(&BASE); self % *BASE == 0 } }
        static BASE: std::sync::LazyLock<u32> = std::sync::LazyLock::new(|| 2);";
    assert_eq!(stdout(&run(&mut caller, "rust", &[("main.rs", rust)])), "true");
    let node = "console.log([3, 1].toSorted(), process.versions.node.split('.')[0])";
    assert_eq!(stdout(&run(&mut caller, "javascript", &[("main.js", node)])), "[ 1, 3 ] 20");
}

#[test]
fn a_program_has_a_name_and_the_usual_tools() {
    let daemon = daemon("bash,python,javascript");
    let mut caller = daemon.caller();
    let tools = "echo '6*7' | bc; echo '{\"a\":3}' | jq .a; echo x | gawk '{print $1}'; echo AB | xxd -p; echo ~";
    assert_eq!(stdout(&run(&mut caller, "bash", &[("main.sh", tools)])), "42\n3\nx\n41420a\n/tmp");
    let name = "import getpass, os\nprint(getpass.getuser(), os.path.expanduser('~'))";
    assert_eq!(stdout(&run(&mut caller, "python", &[("main.py", name)])), "runner /tmp");
    if has_cells(&mut caller) {
        let named = "import os, pwd\nprint(pwd.getpwuid(os.getuid()).pw_name)";
        assert_eq!(stdout(&run(&mut caller, "python", &[("main.py", named)])), "runner");
        assert_eq!(stdout(&run(&mut caller, "bash", &[("main.sh", "id -un; id -gn")])), "runner\nrunner");
    }
    let all = "process.stdout.write('x'.repeat(800000) + 'end'); process.exit(0)";
    let report = run(&mut caller, "javascript", &[("main.js", all)]);
    assert_eq!(report["verdict"], "accepted", "{}", report["message"]);
    let kept = report["run"]["stdout"].as_str().map(str::len);
    assert!(kept.is_none_or(|length| length >= 800_000), "{kept:?}");
}

#[test]
fn collected_files_are_written_and_a_folder_that_matches_is_named() {
    let daemon = daemon("python");
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("main.py");
    std::fs::write(&source, "import os\nos.makedirs('out/sub')\nopen('out/a.txt', 'w').write('made')\n").unwrap();
    let assay = |more: &[&str]| {
        let mut command = Command::new(crate::programs::program("assay"));
        command.arg("--socket").arg(daemon.socket()).args(more).arg(&source).current_dir(folder.path());
        command.stdin(std::process::Stdio::null()).output().unwrap()
    };
    let done = assay(&["run", "--collect", "out/*", "--into", "back"]);
    assert!(done.status.success(), "{done:?}");
    assert_eq!(std::fs::read_to_string(folder.path().join("back/out/a.txt")).unwrap(), "made");
    let told = String::from_utf8(done.stderr).unwrap();
    assert!(told.contains("out/sub is not collected: not_a_file"), "{told}");
}

/// Without a flush: the program waits for an answer to what it has printed.
#[test]
fn the_output_of_python_is_unbuffered_where_a_caller_reads_it() {
    let daemon = Daemon::start(&Options { profiles: "python", floor: 1, ..Options::default() });
    daemon.warm();
    let mut caller = daemon.caller();
    let code = "print('name?')\nprint('hello', input())";
    let work = json!({ "language": "python", "files": [{ "path": "main.py", "content": code }], "stdin_open": true });
    for (env, start) in [(json!({}), "hot"), (json!({ "A": "b" }), "warm")] {
        if start == "hot" && !has_cells(&mut caller) {
            continue;
        }
        eventually("a runtime waits", || {
            let pools = caller.ok("pool.list", json!({}));
            start != "hot" || pools["pools"][0]["hot"].as_u64() >= Some(1)
        });
        let work = patient(with(with(work.clone(), "env", env), "stream", json!(true)));
        let id = caller.send("submission.run", &work);
        let mut seen = String::new();
        let report = loop {
            let message = caller.line();
            if message["id"] == id {
                break message["result"].clone();
            }
            let event = &message["params"];
            if event["kind"] == "stdout" {
                seen += event["data"].as_str().unwrap();
                if seen == "name?\n" {
                    caller.send("submission.input", &json!({ "id": event["id"], "data": "Ada\n", "eof": true }));
                }
            }
        };
        assert_eq!((report["verdict"].as_str(), seen.as_str()), (Some("accepted"), "name?\nhello Ada\n"), "{report:#}");
        assert_eq!(report["start"], start, "{report:#}");
    }
}

#[test]
fn a_compilers_errors_on_stdout_are_shown() {
    let daemon = daemon("typescript");
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("t.ts");
    std::fs::write(&source, "const n: number = 'text';\n").unwrap();
    let mut command = Command::new(crate::programs::program("assay"));
    command.arg("--socket").arg(daemon.socket()).arg("run").arg(&source).stdin(std::process::Stdio::null());
    let done = command.output().unwrap();
    assert_eq!(done.status.code(), Some(122));
    assert!(String::from_utf8(done.stderr).unwrap().contains("TS2322"));
}
