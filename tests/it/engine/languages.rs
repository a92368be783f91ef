//! Every language of config/profiles: one program for each verdict.

use serde_json::{Value, json};

use super::packages::assay;
use crate::harness::{BusyCores, Daemon, Options, images, patient, root, with};

/// One program for each verdict, in one language.
struct Language {
    name: &'static str,
    file: &'static str,
    /// Reads a number and prints its double.
    double: &'static str,
    /// A program that does not compile, and part of the compiler's output. `None` without a
    /// compiler.
    broken: Option<(&'static str, &'static str)>,
    /// A program that fails at runtime, and part of its output.
    crash: (&'static str, &'static str),
    /// Loops for ever.
    endless: &'static str,
    hoard: &'static str,
    flood: &'static str,
}

const LANGUAGES: &[Language] = &[
    Language {
        name: "python",
        file: "main.py",
        double: "print(int(input()) * 2)",
        broken: None,
        crash: ("print(1 // 0)", "ZeroDivisionError"),
        endless: "while True: pass",
        hoard: "x = []\nwhile True: x.append(bytearray(1 << 20))",
        flood: "while True: print('x' * 1000)",
    },
    Language {
        name: "c",
        file: "main.c",
        double: "#include <stdio.h>\nint main(void) { int n; scanf(\"%d\", &n); printf(\"%d\\n\", n * 2); }",
        broken: Some(("int main(void) { return x; }", "undeclared")),
        crash: ("int main(void) { volatile int *p = 0; return *p; }", ""),
        endless: "int main(void) { for (volatile int i;; i++); }",
        hoard: "#include <stdlib.h>\n#include <string.h>\nint main(void) { for (;;) memset(malloc(1 << 20), 1, 1 << 20); }",
        flood: "#include <stdio.h>\nint main(void) { for (;;) puts(\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"); }",
    },
    Language {
        name: "cpp",
        file: "main.cpp",
        double: "#include <bits/stdc++.h>\nint main() { int n; std::cin >> n; std::cout << n * 2 << std::endl; }",
        broken: Some(("int main() { std::cout; }", "std")),
        crash: ("#include <stdexcept>\nint main() { throw std::runtime_error(\"oh\"); }", "oh"),
        endless: "int main() { for (volatile int i = 0;; i++); }",
        hoard: "#include <vector>\nint main() { std::vector<std::vector<char>> x; for (;;) x.emplace_back(1 << 20, 1); }",
        flood: "#include <cstdio>\nint main() { for (;;) puts(\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"); }",
    },
    Language {
        name: "javascript",
        file: "main.js",
        double: "console.log(parseInt(require('fs').readFileSync(0, 'utf8')) * 2)",
        broken: None,
        crash: ("null.x", "TypeError"),
        endless: "for (;;);",
        hoard: "const x = []; for (;;) x.push(Buffer.alloc(1 << 20, 1));",
        flood: "for (;;) require('fs').writeSync(1, 'x'.repeat(1000));",
    },
    Language {
        name: "typescript",
        file: "main.ts",
        double: "const n: number = parseInt(require('fs').readFileSync(0, 'utf8'));\nconsole.log(n * 2);",
        broken: Some(("const n: number = 'text';", "TS2322")),
        crash: ("const x: any = null; x.y;", "TypeError"),
        endless: "for (;;);",
        hoard: "const x: Uint8Array[] = []; for (;;) x.push(new Uint8Array(1 << 20).fill(1));",
        flood: "for (;;) require('fs').writeSync(1, 'x'.repeat(1000));",
    },
    Language {
        name: "java",
        file: "Main.java",
        double: "import java.util.Scanner;\npublic class Main {\n  static class Twice { int of(int n) { return n * 2; } }\n  public static void main(String[] a) { System.out.println(new Twice().of(new Scanner(System.in).nextInt())); }\n}",
        broken: Some(("public class Main { int f() { return \"\"; } }", "incompatible types")),
        crash: (
            "public class Main { public static void main(String[] a) { int[] x = new int[1]; x[a.length + 1] = 1; } }",
            "ArrayIndexOutOfBounds",
        ),
        endless: "public class Main { public static void main(String[] a) { for (;;); } }",
        hoard: "import java.util.*;\npublic class Main { public static void main(String[] a) { List<byte[]> x = new ArrayList<>(); for (;;) x.add(new byte[1 << 20]); } }",
        flood: "public class Main { public static void main(String[] a) { for (;;) System.out.println(\"x\".repeat(1000)); } }",
    },
    Language {
        name: "go",
        file: "main.go",
        double: "package main\nimport \"fmt\"\nfunc main() { var n int; fmt.Scan(&n); fmt.Println(n * 2) }",
        broken: Some(("package main\nfunc main() { x := 1 }", "declared and not used")),
        crash: ("package main\nfunc main() { var p *int; *p = 1 }", "nil pointer"),
        endless: "package main\nfunc main() { for {} }",
        hoard: "package main\nvar all [][]byte\nfunc main() { for { b := make([]byte, 1<<20); for i := range b { b[i] = 1 }; all = append(all, b) } }",
        flood: "package main\nimport (\"os\"; \"strings\")\nfunc main() { s := strings.Repeat(\"x\", 1000); for { os.Stdout.WriteString(s) } }",
    },
    Language {
        name: "rust",
        file: "main.rs",
        double: "fn main() { let mut s = String::new(); std::io::stdin().read_line(&mut s).unwrap(); println!(\"{}\", s.trim().parse::<i32>().unwrap() * 2); }",
        broken: Some(("fn main() { let x: i32 = \"\"; }", "E0308")),
        crash: ("fn main() { let v: Vec<i32> = vec![]; println!(\"{}\", v[v.len()]); }", "index out of bounds"),
        endless: "fn main() { loop {} }",
        hoard: "fn main() { let mut x = Vec::new(); loop { x.push(vec![1u8; 1 << 20]); } }",
        flood: "fn main() { let s = \"x\".repeat(1000); loop { println!(\"{s}\"); } }",
    },
    Language {
        name: "ruby",
        file: "main.rb",
        double: "puts gets.to_i * 2",
        broken: None,
        crash: ("raise 'oh'", "oh"),
        endless: "loop {}",
        hoard: "x = []; loop { x << ('x' * (1 << 20)) }",
        flood: "loop { puts 'x' * 1000 }",
    },
    Language {
        name: "php",
        file: "main.php",
        double: "<?php echo intval(fgets(STDIN)) * 2, \"\\n\";",
        broken: None,
        crash: ("<?php throw new Exception('oh');", "oh"),
        endless: "<?php for (;;);",
        hoard: "<?php $x = []; for ($i = 0;; $i++) $x[] = str_repeat(chr(65 + $i % 26), 1 << 20);",
        flood: "<?php for (;;) echo str_repeat('x', 1000);",
    },
    Language {
        name: "perl",
        file: "main.pl",
        double: "print <STDIN> * 2, \"\\n\";",
        broken: None,
        crash: ("die 'oh'", "oh"),
        endless: "1 while 1",
        hoard: "my @x; push @x, 'x' x (1 << 20) while 1",
        flood: "print 'x' x 1000 while 1",
    },
    Language {
        name: "lua",
        file: "main.lua",
        double: "print(io.read('n') * 2)",
        broken: None,
        crash: ("error('oh')", "oh"),
        endless: "while true do end",
        hoard: "local x = {}; local i = 0; while true do i = i + 1; x[i] = string.rep(tostring(i), 1 << 18) end",
        flood: "while true do io.write(string.rep('x', 1000)) end",
    },
    Language {
        name: "bash",
        file: "main.sh",
        double: "read n; echo $((n * 2))",
        broken: None,
        crash: ("echo oh >&2; exit 3", "oh"),
        endless: "while :; do :; done",
        hoard: "x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done",
        flood: "while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done",
    },
    Language {
        name: "haskell",
        file: "main.hs",
        double: "main :: IO ()\nmain = readLn >>= \\n -> print (n * 2 :: Int)",
        broken: Some(("main :: IO ()\nmain = print (1 :: String)", "No instance")),
        crash: ("main :: IO ()\nmain = print (head ([] :: [Int]))", "empty list"),
        endless: "main :: IO ()\nmain = loop (1 :: Integer) where loop n = if n < 0 then print n else loop (n + 1)",
        hoard: "import qualified Data.Map as M\nmain :: IO ()\nmain = go 0 M.empty where go n m = if M.size m < 0 then print (n :: Int) else go (n + 1) (M.insert n n m)",
        flood: "main :: IO ()\nmain = mapM_ (const (putStrLn (replicate 1000 'x'))) [1 :: Int ..]",
    },
    Language {
        name: "pascal",
        file: "main.pas",
        double: "var n: longint; begin readln(n); writeln(n * 2); end.",
        broken: Some(("begin x := 1; end.", "Identifier not found")),
        crash: ("{$R+} var a: array[1..2] of longint; i: longint; begin i := 3; a[i] := 1; end.", "201"),
        endless: "begin while true do; end.",
        hoard: "uses SysUtils; var p: pointer; begin while true do begin GetMem(p, 1 shl 20); FillChar(p^, 1 shl 20, 1); end; end.",
        flood: "var s: ansistring; begin s := StringOfChar('x', 1000); while true do writeln(s); end.",
    },
];

