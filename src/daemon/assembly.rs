//! Resolves a configuration into clients, profiles, roles and hosts. Start and reload share this,
//! so a reload finds every mistake before it changes anything.

use std::collections::BTreeMap;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::Notify;

use config::{self, Config, EnvVars, Loaded, Origins, load_profiles_with_warnings};
use docker::{self, Client, EngineTarget};
use judge::cache::Cache;
use protocol::Profile;
use sandbox::host::{EngineCallMetrics, Host, HostOptions};
use sandbox::image::{Registries, check_image};
use sandbox::lifecycle::Slots;
use server::rpc::{LiveSettings, Roles};
use telemetry::log::{self, LogTarget};

/// An engine of the configuration with its client.
#[derive(Debug)]
pub struct ConfiguredEngine {
    pub config: config::EngineSettings,
    pub target: EngineTarget,
    pub client: Client,
    /// Latency and errors of the client's calls.
    pub calls: Arc<EngineCallMetrics>,
}

/// A resolved configuration.
#[derive(Debug)]
pub struct Assembly {
    pub config: Config,
    pub origins: Origins,
    /// Profiles by name.
    pub profiles: BTreeMap<String, Arc<Profile>>,
    pub roles: Arc<Roles>,
    pub engines: Vec<ConfiguredEngine>,
    /// What the files say and has no effect.
    pub warnings: Vec<String>,
    init: Vec<u8>,
    registries: Registries,
}

/// The engines that the configuration and the environment name, each with a client.
///
/// # Errors
/// A message with the host's name, if there are several, and the origin of the setting.
pub fn engines(config: &Config, origins: &Origins, environment: &EnvVars) -> Result<Vec<ConfiguredEngine>, String> {
    let several = config.engines().len() > 1;
    let open = |engine: &config::EngineSettings| {
        let found = engine.target(environment).and_then(|target| Ok((Client::open(&target)?, target)));
        let (client, target) = found.map_err(|error| {
            let (prefix, key) = match several {
                true => (format!("host {}: ", engine.name), format!("hosts.{}", engine.name)),
                false => (String::new(), "engine".to_owned()),
            };
            let origin = match [format!("{key}.host"), key].map(|key| origins.of(&key)) {
                [config::SettingOrigin::Default, config::SettingOrigin::Default] => String::new(),
                [config::SettingOrigin::Default, origin] | [origin, _] => format!(" (set by {origin})"),
            };
            format!("{prefix}failed to {error}{origin}")
        })?;
        let calls = Arc::<EngineCallMetrics>::default();
        Ok(ConfiguredEngine { config: engine.clone(), target, client: client.with_observer(calls.clone()), calls })
    };
    config.engines().iter().map(open).collect()
}

/// The longest path of a Unix socket in bytes (unix(7)).
const MAX_SOCKET_PATH: usize = 107;

/// The first bytes of a program.
const ELF: &[u8] = b"\x7fELF";

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
    let origin = origins.of("uids.base");
    Some(format!(
        "{origin}: uids.base: {base} to {} has the uid {uid} of {name}; use other uids",
        end.saturating_sub(1)
    ))
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

impl Assembly {
    /// Resolves everything. Reads profiles, certificates and the init program; makes no connection.
    ///
    /// # Errors
    /// A message with the setting to change.
    pub fn of(loaded: Loaded, environment: &EnvVars) -> Result<Assembly, String> {
        let Loaded { config, origins, mut warnings, .. } = loaded;
        let engines = engines(&config, &origins, environment)?;
        let profiles = load_profiles_with_warnings(&config, &origins).map_err(|error| format!("failed to {error}"))?;
        warnings.extend(profiles.warnings);
        let roles = Roles::new(&config.socket).map_err(|(key, message)| {
            format!(
                "failed to use the configuration: {}: {key}: {message} (getent passwd, getent group)",
                origins.of(key)
            )
        })?;
        let init = match &config.images.init {
            Some(path) => path.clone(),
            None => std::env::current_exe()
                .map_err(|error| format!("failed to find the daemon's own program: {error}"))?
                .with_file_name("assay-init"),
        };
        warnings.extend(missing_folders(&config, &origins));
        warnings.extend(shared_engines(&engines));
        warnings.extend(shared_uids(&config, &origins));
        let registries = Registries {
            policy: config.images.pull,
            trusted: config.images.trusted.clone(),
            docker_folder: docker::Environment::from(environment.clone()).docker_folder(),
            app: &config::ENGINE_CLIENT_APP,
            pulled: Arc::default(),
        };
        Ok(Assembly {
            profiles: profiles.profiles.into_iter().map(|profile| (profile.name.clone(), Arc::new(profile))).collect(),
            roles: Arc::new(roles),
            init: std::fs::read(&init).map_err(|error| {
                format!("failed to read the init program {}: {error} (images.init)", init.display())
            })?,
            engines,
            warnings,
            registries,
            config,
            origins,
        })
    }

