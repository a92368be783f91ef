//! The languages that are built when they are first asked for: a program for each verdict. Their
//! images take long, so a run tries a few of them, others each day; `make test-languages` tries
//! all and writes the result into docs/LANGUAGES.md. Packages that are added to a language.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::harness::{Daemon, Options, eventually, patient, root, with};

/// Days over which `make test` gets round all of them.
const ROUND: u64 = 8;

/// One program for each verdict, in one language.
struct Row {
    name: &'static str,
    file: &'static str,
    /// Reads a number and prints its double.
    double: &'static str,
    /// A program that does not compile. `None` without a compiler.
    broken: Option<&'static str>,
    crash: &'static str,
    endless: &'static str,
}

const ROWS: &[Row] = &[
    Row {
        name: "ada",
        file: "main.adb",
        double: "with Ada.Integer_Text_IO; procedure Main is N : Integer; begin Ada.Integer_Text_IO.Get (N); Ada.Integer_Text_IO.Put (N * 2, Width => 0); end Main;",
        broken: Some("procedure Main is begin X := 1; end Main;"),
        crash: "procedure Main is begin raise Program_Error; end Main;",
        endless: "procedure Main is N : Integer := 0; pragma Volatile (N); begin loop N := 1 - N; end loop; end Main;",
    },
    Row {
        name: "awk",
        file: "main.awk",
        double: "{ print $1 * 2 }",
        broken: None,
        crash: "BEGIN { exit 3 }",
        endless: "BEGIN { for (;;) x++ }",
    },
    Row {
        name: "clojure",
        file: "main.clj",
        double: "(println (* 2 (Integer/parseInt (read-line))))",
        broken: None,
        crash: "(throw (Exception. \"oh\"))",
        endless: "(loop [] (recur))",
    },
    Row {
        name: "cobol",
        file: "main.cob",
        double: "IDENTIFICATION DIVISION.\nPROGRAM-ID. twice.\nDATA DIVISION.\nWORKING-STORAGE SECTION.\n01 T PIC X(20).\n01 N PIC S9(9).\n01 M PIC -(9)9.\nPROCEDURE DIVISION.\nACCEPT T\nCOMPUTE N = FUNCTION NUMVAL(T)\nCOMPUTE M = N * 2\nDISPLAY FUNCTION TRIM(M)\nSTOP RUN.\n",
        broken: Some("IDENTIFICATION DIVISION.\nPROGRAM-ID. x.\nPROCEDURE DIVISION.\nADD 1 TO MISSING\nSTOP RUN.\n"),
        crash: "IDENTIFICATION DIVISION.\nPROGRAM-ID. x.\nPROCEDURE DIVISION.\nMOVE 3 TO RETURN-CODE\nSTOP RUN.\n",
        endless: "IDENTIFICATION DIVISION.\nPROGRAM-ID. x.\nDATA DIVISION.\nWORKING-STORAGE SECTION.\n01 N PIC 9.\nPROCEDURE DIVISION.\nPERFORM UNTIL N = 5\nMOVE 1 TO N\nEND-PERFORM\nSTOP RUN.\n",
    },
    Row {
        name: "crystal",
        file: "main.cr",
        double: "puts gets.not_nil!.to_i * 2",
        broken: Some("x = 1 + \"a\""),
        crash: "raise \"oh\"",
        endless: "x = 0\nloop { x = 1 - x }",
    },
    Row {
        name: "csharp",
        file: "Main.cs",
        double: "using System; class P { static void Main() { Console.WriteLine(int.Parse(Console.ReadLine()) * 2); } }",
        broken: Some("class P { static void Main() { int x = \"\"; } }"),
        crash: "class P { static void Main() { throw new System.Exception(\"oh\"); } }",
        endless: "class P { static void Main() { for (;;); } }",
    },
    Row {
        name: "d",
        file: "main.d",
        double: "import std.stdio; void main() { int n; readf(\" %d\", n); writeln(n * 2); }",
        broken: Some("void main() { int x = \"\"; }"),
        crash: "void main() { throw new Exception(\"oh\"); }",
        endless: "void main() { for (;;) {} }",
    },
    Row {
        name: "elixir",
        file: "main.exs",
        double: "IO.gets(\"\") |> String.trim() |> String.to_integer() |> Kernel.*(2) |> IO.puts()",
        broken: None,
        crash: "raise \"oh\"",
        endless: "defmodule M do\n def f(n), do: f(1 - n)\nend\nM.f(0)",
    },
    Row {
        name: "erlang",
        file: "main.erl",
        double: "-module(main).\n-export([main/0]).\nmain() -> {ok, [N]} = io:fread(\"\", \"~d\"), io:format(\"~w~n\", [N * 2]).\n",
        broken: Some("-module(main).\n-export([main/0]).\nmain() -> X.\n"),
        crash: "-module(main).\n-export([main/0]).\nmain() -> error(oh).\n",
        endless: "-module(main).\n-export([main/0]).\nmain() -> main().\n",
    },
    Row {
        name: "fortran",
        file: "main.f90",
        double: "program twice\ninteger :: n\nread *, n\nprint \"(i0)\", n * 2\nend program\n",
        broken: Some("program x\ninteger :: n\nn = = 1\nend program\n"),
        crash: "program x\nerror stop 3\nend program\n",
        endless: "program x\ninteger, volatile :: n\ndo\nn = 1\nend do\nend program\n",
    },
    Row {
        name: "kotlin",
        file: "Double.kt",
        double: "fun main() { println(readLine()!!.trim().toInt() * 2) }",
        broken: Some("fun main() { val x: Int = \"\" }"),
        crash: "fun main() { throw Exception(\"oh\") }",
        endless: "fun main() { while (true) {} }",
    },
    Row {
        name: "lisp",
        file: "main.lisp",
        double: "(format t \"~d~%\" (* 2 (read)))",
        broken: None,
        crash: "(error \"oh\")",
        endless: "(loop)",
    },
    Row {
        name: "nasm",
        file: "main.asm",
        double: "global main\nextern scanf, printf\nsection .data\nf db \"%d\",0\ng db \"%d\",10,0\nsection .bss\nn resd 1\nsection .text\nmain: sub rsp,8\nlea rdi,[rel f]\nlea rsi,[rel n]\nxor eax,eax\ncall scanf wrt ..plt\nmov esi,[rel n]\nadd esi,esi\nlea rdi,[rel g]\nxor eax,eax\ncall printf wrt ..plt\nxor eax,eax\nadd rsp,8\nret\n",
        broken: Some("global main\nmain: mov nothing, 1\n"),
        crash: "global main\nsection .text\nmain: mov eax, [0]\nret\n",
        endless: "global main\nsection .text\nmain: jmp main\n",
    },
    Row {
        name: "objective-c",
        file: "main.m",
        double: "#import <Foundation/Foundation.h>\nint main(void) { NSAutoreleasePool *pool = [NSAutoreleasePool new]; int n; scanf(\"%d\", &n); printf(\"%s\\n\", [[NSString stringWithFormat: @\"%d\", n * 2] UTF8String]); [pool release]; return 0; }",
        broken: Some("int main(void) { return x; }"),
        crash: "#include <stdlib.h>\nint main(void) { abort(); }",
        endless: "int main(void) { for (volatile int i;; i++); }",
    },
    Row {
        name: "ocaml",
        file: "main.ml",
        double: "let () = Printf.printf \"%d\\n\" (2 * Scanf.scanf \" %d\" (fun x -> x))",
        broken: Some("let x : int = \"\""),
        crash: "let () = failwith \"oh\"",
        endless: "let () = while true do () done",
    },
    Row {
        name: "octave",
        file: "main.m",
        double: "n = input(\"\"); printf(\"%d\\n\", n * 2)",
        broken: None,
        crash: "error(\"oh\")",
        endless: "while true, end",
    },
    Row {
        name: "prolog",
        file: "main.pl",
        double: ":- initialization(main, main).\nmain :- read_line_to_string(user_input, S), number_string(N, S), M is N * 2, writeln(M).\n",
        broken: None,
        crash: ":- initialization(main, main).\nmain :- throw(oh).\n",
        endless: ":- initialization(main, main).\nmain :- repeat, fail.\n",
    },
    Row {
        name: "pypy",
        file: "main.py",
        double: "print(int(input()) * 2)",
        broken: None,
        crash: "print(1 // 0)",
        endless: "while True: pass",
    },
    Row {
        name: "r",
        file: "main.r",
        double: "cat(as.integer(readLines(file(\"stdin\"), 1)) * 2, \"\\n\")",
        broken: None,
        crash: "stop(\"oh\")",
        endless: "while (TRUE) {}",
    },
    Row {
        name: "scala",
        file: "Main.scala",
        double: "object Main { def main(a: Array[String]): Unit = println(scala.io.StdIn.readInt() * 2) }",
        broken: Some("object Main { val x: Int = \"\" }"),
        crash: "object Main { def main(a: Array[String]): Unit = throw new Exception(\"oh\") }",
        endless: "object Main { def main(a: Array[String]): Unit = while (true) {} }",
    },
    Row {
        name: "scheme",
        file: "main.scm",
        double: "(display (* 2 (read))) (newline)",
        broken: None,
        crash: "(error \"oh\")",
        endless: "(let loop () (loop))",
    },
    Row {
        name: "sql",
        file: "main.sql",
        double: "create table t(n integer);\n.import /dev/stdin t\nselect n * 2 from t;",
        broken: None,
        crash: "select * from missing;",
        endless: "with recursive r(n) as (select 1 union all select n + 1 from r) select count(*) from r;",
    },
    Row {
        name: "swift",
        file: "main.swift",
        double: "print(Int(readLine()!)! * 2)",
        broken: Some("let x: Int = \"\""),
        crash: "let x: [Int] = []\nprint(x[CommandLine.argc > 0 ? 1 : 0])",
        endless: "while true {}",
    },
    Row {
        name: "tcl",
        file: "main.tcl",
        double: "puts [expr {[gets stdin] * 2}]",
        broken: None,
        crash: "error oh",
        endless: "while 1 {}",
    },
];

