//! Checks of data that was already fetched: from an observation to a result with a remedy.

use std::collections::BTreeSet;
use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::cis::cis;
use crate::out;
use docker::version::OLDEST;
use docker::{ApiVersion, ContainerSummary, Info, VersionInfo};

/// Free disk space in bytes below which the engine may fail to build images or start containers.
pub const MIN_FREE_DISK_BYTES: u64 = 5 << 30;

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckStatus {
    Ok,
    /// Works, but worse than it could.
    Warn,
    Fail,
    /// It was not checked.
    Skip,
}

impl CheckStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            CheckStatus::Ok => "ok",
            CheckStatus::Warn => "warn",
            CheckStatus::Fail => "fail",
            CheckStatus::Skip => "skip",
        }
    }
}

/// A check in the document of `doctor --json`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CheckOutput {
    /// The check's name.
    pub name: &'static str,
    /// `ok`, `warn`, `fail` or `skip`.
    pub status: &'static str,
    /// Whether the status is not `fail`.
    pub ok: bool,
    /// What was found.
    pub message: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

/// A check with its result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoctorCheck {
    pub name: &'static str,
    pub status: CheckStatus,
    /// What was found.
    pub message: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

impl DoctorCheck {
    pub fn ok(name: &'static str, message: String) -> DoctorCheck {
        DoctorCheck { name, status: CheckStatus::Ok, message, remedy: None }
    }

    pub fn warn(name: &'static str, message: String, remedy: Option<String>) -> DoctorCheck {
        DoctorCheck { name, status: CheckStatus::Warn, message, remedy }
    }

    pub fn fail(name: &'static str, message: String, remedy: String) -> DoctorCheck {
        DoctorCheck { name, status: CheckStatus::Fail, message, remedy: Some(remedy) }
    }

    pub fn skip(name: &'static str, message: String) -> DoctorCheck {
        DoctorCheck { name, status: CheckStatus::Skip, message, remedy: None }
    }

    pub fn output(&self) -> CheckOutput {
        CheckOutput {
            name: self.name,
            status: self.status.as_str(),
            ok: self.status != CheckStatus::Fail,
            message: self.message.clone(),
            remedy: self.remedy.clone(),
        }
    }
}

/// The engine's version. An engine too old for the client already failed the ping.
pub fn version(version: &VersionInfo) -> DoctorCheck {
    let message = format!("{} (API {})", or_dash(&version.version), or_dash(&version.api_version));
    match version.api_version.as_deref().and_then(ApiVersion::parse) {
        Some(found) if found >= OLDEST => DoctorCheck::ok("version", message),
        _ => {
            DoctorCheck::fail("version", message, format!("Update Docker: assay needs 20.10 (API {OLDEST}) or later."))
        }
    }
}

fn or_dash(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or("-")
}

/// The engine's limits and hardening.
pub fn info(info: &Info) -> Vec<DoctorCheck> {
    let memory = info.mem_total.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0);
    let summary = format!(
        "{}, {}, storage {}, {} CPUs, {}",
        or_dash(&info.operating_system),
        or_dash(&info.kernel_version),
        or_dash(&info.driver),
        info.ncpu.unwrap_or(0),
        out::bytes(memory)
    );
    let mut checks = vec![DoctorCheck::ok("info", summary), cgroup(info)];
    checks.push(limit("memory", "memory", info.memory_limit));
    checks.push(limit("pids", "processes", info.pids_limit));
    checks.push(limit("cpu", "CPU share", info.cpu_cfs_quota));
    checks.extend(info.warnings.iter().flatten().filter(|text| text.contains("swap")).map(|warning| {
        let remedy = "Programs may swap beyond their memory limit: boot with swapaccount=1, or run swapoff -a.";
        DoctorCheck::warn("swap", warning.clone(), Some(remedy.into()))
    }));
    checks.push(seccomp(&info.security_options));
    checks.push(userns(&info.security_options));
    checks
}

