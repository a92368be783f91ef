//! What a configuration asks for, resolved and checked, and the hosts that are made of it. A reload goes the same way: what
//! is wrong is found before anything is changed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::Notify;

use config::{self, Config, Environment, Loaded, Origins, load_profiles};
use docker::{self, Client, Target};
use judge::cache::Cache;
use protocol::Profile;
use sandbox::host::{EngineCallMetrics, Host, HostConfig};
use sandbox::image::Registries;
use sandbox::lifecycle::Slots;
use server::rpc::Roles;

/// An engine of the configuration, and a client of it.
#[derive(Debug)]
pub struct Engine {
    /// Its words in the configuration.
    pub config: config::Engine,
    /// Where it is.
    pub target: Target,
    /// Talks to it.
    pub client: Client,
    /// How that goes.
    pub calls: Arc<EngineCallMetrics>,
}

/// A configuration, resolved.
#[derive(Debug)]
pub struct Assembly {
    /// The configuration.
    pub config: Config,
    /// Where each of its values comes from.
    pub origins: Origins,
    /// The profiles, by name.
    pub profiles: BTreeMap<String, Arc<Profile>>,
    /// Who may do what.
    pub roles: Arc<Roles>,
    /// The engines.
    pub engines: Vec<Engine>,
    init: Vec<u8>,
    registries: Registries,
}

/// Which engines the configuration and the environment name, and clients of them.
///
/// # Errors
/// In words, with the host's name when there are several, and where its settings come from.
pub fn engines(config: &Config, origins: &Origins, environment: &Environment) -> Result<Vec<Engine>, String> {
    let several = config.engines().len() > 1;
    let open = |engine: &config::Engine| {
        let found = engine.target(environment).and_then(|target| Ok((Client::open(&target)?, target)));
        let (client, target) = found.map_err(|error| {
            let (prefix, key) = match several {
                true => (format!("host {}: ", engine.name), format!("hosts.{}", engine.name)),
                false => (String::new(), "engine".to_owned()),
            };
            let origin = match [format!("{key}.host"), key].map(|key| origins.of(&key)) {
                [config::Origin::Default, config::Origin::Default] => String::new(),
                [config::Origin::Default, origin] | [origin, _] => format!(" (set by {origin})"),
            };
            format!("{prefix}failed to {error}{origin}")
        })?;
        let calls = Arc::<EngineCallMetrics>::default();
        Ok(Engine { config: engine.clone(), target, client: client.observed(calls.clone()), calls })
    };
    config.engines().iter().map(open).collect()
}

impl Assembly {
    /// Resolves everything. Reads profiles, certificates and the init program; talks to nobody.
    ///
    /// # Errors
    /// In words.
    pub fn of(loaded: Loaded, environment: &Environment) -> Result<Assembly, String> {
        let Loaded { config, origins, .. } = loaded;
        let engines = engines(&config, &origins, environment)?;
        let profiles = load_profiles(&config, &origins).map_err(|error| format!("failed to {error}"))?;
        let roles =
            Roles::new(&config.socket).map_err(|error| format!("failed to use socket.submit or .admin: {error}"))?;
        let init = match &config.images.init {
            Some(path) => path.clone(),
            None => std::env::current_exe()
                .map_err(|error| format!("failed to find the daemon's own program: {error}"))?
                .with_file_name("assay-init"),
        };
        let registries = Registries {
            policy: config.images.pull,
            trusted: config.images.trusted.clone(),
            docker_folder: docker::Environment::from(environment.clone()).docker_folder(),
            pulled: Arc::default(),
        };
        Ok(Assembly {
            profiles: profiles.into_iter().map(|profile| (profile.name.clone(), Arc::new(profile))).collect(),
            roles: Arc::new(roles),
            init: std::fs::read(&init).map_err(|error| {
                format!("failed to read the init program {}: {error} (images.init)", init.display())
            })?,
            engines,
            registries,
            config,
            origins,
        })
    }

    /// Starts the host of an engine.
    pub fn host(&self, engine: &Engine, instance: &str, slots: &Slots, bell: &Arc<Notify>) -> Arc<Host> {
        if engine.target.is_plaintext() {
            tracing::warn!(host = %engine.config.name, engine = %engine.target.endpoint,
                "the engine is spoken to without TLS (allow_plaintext): whoever reaches its port is root there");
        }
        Host::start(HostConfig {
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
            capacity_changed: bell.clone(),
            slots: slots.clone(),
            images_dir: self.config.images.dir.clone(),
            logs_dir: self.config.instance.state_dir.join("build-logs"),
            registries: self.registries.clone(),
            build_missing: self.config.images.build_missing,
            init: self.init.clone(),
            profiles: self.profiles.values().cloned().collect(),
        })
    }

    /// What was compiled before, in the state folder.
    pub fn cache(&self, state: &Path) -> Cache {
        Cache::new(state.join("cache"), &self.init, self.config.cache.max_bytes)
    }

    /// Where the engines are, for the reaper.
    pub fn targets(&self) -> Vec<&Target> {
        self.engines.iter().map(|engine| &engine.target).collect()
    }
}
