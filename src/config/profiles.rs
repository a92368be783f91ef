//! Profiles: a TOML file each.

use std::collections::BTreeSet;

use super::{Config, ConfigError};
use crate::model::Profile;

/// Reads every profile of the configured folder, ordered by name.
///
/// # Errors
/// A folder or file that cannot be read, a file that is not a profile, a name that stands twice or is missing.
pub fn load_profiles(config: &Config) -> Result<Vec<Profile>, ConfigError> {
    let folder = &config.profiles.dir;
    let read = |source| ConfigError::Read { path: folder.clone(), source };
    let mut profiles: Vec<Profile> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(read)? {
        let path = entry.map_err(read)?.path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).map_err(|source| ConfigError::Read { path: path.clone(), source })?;
        let parse = |message: String| ConfigError::Parse { path: path.clone(), message };
        let mut profile: Profile = toml::from_str(&text).map_err(|error| parse(error.to_string()))?;
        let run = profile.run_limits().map_err(|error| parse(format!("limits: {error}")))?;
        profile.base_compile_limits(run).map_err(|error| parse(format!("compile_limits: {error}")))?;
        if profile.run.is_empty() {
            return Err(parse("run: must name a program".to_owned()));
        }
        if profiles.iter().any(|other| other.name == profile.name) {
            return Err(parse(format!("name: another file has the profile {:?} already", profile.name)));
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
        return Err(ConfigError::Value {
            key: "profiles.only".to_owned(),
            message: format!("there is no profile {missing:?}; there are {known:?}"),
        });
    }
    if !config.profiles.only.is_empty() {
        profiles.retain(|profile| config.profiles.only.contains(&profile.name));
    }
    profiles.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(profiles)
}
