//! What a configuration says that has no effect, and what cannot work although the daemon would
//! start, as far as both can be known without the engine.

use std::collections::BTreeMap;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use config::{self, Config, Listen, Origins};
use docker::Endpoint;
use sandbox::image::check_image;
use telemetry::log::{self, LogTarget};

use super::assembly::{Assembly, ConfiguredEngine};

/// The longest path of a Unix socket in bytes (unix(7)).
const MAX_SOCKET_PATH: usize = 107;

/// A user of this machine whose uid sandboxed programs would have as well: limits of a uid, and
/// permissions of files, would be shared.
fn shared_uids(config: &Config, origins: &Origins) -> Option<String> {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let (base, end) = (config.uids.base, config.uids.base.saturating_add(config.uids.count));
    let (name, uid) = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, uid) = (fields.next()?, fields.nth(1)?.parse::<u32>().ok()?);
        (base..end).contains(&uid).then_some((name, uid))
    })?;
    let place = origins.place("uids.base");
    Some(format!("{place}uids.base: {base} to {} has the uid {uid} of {name}; use other uids", end.saturating_sub(1)))
}

/// Folders of images that are named and not there, where others are.
fn missing_folders(config: &Config, origins: &Origins) -> Vec<String> {
    let folders = config.images.dir.all();
    let origin = origins.of("images.dir");
    let is_meant = folders.len() > 1 && origin != config::SettingOrigin::Default;
    let missing = folders.iter().filter(|folder| is_meant && !folder.is_dir());
    missing
        .map(|folder| format!("{origin}: images.dir: {} is not there, so it is passed over", folder.display()))
        .collect()
}

/// Hosts that are one engine, which then seems to have its CPUs and memory several times.
fn shared_engines(engines: &[ConfiguredEngine]) -> Vec<String> {
    let mut by_address = BTreeMap::<String, Vec<&str>>::new();
    for engine in engines {
        by_address.entry(engine.target.endpoint.to_string()).or_default().push(&engine.config.name);
    }
    let shared = by_address.into_iter().filter(|(_, names)| names.len() > 1);
    let warning = |(address, names): (String, Vec<&str>)| {
        let names = names.join(" and ");
        format!("the hosts {names} are the same engine, {address}: its capacity counts twice; remove all but one")
    };
    shared.map(warning).collect()
}

/// Settings of engines that their addresses make useless.
fn idle_engine_settings(config: &Config, origins: &Origins, engines: &[ConfiguredEngine]) -> Vec<String> {
    let mut warnings = Vec::new();
    for engine in engines {
        let (settings, target) = (&engine.config, &engine.target);
        let section = match config.hosts.is_empty() {
            true => "engine".to_owned(),
            false => format!("hosts.{}", settings.name),
        };
        let tls = [
            ("tls_dir", settings.tls_dir.is_some()),
            ("tls_ca", settings.tls_ca.is_some()),
            ("tls_cert", settings.tls_cert.is_some()),
            ("tls_key", settings.tls_key.is_some()),
            ("tls_server_name", settings.tls_server_name.is_some()),
        ];
        let without_tls = tls.into_iter().filter(|_| target.tls.is_none());
        let plaintext = ("allow_plaintext", settings.allow_plaintext && !target.is_plaintext());
        for (setting, _) in without_tls.chain([plaintext]).filter(|(_, is_idle)| *is_idle) {
            let (key, address) = (format!("{section}.{setting}"), &target.endpoint);
            let why = if target.tls.is_some() { "which uses TLS" } else { "which has no TLS" };
            warnings.push(format!("{}: {key} has no effect with {address}, {why}", origins.of(&key)));
        }
    }
    warnings
}

/// The first thing on the way to a path that is not a folder, so that the path cannot be made.
fn obstacle(path: &Path) -> Option<&Path> {
    let nearest = path.ancestors().skip(1).find(|above| above.symlink_metadata().is_ok())?;
    (!nearest.is_dir()).then_some(nearest)
}

impl Assembly {
    /// What has no effect, or another one than it seems to have.
    pub fn all_warnings(&self) -> Vec<String> {
        let Assembly { config, origins, engines, .. } = self;
        let mut warnings = self.warnings.clone();
        warnings.extend(missing_folders(config, origins));
        warnings.extend(shared_engines(engines));
        warnings.extend(idle_engine_settings(config, origins, engines));
        warnings.extend(shared_uids(config, origins));
        warnings
    }

