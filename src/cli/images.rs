//! `assay images list|build|pull`: progress as a bar on a terminal, as plain lines otherwise, as JSON lines with `--json`.

use std::io::IsTerminal;

use clap::Subcommand;
use clap_complete::engine::ArgValueCandidates;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::client::RpcClient;
use super::complaint::{complain, sentences};
use super::out::{self, Table, Tint};
use super::{CliError, completions, progress};

/// The commands below `images`.
#[derive(Debug, Subcommand)]
pub enum ImagesCommand {
    /// Show the images that the profiles need
    List,
    /// Build images, all of them when none is named; one of a registry is pulled when it is missing
    Build {
        /// Profiles whose images to build
        #[arg(add = ArgValueCandidates::new(completions::profiles))]
        profiles: Vec<String>,
    },
    /// Ask the registry for images, also when they are there
    Pull {
        /// Profiles whose images come from a registry
        #[arg(required = true, add = ArgValueCandidates::new(completions::profiles))]
        profiles: Vec<String>,
    },
}

/// `assay images`.
///
/// # Errors
/// The daemon's.
pub async fn images(client: &mut RpcClient, json: bool, command: ImagesCommand) -> Result<u8, CliError> {
    match command {
        ImagesCommand::List => list(client, json).await,
        ImagesCommand::Build { profiles } => make(client, json, "image.build", profiles).await,
        ImagesCommand::Pull { profiles } => make(client, json, "image.pull", profiles).await,
    }
}

async fn list(client: &mut RpcClient, json: bool) -> Result<u8, CliError> {
    let reply = progress::over(progress::DAEMON, client.call("image.list", json!({}))).await?;
    if json {
        out::json(&reply);
        return Ok(0);
    }
    let mut table = Table::new(&["profile", "image", "present", "size", "id"]);
    for image in out::list(&reply, "images") {
        let present = image["present"] == true;
        let name = if image["tag"].is_string() { out::text(image, "tag") } else { out::text(image, "image") };
        table.tinted([
            (out::text(image, "profile"), None),
            (name, None),
            (if present { "yes" } else { "no" }.into(), Some(if present { Tint::Green } else { Tint::Yellow })),
            (out::bytes_of(image, "size_bytes"), None),
            (out::text(image, "id").trim_start_matches("sha256:").chars().take(12).collect(), Some(Tint::Dim)),
        ]);
    }
    table.print("no images");
    Ok(0)
}

async fn make(client: &mut RpcClient, json: bool, method: &str, mut profiles: Vec<String>) -> Result<u8, CliError> {
    if profiles.is_empty() {
        let reply = client.call("profile.list", json!({})).await?;
        profiles = out::list(&reply, "profiles").iter().map(|profile| out::text(profile, "name")).collect();
    }
    let mut failed = 0_u8;
    for profile in profiles {
        let mut progress = Progress::new(&profile, json);
        let params = json!({"profile": profile});
        let result = client.call_streaming(method, params, |method, params| {
            if method == "image.progress" {
                progress.tell(&params);
            }
        });
        match result.await {
            Ok(result) => progress.done(&result),
            Err(error @ super::client::RpcError::Reply { .. }) => {
                failed = 1;
                progress.failed(&error.into());
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(failed)
}

/// How one build is shown.
struct Progress {
    profile: String,
    json: bool,
    bar: Option<ProgressBar>,
    step: String,
    started: std::time::Instant,
}

impl Progress {
    fn new(profile: &str, json: bool) -> Progress {
        let bar = (!json && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new_spinner().with_prefix(profile.to_owned());
            bar.set_style(spinner());
            bar.enable_steady_tick(std::time::Duration::from_millis(120));
            bar
        });
        if bar.is_none() && !json {
            out::note(format_args!("{profile}: building"));
        }
        Progress { profile: profile.to_owned(), json, bar, step: String::new(), started: std::time::Instant::now() }
    }

    fn tell(&mut self, event: &Value) {
        if self.json {
            out::note(event);
            return;
        }
        let step = event["step"].as_str().map(out::clean).unwrap_or_default();
        let said = event["line"].as_str().map(|text| out::clean(text.trim_end()));
        match &self.bar {
            Some(bar) => {
                match (event["done"].as_u64(), event["total"].as_u64()) {
                    (Some(done), Some(total)) if total > 0 => {
                        if bar.length() != Some(total) {
                            bar.set_length(total);
                            bar.set_style(gauge(total));
                        }
                        bar.set_position(done);
                    }
                    _ => {
                        bar.unset_length();
                        bar.set_style(spinner());
                    }
                }
                // One line, whatever the build says.
                let text = said.unwrap_or_default();
                let tail: String = text.lines().last().unwrap_or_default().chars().take(100).collect();
                bar.set_message(if tail.is_empty() { step } else { format!("{step}: {tail}") });
            }
            None => {
                if step != self.step {
                    out::note(format_args!("{}: {step}", self.profile));
                    self.step = step;
                }
                for text in said.unwrap_or_default().lines().filter(|text| !text.trim().is_empty()) {
                    out::note(format_args!("{}:   {text}", self.profile));
                }
            }
        }
    }

    fn done(self, result: &Value) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if self.json {
            out::line(result);
            return;
        }
        let id: String = out::text(result, "id").trim_start_matches("sha256:").chars().take(12).collect();
        out::line(format_args!(
            "{} {}  {} {}",
            out::tint("built", Tint::Green),
            self.profile,
            out::clean(&id),
            out::tint(&out::millis(self.started.elapsed().as_secs_f64() * 1000.0), Tint::Dim)
        ));
    }

    fn failed(self, error: &CliError) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if self.json {
            complain(error, true);
            return;
        }
        let (sentence, remedy) = sentences(error);
        out::note(format_args!("assay: {}: {}", self.profile, out::clean(&sentence)));
        if let Some(remedy) = remedy {
            out::note(format_args!("  {remedy}"));
        }
    }
}

fn spinner() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {prefix:<12} {elapsed:>4} {wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// Small totals are counts (files, steps), large ones bytes.
fn gauge(total: u64) -> ProgressStyle {
    let figures = if total > 10_000 { "{bytes:>10}/{total_bytes:<10}" } else { "{pos:>5}/{len:<5}" };
    ProgressStyle::with_template(&format!(
        "{{spinner}} {{prefix:<12}} {{elapsed:>4}} [{{bar:24}}] {figures} {{wide_msg}}"
    ))
    .unwrap_or_else(|_| ProgressStyle::default_bar())
    .progress_chars("=> ")
}