fn submission(language: &Language, code: &str) -> Value {
    let work = json!({ "language": language.name, "files": [{ "path": language.file, "content": code }] });
    patient(with(work, "compile_limits", json!({ "cpu_ms": 60_000, "wall_ms": 180_000 })))
}

/// The parts of a report that are the same on every machine: verdicts, messages, outcomes, points.
/// One line each.
fn golden(title: &str, report: &Value) -> String {
    let run = |run: &Value| {
        let evidence = &run["evidence"];
        format!("{} exit {} signal {} limit {}", run["outcome"], run["exit_code"], run["signal"], evidence["limit"])
    };
    let mut text = format!("{title}: {} {} blame {}\n", report["verdict"], report["message"], report["blame"]);
    for (name, part) in [("compile", &report["compile"]), ("run", &report["run"])] {
        if part.is_object() {
            text += &format!("  {name} {}\n", run(part));
        }
    }
    for test in report["tests"].as_array().unwrap() {
        text += &format!(
            "  test {} {} {} points {} {}\n",
            test["name"],
            test["verdict"],
            run(test),
            test["points"],
            test["message"]
        );
    }
    text + &format!("  score {}\n", report["score"])
}

fn judge(language: &Language) {
    let mut all = String::new();
    let daemon = Daemon::start(&Options { profiles: language.name, floor: 1, ..Options::default() });
    let mut caller = daemon.caller();
    caller.ok("image.build", json!({ "profile": language.name }));
    let tests = json!([{ "stdin": "21\n", "expect": "42\n" }, { "stdin": "-4\n", "expect": "-8" }, { "stdin": "0\n", "expect": "1\n" }]);
    let report = caller.ok("submission.run", with(submission(language, language.double), "tests", tests));
    let verdicts: Vec<&str> =
        report["tests"].as_array().unwrap().iter().map(|test| test["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["accepted", "accepted", "wrong_answer"], "{report:#}");
    all += &golden("tests", &report);

    if let Some((code, word)) = language.broken {
        let report = caller.ok("submission.run", submission(language, code));
        assert_eq!(report["verdict"], "compile_error", "{report:#}");
        let output = format!("{}{}", report["compile"]["stdout"], report["compile"]["stderr"]);
        assert!(output.contains(word), "{output}");
        all += &golden("does not compile", &report);
    }
    let (code, word) = language.crash;
    let report = caller.ok("submission.run", submission(language, code));
    assert_eq!(report["verdict"], "runtime_error", "{report:#}");
    let output = format!("{}{}", report["run"]["stdout"], report["run"]["stderr"]);
    assert!(output.contains(word), "{report:#}");
    let endless = with(submission(language, language.endless), "limits", json!({ "cpu_ms": 700, "wall_ms": 60_000 }));
    let report = caller.ok("submission.run", endless);
    assert_eq!(report["verdict"], "time_limit", "{report:#}");
    // on a faster machine it must not come to the memory limit
    assert!(report["run"]["memory_bytes"].as_u64() < Some(256 << 20), "{report:#}");
    all += &golden("crashes", &caller.ok("submission.run", submission(language, code)));
    all += &golden("does not end", &report);
    let hoard = caller.ok("submission.run", submission(language, language.hoard));
    // some runtimes notice and exit, others are killed by the kernel
    assert!(hoard["verdict"] == "memory_limit" || hoard["verdict"] == "runtime_error", "{hoard:#}");
    all += &golden("takes all memory", &hoard);
    let flood = caller.ok("submission.run", submission(language, language.flood));
    assert_eq!(flood["verdict"], "output_limit", "{flood:#}");
    all += &golden("prints without end", &flood);
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../golden");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    // addresses in Java and Go stack traces differ from run to run
    settings.add_filter("0x[0-9a-f]{6,}", "0x...");
    settings.bind(|| insta::assert_snapshot!(language.name, all));
}

macro_rules! languages {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            let name = stringify!($name);
            judge(LANGUAGES.iter().find(|language| language.name == name).unwrap());
        })*

        #[test]
        fn every_shipped_profile_is_tested() {
            let mut tested = vec![$(stringify!($name)),*];
            tested.sort_unstable();
            let folder = std::fs::read_dir(root().join("config/profiles")).unwrap();
            let mut shipped: Vec<String> = folder
                .map(|file| file.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
                .collect();
            // python-* are Python with other modules; scripted is for problem packages
            shipped.retain(|name| !name.starts_with("python-") && name != "scripted");
            let others: Vec<&str> = super::more_languages::names().collect();
            shipped.retain(|name| !others.contains(&name.as_str()));
            shipped.sort_unstable();
            assert_eq!(tested, shipped);
        }
    };
}

languages!(bash, c, cpp, go, haskell, java, javascript, lua, pascal, perl, php, python, ruby, rust, typescript,);

/// The guide's mawk, added while the daemon runs: files in folders of the operator's own, then what
/// the guide says to type.
#[test]
fn a_language_is_added_by_a_profile_and_an_image_folder() {
    images();
    let folder = tempfile::tempdir().unwrap();
    let (own, profiles) = (folder.path().join("images"), folder.path().join("profiles"));
    std::fs::create_dir(&profiles).unwrap();
    std::fs::copy(root().join("config/profiles/bash.toml"), profiles.join("bash.toml")).unwrap();
    let dirs = format!("{},{}", own.display(), root().join("images").display());
    let daemon = Daemon::start(&Options {
        profiles: "",
        profiles_dir: Some(&profiles),
        floor: 0,
        env: &[("ASSAY_IMAGES_DIR", &dirs)],
        ..Options::default()
    });
    let guide = std::fs::read_to_string(root().join("docs/LANGUAGES.md")).unwrap();
    let block = |kind: &str| guide.split(&format!("```{kind}\n")).nth(1).unwrap().split("```").next().unwrap();
    std::fs::create_dir_all(own.join("mawk")).unwrap();
    std::fs::write(own.join("mawk/Dockerfile"), block("dockerfile")).unwrap();
    std::fs::write(profiles.join("mawk.toml"), block("toml")).unwrap();
    let (program, input) = (folder.path().join("main.mawk"), folder.path().join("input"));
    std::fs::write(&program, "{ print $1 * 2 }").unwrap();
    std::fs::write(&input, "21\n").unwrap();
    let run = |daemon: &Daemon| {
        assay(daemon, &["run", program.to_str().unwrap(), "--stdin", input.to_str().unwrap(), "--wall-ms", "60000"])
    };
    let (status, _, error) = run(&daemon);
    assert!(status == 2 && error.contains("no profile has its ending"), "{status}: {error}");
    for command in [&["reload"][..], &["images", "build", "mawk"]] {
        let (status, _, error) = assay(&daemon, command);
        assert_eq!(status, 0, "{command:?}: {error}");
    }
    let (status, out, error) = run(&daemon);
    assert_eq!((status, out.as_str()), (0, "42\n"), "{error}");
    let bash = json!({ "language": "bash", "files": [{ "path": "main.sh", "content": "echo 1" }] });
    let report = daemon.caller().ok("submission.run", bash);
    assert_eq!(report["verdict"], "accepted", "{report:#}");
    // the pool and image.build needed it at the same time, and it was built once
    let of_awk = "%7B%22dangling%22%3A%5B%22true%22%5D%2C%22label%22%3A%5B%22assay.image.name%3Dmawk%22%5D%7D";
    assert_eq!(crate::harness::engine(&format!("GET /images/json?filters={of_awk}")).1.trim(), "[]");
}

#[test]
fn the_same_submission_gets_the_same_verdict_while_every_core_is_busy() {
    let daemon = Daemon::start(&Options { profiles: "c", floor: 2, ..Options::default() });
    daemon.warm();
    let busy = BusyCores::start();
    let folder = tempfile::tempdir().unwrap();
    let mut results = Vec::new();
    for (name, ms) in [("half", 300), ("double", 1200)] {
        // uses that much CPU time, with a limit of 600 ms
        let code = format!(
            "#include <time.h>\nint main(void) {{ while (clock() < {ms}L * CLOCKS_PER_SEC / 1000); return 0; }}"
        );
        let file = folder.path().join(format!("{name}.c"));
        std::fs::write(&file, code).unwrap();
        let output = std::process::Command::new(crate::programs::program("assay"))
            .arg("--socket")
            .arg(daemon.socket())
            .args(["--json", "rejudge", "--times", "12", "--cpu-ms", "600", "--wall-ms", "60000"])
            .arg(&file)
            .output()
            .unwrap();
        results.push((output.status.code(), serde_json::from_slice::<Value>(&output.stdout).unwrap()));
    }
    drop(busy);
    assert_eq!((results[0].0, &results[0].1["verdicts"]), (Some(0), &json!({ "accepted": 12 })), "{results:?}");
    assert_eq!((results[1].0, &results[1].1["verdicts"]), (Some(0), &json!({ "time_limit": 12 })), "{results:?}");
    assert!(results[0].1["cpu_ms"]["max"].as_f64() < Some(600.0) && results[0].1["memory_bytes"]["min"].is_number());
}
