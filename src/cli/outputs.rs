//! What each command prints with `--json`, and the schema of it (`assay schema NAME`).
//!
//! For all commands: the result is on stdout, indented on a terminal. A command that fails prints
//! nothing on stdout and one line on stderr, schema `cli.error`.

/// The form of a command's JSON output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonForm {
    /// A single document.
    Document,
    /// A sequence of documents, one per line.
    Lines,
    /// Not JSON: `--json` has no effect.
    Text,
}

/// The JSON output of one command.
#[derive(Debug, Clone, Copy)]
pub struct JsonOutput {
    /// The command without `assay`, such as `images list`.
    pub command: &'static str,
    pub form: JsonForm,
    /// The name of its schema; empty if there is none.
    pub schema: &'static str,
}

const fn one(command: &'static str, schema: &'static str) -> JsonOutput {
    JsonOutput { command, form: JsonForm::Document, schema }
}

const fn lines(command: &'static str, schema: &'static str) -> JsonOutput {
    JsonOutput { command, form: JsonForm::Lines, schema }
}

const fn text(command: &'static str) -> JsonOutput {
    JsonOutput { command, form: JsonForm::Text, schema: "" }
}

/// One entry per command.
pub const ALL: &[JsonOutput] = &[
    one("run", "report"),
    one("test", "report"),
    one("judge", "cli.judge"),
    one("rejudge", "cli.rejudge"),
    one("submit", "submission.submit.result"),
    one("wait", "submission.wait.result"),
    one("get", "submission.get.result"),
    one("cancel", "submission.cancel.result"),
    one("history", "submission.list.result"),
    one("show", "submission.get.result"),
    one("receipt", "receipt.get.result"),
    one("receipt verify", "receipt"),
    one("store backup", "store.backup.result"),
    one("store check", "store.check.result"),
    one("store vacuum", "store.vacuum.result"),
    one("store forget", "store.forget.result"),
    one("token add", "token.add.result"),
    one("token list", "token.list.result"),
    one("token revoke", "token.revoke.result"),
    one("status", "daemon.status.result"),
    lines("top", "daemon.status.result"),
    one("health", "daemon.health.result"),
    one("doctor", "cli.doctor"),
    one("images list", "image.list.result"),
    lines("images build", "image.build.result"),
    lines("images pull", "image.pull.result"),
    one("images prune", "image.prune.result"),
    one("pools", "pool.list.result"),
    one("hosts", "host.list.result"),
    one("hosts drain", "host.list.result"),
    one("hosts resume", "host.list.result"),
    one("drain", "daemon.pause.result"),
    one("resume", "daemon.resume.result"),
    one("profiles", "profile.list.result"),
    one("sandboxes", "sandbox.list.result"),
    one("reload", "daemon.reload.result"),
    one("rpc", "METHOD.result"),
    one("schema", ""),
    text("completions"),
    text("man"),
];

pub fn of(command: &str) -> Option<&'static JsonOutput> {
    ALL.iter().find(|json| json.command == command)
}

impl JsonOutput {
    /// A sentence for the command's help; `None` if `--json` has no effect.
    pub fn sentence(&self) -> Option<String> {
        let schema = match self.schema {
            "" => String::new(),
            schema => format!(" (`assay schema {schema}`)"),
        };
        match self.form {
            JsonForm::Document => Some(format!("With --json: one document{schema}.")),
            JsonForm::Lines => Some(format!("With --json: one document per line{schema}.")),
            JsonForm::Text => None,
        }
    }
}