fn submission(row: &Row, code: &str) -> Value {
    let work = json!({ "language": row.name, "files": [{ "path": row.file, "content": code }] });
    patient(with(work, "compile_limits", json!({ "cpu_ms": 120_000, "wall_ms": 400_000 })))
}

/// What went wrong with a language; nothing if every verdict is right.
fn mistakes(row: &Row) -> Vec<String> {
    let daemon = Daemon::start(&Options { profiles: row.name, floor: 0, ..Options::default() });
    let mut caller = daemon.caller();
    // built when it is first asked for
    caller.ok("image.build", json!({ "profile": row.name }));
    let mut wrong = Vec::new();
    let mut expect = |what: &str, report: Value, verdict: &str| {
        if report["verdict"] != verdict {
            wrong.push(format!("{what}: {report:#}"));
        }
    };
    let tests = |answer: &str| json!([{ "stdin": "21\n", "expect": answer }, { "stdin": "-4\n", "expect": "-8" }]);
    let double = |answer: &str| with(submission(row, row.double), "tests", tests(answer));
    expect("double", caller.ok("submission.run", double("42")), "accepted");
    expect("wrong answer", caller.ok("submission.run", double("43")), "wrong_answer");
    if let Some(broken) = row.broken {
        expect("broken", caller.ok("submission.run", submission(row, broken)), "compile_error");
    }
    expect("crash", caller.ok("submission.run", submission(row, row.crash)), "runtime_error");
    let limits = json!({ "cpu_ms": 6000, "wall_ms": 60_000 });
    expect("endless", caller.ok("submission.run", with(submission(row, row.endless), "limits", limits)), "time_limit");
    wrong.extend(super::programs::mistakes(&daemon, row.name));
    wrong
}

