//! `assay schema [NAME]`: the protocol's JSON Schema, or a part of it, and the shapes that only this command prints.

use clap::Args;
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::complaint::Complaint;
use super::doctor::DoctorOutput;
use super::judge::JudgeOutput;
use super::rejudge::RejudgeOutput;
use super::{CliError, out};
use server::rpc::schema as protocol;

/// Arguments of `schema`.
#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// A part, such as report, submission.run or submission.run.params; all of the protocol when absent
    #[arg(add = ArgValueCandidates::new(candidates))]
    pub name: Option<String>,
    /// List the names
    #[arg(long, conflicts_with = "name")]
    pub list: bool,
}

/// The shapes that only this command prints.
const OWN: [&str; 4] = ["cli.judge", "cli.rejudge", "cli.doctor", "cli.error"];

fn names() -> Vec<String> {
    protocol::names().into_iter().chain(OWN.map(str::to_owned)).collect()
}

fn candidates() -> Vec<CompletionCandidate> {
    names().into_iter().map(CompletionCandidate::new).collect()
}

/// A schema by its name.
pub fn named(name: &str) -> Option<Value> {
    let mut generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let part = match name {
        "cli.judge" => generator.subschema_for::<JudgeOutput>(),
        "cli.rejudge" => generator.subschema_for::<RejudgeOutput>(),
        "cli.doctor" => generator.subschema_for::<DoctorOutput>(),
        "cli.error" => generator.subschema_for::<Complaint>(),
        _ => return protocol::named(name),
    };
    Some(protocol::standing(part.to_value(), &Value::Object(generator.take_definitions(true))))
}

/// Prints it.
///
/// # Errors
/// No such name.
pub fn schema(json: bool, args: &SchemaArgs) -> Result<u8, CliError> {
    if args.list {
        match json {
            true => out::json(&json!(names())),
            false => names().iter().for_each(out::line),
        }
        return Ok(0);
    }
    let schema = match &args.name {
        None => protocol::document(),
        Some(name) => named(name).ok_or_else(|| {
            CliError::Usage(format!("no schema is called {name}: `assay schema --list` says which there are"))
        })?,
    };
    // for people and for files alike: a schema on one line serves nobody
    out::line(format_args!("{schema:#}"));
    Ok(0)
}
