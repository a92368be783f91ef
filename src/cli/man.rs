//! `assay man [DIR]`: a manual page for `assay`, for each of its commands and for the daemon, from the same words as their help.

use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::{CliError, examples, out, outputs};
use config::Arguments;

/// Arguments of `man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Where to write them; the page of `assay` itself goes to stdout when absent
    pub dir: Option<PathBuf>,
}

/// Name and text of a page.
pub type Page = (String, Vec<u8>);

/// Prints or writes them.
///
/// # Errors
/// They cannot be written.
pub fn man(args: &ManArgs) -> Result<u8, CliError> {
    let failed = |error: std::io::Error| CliError::Usage(format!("cannot write the manual pages: {error}"));
    let pages = pages().map_err(failed)?;
    match &args.dir {
        None => pages.first().into_iter().for_each(|(_, text)| out::stdout(text)),
        Some(dir) => write(dir, &pages).map_err(failed)?,
    }
    Ok(0)
}

fn write(dir: &Path, pages: &[Page]) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    pages.iter().try_for_each(|(name, text)| std::fs::write(dir.join(name), text))
}

/// Every page, the one of `assay` first, the daemon's last.
///
/// # Errors
/// None: they are written to memory.
pub fn pages() -> std::io::Result<Vec<Page>> {
    let mut command = super::command();
    command.build();
    let mut pages = Vec::new();
    add(&command, "", &mut pages)?;
    pages.push(daemon()?);
    Ok(pages)
}

/// What every page begins with: of a program and its options.
fn begin(command: clap::Command, section: &str) -> std::io::Result<Vec<u8>> {
    let man = Man::new(command.clone())
        .title(command.get_name().to_uppercase())
        .section(section)
        .source(format!("assay {}", env!("CARGO_PKG_VERSION")))
        .manual("assay");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    Ok(text)
}

/// Sections of terms and what they mean.
fn explain(sections: &[Section], roff: &mut Roff) {
    for (heading, rows) in sections {
        roff.control("SH", [*heading]);
        for (term, words) in *rows {
            roff.control("TP", []);
            roff.text([bold(*term)]);
            roff.text([roman(*words)]);
        }
    }
}

/// The daemon's page, among those of system administration.
fn daemon() -> std::io::Result<Page> {
    let mut command = Arguments::command();
    command.build();
    let mut text = begin(command, "8")?;
    let mut rest = Roff::new();
    explain(DAEMON, &mut rest);
    rest.control("SH", ["SEE ALSO"]);
    rest.text([bold("assay"), roman("(1), "), bold("systemctl"), roman("(1), "), bold("journalctl"), roman("(1)")]);
    rest.to_writer(&mut text)?;
    Ok(("assayd.8".to_owned(), text))
}

fn add(command: &clap::Command, path: &str, pages: &mut Vec<Page>) -> std::io::Result<()> {
    let name = format!("assay {path}").trim().replace(' ', "-");
    // a page of its own says its own words: the examples stand in a section of theirs
    let command = command.clone().name(name.clone()).after_help("").after_long_help("");
    let mut text = begin(command.clone(), "1")?;
    let inner: Vec<_> = command.get_subcommands().filter(|inner| inner.get_name() != "help").cloned().collect();
    let mut rest = Roff::new();
    if !inner.is_empty() {
        rest.control("SH", ["COMMANDS"]);
        for inner in &inner {
            let about = inner.get_about().map(ToString::to_string).unwrap_or_default();
            rest.control("TP", []);
            rest.text([bold(format!("{name}-{}(1)", inner.get_name()))]);
            rest.text([roman(about)]);
        }
    }
    rest.control("SH", ["EXAMPLES"]);
    for (line, what) in examples::of(path) {
        rest.control("TP", []);
        rest.text([bold(*line)]);
        rest.text([roman(*what)]);
    }
    if let Some(sentence) = outputs::of(path).and_then(outputs::Json::sentence) {
        rest.control("SH", ["JSON"]);
        rest.text([roman(sentence)]);
    }
    if path.is_empty() {
        explain(SECTIONS, &mut rest);
        rest.control("SH", ["SEE ALSO"]);
        rest.text([bold("assayd"), roman("(8)")]);
    } else {
        rest.control("SH", ["SEE ALSO"]);
        rest.text([bold("assay"), roman("(1)")]);
    }
    rest.to_writer(&mut text)?;
    pages.push((format!("{name}.1"), text));
    for inner in &inner {
        add(inner, format!("{path} {}", inner.get_name()).trim(), pages)?;
    }
    Ok(())
}

