//! Settings of the daemon that are set and have no effect beside others. Pure.

use super::model::Config;
use super::problem::SettingOrigin;

/// A warning for each, with its place. A setting that has its default is not one: the shipped file
/// states them all.
pub fn settings(config: &Config, origin_of: impl Fn(&str) -> SettingOrigin) -> Vec<String> {
    let (queue, default) = (&config.queue, Config::default().queue);
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
    ];
    let is_set = |key: &str| origin_of(key) != SettingOrigin::Default;
    let idle = idle.into_iter().filter(|(key, is_idle, _)| *is_idle && is_set(key));
    idle.map(|(key, _, why)| format!("{}: {key} has no effect {why}", origin_of(key))).collect()
}