/// Tries these languages, and returns what is wrong by name.
fn tried<'a>(rows: impl Iterator<Item = &'a Row>) -> Vec<(&'a str, Vec<String>)> {
    rows.map(|row| (row.name, mistakes(row))).collect()
}

#[test]
fn a_few_of_the_further_languages_get_the_right_verdicts() {
    let days = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs() / 86_400;
    let chosen = std::env::var("ASSAY_LANGUAGES").ok();
    let is_chosen = |(at, row): &(usize, &Row)| match &chosen {
        Some(names) => names.split(' ').any(|name| name == row.name),
        None => *at as u64 % ROUND == days % ROUND,
    };
    let results = tried(ROWS.iter().enumerate().filter(is_chosen).map(|(_, row)| row));
    assert!(!results.is_empty());
    assert!(results.iter().all(|(_, wrong)| wrong.is_empty()), "{results:#?}");
}

#[test]
#[ignore = "builds an image for every language: make test-languages"]
fn all_further_languages_get_the_right_verdicts() {
    let results = tried(ROWS.iter());
    let path = root().join("docs/LANGUAGES.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let mut table = String::from("| language | profile | entry | result |\n|---|---|---|---|\n");
    for (row, (name, wrong)) in ROWS.iter().zip(&results) {
        let profile: Value =
            toml::from_str(&std::fs::read_to_string(root().join(format!("config/profiles/{name}.toml"))).unwrap())
                .unwrap();
        let result = if wrong.is_empty() { "every verdict".to_owned() } else { format!("wrong: {}", wrong.len()) };
        let verdicts = if row.broken.is_some() { 5 } else { 4 };
        table += &format!(
            "| {} | `{name}` | `{}` | {result} ({verdicts}) |\n",
            profile["description"].as_str().unwrap(),
            row.file
        );
    }
    let (before, rest) = page.split_once("<!-- results -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- end of results -->").unwrap();
    std::fs::write(&path, format!("{before}<!-- results -->\n{table}<!-- end of results -->{after}")).unwrap();
    assert!(results.iter().all(|(_, wrong)| wrong.is_empty()), "{results:#?}");
}

#[test]
fn every_further_language_has_a_profile_without_a_floor() {
    for row in ROWS {
        let text = std::fs::read_to_string(root().join(format!("config/profiles/{}.toml", row.name))).unwrap();
        assert!(text.contains("floor = 0"), "{}", row.name);
        assert!(root().join(format!("images/{}/Dockerfile", row.name)).exists(), "{}", row.name);
    }
}

/// A daemon with a profile of the guide's chapter on packages: its `at`th Dockerfile, and a copy of
/// the language's profile with these changes.
fn with_packages(at: usize, name: &str, of: &str, changes: &[(&str, &str)]) -> (Daemon, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let (own, profiles) = (folder.path().join("images"), folder.path().join("profiles"));
    std::fs::create_dir_all(own.join(name)).unwrap();
    std::fs::create_dir(&profiles).unwrap();
    let guide = std::fs::read_to_string(root().join("docs/LANGUAGES.md")).unwrap();
    let chapter = guide.split("## More packages").nth(1).unwrap();
    let block = chapter.split("```dockerfile\n").nth(at).unwrap().split("```").next().unwrap();
    let mut block = block.to_owned();
    if let Ok(bundle) = std::env::var("PIP_CERT") {
        // this machine reaches the registries through a certificate of its own
        std::fs::copy(bundle, own.join(name).join("own.crt")).unwrap();
        let from = "FROM ${BASE}\n";
        let trusted = "COPY own.crt /tmp/own.crt\nENV PIP_CERT=/tmp/own.crt NODE_EXTRA_CA_CERTS=/tmp/own.crt\n";
        block = block.replace(from, &format!("{from}{trusted}"));
    }
    std::fs::write(own.join(name).join("Dockerfile"), block).unwrap();
    let shipped = std::fs::read_to_string(root().join(format!("config/profiles/{of}.toml"))).unwrap();
    let kept = |line: &&str| !["name", "image", "extensions", "suites"].iter().any(|key| line.starts_with(key));
    let mut profile = shipped.lines().filter(kept).map(|line| format!("{line}\n")).collect::<String>();
    for (piece, instead) in changes {
        assert!(profile.contains(piece), "{profile}");
        profile = profile.replace(piece, instead);
    }
    std::fs::write(profiles.join(format!("{name}.toml")), format!("name = '{name}'\nimage = '{name}'\n{profile}"))
        .unwrap();
    let dirs = format!("{},{}", own.display(), root().join("images").display());
    let daemon = Daemon::start(&Options {
        profiles: "",
        profiles_dir: Some(&profiles),
        env: &[("ASSAY_IMAGES_DIR", &dirs)],
        ..Options::default()
    });
    daemon.caller().ok("image.build", json!({ "profile": name }));
    (daemon, folder)
}

fn output(daemon: &Daemon, language: &str, file: &str, code: &str) -> Value {
    let work = json!({ "language": language, "files": [{ "path": file, "content": code }] });
    let report = daemon.caller().ok("submission.run", patient(work));
    assert_eq!(report["verdict"], "accepted", "{report:#}");
    report["run"]["stdout"].clone()
}

/// Runs the submission until it starts hot, where there are cells.
fn hot(daemon: &Daemon, work: &Value) -> Value {
    let mut caller = daemon.caller();
    let mut report = Value::Null;
    eventually("a hot start", || {
        report = caller.ok("submission.run", work.clone());
        assert_eq!(report["verdict"], "accepted", "{report:#}");
        report["start"] == "hot" || report["sandbox"]["isolation"] != "cell"
    });
    report
}

#[test]
fn a_language_gets_packages_from_debian_as_the_guide_says() {
    let name = "python-web";
    let (daemon, _folder) = with_packages(1, name, "python", &[("fork = true", "fork = true\nload = [\"bs4\"]")]);
    let code = "import bs4\nprint(bs4.BeautifulSoup('<p>text', 'html.parser').p.string)";
    let work = json!({ "language": name, "files": [{ "path": "main.py", "content": code }] });
    assert_eq!(hot(&daemon, &patient(work))["run"]["stdout"], "text\n");
}

#[test]
#[ignore = "asks PyPI and npm's registry: make test-languages"]
fn a_language_gets_packages_from_pypi_and_npm_as_the_guide_says() {
    let (daemon, _folder) = with_packages(2, "python-pip", "python", &[]);
    let code = "import sortedcontainers\nprint(list(sortedcontainers.SortedSet([2, 1])))";
    assert_eq!(output(&daemon, "python-pip", "main.py", code), "[1, 2]\n");
    let path = "[env]\nNODE_PATH = \"/usr/local/lib/node_modules\"";
    let (daemon, _folder) = with_packages(3, "javascript-npm", "javascript", &[("[env]", path)]);
    assert_eq!(output(&daemon, "javascript-npm", "main.js", "console.log(require('left-pad')('x', 3))"), "  x\n");
}

#[test]
#[ignore = "builds a large image: make test-languages"]
fn a_plot_comes_back_from_the_science_profile_which_starts_hot() {
    let name = "python-science";
    let daemon = Daemon::start(&Options { profiles: name, ..Options::default() });
    daemon.caller().ok("image.build", json!({ "profile": name }));
    let code = "import numpy, pandas, scipy.stats, sympy, sklearn, PIL\nimport matplotlib.pyplot as plt\n\
        plt.plot([1, 2, 3])\nplt.title('plot')\nplt.savefig('plot.png')\nprint(sympy.factorint(91), pandas.Series([1, 2]).sum())";
    let work = json!({ "language": name, "files": [{ "path": "main.py", "content": code }], "collect": ["*.png"] });
    for work in [patient(work.clone()), patient(with(work, "prewarm", json!(false)))] {
        let is_hot = work["prewarm"] != false;
        let report = if is_hot { hot(&daemon, &work) } else { daemon.caller().ok("submission.run", work) };
        assert_eq!(report["run"]["stdout"], "{7: 1, 13: 1} 3\n", "{report:#}");
        assert_eq!(report["run"]["stderr"], "", "{report:#}");
        assert!(report["files"][0]["size_bytes"].as_u64().unwrap() > 1000, "{report:#}");
        eprintln!("{} {}: {} ms of CPU", report["start"], report["run"]["wall_ms"], report["run"]["cpu_ms"]);
    }
}

/// The names of all of them.
pub fn names() -> impl Iterator<Item = &'static str> {
    ROWS.iter().map(|row| row.name)
}
