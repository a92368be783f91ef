//! Connections outward: the process `assay-egress`, which delivers callbacks. The daemon's unit has
//! no network; this process has one, and neither the state folder nor the engine.
//!
//! ```text
//!  assayd --Unix socket: one request per connection--> server --> callback --HTTPS--> receiver
//!                                                                   |
//!                     configuration, read for each request --rules--'-- addresses, resolver, tls
//! ```
//!
//! It decides: the daemon checks URLs when it takes a submission in, so that a caller hears of a
//! mistake, but what this process lets through is what its own configuration names at that moment.
//! It keeps nothing. A delivery under which it dies is tried again by the daemon.

mod addresses;
mod callback;
mod resolver;
mod server;
#[cfg(test)]
mod tests;
mod tls;

pub use callback::{CALL_TIME, CallbackClient, ReadRules};
pub use resolver::NameLookup;
pub use server::{bind, serve};
pub use tls::connector;
