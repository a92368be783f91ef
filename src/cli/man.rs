//! `assay man [DIR]`: manual pages of `assay`, each of its commands, `assayd` and `assay-egress`,
//! generated from the command-line definitions.

use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::{CliError, examples, out, outputs};
use config::{Arguments, DEFAULT_SOCKET, EgressArguments};

/// Arguments of `man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Folder for all pages; by default the page of `assay` goes to stdout
    pub dir: Option<PathBuf>,
}

/// File name and text of a page.
pub type ManPage = (String, Vec<u8>);

/// Runs `assay man`.
///
/// # Errors
/// The pages cannot be written.
pub fn man(args: &ManArgs) -> Result<u8, CliError> {
    let failed = |error: std::io::Error| CliError::Usage(format!("cannot write the manual pages: {error}"));
    let pages = pages().map_err(failed)?;
    match &args.dir {
        None => pages.first().into_iter().for_each(|(_, text)| out::stdout(text)),
        Some(dir) => write(dir, &pages).map_err(failed)?,
    }
    Ok(0)
}

fn write(dir: &Path, pages: &[ManPage]) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    pages.iter().try_for_each(|(name, text)| std::fs::write(dir.join(name), text))
}

/// All pages: `assay`, its commands, `assayd`, `assay-egress`.
///
/// # Errors
/// Never in practice: the pages are written to memory.
pub fn pages() -> std::io::Result<Vec<ManPage>> {
    let mut command = super::command();
    command.build();
    let mut pages = Vec::new();
    add_command(&command, "", &mut pages)?;
    pages.push(daemon_page()?);
    pages.push(egress_page()?);
    Ok(pages)
}

