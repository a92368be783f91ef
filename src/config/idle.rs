//! Settings of the daemon that are set and have no effect beside others, or that open more than
//! their operator may know. Pure.

use super::http::Listen;
use super::model::{Config, EngineSettings};
use super::problem::SettingOrigin;
use super::schema::nearest;

/// A warning for each, with its place. A setting that has its default is not one: the shipped file
/// states them all.
pub fn settings(config: &Config, origin_of: impl Fn(&str) -> SettingOrigin) -> Vec<String> {
    let (queue, default, http) = (&config.queue, Config::default().queue, &config.http);
    let idle = [
        (
            "queue.burst_per_uid",
            queue.burst_per_uid != default.burst_per_uid && queue.max_rate_per_uid == 0.0,
            "without queue.max_rate_per_uid".to_owned(),
        ),
        (
            "queue.max_per_uid",
            queue.max_per_uid != default.max_per_uid && queue.max_per_uid > queue.max,
            format!("above queue.max, {}", queue.max),
        ),
        ("http.anonymous", http.anonymous && !http.api, "without http.api".to_owned()),
        ("http.anonymous_remote", http.anonymous_remote && !http.anonymous, "without http.anonymous".to_owned()),
        ("http.peer_uids", !http.peer_uids.is_empty() && !http.api, "without http.api".to_owned()),
        ("http.tokens", !http.tokens.is_empty() && !http.api, "without http.api".to_owned()),
        ("http.run_code_suite", http.run_code_suite && !http.api, "without http.api".to_owned()),
    ];
    let addressed = |host: &&EngineSettings| host.host.is_some() || host.context.is_some();
    let others: Vec<&str> = config.hosts.iter().filter(addressed).map(|host| host.name.as_str()).collect();
    let nameless = config.hosts.iter().filter(|host| !addressed(host));
    let misspelt = nameless.filter_map(|host| {
        let (name, near) = (&host.name, nearest(&host.name, others.iter().copied())?);
        let place = origin_of(&format!("hosts.{name}"));
        Some(format!("{place}: the host {name} has no address of its own; did you mean {near}?"))
    });
    let misspelt: Vec<String> = misspelt.collect();
    let is_set = |key: &str| origin_of(key) != SettingOrigin::Default;
    let idle = idle.into_iter().filter(|(key, is_idle, _)| *is_idle && is_set(key));
    let idle = idle.map(|(key, _, why)| format!("{}: {key} has no effect {why}", origin_of(key)));
    idle.chain(misspelt).chain(open_http(config, &origin_of)).collect()
}

/// What an operator should know of an API that other machines reach.
fn open_http(config: &Config, origin_of: impl Fn(&str) -> SettingOrigin) -> Vec<String> {
    let http = &config.http;
    let remote = match http.address() {
        Ok(Some(Listen::Tcp(address))) if http.api && !address.ip().to_canonical().is_loopback() => address,
        _ => return Vec::new(),
    };
    let mut warnings = vec![format!(
        "{}: http.listen = \"{remote}\" serves the API without TLS: tokens and code cross the network as they are; \
         listen on loopback, behind a reverse proxy with TLS",
        origin_of("http.listen")
    )];
    if http.has_only_loopback_names() {
        warnings.push(format!(
            "{}: http.hosts has only names of this machine: requests of other machines are refused; \
             add the name that they use",
            origin_of("http.listen")
        ));
    }
    warnings
}