fn cgroup(info: &Info) -> DoctorCheck {
    let driver = or_dash(&info.cgroup_driver);
    let message = format!("v{}, driver {driver}", info.cgroup_version.as_deref().unwrap_or("1"));
    if driver != "none" {
        return DoctorCheck::ok("cgroup", message);
    }
    let remedy =
        "This engine cannot limit anything. Rootless: use cgroup v2 with systemd and delegate the controllers.";
    DoctorCheck::fail("cgroup", message, remedy.into())
}

fn limit(name: &'static str, what: &str, is_supported: Option<bool>) -> DoctorCheck {
    if is_supported == Some(true) {
        return DoctorCheck::ok(name, format!("{what} can be limited"));
    }
    let remedy = match name {
        "memory" => "Enable the controller: boot with cgroup_enable=memory; rootless: delegate it.",
        _ => "Enable the controller in the kernel or in systemd (Delegate=yes for a rootless engine).",
    };
    DoctorCheck::fail(name, format!("{what} cannot be limited"), remedy.into())
}

/// Whether a security option such as `name=seccomp,profile=builtin` has this name.
fn has_option(options: &[String], name: &str) -> bool {
    options.iter().any(|option| option.split(',').any(|part| part == format!("name={name}")))
}

fn seccomp(options: &[String]) -> DoctorCheck {
    if !has_option(options, "seccomp") {
        return DoctorCheck::fail(
            "seccomp",
            format!("missing from the security options ({})", options.join(" ")),
            "Programs could use every system call: use a kernel and an engine built with seccomp.".into(),
        );
    }
    if options.iter().any(|option| option.contains("seccomp") && option.contains("profile=unconfined")) {
        return DoctorCheck::warn(
            "seccomp",
            "supported, but the engine's default profile is unconfined; sandboxes use their own".into(),
            Some("Remove seccomp-profile from the engine's daemon.json.".into()),
        );
    }
    DoctorCheck::ok("seccomp", options.join(" "))
}

fn userns(options: &[String]) -> DoctorCheck {
    let message = if has_option(options, "userns") {
        "the engine remaps users"
    } else if has_option(options, "rootless") {
        "the engine is rootless"
    } else {
        "users are not remapped; programs still run as unprivileged users"
    };
    DoctorCheck::ok("userns", message.into())
}

/// The containers on the engine.
pub fn containers(all: &[ContainerSummary]) -> DoctorCheck {
    let ours = all.iter().filter(|container| container.labels.contains_key("assay.instance")).count();
    DoctorCheck::ok("list", format!("{} containers, {ours} of them assay's", all.len()))
}

/// Whether the engine has the image of each profile of a folder, for when no daemon answers.
/// `profiles` are (name, image) pairs.
pub fn images(profiles: &[(String, String)], tags: &[String], folder: &Path) -> DoctorCheck {
    let missing: Vec<&str> = profiles
        .iter()
        .filter(|(_, image)| !tags.iter().any(|tag| tag == image || tag.starts_with(&format!("assay/{image}:"))))
        .map(|(name, _)| name.as_str())
        .collect();
    let asked = format!("those in {}, as no daemon answers", folder.display());
    if missing.is_empty() {
        return DoctorCheck::ok("images", format!("all {} profiles ({asked}) have their image", profiles.len()));
    }
    let remedy = format!("assay images build {}", missing.join(" "));
    DoctorCheck::warn("images", format!("missing for {} ({asked})", missing.join(", ")), Some(remedy))
}

