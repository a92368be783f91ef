//! What every command prints with `--json`: one document or JSON lines, and the schema of each (`assay schema NAME`).
//!
//! The same for all: what was asked for on stdout, indented where that is a terminal; a command that cannot do its work
//! prints one line `cli.error` on stderr instead, and nothing on stdout.

/// How it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One document.
    Document,
    /// One document a line, as they come.
    Lines,
    /// No JSON: `--json` changes nothing.
    Text,
}

/// The JSON of one command.
#[derive(Debug, Clone, Copy)]
pub struct Json {
    /// The command's words behind `assay`.
    pub command: &'static str,
    /// How it comes.
    pub form: Form,
    /// Its schema, for `assay schema`; empty where there is none.
    pub schema: &'static str,
}

const fn one(command: &'static str, schema: &'static str) -> Json {
    Json { command, form: Form::Document, schema }
}

const fn lines(command: &'static str, schema: &'static str) -> Json {
    Json { command, form: Form::Lines, schema }
}

const fn text(command: &'static str) -> Json {
    Json { command, form: Form::Text, schema: "" }
}

/// Every command.
pub const ALL: &[Json] = &[
    one("run", "report"),
    one("test", "report"),
    one("judge", "cli.judge"),
    one("rejudge", "cli.rejudge"),
    one("submit", "submission.submit.result"),
    one("wait", "submission.wait.result"),
    one("get", "submission.get.result"),
    one("cancel", "submission.cancel.result"),
    one("status", "daemon.status.result"),
    lines("top", "daemon.status.result"),
    one("health", "daemon.health.result"),
    one("doctor", "cli.doctor"),
    one("images list", "image.list.result"),
    lines("images build", "image.build.result"),
    lines("images pull", "image.pull.result"),
    one("pools", "pool.list.result"),
    one("hosts", "host.list.result"),
    one("hosts drain", "host.list.result"),
    one("hosts resume", "host.list.result"),
    one("profiles", "profile.list.result"),
    one("sandboxes", "sandbox.list.result"),
    one("reload", "daemon.reload.result"),
    one("rpc", "METHOD.result"),
    one("schema", ""),
    text("completions"),
    text("man"),
];

/// The JSON of a command.
pub fn of(command: &str) -> Option<&'static Json> {
    ALL.iter().find(|json| json.command == command)
}

impl Json {
    /// As a sentence for the command's help.
    pub fn sentence(&self) -> Option<String> {
        let schema = match self.schema {
            "" => String::new(),
            schema => format!(" (`assay schema {schema}`)"),
        };
        match self.form {
            Form::Document => Some(format!("With --json: one document{schema}.")),
            Form::Lines => Some(format!("With --json: one document a line{schema}.")),
            Form::Text => None,
        }
    }
}
