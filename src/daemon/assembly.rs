//! Resolves a configuration into clients, profiles, roles and hosts. Start and reload share this,
//! so a reload finds every mistake before it changes anything.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::Notify;

use config::{self, Config, EnvVars, Loaded, Origins, load_profiles_with_warnings};
use docker::{self, Client, EngineTarget};
use judge::cache::Cache;
use protocol::Profile;
use protocol::envelope::sha256_hex;
use sandbox::host::{EngineCallMetrics, Host, HostOptions};
use sandbox::image::{Registries, layer};
use sandbox::lifecycle::Slots;
use server::{LiveSettings, Roles};

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
    pub(super) registries: Registries,
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
        let init = std::fs::read(&init)
            .map_err(|error| format!("failed to read the init program {}: {error} (images.init)", init.display()))?;
        layer::check_init(&init).map_err(|problem| {
            let place = origins.place("images.init");
            format!(
                "failed to use the configuration: {place}images.init: {problem}; name the assay-init of this release, \
                 or leave it out"
            )
        })?;
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
            init,
            engines,
            warnings,
            registries,
            config,
            origins,
        })
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
            address_setting: self.address_setting(),
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

    /// The setting that the address of the engines comes from, with its place.
    fn address_setting(&self) -> String {
        let names = ["engine.host", "engine.context", "hosts"];
        let is_set = |name: &&str| !self.origins.place(name).is_empty();
        match names.into_iter().find(is_set) {
            Some(name) => format!("{}{name}", self.origins.place(name)),
            None => "engine.host (not set: DOCKER_HOST or Docker's context)".to_owned(),
        }
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

    /// SHA-256 of the init, in hexadecimal.
    pub fn init_sha256(&self) -> String {
        sha256_hex(&self.init)
    }

    /// Addresses of the engines, for the reaper.
    pub fn targets(&self) -> Vec<&EngineTarget> {
        self.engines.iter().map(|engine| &engine.target).collect()
    }
}
