//! The command line of `assayd`. The manual page (`assay man`) is generated from it.

use std::path::PathBuf;

use clap::Parser;

use super::{Sources, environment};

/// Runs untrusted code submissions in Docker sandboxes that are already started.
///
/// Settings come from the configuration file, its drop-ins (FILE.d/*.toml), ASSAY_* variables and
/// flags; the later wins. docs/OPERATIONS.md lists them all.
#[derive(Debug, Parser)]
#[command(name = "assayd", version)]
pub struct Arguments {
    /// The configuration file [default: /etc/assay/assayd.toml, when it exists] [env: ASSAY_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set one setting, such as queue.max=100 or hosts.near.cpu_overcommit=1; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// The callers' socket (socket.path)
    #[arg(long, value_name = "PATH")]
    pub socket: Option<String>,
    /// The folder for everything that outlives the process (instance.state_dir)
    #[arg(long, value_name = "FOLDER")]
    pub state_dir: Option<String>,
    /// The one Docker Engine, such as unix:///var/run/docker.sock (engine.host)
    #[arg(long, value_name = "ADDRESS")]
    pub engine: Option<String>,
    /// The log level, such as debug or "info, pool=debug" (log.level)
    #[arg(long, value_name = "LEVEL")]
    pub log: Option<String>,
    /// Check all that can be known without the engine, print the effective configuration with the
    /// origin of each value, and exit; with status 1 if something cannot work
    #[arg(long)]
    pub check_config: bool,
    /// Check only whether the daemon would start, and exit; with status 78 if not
    #[arg(long, conflicts_with = "check_config")]
    pub check_start: bool,
    /// With --check-config: print it as JSON
    #[arg(long, requires = "check_config")]
    pub json: bool,
    /// Remove the sandboxes that a dead daemon left on its engines, and exit
    #[arg(long)]
    pub sweep: bool,
}

impl Arguments {
    /// The sources of the configuration.
    ///
    /// # Errors
    /// A message: a `--set` is not of the form KEY=VALUE.
    pub fn sources(&self) -> Result<Sources, String> {
        let mut flags = Vec::new();
        for set in &self.set {
            let Some((key, value)) = set.split_once('=') else {
                return Err(format!("failed to use --set {set}: use KEY=VALUE, such as --set queue.max=100"));
            };
            flags.push((format!("--set {}", key.trim()), key.trim().to_owned(), value.trim().to_owned()));
        }
        let common = [
            ("--socket", "socket.path", &self.socket),
            ("--state-dir", "instance.state_dir", &self.state_dir),
            ("--engine", "engine.host", &self.engine),
            ("--log", "log.level", &self.log),
        ];
        for (flag, key, value) in common {
            flags.extend(value.clone().map(|value| (flag.to_owned(), key.to_owned(), value)));
        }
        Ok(Sources { path: self.config.clone(), environment: environment(), flags })
    }
}
