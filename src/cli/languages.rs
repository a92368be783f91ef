//! What the daemon's profiles say about languages: which endings of file names stand for each, and
//! the format of its test suites.
//!
//! A profile that says nothing, or a daemon that does not tell, has what the shipped profiles say.
//! Their files are compiled in.

use std::path::Path;

use serde_json::{Value, json};

use super::client::{ClientError, RpcClient};
use super::{CliError, out};
use package::{Languages, several};
use protocol::Profile;

/// The shipped profiles, each as its file.
const SHIPPED: &[&str] = include!(concat!(env!("OUT_DIR"), "/profiles.rs"));

/// The word in `server.hello.features` of a daemon whose `profile.list` has extensions.
const FEATURE: &str = "extensions";

/// The languages that a daemon offers.
#[derive(Debug)]
pub(super) struct OfferedLanguages {
    /// By the endings of file names.
    pub by_ending: Languages,
    /// Names of all profiles.
    pub names: Vec<String>,
    /// The rows of `profile.list`; empty from a daemon that does not tell.
    rows: Vec<Value>,
}

fn shipped() -> impl Iterator<Item = Profile> {
    SHIPPED.iter().filter_map(|text| toml::from_str(text).ok())
}

impl OfferedLanguages {
    /// Asks the daemon, if it can tell.
    ///
    /// # Errors
    /// The daemon's error response, or a broken connection.
    pub(super) async fn of(client: &mut RpcClient) -> Result<OfferedLanguages, ClientError> {
        let features = client.hello()["features"].as_array();
        match features.is_some_and(|features| features.iter().any(|feature| feature == FEATURE)) {
            true => OfferedLanguages::ask(client).await,
            false => Ok(OfferedLanguages::from_rows(Vec::new())),
        }
    }

    /// Asks the daemon, also one that tells the names only.
    ///
    /// # Errors
    /// The daemon's error response, or a broken connection.
    pub(super) async fn ask(client: &mut RpcClient) -> Result<OfferedLanguages, ClientError> {
        let reply = client.call("profile.list", json!({})).await?;
        Ok(OfferedLanguages::from_rows(out::list(&reply, "profiles").to_vec()))
    }

    fn from_rows(rows: Vec<Value>) -> OfferedLanguages {
        let texts = |value: &Value| -> Vec<String> {
            value.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
        };
        let stated: Vec<(String, Vec<String>)> =
            rows.iter().map(|row| (out::text(row, "name"), texts(&row["extensions"]))).collect();
        let names: Vec<String> = stated.iter().map(|(name, _)| name.clone()).collect();
        let is_stated = |ending: &String| stated.iter().any(|(_, endings)| endings.contains(ending));
        let rest = shipped().filter(|profile| rows.is_empty() || names.contains(&profile.name)).map(|profile| {
            let endings: Vec<String> = profile.extensions.iter().filter(|ending| !is_stated(ending)).cloned().collect();
            (profile.name, endings)
        });
        let by_ending = Languages::new(rest.chain(stated.iter().cloned()));
        OfferedLanguages { by_ending, names, rows }
    }

    /// The profile of a file by the ending of its name.
    ///
    /// # Errors
    /// Usage: no profile has it, or several have.
    pub(super) fn of_file(&self, file: &Path) -> Result<String, CliError> {
        let shown = file.display().to_string();
        let mut found = self.by_ending.of_name(file);
        if found.len() > 1 {
            // the content may tell
            found = self.by_ending.of_file(file, file);
        }
        match found.as_slice() {
            [one] => Ok(one.clone()),
            [] => Err(unknown(file)),
            all => Err(CliError::Usage(several(&shown, all))),
        }
    }

    /// The format of a profile's test suites, if one is known.
    pub(super) fn suite_format(&self, profile: &str) -> Option<String> {
        let row = self.rows.iter().find(|row| row["name"] == profile);
        let stated = row.and_then(|row| row["suite_format"].as_str()).map(str::to_owned);
        let shipped = || {
            let format = shipped().find(|shipped| shipped.name == profile)?.suite_format?;
            json!(format).as_str().map(str::to_owned)
        };
        stated.or_else(shipped)
    }
}

/// No profile has the file's ending.
fn unknown(file: &Path) -> CliError {
    let file = file.display();
    CliError::Usage(format!(
        "cannot tell the language of {file}: no profile has its ending in `extensions`; use --language (`assay \
         profiles` lists them)"
    ))
}

/// The language from `--language`; `None` if the daemon has to be asked.
///
/// # Errors
/// Usage: the file's name has no ending.
pub(super) fn stated(option: Option<&str>, file: &Path) -> Result<Option<String>, CliError> {
    match (option, file.extension()) {
        (Some(language), _) => Ok(Some(language.to_owned())),
        (None, Some(_)) => Ok(None),
        (None, None) => {
            let file = file.display();
            let message = format!("cannot tell the language of {file}: use --language; `assay profiles` lists them");
            Err(CliError::Usage(message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn language(rows: Value, file: &str) -> Result<String, String> {
        let offered = OfferedLanguages::from_rows(rows.as_array().unwrap().clone());
        offered.of_file(Path::new(file)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_daemons_profiles_say_what_an_ending_stands_for() {
        let rows = json!([
            { "name": "python", "extensions": ["py"] },
            { "name": "awk", "extensions": ["awk", "gawk"], "suite_format": "tap" },
            { "name": "ours", "extensions": ["x"] },
            { "name": "theirs", "extensions": ["x"] },
        ]);
        assert_eq!(language(rows.clone(), "a.gawk").unwrap(), "awk");
        assert!(language(rows.clone(), "a.x").unwrap_err().contains("ours and theirs"));
        assert!(language(rows.clone(), "a.cpp").unwrap_err().contains("no profile has its ending"));
        let offered = OfferedLanguages::from_rows(rows.as_array().unwrap().clone());
        assert_eq!(offered.suite_format("awk").as_deref(), Some("tap"));
        assert_eq!(offered.suite_format("python").as_deref(), Some("pytest"));
        assert_eq!(offered.suite_format("ours"), None);
    }

    #[test]
    fn what_no_profile_says_is_as_in_the_shipped_ones() {
        assert_eq!(shipped().count(), SHIPPED.len(), "a shipped profile cannot be read");
        // a daemon that does not tell, and a profile of before `extensions`
        assert_eq!(language(json!([]), "a.cc").unwrap(), "cpp");
        let old = json!([{ "name": "python" }, { "name": "pypy", "extensions": ["pypy"] }]);
        assert_eq!(language(old, "a.py").unwrap(), "python");
        let replaced = json!([{ "name": "python", "extensions": [] }, { "name": "pypy", "extensions": ["py"] }]);
        assert_eq!(language(replaced, "a.py").unwrap(), "pypy");
    }
}
