//! What the doctor concludes from what it saw. Pure.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::out;
use docker::version::OLDEST;
use docker::{ApiVersion, ContainerSummary, Info, VersionInfo};

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

/// A check of `doctor --json`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CheckOutput {
    /// What was looked at.
    pub name: &'static str,
    /// `ok`, `warn`, `fail` or `skip`.
    pub status: &'static str,
    /// Whether it did not fail.
    pub ok: bool,
    /// What was seen.
    pub message: String,
    /// What to do about it.
    pub remedy: Option<String>,
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

    /// As `--json` prints it.
    pub fn output(&self) -> CheckOutput {
        CheckOutput {
            name: self.name,
            status: self.status.word(),
            ok: self.status != Status::Fail,
            message: self.seen.clone(),
            remedy: self.remedy.clone(),
        }
    }
}

/// The engine's version. That its API is new enough is the ping's matter: an older one is not spoken with.
pub fn version(version: &VersionInfo) -> Check {
    let word = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let seen = format!("{} (API {})", word(&version.version), word(&version.api_version));
    match version.api_version.as_deref().and_then(ApiVersion::parse) {
        Some(found) if found >= OLDEST => Check::ok("version", seen),
        _ => Check::fail(
            "version",
            seen,
            format!("Update Docker: 20.10 (API {OLDEST}) is the oldest that assay works with."),
        ),
    }
}

/// What `info` says of limits and hardening.
pub fn info(info: &Info) -> Vec<Check> {
    let word = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let mut found = vec![Check::ok(
        "info",
        format!(
            "{}, {}, storage {}, {} CPUs, {}",
            word(&info.operating_system),
            word(&info.kernel_version),
            word(&info.driver),
            info.ncpu.unwrap_or(0),
            out::bytes(info.mem_total.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0))
        ),
    )];
    let driver = word(&info.cgroup_driver);
    let cgroup = format!("v{}, driver {driver}", info.cgroup_version.as_deref().unwrap_or("1"));
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
    for (name, there, what) in [
        ("memory", info.memory_limit, "memory"),
        ("pids", info.pids_limit, "processes"),
        ("cpu", info.cpu_cfs_quota, "CPU share"),
    ] {
        found.push(if there == Some(true) {
            Check::ok(name, format!("{what} can be limited"))
        } else {
            let remedy = match name {
                "memory" => "Turn the controller on: boot with cgroup_enable=memory; rootless: delegate it.",
                _ => "Turn the controller on in kernel or systemd (Delegate=yes for a rootless engine).",
            };
            Check::fail(name, format!("{what} cannot be limited"), remedy.into())
        });
    }
    for warning in info.warnings.iter().flatten().filter(|text| text.contains("swap")) {
        let remedy = "A program may swap beyond its memory limit: boot with swapaccount=1, or swapoff -a.";
        found.push(Check::warn("swap", warning.clone(), Some(remedy.into())));
    }
    let options = &info.security_options;
    let has = |name: &str| options.iter().any(|option| option.split(',').any(|part| part == format!("name={name}")));
    let unconfined = options.iter().any(|option| option.contains("seccomp") && option.contains("profile=unconfined"));
    found.push(match (has("seccomp"), unconfined) {
        (true, false) => Check::ok("seccomp", options.join(" ")),
        (true, true) => Check::warn(
            "seccomp",
            "there, but the engine's default profile is unconfined; sandboxes bring their own".into(),
            Some("Remove seccomp-profile from the engine's daemon.json.".into()),
        ),
        _ => Check::fail(
            "seccomp",
            format!("not among the security options ({})", options.join(" ")),
            "Programs would face the whole kernel: use a kernel and an engine built with seccomp.".into(),
        ),
    });
    found.push(match (has("userns"), has("rootless")) {
        (true, _) => Check::ok("userns", "the engine remaps users".into()),
        (_, true) => Check::ok("userns", "the engine is rootless".into()),
        _ => Check::ok("userns", "users are not remapped; programs still run as unprivileged users".into()),
    });
    found
}

/// Containers on the engine, ours among them.
pub fn containers(all: &[ContainerSummary]) -> Check {
    let ours = all.iter().filter(|one| one.labels.contains_key("assay.instance")).count();
    Check::ok("list", format!("{} containers, {ours} of them assay's", all.len()))
}

/// Whether each profile's image is there.
pub fn images(profiles: &[(String, String)], tags: &[String]) -> Check {
    let missing: Vec<&str> = profiles
        .iter()
        .filter(|(_, image)| !tags.iter().any(|tag| tag == image || tag.starts_with(&format!("assay/{image}:"))))
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

/// Who may read the key to the engine.
pub fn key_mode(path: &str, mode: u32) -> Check {
    let seen = format!("{path}: mode {mode:04o} [3.14]");
    match mode {
        mode if mode & 0o004 != 0 => Check::fail(
            "tls-key",
            format!("{seen}: everybody here is root on the engine"),
            format!("chmod 0400 {path}"),
        ),
        mode if mode & 0o070 != 0 => Check::warn("tls-key", seen, Some(format!("chmod 0400 {path}"))),
        _ => Check::ok("tls-key", seen),
    }
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
        let of = |api: &str| version(&VersionInfo { api_version: Some(api.into()), ..VersionInfo::default() }).status;
        assert_eq!((of("1.41"), of("1.52"), of("1.40"), of("")), (Status::Ok, Status::Ok, Status::Fail, Status::Fail));
    }

    #[test]
    fn missing_controllers_and_seccomp_fail() {
        let well = Info {
            memory_limit: Some(true),
            pids_limit: Some(true),
            cpu_cfs_quota: Some(true),
            security_options: vec!["name=seccomp,profile=builtin".into()],
            ..Info::default()
        };
        assert!(info(&well).iter().all(|check| check.status == Status::Ok));
        let found = info(&Info::default());
        let failed: Vec<&str> =
            found.iter().filter(|check| check.status == Status::Fail).map(|check| check.name).collect();
        assert_eq!(failed, ["memory", "pids", "cpu", "seccomp"]);
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
    fn a_key_that_others_may_read_fails() {
        let of = |mode| key_mode("k", mode).status;
        assert_eq!((of(0o644), of(0o640), of(0o400)), (Status::Fail, Status::Warn, Status::Ok));
    }

    #[test]
    fn little_disk_warns() {
        assert_eq!(disk("/", MIN_DISK - 1).status, Status::Warn);
        assert_eq!(disk("/", MIN_DISK).status, Status::Ok);
    }
}