/// The sections that every page begins with, from a program's definition.
fn opening_sections(command: clap::Command, section: &str) -> std::io::Result<Vec<u8>> {
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

/// Adds sections of terms and their explanations.
fn add_sections(sections: &[ManSection], roff: &mut Roff) {
    for (heading, rows) in sections {
        roff.control("SH", [*heading]);
        for (term, text) in *rows {
            roff.control("TP", []);
            roff.text([bold(*term)]);
            roff.text([roman(*text)]);
        }
    }
}

/// The page of `assayd`, in section 8.
fn daemon_page() -> std::io::Result<ManPage> {
    let mut command = Arguments::command();
    command.build();
    let mut text = opening_sections(command, "8")?;
    let mut rest = Roff::new();
    add_sections(DAEMON_SECTIONS, &mut rest);
    rest.control("SH", ["SEE ALSO"]);
    rest.text([bold("assay"), roman("(1), "), bold("systemctl"), roman("(1), "), bold("journalctl"), roman("(1)")]);
    rest.to_writer(&mut text)?;
    Ok(("assayd.8".to_owned(), text))
}

/// The page of `assay-egress`, in section 8.
fn egress_page() -> std::io::Result<ManPage> {
    let mut command = EgressArguments::command();
    command.build();
    let mut text = opening_sections(command, "8")?;
    let mut rest = Roff::new();
    rest.control("SH", ["SEE ALSO"]);
    rest.text([bold("assayd"), roman("(8)")]);
    rest.to_writer(&mut text)?;
    Ok(("assay-egress.8".to_owned(), text))
}

fn add_command(command: &clap::Command, path: &str, pages: &mut Vec<ManPage>) -> std::io::Result<()> {
    let name = format!("assay {path}").trim().replace(' ', "-");
    // Without the text after the help: the examples have a section of their own.
    let command = command.clone().name(name.clone()).after_help("").after_long_help("");
    let mut text = opening_sections(command.clone(), "1")?;
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
    if let Some(sentence) = outputs::of(path).and_then(outputs::JsonOutput::sentence) {
        rest.control("SH", ["JSON"]);
        rest.text([roman(sentence)]);
    }
    if path.is_empty() {
        add_sections(MAIN_SECTIONS, &mut rest);
        rest.control("SH", ["SEE ALSO"]);
        rest.text([bold("assayd"), roman("(8)")]);
    } else {
        rest.control("SH", ["SEE ALSO"]);
        rest.text([bold("assay"), roman("(1)")]);
    }
    rest.to_writer(&mut text)?;
    pages.push((format!("{name}.1"), text));
    for inner in &inner {
        add_command(inner, format!("{path} {}", inner.get_name()).trim(), pages)?;
    }
    Ok(())
}

/// A heading, and terms with their explanations.
type ManSection = (&'static str, &'static [(&'static str, &'static str)]);

/// Sections of the daemon's page.
const DAEMON_SECTIONS: &[ManSection] = &[
    (
        "SIGNALS",
        &[
            ("SIGTERM, SIGINT", "Admit nothing new, finish what runs within queue.drain, then exit."),
            ("SIGHUP", "Reload the configuration: all of it, or nothing if it is not valid."),
        ],
    ),
    (
        "EXIT STATUS",
        &[
            ("0", "Ended by a signal, or --check-config, --check-start or --sweep succeeded."),
            ("1", "Failed to start, or --check-config failed; docs/OPERATIONS.md explains every such error message."),
            ("2", "The command line is not valid."),
            ("78", "The configuration cannot be used: systemd does not start it again."),
        ],
    ),
    (
        "ENVIRONMENT",
        &[
            ("ASSAY_CONFIG", "The configuration file."),
            ("ASSAY_*", "Every setting has a variable: its name in capitals, ASSAY_QUEUE_MAX for queue.max."),
            (
                "DOCKER_HOST, DOCKER_CONTEXT, DOCKER_TLS_VERIFY, DOCKER_CERT_PATH",
                "The engine, if no setting names one.",
            ),
            (
                "LISTEN_FDS, LISTEN_FDNAMES, NOTIFY_SOCKET, WATCHDOG_USEC",
                "Set by systemd: the sockets it opened (the one named http is for health checks and metrics, any other \
                 for callers), and where to send notifications.",
            ),
        ],
    ),
    (
        "FILES",
        &[
            ("/etc/assay/assayd.toml", "The configuration; drop-ins are in /etc/assay/assayd.toml.d/."),
            ("/etc/assay/profiles/", "One file per language."),
            (DEFAULT_SOCKET, "The callers' socket."),
            (
                "/var/lib/assay/",
                "State: the instance's id, compiled programs, submissions kept by a drain, build logs.",
            ),
            ("/usr/share/doc/assay/OPERATIONS.md", "All settings, a runbook for every alert, all log messages."),
        ],
    ),
];

/// Sections of the page of `assay`.
const MAIN_SECTIONS: &[ManSection] = &[
    (
        "EXIT STATUS",
        &[
            ("0", "Success."),
            ("1", "Not accepted, not healthy, or refused by the daemon."),
            ("2", "The command line, or the request made from it, is not valid."),
            ("122", "run, wait: the compile step failed."),
            ("123", "run, wait: the output limit."),
            ("124", "run, wait: a time limit."),
            (
                "125",
                "run, wait, test, judge, rejudge: a failure of the daemon or the engine, or the daemon cannot be reached.",
            ),
            ("126", "run, wait: the program could not be started."),
            ("130", "run: interrupted, and the submission cancelled."),
            ("137", "run, wait: the memory limit."),
            ("128+N", "run, wait: signal N ended the program. Any other status is the program's own."),
        ],
    ),
    ("ENVIRONMENT", &[("ASSAY_SOCKET", "The daemon's socket."), ("NO_COLOR", "No colour, unless --color=always.")]),
    (
        "FILES",
        &[
            (DEFAULT_SOCKET, "The daemon's default socket."),
            ("/etc/assay/assayd.toml", "The daemon's configuration, read by doctor."),
        ],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_with_its_examples() {
        let mut pages = pages().unwrap();
        pages.retain(|(name, _)| !name.ends_with(".8"));
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names.len(), examples::ALL.len(), "{names:?}");
        assert!(names.starts_with(&["assay.1"]) && names.contains(&"assay-images-build.1"));
        for (name, text) in &pages {
            let text = String::from_utf8_lossy(text);
            assert!(text.contains(".SH EXAMPLES") && text.contains(".SH NAME"), "{name}");
        }
    }

    #[test]
    fn the_daemons_page_is_in_section_8_and_has_every_option() {
        let page = pages().unwrap().into_iter().find(|(name, _)| name == "assayd.8").unwrap();
        let text = String::from_utf8(page.1).unwrap();
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
