//! Checks that the types cannot make: ranges, names, mutual exclusion. Pure: takes a configuration,
//! returns mistakes with their keys.

use super::bounds;
use super::callbacks;
use super::http::Listen;
use super::model::{CallerRule, Config};
use super::units::Unit;
use docker::Endpoint;
use telemetry::log;

/// Uids that no caller has: that of callers whom the kernel cannot name, and -1.
const NOT_CALLERS: [CallerRule; 2] = [CallerRule::Uid(65_534), CallerRule::Uid(u32::MAX)];

/// All mistakes: the key of the setting, and a message with a valid value.
pub fn check(config: &Config) -> Vec<(String, String)> {
    let mut mistakes = Vec::new();
    let mut report = |key: &str, message: String| mistakes.push((key.to_owned(), message));
    let name = &config.instance.name;
    if !is_name(name, b"-") {
        report("instance.name", format!("{name:?} is not a valid label; use 1 to 32 letters, digits and hyphens"));
    }
    let mode = &config.socket.mode;
    match config.socket_mode() {
        None => report("socket.mode", format!("{mode:?} is not a valid mode; use an octal number, such as \"0660\"")),
        // connecting needs the permission to write
        Some(bits) if bits & 0o222 == 0 => {
            let message = "lets no caller connect, which takes the permission to write; use one such as \"0660\"";
            report("socket.mode", format!("{mode:?} {message}"));
        }
        Some(_) => {}
    }
    for (key, rules) in [("socket.submit", &config.socket.submit), ("socket.admin", &config.socket.admin)] {
        if let Some(CallerRule::Uid(uid)) = rules.iter().find(|rule| NOT_CALLERS.contains(rule)) {
            report(key, format!("{uid} is the uid of a caller that is not known, which is always refused; remove it"));
        }
    }
    let (base, count) = (config.uids.base, config.uids.count);
    if count == 0 {
        report("uids.count", "0 leaves no uid for a program; use at least 1".to_owned());
    }
    if base < 1000 {
        report("uids.base", format!("{base} is reserved for the system; use 1000 or more, such as 52000"));
    } else if base.saturating_add(count) > 65_534 {
        let most = 65_534_u32.saturating_sub(base);
        report("uids.count", format!("{base} + {count} is above 65534; use at most {most}, or a lower uids.base"));
    }
    for (key, value) in [("queue.max", config.queue.max), ("queue.max_per_uid", config.queue.max_per_uid)] {
        if value == 0 {
            report(key, "0 admits no submission; use at least 1".to_owned());
        }
    }
    let rate = config.queue.max_rate_per_uid;
    if !rate.is_finite() || rate < 0.0 || (rate > 0.0 && rate < 0.001) {
        let message = format!("{rate} is not a rate; use 0 for no limit, or at least 0.001 submissions per second");
        report("queue.max_rate_per_uid", message);
    }
    if config.queue.burst_per_uid == 0 {
        report("queue.burst_per_uid", "0 admits nothing; use at least 1".to_owned());
    }
    if config.queue.patience_ms == 0 {
        report("queue.patience_ms", "0 gives no time to wait for a sandbox; use at least \"1ms\"".to_owned());
    }
    let (least, shown) = (bounds::MIN_STORE_KEEP.as_secs(), Unit::Seconds.show(bounds::MIN_STORE_KEEP.as_secs()));
    if config.store.keep_s < least {
        let message = format!("{} is too short; use at least {shown:?}", Unit::Seconds.show(config.store.keep_s));
        report("store.keep_s", message);
    }
    let (least, shown) = (bounds::MIN_STORE_BYTES, Unit::Bytes.show(bounds::MIN_STORE_BYTES));
    if config.store.max_bytes < least {
        let message = format!("{} is too little; use at least {shown:?}", Unit::Bytes.show(config.store.max_bytes));
        report("store.max_bytes", message);
    }
    if let Some(pattern) = config.images.trusted.first_invalid() {
        let advice = "use registry/path, or registry/* for everything below it, with the host of the registry";
        report("images.trusted", format!("{pattern:?} matches no image; {advice}"));
    }
    match (config.profiles.floor, config.profiles.ceiling) {
        (_, Some(0)) => report("profiles.ceiling", "0 leaves no sandbox; use at least 1".to_owned()),
        (Some(floor), Some(ceiling)) if ceiling < floor => {
            report("profiles.ceiling", format!("{ceiling} is below profiles.floor, {floor}; use at least {floor}"));
        }
        _ => {}
    }
    if let Err(message) = log::filter(&config.log.level) {
        report("log.level", message);
    }
    match config.http.address() {
        Err(message) => report("http.listen", message),
        Ok(Some(Listen::Unix(path))) if path == config.socket.path => {
            let message = format!(
                "{} is socket.path as well; use another, such as \"unix:/run/assay/http.sock\"",
                path.display()
            );
            report("http.listen", message);
        }
        Ok(_) => {}
    }
    match (config.http.metrics_address(), config.http.address()) {
        (Err(message), _) => report("http.metrics_listen", message),
        (Ok(Some(metrics)), Ok(Some(listen))) if metrics == listen => {
            report("http.metrics_listen", "it is http.listen as well; use another address, or remove it".to_owned());
        }
        (Ok(Some(Listen::Unix(path))), _) if path == config.socket.path => {
            let message = format!("{} is socket.path as well; use another path", path.display());
            report("http.metrics_listen", message);
        }
        _ => {}
    }
    for (key, message) in config.http.mistakes() {
        report(&key, message);
    }
    for (key, message) in callbacks::mistakes(&config.http.callbacks, &config.http.callback_networks) {
        report(key, message);
    }
    if !config.hosts.is_empty() && config.engine != super::model::EngineSettings::default() {
        report("engine", "[engine] is a single engine, [[hosts]] are several; use one of the two".to_owned());
    }
    for engine in config.engines() {
        let key = |setting: &str| match config.hosts.is_empty() {
            true => format!("engine.{setting}"),
            false => format!("hosts.{}.{setting}", engine.name),
        };
        if !is_name(&engine.name, b"-_.") {
            let name = &engine.name;
            report(
                &key("name"),
                format!("{name:?} is not a valid name; use 1 to 32 letters, digits, hyphens and dots"),
            );
        }
        if let Some(host) = &engine.host {
            if let Err(error) = Endpoint::parse(host) {
                report(&key("host"), error.to_string().trim_start_matches("use ").to_owned());
            }
            if engine.context.is_some() {
                report(&key("context"), "host is set as well; use one of the two".to_owned());
            }
        }
        let texts = [
            ("context", &engine.context),
            ("runtime", &engine.runtime),
            ("apparmor_profile", &engine.apparmor_profile),
            ("tls_server_name", &engine.tls_server_name),
        ];
        for (setting, _) in texts.iter().filter(|(_, text)| text.as_deref() == Some("")) {
            report(&key(setting), "it is empty; use a name, or remove the setting".to_owned());
        }
        if !(0.1..=64.0).contains(&engine.cpu_overcommit) {
            let value = engine.cpu_overcommit;
            report(
                &key("cpu_overcommit"),
                format!("{value} is out of range; use a number from 0.1 to 64, such as 2.0"),
            );
        }
        if !(1..=64).contains(&engine.max_creating) {
            let value = engine.max_creating;
            report(&key("max_creating"), format!("{value} is out of range; use a number from 1 to 64, such as 2"));
        }
    }
    mistakes
}

fn is_name(name: &str, also: &[u8]) -> bool {
    (1..=32).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || also.contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(change: impl FnOnce(&mut Config)) -> Vec<String> {
        let mut config = Config::default();
        change(&mut config);
        check(&config).into_iter().map(|(key, _)| key).collect()
    }

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(keys(|_| {}), Vec::<String>::new());
    }

    #[test]
    fn every_mistake_is_found_with_its_key() {
        let found = keys(|config| {
            config.instance.name = "a b".to_owned();
            config.socket.mode = "rw".to_owned();
            config.uids.base = 10;
            config.queue.max = 0;
            config.log.level = "loud".to_owned();
            config.store.keep_s = 599;
            config.store.max_bytes = (16 << 20) - 1;
            config.engine.max_creating = 0;
            config.engine.cpu_overcommit = f64::NAN;
        });
        let expected = ["instance.name", "socket.mode", "uids.base", "queue.max", "log.level", "store.keep_s"];
        assert!(expected.iter().all(|key| found.iter().any(|other| other == key)), "{found:?}");
        assert_eq!(found.len(), 9, "{found:?}");
    }
}
