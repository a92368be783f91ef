//! `assay images list|build|pull|prune`. Progress is a bar on a terminal, plain lines otherwise,
//! and JSON lines on stderr with `--json`.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use clap::Subcommand;
use clap_complete::engine::ArgValueCandidates;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::client::{ClientError, RpcClient};
use super::error_output::{describe, print_error};
use super::out::{self, OutputFormat, TextStyle};
use super::table::TextTable;
use super::{CliError, completions, progress};

/// The commands below `images`.
#[derive(Debug, Subcommand)]
pub enum ImagesCommand {
    /// Show the profiles' images
    List,
    /// Build images, by default all; an image from a registry is pulled if it is missing
    Build {
        /// Profiles whose images to build
        #[arg(add = ArgValueCandidates::new(completions::profiles))]
        profiles: Vec<String>,
    },
    /// Pull images from their registry, even if they are present
    Pull {
        /// Profiles whose images come from a registry
        #[arg(required = true, add = ArgValueCandidates::new(completions::profiles))]
        profiles: Vec<String>,
    },
    /// Remove assay's own images and layers that no profile and no container needs; never others'
    Prune {
        /// Only show what would be removed
        #[arg(long)]
        dry_run: bool,
    },
}

/// Runs `assay images`.
///
/// # Errors
/// A broken connection, or an error response to `image.list`.
pub async fn images(client: &mut RpcClient, output: OutputFormat, command: ImagesCommand) -> Result<u8, CliError> {
    match command {
        ImagesCommand::List => list(client, output).await,
        ImagesCommand::Build { profiles } => make(client, output, "image.build", profiles).await,
        ImagesCommand::Pull { profiles } => make(client, output, "image.pull", profiles).await,
        ImagesCommand::Prune { dry_run } => prune(client, output, dry_run).await,
    }
}

async fn list(client: &mut RpcClient, output: OutputFormat) -> Result<u8, CliError> {
    let reply = progress::show_while(progress::DAEMON, client.call("image.list", json!({}))).await?;
    output.print(&reply, || image_table(out::list(&reply, "images")).print("no images"));
    Ok(0)
}

