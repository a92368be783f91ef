//! `assay schema [NAME]`: the JSON Schema of the protocol or a part of it, and of documents that
//! only this program prints.

use clap::Args;
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::doctor::DoctorOutput;
use super::error_output::ErrorOutput;
use super::judge::JudgeOutput;
use super::out::OutputFormat;
use super::rejudge::RejudgeOutput;
use super::{CliError, out};
use protocol::schema;

/// Arguments of `schema`.
#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// A part, such as report, submission.run or submission.run.params; by default the whole
    /// protocol
    #[arg(add = ArgValueCandidates::new(candidates))]
    pub name: Option<String>,
    /// List the names
    #[arg(long, conflicts_with = "name")]
    pub list: bool,
}

/// Documents that only this program prints.
const CLI_SCHEMAS: [&str; 4] = ["cli.judge", "cli.rejudge", "cli.doctor", "cli.error"];

fn names() -> Vec<String> {
    schema::names().into_iter().chain(CLI_SCHEMAS.map(str::to_owned)).collect()
}

fn candidates() -> Vec<CompletionCandidate> {
    names().into_iter().map(CompletionCandidate::new).collect()
}

/// The schema of that name.
pub fn named(name: &str) -> Option<Value> {
    let mut generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let part = match name {
        "cli.judge" => generator.subschema_for::<JudgeOutput>(),
        "cli.rejudge" => generator.subschema_for::<RejudgeOutput>(),
        "cli.doctor" => generator.subschema_for::<DoctorOutput>(),
        "cli.error" => generator.subschema_for::<ErrorOutput>(),
        _ => return schema::named(name),
    };
    Some(schema::self_contained(part.to_value(), &Value::Object(generator.take_definitions(true))))
}

/// Runs `assay schema`.
///
/// # Errors
/// Usage: no schema has that name.
pub fn schema(output: OutputFormat, args: &SchemaArgs) -> Result<u8, CliError> {
    if args.list {
        output.print(&names(), || names().iter().for_each(out::line));
        return Ok(0);
    }
    let schema = match &args.name {
        None => schema::document(),
        Some(name) => named(name)
            .ok_or_else(|| CliError::Usage(format!("no schema is called {name}; `assay schema --list` lists them")))?,
    };
    // Indented in a pipe too: a schema on one line is unreadable.
    out::line(format_args!("{schema:#}"));
    Ok(0)
}