    /// Logs what has no effect, and what cannot work. An image that cannot be had is logged with
    /// the host that needs it.
    pub fn log_warnings(&self) {
        for warning in &self.warnings {
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
            let origin = self.origins.of("profiles.dir");
            faults.push(format!(
                "{origin}: profiles.dir: {} has no profile, so no submission can run; copy those that you need from \
                 config/profiles (/usr/share/assay/profiles)",
                dir.display()
            ));
        }
        for profile in self.profiles.values() {
            let Err(error) = check_image(&self.config.images.dir, &self.registries, &profile.image) else { continue };
            let remedy = error.remedy().map(|remedy| format!(". Remedy: {remedy}")).unwrap_or_default();
            faults.push(format!("profile {}: image: failed to {error}{remedy}", profile.name));
        }
        let floors = self.profiles.values().map(|profile| profile.pool.floor).fold(0, usize::saturating_add);
        let (floors, uids) = (floors.saturating_mul(self.engines.len()), self.config.uids.count);
        if floors > uids as usize {
            let origin = self.origins.of("uids.count");
            faults.push(format!(
                "{origin}: uids.count: {uids} uids are too few for the {floors} sandboxes that the floors of all pools \
                 ask for; raise it, or lower pool.floor or profiles.floor"
            ));
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
        if !self.init.starts_with(ELF) {
            let origin = self.origins.of("images.init");
            faults.push(format!("{origin}: images.init: it is not a program; name assay-init, or leave it out"));
        }
        if self.config.log.target == LogTarget::Journal && !Path::new(log::JOURNAL_SOCKET).exists() {
            faults.push("log.target: this machine has no journal; use \"auto\" or \"text\"".to_owned());
        }
        faults
    }

    pub fn host(
        &self,
        engine: &ConfiguredEngine,
        instance: &str,
        slots: &Slots,
        capacity_changed: &Arc<Notify>,
    ) -> Arc<Host> {
        if engine.target.is_plaintext() {
            tracing::warn!(host = %engine.config.name, engine = %engine.target.endpoint,
                "the connection to the engine has no TLS (allow_plaintext): anyone who can reach its port is root there");
        }
        Host::start(HostOptions {
            name: engine.config.name.clone(),
            client: engine.client.clone(),
            calls: engine.calls.clone(),
            instance: instance.to_owned(),
            max_creating: engine.config.max_creating,
            cpu_overcommit: engine.config.cpu_overcommit,
            runtime: engine.config.runtime.clone(),
            apparmor: engine.config.apparmor_profile.clone(),
            require_nonroot: self.config.isolation.require_nonroot,
            require_userns: self.config.isolation.require_userns,
            reuse: self.config.isolation.reuse,
            capacity_changed: capacity_changed.clone(),
            slots: slots.clone(),
            images_dir: self.config.images.dir.clone(),
            logs_dir: self.config.instance.state_dir.join("build-logs"),
            registries: self.registries.clone(),
            build_missing: self.config.images.build_missing,
            init: self.init.clone(),
            profiles: self.profiles.values().cloned().collect(),
        })
    }

    /// What connections see of the configuration.
    pub fn live_settings(&self) -> LiveSettings {
        let profiles = Arc::new(self.profiles.clone());
        LiveSettings { profiles, roles: self.roles.clone(), reuse: self.config.isolation.reuse }
    }

    /// The compile cache in the state folder.
    pub fn cache(&self, state: &Path) -> Cache {
        Cache::new(state.join("cache"), &self.init, self.config.cache.max_bytes)
    }

    /// Addresses of the engines, for the reaper.
    pub fn targets(&self) -> Vec<&EngineTarget> {
        self.engines.iter().map(|engine| &engine.target).collect()
    }
}
