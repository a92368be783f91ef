//! The command line of `assay-egress`. The manual page (`assay man`) is generated from it.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;

/// Delivers callbacks for assayd, the one process of assay that connects to other machines.
///
/// It reads http.callbacks, http.callback_networks and http.egress_socket of the configuration,
/// for each delivery anew; docs/OPERATIONS.md describes them.
#[derive(Debug, Parser)]
#[command(name = "assay-egress", version)]
pub struct EgressArguments {
    /// The daemon's configuration file [default: /etc/assay/assayd.toml, when it exists] [env:
    /// ASSAY_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The daemon's user, by name or uid; this process's own if absent. Root may always ask
    #[arg(long, value_name = "USER")]
    pub daemon_user: Option<String>,
    /// Ask this DNS server instead of those in /etc/resolv.conf
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub resolver: Option<SocketAddr>,
}