/// Whether the profiles of the running daemon have their images, by its own account: the rows of
/// `image.list`, one per profile and host.
pub fn images_of_daemon(rows: &[Value]) -> DoctorCheck {
    let names = |rows: &mut dyn Iterator<Item = &Value>| -> BTreeSet<String> {
        rows.map(|row| out::text(row, "profile")).collect()
    };
    let (all, missing) = (names(&mut rows.iter()), names(&mut rows.iter().filter(|row| row["present"] != true)));
    let list = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>();
    if all.is_empty() {
        let remedy = "Copy the profiles that you need into profiles.dir, then assay reload.";
        return DoctorCheck::fail("images", "the running daemon has no profile".into(), remedy.into());
    }
    if missing.is_empty() {
        let message = format!("all profiles of the running daemon have their image: {}", list(&all).join(", "));
        return DoctorCheck::ok("images", message);
    }
    let reason = rows.iter().find_map(|row| row["reason"].as_str());
    let reason = reason.map(|reason| format!(" ({})", out::clean(reason))).unwrap_or_default();
    let (missing, all) = (list(&missing), all.len());
    let message = format!(
        "of the running daemon's {all} profiles, {} lack their image: {}{reason}",
        missing.len(),
        missing.join(", ")
    );
    DoctorCheck::warn("images", message, Some(format!("assay images build {}", missing.join(" "))))
}

/// Free space on the engine's disk.
pub fn disk(root: &str, free: u64) -> DoctorCheck {
    let message = format!("{} free below {root}", out::bytes(free));
    if free >= MIN_FREE_DISK_BYTES {
        return DoctorCheck::ok("disk", message);
    }
    let remedy = "Free some space: docker system df shows what uses it, docker system prune removes unused data.";
    DoctorCheck::warn("disk", message, Some(remedy.into()))
}

/// Permissions of the private key for the engine.
pub fn key_mode(path: &str, mode: u32) -> DoctorCheck {
    let message = format!("{path}: mode {mode:04o} {}", cis(&["3.14"]));
    let remedy = format!("chmod 0400 {path}");
    if mode & 0o004 != 0 {
        DoctorCheck::fail("tls-key", format!("{message}: every local user can act as root on the engine"), remedy)
    } else if mode & 0o070 != 0 {
        DoctorCheck::warn("tls-key", message, Some(remedy))
    } else {
        DoctorCheck::ok("tls-key", message)
    }
}

/// The daemon's `daemon.health`.
pub fn daemon(health: &Value) -> DoctorCheck {
    let status = out::text(health, "status");
    let problems: Vec<&str> = out::list(health, "checks")
        .iter()
        .filter(|check| check["ok"] == false)
        .filter_map(|check| check["message"].as_str())
        .collect();
    let message = if problems.is_empty() { status.clone() } else { format!("{status}: {}", problems.join("; ")) };
    let remedy = "Run assay health for details.".to_owned();
    match status.as_str() {
        "healthy" => DoctorCheck::ok("daemon", message),
        "degraded" => DoctorCheck::warn("daemon", message, Some(remedy)),
        _ => DoctorCheck::fail("daemon", message, remedy),
    }
}