/// A heading, and terms with what they mean.
type Section = (&'static str, &'static [(&'static str, &'static str)]);

/// What only the daemon's page says.
const DAEMON: &[Section] = &[
    (
        "SIGNALS",
        &[
            (
                "SIGTERM, SIGINT",
                "Nothing new is admitted; what runs is finished, for queue.drain at most; then it ends.",
            ),
            ("SIGHUP", "A new configuration is taken over, all of it or nothing."),
        ],
    ),
    (
        "EXIT STATUS",
        &[
            ("0", "It ended because it was told to, or did what --check-config or --sweep asks."),
            ("1", "It could not start, and says why: docs/OPERATIONS.md has every such text with its remedy."),
            ("2", "The command line is wrong."),
        ],
    ),
    (
        "ENVIRONMENT",
        &[
            ("ASSAY_CONFIG", "The configuration file."),
            ("ASSAY_*", "Every setting has a variable: its name in capitals, ASSAY_QUEUE_MAX for queue.max."),
            (
                "DOCKER_HOST, DOCKER_CONTEXT, DOCKER_TLS_VERIFY, DOCKER_CERT_PATH",
                "The engine, where no setting names one.",
            ),
            (
                "LISTEN_FDS, LISTEN_FDNAMES, NOTIFY_SOCKET, WATCHDOG_USEC",
                "systemd's: sockets that it opened (the one named http is for health checks and metrics, any other for \
                 callers), and what it wants to be told.",
            ),
        ],
    ),
    (
        "FILES",
        &[
            ("/etc/assay/assayd.toml", "The configuration; drop-ins are in /etc/assay/assayd.toml.d/."),
            ("/etc/assay/profiles/", "A file per language."),
            ("/run/assay/assay.sock", "The callers' socket."),
            ("/var/lib/assay/", "State: the instance's id, compiled programs, what a drain kept, build logs."),
            ("/usr/share/doc/assay/OPERATIONS.md", "Every setting, a runbook for every alert, every text of the log."),
        ],
    ),
];

/// What only the first page says.
const SECTIONS: &[Section] = &[
    (
        "EXIT STATUS",
        &[
            ("0", "Well."),
            ("1", "Not well: not accepted, not healthy, or the daemon refused."),
            ("2", "The command line, or the request made from it, is wrong."),
            ("122", "run, wait: the compile step failed."),
            ("123", "run, wait: the output limit."),
            ("124", "run, wait: a time limit."),
            ("125", "run, wait, test, judge, rejudge: the daemon's or the engine's fault, or nobody to ask."),
            ("126", "run, wait: the program could not be started."),
            ("130", "run: interrupted, and the submission withdrawn."),
            ("137", "run, wait: the memory limit."),
            ("128+N", "run, wait: signal N ended the program. Any other status is the program's own."),
        ],
    ),
    ("ENVIRONMENT", &[("ASSAY_SOCKET", "The daemon's socket."), ("NO_COLOR", "No colour, unless --color=always.")]),
    (
        "FILES",
        &[
            ("/run/assay/assay.sock", "The daemon's socket by default."),
            ("/etc/assay/assayd.toml", "The daemon's configuration; doctor reads it."),
        ],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_page_for_every_command_and_it_has_its_examples() {
        let mut pages = pages().unwrap();
        pages.retain(|(name, _)| name != "assayd.8");
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names.len(), examples::ALL.len(), "{names:?}");
        assert!(names.starts_with(&["assay.1"]) && names.contains(&"assay-images-build.1"));
        for (name, text) in &pages {
            let text = String::from_utf8_lossy(text);
            assert!(text.contains(".SH EXAMPLES") && text.contains(".SH NAME"), "{name}");
        }
    }

    #[test]
    fn the_daemons_page_is_of_section_8_and_has_every_option_of_its() {
        let (name, text) = pages().unwrap().pop().unwrap();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(name, "assayd.8");
        assert!(text.contains(".TH ASSAYD 8 ") && text.contains("assayd \\- "), "{text}");
        for option in Arguments::command().get_opts().filter_map(clap::Arg::get_long) {
            let written = format!("\\-\\-{}", option.replace('-', "\\-"));
            assert!(text.contains(&written), "{written}: {text}");
        }
        for heading in ["SIGNALS", "EXIT STATUS", "ENVIRONMENT", "FILES"] {
            assert!(text.contains(heading), "{heading}");
        }
    }
}
