//! Addresses of a name, asked for once. The servers are those of /etc/resolv.conf, read each time;
//! a static program does not load the host's own resolver. /etc/hosts counts, the search list does
//! not: a name in `[http] callbacks` is complete.

use std::net::{IpAddr, SocketAddr};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;

/// Where names are looked up.
#[derive(Debug, Clone, Default)]
pub struct NameLookup {
    /// This server only; those of /etc/resolv.conf if absent.
    pub server: Option<SocketAddr>,
}

impl NameLookup {
    fn resolver(&self) -> Result<TokioResolver, NetError> {
        let mut builder = match self.server {
            None => TokioResolver::builder_tokio()?,
            Some(address) => {
                let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                    connection.port = address.port();
                    connection
                });
                let server = NameServerConfig::new(address.ip(), true, connections.into());
                let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
                TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            }
        };
        let options: &mut ResolverOpts = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        // a lookup is for one delivery
        options.cache_size = 0;
        builder.build()
    }

    /// All addresses of a name. Bounded by the time that the caller gives it.
    ///
    /// # Errors
    /// A message: no server answers, or the name has no address.
    pub async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, String> {
        let resolver = self.resolver().map_err(|error| error.to_string())?;
        let found = resolver.lookup_ip(format!("{name}.")).await.map_err(|error| error.to_string())?;
        let addresses: Vec<IpAddr> = found.iter().collect();
        if addresses.is_empty() { Err("it has no address".to_owned()) } else { Ok(addresses) }
    }
}