    /// Logs what has no effect, and what cannot work. An image that cannot be had is logged with
    /// the host that needs it.
    pub fn log_warnings(&self) {
        for warning in self.all_warnings() {
            tracing::warn!("{warning}");
        }
        if self.profiles.is_empty() {
            self.faults().iter().for_each(|fault| tracing::error!("{fault}"));
        }
    }

    /// What cannot work although the daemon would start, as far as it can be known without the
    /// engine: each with its place and the remedy.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let dir = &self.config.profiles.dir;
        if self.profiles.is_empty() {
            let place = self.origins.place("profiles.dir");
            faults.push(format!(
                "{place}profiles.dir: {} has no profile, so no submission can run; copy those that you need from \
                 config/profiles (/usr/share/assay/profiles)",
                dir.display()
            ));
        }
        for profile in self.profiles.values() {
            let Err(error) = check_image(&self.config.images.dir, &self.registries, &profile.image) else { continue };
            let remedy = error.remedy(&profile.name).map(|remedy| format!(". Remedy: {remedy}")).unwrap_or_default();
            faults.push(format!("profile {}: image: failed to {error}{remedy}", profile.name));
        }
        let floors = self.profiles.values().map(|profile| profile.pool.floor).fold(0, usize::saturating_add);
        let (floors, uids) = (floors.saturating_mul(self.engines.len()), self.config.uids.count);
        if floors > uids as usize {
            let place = self.origins.place("uids.count");
            faults.push(format!(
                "{place}uids.count: {uids} uids are too few for the {floors} sandboxes that the floors of all pools \
                 ask for; raise it, or lower pool.floor or profiles.floor"
            ));
        }
        let http = match self.config.http.address() {
            Ok(Some(Listen::Unix(path))) => Some(path),
            _ => None,
        };
        let made = [
            ("socket.path", Some(&self.config.socket.path)),
            ("instance.state_dir", Some(&self.config.instance.state_dir)),
            ("http.listen", http.as_ref()),
        ];
        for (key, path) in made.into_iter().filter_map(|(key, path)| Some((key, path?))) {
            if let Some(obstacle) = obstacle(path) {
                let (place, path) = (self.origins.place(key), path.display());
                faults.push(format!("{place}{key}: {path} cannot be made: {} is not a folder", obstacle.display()));
            }
        }
        for engine in &self.engines {
            if let Endpoint::Unix(path) = &engine.target.endpoint
                && std::fs::metadata(path).is_ok_and(|found| !found.file_type().is_socket())
            {
                let name = &engine.config.name;
                faults
                    .push(format!("host {name}: {} is not a socket; name the engine's (engine.host)", path.display()));
            }
        }
        let state = &self.config.instance.state_dir;
        if state.exists() && !state.is_dir() {
            faults.push(format!("instance.state_dir: {} is not a folder", state.display()));
        }
        let socket = &self.config.socket.path;
        if let Ok(found) = std::fs::metadata(socket)
            && !found.file_type().is_socket()
        {
            faults.push(format!("socket.path: {} exists and is not a socket", socket.display()));
        }
        if socket.as_os_str().len() > MAX_SOCKET_PATH {
            faults.push(format!("socket.path: {} is too long; use at most {MAX_SOCKET_PATH} bytes", socket.display()));
        }
        if self.config.log.target == LogTarget::Journal && !Path::new(log::JOURNAL_SOCKET).exists() {
            faults.push("log.target: this machine has no journal; use \"auto\" or \"text\"".to_owned());
        }
        faults
    }

    /// Engines that cannot answer at the moment, since their socket is not there. The daemon starts
    /// and waits for them.
    pub fn absent_engines(&self) -> Vec<String> {
        let paths = self.engines.iter().filter_map(|engine| match &engine.target.endpoint {
            Endpoint::Unix(path) if !path.exists() => Some((engine, path)),
            _ => None,
        });
        let warning = |(engine, path): (&ConfiguredEngine, &std::path::PathBuf)| {
            format!(
                "the host {} has no engine at {}: it is stopped (systemctl start docker), or engine.host is wrong",
                engine.config.name,
                path.display()
            )
        };
        paths.map(warning).collect()
    }
}
