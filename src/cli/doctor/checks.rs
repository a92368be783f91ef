//! What the doctor concludes from what it saw. Pure.

use serde_json::{Value, json};

use crate::cli::out;

/// Engine 20.10: the oldest that is tried.
pub const MIN_API: (u32, u32) = (1, 41);
/// Below this the engine may fail to build images or to start containers.
pub const MIN_DISK: u64 = 5 << 30;

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Well.
    Ok,
    /// It works, with less.
    Warn,
    /// It does not work.
    Fail,
    /// It could not be looked at.
    Skip,
}

impl Status {
    /// As a word.
    pub fn word(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Warn => "warn",
            Status::Fail => "fail",
            Status::Skip => "skip",
        }
    }
}

/// One check's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Its name.
    pub name: &'static str,
    /// How it went.
    pub status: Status,
    /// What was seen.
    pub seen: String,
    /// What to do.
    pub remedy: Option<String>,
}

impl Check {
    /// Well.
    pub fn ok(name: &'static str, seen: String) -> Check {
        Check { name, status: Status::Ok, seen, remedy: None }
    }

    /// Works, with less.
    pub fn warn(name: &'static str, seen: String, remedy: Option<String>) -> Check {
        Check { name, status: Status::Warn, seen, remedy }
    }

    /// Does not work.
    pub fn fail(name: &'static str, seen: String, remedy: String) -> Check {
        Check { name, status: Status::Fail, seen, remedy: Some(remedy) }
    }

    /// Not looked at.
    pub fn skip(name: &'static str, seen: String) -> Check {
        Check { name, status: Status::Skip, seen, remedy: None }
    }

    /// As JSON.
    pub fn to_json(&self) -> Value {
        json!({"name": self.name, "status": self.status.word(), "ok": self.status != Status::Fail,
            "message": self.seen, "remedy": self.remedy})
    }
}

/// The engine's version, and whether its API is new enough.
pub fn version(version: &Value, ping_api: Option<&str>) -> Check {
    let api = version["ApiVersion"].as_str().or(ping_api).unwrap_or_default();
    let seen = format!("{} (API {api})", out::text(version, "Version"));
    let parsed = api.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    let update = "Update Docker: Engine 20.10 (API 1.41) is the oldest that assay works with.";
    match parsed {
        Some(found) if found >= MIN_API => Check::ok("version", seen),
        Some(_) => Check::fail("version", seen, update.into()),
        None => Check::fail("version", format!("{seen}: no version that can be read"), update.into()),
    }
}

/// What `info` says of limits and hardening.
pub fn info(info: &Value) -> Vec<Check> {
    let mut found = vec![Check::ok(
        "info",
        format!(
            "{}, {} {}, storage {}, {} CPUs, {}",
            out::text(info, "OperatingSystem"),
            out::text(info, "KernelVersion"),
            out::text(info, "Architecture"),
            out::text(info, "Driver"),
            out::text(info, "NCPU"),
            out::bytes_of(info, "MemTotal")
        ),
    )];
    let driver = out::text(info, "CgroupDriver");
    let cgroup = format!("v{}, driver {driver}", info["CgroupVersion"].as_str().unwrap_or("1"));
    found.push(if driver == "none" {
        Check::fail(
            "cgroup",
            cgroup,
            "This engine cannot limit anything. Rootless: use cgroup v2 with systemd and delegate the controllers."
                .into(),
        )
    } else {
        Check::ok("cgroup", cgroup)
    });
    for (name, key, what) in
        [("memory", "MemoryLimit", "memory"), ("pids", "PidsLimit", "processes"), ("cpu", "CpuCfsQuota", "CPU share")]
    {
        found.push(if info[key] == true {
            Check::ok(name, format!("{what} can be limited"))
        } else {
            let remedy = match name {
                "memory" => "Turn the controller on: boot with cgroup_enable=memory; rootless: delegate it.",
                _ => "Turn the controller on in kernel or systemd (Delegate=yes for a rootless engine).",
            };
            Check::fail(name, format!("{what} cannot be limited"), remedy.into())
        });
    }
    if info["SwapLimit"] == false {
        found.push(Check::warn(
            "swap",
            "swap cannot be limited: a program may swap beyond its memory limit".into(),
            Some("Boot with swapaccount=1, or turn swap off: swapoff -a.".into()),
        ));
    }
    let options: Vec<&str> = out::list(info, "SecurityOptions").iter().filter_map(Value::as_str).collect();
    let has = |name: &str| options.iter().any(|option| option.split(',').any(|part| part == format!("name={name}")));
    found.push(if has("seccomp") {
        Check::ok("seccomp", options.join(" "))
    } else {
        Check::fail(
            "seccomp",
            format!("not among the security options ({})", options.join(" ")),
            "Programs would face the whole kernel: use a kernel and an engine built with seccomp.".into(),
        )
    });
    found.push(match (has("userns"), has("rootless")) {
        (true, _) => Check::ok("userns", "the engine remaps users".into()),
        (_, true) => Check::ok("userns", "the engine is rootless".into()),
        _ => Check::ok("userns", "users are not remapped; programs still run as unprivileged users".into()),
    });
    found
}