async fn prune(client: &mut RpcClient, output: OutputFormat, dry_run: bool) -> Result<u8, CliError> {
    let call = client.call("image.prune", json!({ "dry_run": dry_run }));
    let reply = progress::show_while("removing images", call).await?;
    let rows = out::list(&reply, "images");
    let failed = rows.iter().filter(|row| row["reason"].is_string()).count();
    output.print(&reply, || {
        let mut table = TextTable::new(&["image", "host", "size", "id", ""]);
        for row in rows {
            let tags: Vec<&str> = row["tags"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            table.styled_row([
                (out::clean(&tags.join(" ")), None),
                (out::text(row, "host"), None),
                (out::bytes_of(row, "size_bytes"), None),
                (short_id(row), Some(TextStyle::Dim)),
                (row["reason"].as_str().map(out::clean).unwrap_or_default(), Some(TextStyle::Red)),
            ]);
        }
        table.print("nothing to remove");
        match (rows.len() - failed, dry_run) {
            (0, _) => {}
            (count, true) => out::line(format_args!("{count} would be removed (sizes include what images share)")),
            (count, false) => out::line(format_args!("{count} removed (sizes include what images shared)")),
        }
    });
    Ok(u8::from(failed > 0))
}

fn image_table(images: &[Value]) -> TextTable {
    let mut table = TextTable::new(&["profile", "image", "present", "size", "id"]);
    for image in images {
        let name = if image["tag"].is_string() { out::text(image, "tag") } else { out::text(image, "image") };
        let present = if image["present"] == true { ("yes", TextStyle::Green) } else { ("no", TextStyle::Yellow) };
        table.styled_row([
            (out::text(image, "profile"), None),
            (name, None),
            (present.0.into(), Some(present.1)),
            (out::bytes_of(image, "size_bytes"), None),
            (short_id(image), Some(TextStyle::Dim)),
        ]);
    }
    table
}

fn short_id(image: &Value) -> String {
    out::text(image, "id").trim_start_matches("sha256:").chars().take(12).collect()
}

async fn make(
    client: &mut RpcClient,
    output: OutputFormat,
    method: &str,
    mut profiles: Vec<String>,
) -> Result<u8, CliError> {
    if profiles.is_empty() {
        let reply = client.call("profile.list", json!({})).await?;
        profiles = out::list(&reply, "profiles").iter().map(|profile| out::text(profile, "name")).collect();
    }
    let mut status = 0;
    for profile in profiles {
        let mut progress = ProgressDisplay::new(&profile, output);
        let params = json!({"profile": profile});
        let result = client.call_streaming(method, params, |method, params| {
            if method == "image.progress" {
                progress.update(&params);
            }
        });
        match result.await {
            Ok(result) => progress.done(&result),
            Err(error @ ClientError::Reply { .. }) => {
                status = 1;
                progress.failed(&error.into());
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(status)
}

/// The progress of one image.
struct ProgressDisplay {
    profile: String,
    output: OutputFormat,
    /// The bar; `None` with `--json` or if stderr is not a terminal.
    bar: Option<ProgressBar>,
    step: String,
    started: Instant,
}

impl ProgressDisplay {
    fn new(profile: &str, output: OutputFormat) -> ProgressDisplay {
        let bar = (!output.is_json() && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new_spinner().with_prefix(profile.to_owned());
            bar.set_style(spinner_style());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        if bar.is_none() && !output.is_json() {
            out::note(format_args!("{profile}: building"));
        }
        ProgressDisplay { profile: profile.to_owned(), output, bar, step: String::new(), started: Instant::now() }
    }

    fn update(&mut self, event: &Value) {
        if self.output.is_json() {
            out::note(event);
            return;
        }
        let step = event["step"].as_str().map(out::clean).unwrap_or_default();
        let text = event["line"].as_str().map(|text| out::clean(text.trim_end())).unwrap_or_default();
        if let Some(bar) = &self.bar {
            update_bar(bar, event, &step, &text);
            return;
        }
        if step != self.step {
            out::note(format_args!("{}: {step}", self.profile));
            self.step = step;
        }
        for text in text.lines().filter(|text| !text.trim().is_empty()) {
            out::note(format_args!("{}:   {text}", self.profile));
        }
    }

    fn done(self, result: &Value) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if self.output.is_json() {
            out::line(result);
            return;
        }
        out::line(format_args!(
            "{} {}  {} {}",
            out::styled("built", TextStyle::Green),
            self.profile,
            out::clean(&short_id(result)),
            out::styled(&out::millis(self.started.elapsed().as_secs_f64() * 1000.0), TextStyle::Dim)
        ));
    }

    fn failed(self, error: &CliError) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if self.output.is_json() {
            print_error(error, self.output);
            return;
        }
        let (sentence, remedy) = describe(error);
        out::note(format_args!("assay: {}: {}", self.profile, out::clean(&sentence)));
        if let Some(remedy) = remedy {
            out::note(format_args!("  {remedy}"));
        }
    }
}

/// Shows an event's counts, and the last line of its text after the step.
fn update_bar(bar: &ProgressBar, event: &Value, step: &str, text: &str) {
    match (event["done"].as_u64(), event["total"].as_u64()) {
        (Some(done), Some(total)) if total > 0 => {
            if bar.length() != Some(total) {
                bar.set_length(total);
                bar.set_style(bar_style(total));
            }
            bar.set_position(done);
        }
        _ => {
            bar.unset_length();
            bar.set_style(spinner_style());
        }
    }
    let tail: String = text.lines().last().unwrap_or_default().chars().take(100).collect();
    bar.set_message(if tail.is_empty() { step.to_owned() } else { format!("{step}: {tail}") });
}

fn spinner_style() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {prefix:<12} {elapsed:>4} {wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// Small totals are counts of files or steps, large ones are bytes.
fn bar_style(total: u64) -> ProgressStyle {
    let figures = if total > 10_000 { "{bytes:>10}/{total_bytes:<10}" } else { "{pos:>5}/{len:<5}" };
    ProgressStyle::with_template(&format!(
        "{{spinner}} {{prefix:<12}} {{elapsed:>4}} [{{bar:24}}] {figures} {{wide_msg}}"
    ))
    .unwrap_or_else(|_| ProgressStyle::default_bar())
    .progress_chars("=> ")
}
