//! Configuration: files, variables and flags become one effective configuration, and each value
//! knows its origin. Every error names the origin, the setting and a valid value.
//!
//! ```text
//!   structs --schema--> settings: names, kinds, defaults, docs    (model, schema)
//!   file, variable, flag --> (key, value, origin)...              (sources, value, units)
//!   all sources merged, the later wins --> Config                 (load)
//!   ranges, names, mutual exclusion --> problems with origins     (check, problem)
//!   Config and origins --> the output of --check-config           (show)
//! ```
//!
//! No setting has code of its own: a new field of a struct is a setting with its variable and its
//! flag. The environment is passed as a value, so that tests never touch that of the process. Fixed
//! bounds, which operators cannot change, are in [`bounds`].

mod arguments;
pub mod bounds;
pub mod callbacks;
mod check;
mod egress_arguments;
mod http;
mod http_host;
mod http_token;
mod idle;
mod image_folders;
mod load;
mod model;
mod problem;
mod profiles;
pub mod schema;
mod show;
pub mod sources;
#[cfg(test)]
mod tests;
mod units;
mod unread;
mod value;
pub mod variables;
#[cfg(test)]
mod warning_tests;

use std::collections::BTreeMap;
use std::ffi::OsString;

pub use arguments::Arguments;
pub use egress_arguments::EgressArguments;
pub use http::{HttpSettings, Listen};
pub use http_host::{AllowedHost, split_host};
pub use http_token::HttpToken;
pub use image_folders::ImageFolders;
pub use load::{Loaded, Origins, Sources};
pub use model::{
    CacheSettings, CallerRule, Config, DEFAULT_SOCKET, ENGINE_CLIENT_APP, EngineSettings, ImageSettings,
    InstanceSettings, IsolationSettings, LogSettings, ProfileSettings, QueueSettings, SocketSettings, StoreSettings,
    UidSettings,
};
pub use problem::{ConfigError, ConfigProblem, SettingOrigin};
pub use profiles::{LoadedProfiles, load_profiles, load_profiles_with_warnings};
pub use show::{SettingRow, json, rows, text, written};
pub use units::Unit;

/// Default path of the configuration file.
pub const DEFAULT_PATH: &str = "/etc/assay/assayd.toml";

/// Default mode of the callers' socket.
pub const DEFAULT_SOCKET_MODE: u32 = 0o660;

/// Environment variables by name.
pub type EnvVars = BTreeMap<String, String>;

/// The environment of this process, without variables that are not UTF-8. Those with a name of ours
/// are in it, with U+FFFD in place of what is not.
pub fn environment() -> EnvVars {
    let text = |(name, value): (OsString, OsString)| {
        let name = name.into_string().ok()?;
        let value = match value.into_string() {
            Err(value) if name.starts_with("ASSAY_") => value.to_string_lossy().into_owned(),
            value => value.ok()?,
        };
        Some((name, value))
    };
    std::env::vars_os().filter_map(text).collect()
}
