//! Configuration: what files, variables and flags say becomes one effective configuration, and each of its values knows where it
//! comes from. Every error names where it stands, the setting, and what to write instead.
//!
//! ```text
//!   the structs --schema--> which settings there are: names, kinds, defaults, comments     (model, schema)
//!   a file, a variable, a flag --> (key, value, origin)...                                 (sources, value, units)
//!   all of them joined, the later wins --> Config                                          (load)
//!   ranges, names, what excludes what --> mistakes with their origins                      (check, problem)
//!   Config and origins --> what --check-config prints                                      (show)
//! ```
//!
//! There is no line of code per setting: a new field of a struct is a setting, with its variable and its flag. The
//! environment comes in as a value, so that tests never touch the process's. Fixed bounds that are not for operators to
//! change stand in [`bounds`].

mod arguments;
pub mod bounds;
mod check;
mod http;
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
mod value;

use std::collections::BTreeMap;
use std::ffi::OsString;

pub use arguments::Arguments;
pub use http::{HttpSettings, Listen};
pub use load::{Loaded, Origins, Sources};
pub use model::{
    CacheSettings, CallerRule, Config, DEFAULT_SOCKET, EngineSettings, ImageSettings, InstanceSettings,
    IsolationSettings, LogSettings, ProfileSettings, QueueSettings, SocketSettings, UidSettings,
};
pub use problem::{ConfigError, ConfigProblem, SettingOrigin};
pub use profiles::load_profiles;
pub use show::{SettingRow, json, rows, text, written};
pub use units::Unit;

/// Default path of the configuration file.
pub const DEFAULT_PATH: &str = "/etc/assay/assayd.toml";

/// Default mode of the callers' socket.
pub const DEFAULT_SOCKET_MODE: u32 = 0o660;

/// The environment as a value.
pub type EnvVars = BTreeMap<String, String>;

/// The process's environment; what is no text in it is none of ours.
pub fn environment() -> EnvVars {
    let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    std::env::vars_os().filter_map(text).collect()
}