/// The tags on the engine.
pub fn tags(images: &Value) -> Vec<String> {
    let images = images.as_array().map_or(&[][..], Vec::as_slice);
    images.iter().flat_map(|image| out::list(image, "RepoTags")).filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The error inside a pull's answer: 200 and then JSON lines, of which one may carry `error`.
pub fn pull_error(body: &Value) -> Option<String> {
    let in_object = |value: &Value| value["error"].as_str().map(|text| text.chars().take(200).collect());
    match body {
        Value::String(lines) => {
            lines.lines().filter_map(|line| serde_json::from_str(line).ok()).find_map(|v: Value| in_object(&v))
        }
        value => in_object(value),
    }
}

/// Containers on the engine, ours among them.
pub fn containers(containers: &Value) -> Check {
    let all = containers.as_array().map_or(&[][..], Vec::as_slice);
    let ours = all.iter().filter(|one| one["Labels"]["assay.instance"].is_string()).count();
    Check::ok("list", format!("{} containers, {ours} of them assay's", all.len()))
}

/// Whether each profile's image is there.
pub fn images(profiles: &[(String, String)], tags: &[String]) -> Check {
    if profiles.is_empty() {
        let ours = tags.iter().filter(|tag| tag.starts_with("assay/")).count();
        return Check::skip(
            "images",
            format!("no profiles found here (--profiles-dir); {ours} assay/ tags on the engine"),
        );
    }
    let missing: Vec<&str> = profiles
        .iter()
        .filter(|(_, image)| !tags.iter().any(|tag| tag.starts_with(&format!("assay/{image}:"))))
        .map(|(name, _)| name.as_str())
        .collect();
    if missing.is_empty() {
        return Check::ok("images", format!("those of all {} profiles are there", profiles.len()));
    }
    let remedy = format!("assay images build {}", missing.join(" "));
    Check::warn("images", format!("missing for {}", missing.join(", ")), Some(remedy))
}

/// Room on the engine's disk.
pub fn disk(root: &str, free: u64) -> Check {
    let seen = format!("{} free below {root}", out::bytes(free));
    if free >= MIN_DISK {
        return Check::ok("disk", seen);
    }
    Check::warn(
        "disk",
        seen,
        Some("Make room: docker system df says what takes it, docker system prune gives it back.".into()),
    )
}

/// What the daemon says of itself.
pub fn daemon(health: &Value) -> Check {
    let word = out::text(health, "status");
    let trouble: Vec<&str> = out::list(health, "checks")
        .iter()
        .filter(|check| check["ok"] == false)
        .filter_map(|check| check["message"].as_str())
        .collect();
    let seen = if trouble.is_empty() { word.clone() } else { format!("{word}: {}", trouble.join("; ")) };
    match word.as_str() {
        "healthy" => Check::ok("daemon", seen),
        "degraded" => Check::warn("daemon", seen, Some("assay health says more".into())),
        _ => Check::fail("daemon", seen, "assay health says more".into()),
    }
}

/// Whether the uids that programs run as belong to nobody: a user's own process count and files must not mix with theirs.
pub fn uids(passwd: &str, subuid: &str, base: u32, count: u32) -> Check {
    let end = u64::from(base) + u64::from(count);
    let last = end.saturating_sub(1);
    let elsewhere = "Choose another range: [uids] base in assayd.toml, or ASSAY_UID_BASE.";
    let taken = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, uid) = (fields.next()?, fields.nth(1)?.parse::<u64>().ok()?);
        (uid >= u64::from(base) && uid < end).then(|| format!("{uid} is {name}'s"))
    });
    if let Some(taken) = taken {
        return Check::fail("uids", format!("{base} to {last}: {taken}"), elsewhere.into());
    }
    if base == 0 || end > 65536 {
        return Check::fail("uids", format!("{base} to {last} is not within 1 to 65535"), elsewhere.into());
    }
    let overlap = subuid.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, first, many) =
            (fields.next()?, fields.next()?.parse::<u64>().ok()?, fields.next()?.trim().parse::<u64>().ok()?);
        (first < end && u64::from(base) < first.saturating_add(many)).then(|| name.to_owned())
    });
    match overlap {
        Some(name) => Check::warn(
            "uids",
            format!("{base} to {last} overlap the subordinate uids of {name}"),
            Some(elsewhere.into()),
        ),
        None => Check::ok("uids", format!("{base} to {last} belong to nobody")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_older_than_20_10_fails() {
        assert_eq!(version(&json!({"Version": "20.10.24", "ApiVersion": "1.41"}), None).status, Status::Ok);
        assert_eq!(version(&json!({"Version": "19.03", "ApiVersion": "1.40"}), None).status, Status::Fail);
        assert_eq!(version(&Value::Null, Some("1.47")).status, Status::Ok);
        assert_eq!(version(&Value::Null, None).status, Status::Fail);
    }

    #[test]
    fn missing_controllers_and_seccomp_fail() {
        let well = json!({"MemoryLimit": true, "PidsLimit": true, "CpuCfsQuota": true, "CgroupVersion": "2",
            "SecurityOptions": ["name=seccomp,profile=builtin"]});
        assert!(info(&well).iter().all(|check| check.status == Status::Ok));
        let failed: Vec<&str> =
            info(&json!({})).into_iter().filter(|check| check.status == Status::Fail).map(|check| check.name).collect();
        assert_eq!(failed, ["memory", "pids", "cpu", "seccomp"]);
    }

    #[test]
    fn a_pull_that_fails_inside_200_is_seen() {
        let lines = json!("{\"status\":\"Pulling\"}\n{\"error\":\"no route\"}\n");
        assert_eq!(pull_error(&lines).as_deref(), Some("no route"));
        assert_eq!(pull_error(&json!({"error": "x"})).as_deref(), Some("x"));
        assert_eq!(pull_error(&json!("{\"status\":\"done\"}\n")), None);
    }

    #[test]
    fn uids_of_real_users_fail_and_subordinate_ones_warn() {
        let passwd = "root:x:0:0::/root:/bin/sh\nann:x:52010:52010::/home/ann:/bin/sh\n";
        assert_eq!(uids(passwd, "", 52000, 1024).status, Status::Fail);
        assert_eq!(uids(passwd, "", 53000, 1024).status, Status::Ok);
        assert_eq!(uids("", "ann:50000:65536\n", 52000, 1024).status, Status::Warn);
        assert_eq!(uids("", "ann:100000:65536\n", 52000, 1024).status, Status::Ok);
        assert_eq!(uids("", "", 65000, 1024).status, Status::Fail);
    }

    #[test]
    fn missing_images_are_named_with_the_command_that_builds_them() {
        let profiles = [("python".to_owned(), "python".to_owned()), ("c".to_owned(), "cc".to_owned())];
        let check = images(&profiles, &["assay/python:abc".to_owned()]);
        assert_eq!(check.remedy.as_deref(), Some("assay images build c"));
    }

    #[test]
    fn little_disk_warns() {
        assert_eq!(disk("/", MIN_DISK - 1).status, Status::Warn);
        assert_eq!(disk("/", MIN_DISK).status, Status::Ok);
    }
}
