//! What callers hand in: as a submission, as bare commands, and for some as a request to go-judge.

use serde_json::{Value, json};

use crate::hot::workloads;

/// One of the benchmark's programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Program {
    /// `print(1)`.
    Python,
    /// `/bin/true` as a command in the python profile.
    True,
    /// The same in the cpp profile.
    TrueCpp,
    /// C++ that was compiled before.
    Cpp,
    /// Fifty tests of a tiny program.
    FiftyPython,
    FiftyNode,
    FiftyC,
    /// A suite with one trivial test, under `language: "python"`.
    Pytest,
    /// Hello with a new source each time, compiled and run.
    Java,
    Typescript,
}

/// A bare command and what it prints.
pub type BareCommand = (Vec<String>, &'static str);

const TESTS: usize = 50;
const HELLO_CPP: &str = "#include <bits/stdc++.h>\nint main() { std::cout << 1 << \"\\n\"; }\n";
const HELLO_C: &str = "#include <stdio.h>\nint main(void) { puts(\"1\"); }\n";
const ONE: &str = "def one(): return 1\n";
const TEST_ONE: &str = "from one import one\ndef test_one(): assert one() == 1\n";
const HELLO_TS: &str = "const text: string = \"hello\";\nconsole.log(text);\n";

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

impl Program {
    pub fn profile(self) -> &'static str {
        match self {
            Program::Python | Program::True | Program::FiftyPython | Program::Pytest => "python",
            Program::TrueCpp | Program::Cpp => "cpp",
            Program::FiftyNode => "javascript",
            Program::FiftyC => "c",
            Program::Java => "java",
            Program::Typescript => "typescript",
        }
    }

    pub fn title(self) -> &'static str {
        match self {
            Program::Python => "Python print(1)",
            Program::True => "true, python profile",
            Program::TrueCpp => "true, cpp profile",
            Program::Cpp => "C++ compiled before",
            Program::FiftyPython => "fifty tests, Python",
            Program::FiftyNode => "fifty tests, node",
            Program::FiftyC => "fifty tests, C",
            Program::Pytest => "pytest suite, one trivial test",
            Program::Java => "Java hello, a new source",
            Program::Typescript => "TypeScript hello, a new source",
        }
    }

    fn path(self) -> &'static str {
        match self {
            Program::Python | Program::True | Program::FiftyPython => "main.py",
            Program::TrueCpp | Program::Cpp => "main.cpp",
            Program::FiftyNode => "main.js",
            Program::FiftyC => "main.c",
            Program::Pytest => "one.py",
            Program::Java => "Main.java",
            Program::Typescript => "main.ts",
        }
    }

    /// The source; `mark` makes it new where a new one is wanted.
    fn source(self, mark: &str) -> String {
        match self {
            Program::Python | Program::FiftyPython => "print(1)\n".to_owned(),
            Program::True => String::new(),
            Program::TrueCpp | Program::Cpp => HELLO_CPP.to_owned(),
            Program::FiftyNode => "console.log(1)\n".to_owned(),
            Program::FiftyC => HELLO_C.to_owned(),
            Program::Pytest => ONE.to_owned(),
            Program::Java => format!("{}// {mark}\n", workloads::HELLO_JAVA),
            Program::Typescript => format!("{HELLO_TS}// {mark}\n"),
        }
    }

    /// The files of the bare commands.
    pub fn files(self, mark: &str) -> Vec<(&'static str, String)> {
        let suite = (self == Program::Pytest).then(|| ("test_one.py", TEST_ONE.to_owned()));
        [(self.path(), self.source(mark))].into_iter().chain(suite).collect()
    }

    /// The program's output in one run.
    fn prints(self) -> &'static str {
        match self {
            Program::True | Program::TrueCpp => "",
            Program::Java | Program::Typescript => "hello\n",
            _ => "1\n",
        }
    }

    pub fn submission(self, mark: &str) -> Value {
        let files = json!([{ "path": self.path(), "content": self.source(mark) }]);
        let mut submission = json!({ "language": self.profile(), "files": files });
        match self {
            Program::True | Program::TrueCpp => submission["command"] = json!(["/bin/true"]),
            Program::FiftyPython | Program::FiftyNode | Program::FiftyC => {
                submission["tests"] = json!(vec![json!({ "expect": "1\n" }); TESTS]);
            }
            Program::Pytest => {
                let files = json!([{ "path": "test_one.py", "content": TEST_ONE }]);
                submission["suite"] = json!({ "format": "pytest", "files": files });
            }
            _ => {}
        }
        submission
    }

    /// Panics unless the report is right.
    pub fn verify(self, report: &Value) {
        assert_eq!(report["verdict"], "accepted", "{report:#}");
        match self {
            Program::FiftyPython | Program::FiftyNode | Program::FiftyC => {
                let tests = report["tests"].as_array().unwrap();
                assert!(tests.len() == TESTS && tests.iter().all(|test| test["stdout"] == "1\n"), "{report:#}");
            }
            Program::Pytest => assert_eq!(report["suite"]["passed"], 1, "{report:#}"),
            _ => assert_eq!(report["run"]["stdout"], self.prints(), "{report:#}"),
        }
        if matches!(self, Program::Java | Program::Typescript) {
            assert_ne!(report["compile"]["cached"], true, "{report:#}");
        }
    }

    /// Commands to run once before, in the folder of the files.
    pub fn bare_preparation(self) -> Vec<Vec<String>> {
        match self {
            Program::Cpp => vec![words("/usr/bin/g++ -O2 -std=c++20 -o main main.cpp")],
            Program::FiftyC => vec![words("/usr/bin/gcc -O2 -o main main.c")],
            _ => Vec::new(),
        }
    }

    /// The commands of one execution.
    pub fn bare(self) -> Vec<BareCommand> {
        let once = |line: &str| vec![(words(line), self.prints())];
        let fifty = |line: &str| vec![(words(line), self.prints()); TESTS];
        match self {
            Program::Python => once("/usr/bin/python3 main.py"),
            Program::True | Program::TrueCpp => once("/bin/true"),
            Program::Cpp => once("./main"),
            Program::FiftyPython => fifty("/usr/bin/python3 main.py"),
            Program::FiftyNode => fifty("/usr/bin/node main.js"),
            Program::FiftyC => fifty("./main"),
            // its output has a duration: only the status counts
            Program::Pytest => vec![(words("/usr/bin/python3 -m pytest -q -p no:cacheprovider test_one.py"), "*")],
            Program::Java => {
                let compile =
                    "/usr/bin/javac -J-XX:+UseSerialGC -J-XX:TieredStopAtLevel=1 -encoding UTF-8 -d . Main.java";
                let run = "/usr/bin/java -XX:+UseSerialGC -XX:-UsePerfData -XX:MaxRAMPercentage=70 -Xss64m -cp . Main";
                vec![(words(compile), ""), (words(run), self.prints())]
            }
            Program::Typescript => {
                let compile = "/usr/bin/tsc --target es2021 --lib es2021,dom --module commonjs --strict \
                               /usr/local/share/assay/node.d.ts main.ts";
                vec![(words(compile), ""), (words("/usr/bin/node main.js"), self.prints())]
            }
        }
    }

    /// Whether go-judge has a row.
    pub fn is_for_go_judge(self) -> bool {
        matches!(self, Program::Python | Program::True | Program::TrueCpp | Program::Cpp)
    }

    /// Whether the row is a closed loop of one, two and four callers.
    pub fn is_closed_loop(self) -> bool {
        self.is_for_go_judge()
    }
}