/// Whether the uids of sandboxed programs are free: limits on a uid's processes, and file
/// permissions, must not be shared with a real user.
pub fn uids(passwd: &str, subuid: &str, base: u32, count: u32) -> DoctorCheck {
    let (base, end) = (u64::from(base), u64::from(base) + u64::from(count));
    let range = format!("{base} to {}", end.saturating_sub(1));
    let remedy = "Choose another range: [uids] base in assayd.toml, or ASSAY_UID_BASE.";
    let taken = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, uid) = (fields.next()?, fields.nth(1)?.parse::<u64>().ok()?);
        (base..end).contains(&uid).then(|| format!("{uid} belongs to {name}"))
    });
    if let Some(taken) = taken {
        return DoctorCheck::fail("uids", format!("{range}: {taken}"), remedy.into());
    }
    if base == 0 || end > 65536 {
        return DoctorCheck::fail("uids", format!("{range} is not within 1 to 65535"), remedy.into());
    }
    let overlap = subuid.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let (first, size) = (fields.next()?.parse::<u64>().ok()?, fields.next()?.trim().parse::<u64>().ok()?);
        (first < end && base < first.saturating_add(size)).then_some(name)
    });
    match overlap {
        Some(name) => {
            let message = format!("{range} overlaps the subordinate uids of {name}");
            DoctorCheck::warn("uids", message, Some(remedy.into()))
        }
        None => DoctorCheck::ok("uids", format!("{range} is not used by any user")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_engine_older_than_20_10_fails() {
        let status =
            |api: &str| version(&VersionInfo { api_version: Some(api.into()), ..VersionInfo::default() }).status;
        assert_eq!(
            (status("1.41"), status("1.52"), status("1.40"), status("")),
            (CheckStatus::Ok, CheckStatus::Ok, CheckStatus::Fail, CheckStatus::Fail)
        );
    }

    #[test]
    fn missing_controllers_and_seccomp_fail() {
        let complete = Info {
            memory_limit: Some(true),
            pids_limit: Some(true),
            cpu_cfs_quota: Some(true),
            security_options: vec!["name=seccomp,profile=builtin".into()],
            ..Info::default()
        };
        assert!(info(&complete).iter().all(|check| check.status == CheckStatus::Ok));
        let checks = info(&Info::default());
        let failed: Vec<&str> =
            checks.iter().filter(|check| check.status == CheckStatus::Fail).map(|check| check.name).collect();
        assert_eq!(failed, ["memory", "pids", "cpu", "seccomp"]);
    }

    #[test]
    fn uids_of_users_fail_and_subordinate_uids_warn() {
        let passwd = "root:x:0:0::/root:/bin/sh\nann:x:52010:52010::/home/ann:/bin/sh\n";
        assert_eq!(uids(passwd, "", 52000, 1024).status, CheckStatus::Fail);
        assert_eq!(uids(passwd, "", 53000, 1024).status, CheckStatus::Ok);
        assert_eq!(uids("", "ann:50000:65536\n", 52000, 1024).status, CheckStatus::Warn);
        assert_eq!(uids("", "ann:100000:65536\n", 52000, 1024).status, CheckStatus::Ok);
        assert_eq!(uids("", "", 65000, 1024).status, CheckStatus::Fail);
    }

    #[test]
    fn missing_images_are_named_with_the_command_that_builds_them() {
        let profiles = [("python".to_owned(), "python".to_owned()), ("c".to_owned(), "cc".to_owned())];
        let check = images(&profiles, &["assay/python:abc".to_owned()], Path::new("/p"));
        assert_eq!(check.remedy.as_deref(), Some("assay images build c"));
        assert!(check.message.contains("those in /p"), "{}", check.message);
    }

    #[test]
    fn profiles_of_the_running_daemon_without_an_image_are_named() {
        let row = |profile: &str, present: bool| json!({ "profile": profile, "host": "local", "present": present });
        let good = images_of_daemon(&[row("a", true), row("b", true)]);
        assert_eq!((good.status, good.message.ends_with(": a, b")), (CheckStatus::Ok, true), "{}", good.message);
        let short = images_of_daemon(&[row("a", true), row("b", true), row("b", false)]);
        assert_eq!((short.status, short.remedy.as_deref()), (CheckStatus::Warn, Some("assay images build b")));
        assert_eq!(images_of_daemon(&[]).status, CheckStatus::Fail);
    }

    #[test]
    fn a_key_that_others_can_read_fails() {
        let status = |mode| key_mode("k", mode).status;
        assert_eq!(
            (status(0o644), status(0o640), status(0o400)),
            (CheckStatus::Fail, CheckStatus::Warn, CheckStatus::Ok)
        );
    }

    #[test]
    fn little_disk_warns() {
        assert_eq!(disk("/", MIN_FREE_DISK_BYTES - 1).status, CheckStatus::Warn);
        assert_eq!(disk("/", MIN_FREE_DISK_BYTES).status, CheckStatus::Ok);
    }
}
