//! What a type cannot say: ranges, names, what excludes what. Pure: a configuration in, mistakes out, each with its key.

use super::model::Config;
use docker::Endpoint;
use telemetry::log;

/// Every mistake: the setting's key, what is wrong and what to write.
pub fn check(config: &Config) -> Vec<(String, String)> {
    let mut wrong = Vec::new();
    let mut say = |key: &str, message: String| wrong.push((key.to_owned(), message));
    let name = &config.instance.name;
    if !is_name(name, b"-") {
        say("instance.name", format!("{name:?} cannot stand in a label; use 1 to 32 letters, digits and hyphens"));
    }
    if config.socket_mode().is_none() {
        let mode = &config.socket.mode;
        say("socket.mode", format!("{mode:?} is no mode; use an octal one, such as \"0660\""));
    }
    let (base, count) = (config.uids.base, config.uids.count);
    if count == 0 {
        say("uids.count", "0 leaves no uid for a program; use at least 1".to_owned());
    }
    if base < 1000 {
        say("uids.base", format!("{base} is the system's; use 1000 or more, such as 52000"));
    } else if base.saturating_add(count) > 65_534 {
        let most = 65_534_u32.saturating_sub(base);
        say("uids.count", format!("{base} + {count} is above 65534; use at most {most}, or a lower uids.base"));
    }
    for (key, value) in [("queue.max", config.queue.max), ("queue.max_per_uid", config.queue.max_per_uid)] {
        if value == 0 {
            say(key, "0 admits nobody; use at least 1".to_owned());
        }
    }
    if config.queue.patience_ms == 0 {
        say("queue.patience_ms", "0 lets nobody wait for a sandbox; use at least \"1ms\"".to_owned());
    }
    if let Some(pattern) = config.images.trusted.nonsense() {
        let advice = "write registry/path, or registry/* for all below it, with the registry's host";
        say("images.trusted", format!("{pattern:?} can match nothing; {advice}"));
    }
    if let (Some(floor), Some(ceiling)) = (config.profiles.floor, config.profiles.ceiling)
        && ceiling < floor.max(1)
    {
        let message = format!("{ceiling} is below profiles.floor, {floor}; use at least {}", floor.max(1));
        say("profiles.ceiling", message);
    }
    if let Err(message) = log::filter(&config.log.level) {
        say("log.level", message);
    }
    if let Err(message) = config.http.address() {
        say("http.listen", message);
    }
    if !config.hosts.is_empty() && config.engine != super::model::EngineSettings::default() {
        say("engine", "[engine] is the one engine, [[hosts]] are several; give one kind, not both".to_owned());
    }
    for engine in config.engines() {
        let key = |setting: &str| match config.hosts.is_empty() {
            true => format!("engine.{setting}"),
            false => format!("hosts.{}.{setting}", engine.name),
        };
        if !is_name(&engine.name, b"-_.") {
            let name = &engine.name;
            say(&key("name"), format!("{name:?} is no name; use 1 to 32 letters, digits, hyphens and dots"));
        }
        if let Some(host) = &engine.host {
            if let Err(error) = Endpoint::parse(host) {
                say(&key("host"), error.to_string().trim_start_matches("use ").to_owned());
            }
            if engine.context.is_some() {
                say(&key("context"), "host is given too; give one of them, not both".to_owned());
            }
        }
        if !(0.1..=64.0).contains(&engine.cpu_overcommit) {
            let given = engine.cpu_overcommit;
            say(&key("cpu_overcommit"), format!("{given} is out of range; use a number from 0.1 to 64, such as 2.0"));
        }
        if !(1..=64).contains(&engine.max_creating) {
            let given = engine.max_creating;
            say(&key("max_creating"), format!("{given} is out of range; use a number from 1 to 64, such as 2"));
        }
    }
    wrong
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
    fn the_defaults_are_right() {
        assert_eq!(keys(|_| {}), Vec::<String>::new());
    }

    #[test]
    fn every_mistake_is_found_and_has_its_key() {
        let found = keys(|config| {
            config.instance.name = "a b".to_owned();
            config.socket.mode = "rw".to_owned();
            config.uids.base = 10;
            config.queue.max = 0;
            config.log.level = "loud".to_owned();
            config.engine.max_creating = 0;
            config.engine.cpu_overcommit = f64::NAN;
        });
        let wanted = ["instance.name", "socket.mode", "uids.base", "queue.max", "log.level"];
        assert!(wanted.iter().all(|key| found.iter().any(|other| other == key)), "{found:?}");
        assert_eq!(found.len(), 7, "{found:?}");
    }
}
