//! Loads profiles, one TOML file each, with the same units and errors as the configuration.

use std::collections::BTreeSet;
use std::path::Path;

use super::load::{MergedSources, Origins};
use super::problem::{ConfigError, SettingOrigin};
use super::schema::{self, nearest};
use super::units::Unit;
use super::{Config, EnvVars, sources};
use protocol::Profile;
use protocol::limits::LimitError;
use protocol::prewarm::MAX_PREWARMED;

/// Reads the profiles of the configured folder, ordered by name.
///
/// # Errors
/// A folder or file cannot be read, a file is not a valid profile, or a name is used twice or
/// unknown.
pub fn load_profiles(config: &Config, origins: &Origins) -> Result<Vec<Profile>, ConfigError> {
    let folder = &config.profiles.dir;
    let read = |error: std::io::Error| {
        let message = format!(
            "{} cannot be read: {error}; use a folder with one TOML file per profile (config/profiles has the shipped ones)",
            folder.display()
        );
        ConfigError::one(origins.of("profiles.dir"), "profiles.dir", message)
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(read)? {
        let path = entry.map_err(read)?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
    }
    paths.sort();
    let mut profiles: Vec<Profile> = Vec::new();
    for path in paths {
        let mut profile = load_profile(&path)?;
        if profiles.iter().any(|other| other.name == profile.name) {
            let message =
                format!("another file already has the profile {:?}; give this one another name", profile.name);
            return Err(ConfigError::one(SettingOrigin::File { file: path, line: 0 }, "name", message));
        }
        if let Some(floor) = config.profiles.floor {
            profile.pool.floor = floor;
        }
        if let Some(ceiling) = config.profiles.ceiling {
            profile.pool.ceiling = ceiling;
        }
        profile.pool.ceiling = profile.pool.ceiling.max(profile.pool.floor).max(1);
        profiles.push(profile);
    }
    let known: BTreeSet<&str> = profiles.iter().map(|profile| profile.name.as_str()).collect();
    if let Some(missing) = config.profiles.only.iter().find(|name| !known.contains(name.as_str())) {
        let near = nearest(missing, known.iter().copied());
        let near = near.map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
        let all = known.iter().copied().collect::<Vec<_>>().join(", ");
        let message = format!("there is no profile {missing:?} in {}{near} (the profiles are {all})", folder.display());
        return Err(ConfigError::one(origins.of("profiles.only"), "profiles.only", message));
    }
    if !config.profiles.only.is_empty() {
        profiles.retain(|profile| config.profiles.only.contains(&profile.name));
    }
    profiles.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(profiles)
}

fn load_profile(path: &Path) -> Result<Profile, ConfigError> {
    let mut merged = MergedSources::default();
    merged.add(sources::file(path, schema::profile(), &EnvVars::new())?);
    let whole = SettingOrigin::File { file: path.to_owned(), line: 0 };
    let (profile, origins, _): (Profile, _, _) = merged.into(&whole)?;
    let origin = |key: &str| match origins.of(key) {
        SettingOrigin::Default => whole.clone(),
        origin => origin,
    };
    let limit = |section: &str, error: LimitError| {
        let key = format!("{section}.{}", error.field);
        let shown = |number: &str| match (Unit::of(error.field), number.parse()) {
            (Some((unit, _)), Ok(number)) => format!("{:?}", unit.show(number)),
            _ => number.to_owned(),
        };
        let (given, low, high) = (shown(&error.requested), shown(&error.low), shown(&error.high));
        let message = format!("{given} is out of range; use {low} to {high}");
        ConfigError::one(origin(&key), &key, message)
    };
    let run = profile.run_limits().map_err(|error| limit("limits", error))?;
    profile.base_compile_limits(run).map_err(|error| limit("compile_limits", error))?;
    if profile.run.is_empty() {
        let message = "it is empty; use a command, such as [\"python3\", \"{entry}\"]";
        return Err(ConfigError::one(origin("run"), "run", message));
    }
    let (all, forks) = (profile.prewarm.len(), profile.prewarm.iter().filter(|prewarm| prewarm.fork).count());
    let too_many = match (all > MAX_PREWARMED, forks > 1) {
        (true, _) => Some(format!("{all} runtimes are to wait; use at most {MAX_PREWARMED}")),
        (_, true) => Some(format!("{forks} have fork = true; at most one may")),
        _ => None,
    };
    match too_many {
        Some(message) => Err(ConfigError::one(origin("prewarm"), "prewarm", message)),
        None => Ok(profile),
    }
}
