//! Tests of the whole configuration: sources, precedence, and every error message.

use std::path::{Path, PathBuf};

use super::*;

/// Files in a folder, variables and flags.
pub(super) struct TestCase<'a> {
    pub files: &'a [(&'a str, &'a str)],
    pub variables: &'a [(&'a str, &'a str)],
    pub flags: &'a [(&'a str, &'a str)],
}

pub(super) const EMPTY: TestCase<'_> = TestCase { files: &[("assayd.toml", "")], variables: &[], flags: &[] };

impl TestCase<'_> {
    pub fn load(&self) -> (tempfile::TempDir, Result<Loaded, ConfigError>) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in self.files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let flags =
            self.flags.iter().map(|(key, value)| (format!("--set {key}"), (*key).to_owned(), (*value).to_owned()));
        let sources = Sources {
            path: Some(folder.path().join("assayd.toml")),
            environment: self.variables.iter().map(owned).collect(),
            flags: flags.collect(),
        };
        let loaded = sources.load();
        (folder, loaded)
    }

    fn config(&self) -> Config {
        self.load().1.unwrap().config
    }
}

fn load(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let case = TestCase { files: &[("assayd.toml", text)], variables, ..EMPTY };
    case.load().1.map(|loaded| loaded.config)
}

#[test]
fn an_empty_file_is_a_complete_configuration() {
    assert_eq!(load("", &[]).unwrap(), Config::default());
}

#[test]
fn flags_override_variables_and_those_drop_ins_and_those_the_file() {
    let mut case = TestCase {
        files: &[
            ("assayd.toml", "[queue]\nmax = 1\nmax_per_uid = 1\n[socket]\nmode = '0600'"),
            ("assayd.toml.d/20-more.toml", "[queue]\nmax = 3"),
            ("assayd.toml.d/10-less.toml", "[queue]\nmax = 2\nmax_per_uid = 2"),
            ("assayd.toml.d/notes.txt", "no configuration"),
        ],
        ..EMPTY
    };
    let (folder, loaded) = case.load();
    let loaded = loaded.unwrap();
    let queue = &loaded.config.queue;
    assert_eq!((queue.max, queue.max_per_uid, loaded.config.socket.mode.as_str()), (3, 2, "0600"));
    let file = |name: &str, line| SettingOrigin::File { file: folder.path().join(name), line };
    assert_eq!(loaded.origins.of("queue.max"), file("assayd.toml.d/20-more.toml", 2));
    assert_eq!(loaded.origins.of("queue.max_per_uid"), file("assayd.toml.d/10-less.toml", 3));
    assert_eq!(loaded.origins.of("socket.mode"), file("assayd.toml", 5));
    assert_eq!(loaded.origins.of("queue.drain_ms"), SettingOrigin::Default);
    assert_eq!(loaded.files.len(), 3);
    case.variables = &[("ASSAY_QUEUE_MAX", "4")];
    assert_eq!(case.config().queue.max, 4);
    case.flags = &[("queue.max", "5")];
    assert_eq!(case.config().queue.max, 5);
}

#[test]
fn drop_ins_do_not_replace_a_missing_named_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("x.toml.d")).unwrap();
    std::fs::write(folder.path().join("x.toml.d/a.toml"), "[queue]\nmax = 2").unwrap();
    let error = Config::load(Some(&folder.path().join("x.toml")), &EnvVars::new()).unwrap_err().to_string();
    assert!(error.contains("x.toml") && error.contains("--config"), "{error}");
    std::fs::write(folder.path().join("x.toml"), "").unwrap();
    let variables = [("ASSAY_CONFIG".to_owned(), folder.path().join("x.toml").display().to_string())];
    assert_eq!(Config::load(None, &variables.into()).unwrap().queue.max, 2);
}

#[test]
fn every_setting_can_be_set_by_its_variable_and_by_a_flag() {
    let variables = variables::variables();
    for (key, leaf) in schema::config().settings() {
        let name = variables::variable(&key);
        assert_eq!(variables.get(&name), Some(&key), "{name}");
        let value = match &leaf.kind {
            schema::ValueKind::Bool => "true",
            schema::ValueKind::Choice(words) => &words[0],
            schema::ValueKind::Unsigned(_) if key.starts_with("uids.") => "2000",
            schema::ValueKind::Unsigned(_) if key.starts_with("store.") => "20000000",
            schema::ValueKind::Unsigned(_) | schema::ValueKind::Number => "7",
            schema::ValueKind::List(_) if key == "images.trusted" => "registry.example/x",
            schema::ValueKind::List(_) if key == "http.callbacks" => "hooks.example",
            schema::ValueKind::List(_) if key == "http.callback_networks" => "10.1.2.0/24",
            schema::ValueKind::List(_) => "1000",
            _ if key == "socket.mode" => "0640",
            _ if key == "engine.host" => "/x.sock",
            _ if key == "http.listen" || key == "http.metrics_listen" => "127.0.0.1:7",
            _ if key == "log.level" => "debug",
            _ => "other",
        };
        let of =
            |loaded: &Loaded| rows(&loaded.config, &loaded.origins).into_iter().find(|row| row.key == key).unwrap();
        let by_variable = TestCase { variables: &[(&name, value)], ..EMPTY }.load().1.unwrap();
        let by_flag = TestCase { flags: &[(&key, value)], ..EMPTY }.load().1.unwrap();
        assert_eq!(of(&by_variable).origin, SettingOrigin::Variable { name: name.clone() });
        assert_eq!(of(&by_variable).value, of(&by_flag).value, "{key}");
        let shown = of(&by_variable).value.to_string();
        assert!(shown.contains(value), "{key}: {shown}");
    }
}

#[test]
fn the_short_variables_work() {
    let config = load(
        "[profiles]\nfloor = 9",
        &[
            ("ASSAY_SOCKET", "/s"),
            ("ASSAY_STATE_DIR", "state"),
            ("ASSAY_INSTANCE", "i"),
            ("ASSAY_IMAGES_DIR", "images"),
            ("ASSAY_PROFILES_DIR", "profiles"),
            ("ASSAY_PROFILES", "python,c"),
            ("ASSAY_POOL_FLOOR", "3"),
            ("ASSAY_POOL_CEILING", "4"),
            ("ASSAY_UID_BASE", "41000"),
            ("ASSAY_LOG", "debug"),
            ("ASSAY_ENGINE_HOST", ""),
        ],
    )
    .unwrap();
    assert_eq!(config.socket.path, PathBuf::from("/s"));
    // a path in a variable is relative to the working directory
    assert_eq!((config.instance.state_dir, config.instance.name), (PathBuf::from("state"), "i".to_owned()));
    assert_eq!((config.images.dir, config.profiles.dir), (["images"].into(), PathBuf::from("profiles")));
    assert_eq!(config.profiles.only, ["python", "c"]);
    assert_eq!((config.profiles.floor, config.profiles.ceiling, config.uids.base), (Some(3), Some(4), 41_000));
    assert_eq!((config.log.level.as_str(), config.engine.host), ("debug", None));
}

#[test]
fn the_long_name_of_a_variable_overrides_the_short_one() {
    let both = [("ASSAY_SOCKET", "/short"), ("ASSAY_SOCKET_PATH", "/whole")];
    assert_eq!(load("", &both).unwrap().socket.path, PathBuf::from("/whole"));
}

#[test]
fn quantities_have_units() {
    let config = load("[queue]\npatience = '1min 30s'\ndrain_ms = 5\n[cache]\nmax = '1.5GiB'", &[]).unwrap();
    assert_eq!((config.queue.patience_ms, config.queue.drain_ms, config.cache.max_bytes), (90_000, 5, 3 << 29));
}

#[test]
fn paths_are_relative_to_the_file_that_sets_them() {
    let files = &[
        ("assayd.toml", "[images]\ndir = 'images'\n[engine]\ntls_ca = 'ca.pem'"),
        ("assayd.toml.d/a.toml", "[profiles]\ndir = '../p'\n[socket]\npath = '/abs'"),
    ];
    let (folder, loaded) = TestCase { files, ..EMPTY }.load();
    let config = loaded.unwrap().config;
    assert_eq!(config.images.dir, folder.path().join("images"));
    let several = load("[images]\ndir = ['a', '/b']", &[]).unwrap().images.dir;
    assert!(several.all()[0].is_absolute() && several.all()[0].ends_with("a"), "{several:?}");
    assert_eq!(several.all()[1], PathBuf::from("/b"));
    assert_eq!(config.engine.tls_ca, Some(folder.path().join("ca.pem")));
    assert_eq!(config.profiles.dir, folder.path().join("assayd.toml.d/../p"));
    assert_eq!(config.socket.path, PathBuf::from("/abs"));
}

#[test]
fn a_path_may_begin_with_a_variable_of_systemd() {
    let text = "[engine]\nhost = 'tcp://e:2376'\ntls_key = '${CREDENTIALS_DIRECTORY}/key.pem'";
    let config = load(text, &[("CREDENTIALS_DIRECTORY", "/run/credentials/assayd.service")]).unwrap();
    assert_eq!(config.engine.tls_key, Some(PathBuf::from("/run/credentials/assayd.service/key.pem")));
}

#[test]
fn hosts_of_the_same_name_are_merged_and_new_ones_added() {
    let files = &[
        ("assayd.toml", "[[hosts]]\nname = 'a'\nmax_creating = 3\n[[hosts]]\nname = 'b'\nhost = 'tcp://b:2376'"),
        ("assayd.toml.d/1.toml", "[[hosts]]\nname = 'b'\nmax_creating = 4\n[[hosts]]\nname = 'c.d'"),
    ];
    let case = TestCase { files, flags: &[("hosts.c.d.max_creating", "5")], ..EMPTY };
    let config = case.config();
    let all: Vec<_> = config.engines().iter().map(|engine| (engine.name.as_str(), engine.max_creating)).collect();
    assert_eq!(all, [("a", 3), ("b", 4), ("c.d", 5)]);
    assert_eq!(config.hosts[1].host.as_deref(), Some("tcp://b:2376"));
}

#[test]
fn an_engine_set_by_a_variable_is_the_only_one() {
    let two = "[[hosts]]\nname = 'a'\n[[hosts]]\nname = 'b'";
    let config = load(two, &[("ASSAY_ENGINE_HOST", "unix:///x.sock")]).unwrap();
    assert_eq!((config.hosts.len(), config.engines()[0].host.as_deref()), (0, Some("unix:///x.sock")));
    let config = load("[engine]\ncontext = 'far'", &[("ASSAY_ENGINE_HOST", "unix:///x.sock")]).unwrap();
    assert_eq!((config.engine.context, config.engine.host.as_deref()), (None, Some("unix:///x.sock")));
    let config = load("[engine]\nhost = '/a.sock'", &[("ASSAY_ENGINE_CONTEXT", "far")]).unwrap();
    assert_eq!((config.engine.context.as_deref(), config.engine.host), (Some("far"), None));
    let config = load(two, &[("ASSAY_HOSTS", "[{ name = 'c', host = '/c.sock' }]")]).unwrap();
    assert_eq!((config.hosts.len(), config.hosts[0].name.as_str()), (1, "c"));
}

#[test]
fn the_shown_configuration_loads_as_the_same_one() {
    let files =
        &[("assayd.toml", "[queue]\npatience = '5s'\n[socket]\nadmin = [5, 'group:root']\n[engine]\nhost = '/e.sock'")];
    let case = TestCase { files, variables: &[("ASSAY_QUEUE_MAX", "77")], ..EMPTY };
    let loaded = case.load().1.unwrap();
    let shown = text(&loaded);
    assert_eq!(load(&shown, &[]).unwrap(), loaded.config);
    let line = shown.lines().find(|line| line.starts_with("max = 77")).unwrap();
    assert!(line.ends_with("# ASSAY_QUEUE_MAX"), "{line}");
    assert!(
        shown.lines().any(|line| line.starts_with("patience = \"5s\"") && line.ends_with("assayd.toml:2")),
        "{shown}"
    );
    let settings = json(&loaded)["settings"].as_array().unwrap().clone();
    let max = settings.iter().find(|row| row["key"] == "queue.max").unwrap();
    assert_eq!(max["origin"], serde_json::json!({ "from": "variable", "name": "ASSAY_QUEUE_MAX" }));
}

#[test]
fn the_shipped_file_shows_every_setting_with_its_default() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/assayd.toml");
    let shipped = std::fs::read_to_string(path).unwrap();
    let mut section = String::new();
    let mut shown = std::collections::BTreeMap::new();
    for line in shipped.lines() {
        let line = line.trim_start_matches("# ");
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            section = name.trim_matches('[').to_owned();
        } else if let Some((name, rest)) = line.split_once(" = ")
            && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        {
            shown.entry(format!("{section}.{name}")).or_insert_with(|| rest.to_owned());
        }
    }
    for (key, leaf) in schema::config().settings() {
        let name = key.rsplit('.').next().unwrap();
        let default = show::written(name, leaf, &leaf.default);
        let short = key.replace(name, default.as_deref().and_then(|line| line.split(' ').next()).unwrap_or(name));
        let line = shown.get(&short).unwrap_or_else(|| panic!("config/assayd.toml does not show {short}"));
        // the shipped file uses two folders of the checkout
        if let Some(default) = default.filter(|_| !["images.dir", "profiles.dir"].contains(&key.as_str())) {
            let value = default.split_once(" = ").unwrap().1;
            assert!(line.starts_with(value), "config/assayd.toml: {short} = {line}, and the default is {value}");
        }
    }
}

#[test]
fn the_shipped_configuration_and_every_shipped_profile_load() {
    let root = &Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let config = Config::load(Some(&root.join("config/assayd.toml")), &EnvVars::new()).unwrap();
    // every value in it is the default
    let mut default = Config::default();
    default.images.dir.clone_from(&config.images.dir);
    default.profiles.dir.clone_from(&config.profiles.dir);
    assert_eq!(config, default);
    let profiles = load_profiles(&config, &Origins::default()).unwrap();
    for name in ["python", "c", "cpp", "javascript", "bash"] {
        assert!(profiles.iter().any(|profile| profile.name == name), "{name}");
    }
}

pub(super) const PROFILE: &str = "name = 'p'\nimage = 'p'\nentry = 'main.py'\nrun = ['python3', '{entry}']\n";

#[test]
fn a_profile_may_use_units() {
    let profile =
        format!("{PROFILE}limits = {{ memory = '128MiB', wall = '3s' }}\n[pool]\nmax_age = '1h'\n[env]\nPATH = '/bin'");
    let case = TestCase { files: &[("assayd.toml", "[profiles]\ndir = 'p'"), ("p/p.toml", &profile)], ..EMPTY };
    let (_folder, loaded) = case.load();
    let loaded = loaded.unwrap();
    let profiles = load_profiles(&loaded.config, &loaded.origins).unwrap();
    assert_eq!((profiles[0].limits.memory_bytes, profiles[0].limits.wall_ms), (Some(128 << 20), Some(3000)));
    assert_eq!((profiles[0].pool.max_age_s, profiles[0].env["PATH"].as_str()), (3600, "/bin"));
}

#[test]
fn a_ceiling_is_never_exceeded_and_one_that_is_not_set_follows_the_floor() {
    let levels = |pool: &str, global: &str| {
        let config = format!("[profiles]\ndir = 'p'\n{global}");
        let files = &[("assayd.toml", config.as_str()), ("p/p.toml", &format!("{PROFILE}[pool]\n{pool}"))];
        let (_folder, loaded) = TestCase { files, ..EMPTY }.load();
        let loaded = loaded.unwrap();
        let found = load_profiles_with_warnings(&loaded.config, &loaded.origins).unwrap();
        (found.profiles[0].pool.floor, found.profiles[0].pool.ceiling, found.warnings.len())
    };
    assert_eq!(levels("floor = 2\nceiling = 8", ""), (2, 8, 0));
    assert_eq!(levels("floor = 20", ""), (20, 20, 0));
    assert_eq!(levels("floor = 4\nceiling = 8", "ceiling = 2"), (2, 2, 0));
    assert_eq!(levels("floor = 1\nceiling = 2", "floor = 5"), (2, 2, 1));
    assert_eq!(levels("floor = 1", "floor = 12"), (12, 12, 0));
    assert_eq!(levels("floor = 1\nceiling = 2", "floor = 5\nceiling = 6"), (5, 6, 0));
}

#[test]
fn a_name_in_quotes_is_a_variable_of_the_program() {
    let profile = format!("{PROFILE}[env]\n'preset' = 'x'\n\"memory\" = '1'\nPATH = '/bin'");
    let case = TestCase { files: &[("assayd.toml", "[profiles]\ndir = 'p'"), ("p/p.toml", &profile)], ..EMPTY };
    let (_folder, loaded) = case.load();
    let loaded = loaded.unwrap();
    let profiles = load_profiles(&loaded.config, &loaded.origins).unwrap();
    assert_eq!((profiles[0].env["preset"].as_str(), profiles[0].env.len()), ("x", 3));
}

/// The messages of all kinds of mistakes are in a snapshot, so that changes of them are reviewed.
#[test]
fn every_kind_of_mistake_has_a_message_with_place_setting_and_remedy() {
    let file = |text: &'static str| -> Vec<(&'static str, String)> { vec![("assayd.toml", text.to_owned())] };
    let profile = |text: &str| {
        vec![("assayd.toml", "[profiles]\ndir = 'p'".to_owned()), ("p/p.toml", format!("{PROFILE}{text}"))]
    };
    type Rows<'a> = Vec<(&'a str, Vec<(&'a str, String)>, Vec<(&'a str, &'a str)>, Vec<(&'a str, &'a str)>)>;
    let cases: Rows<'_> = vec![
        ("a missing file", vec![], vec![], vec![]),
        ("not TOML", file("[queue]\nmax == 3"), vec![], vec![]),
        ("a key twice", file("[queue]\nmax = 3\nmax = 4"), vec![], vec![]),
        ("an unknown key", file("[queue]\nmaxx = 3"), vec![], vec![]),
        ("an unknown section", file("[que]\nmax = 3"), vec![], vec![]),
        ("a key in the wrong section", file("[socket]\npatience = '5s'"), vec![], vec![]),
        ("a key of the top that belongs in a section", file("max_per_uid = 3"), vec![], vec![]),
        ("a section that is a value", file("queue = 5"), vec![], vec![]),
        ("a value that is a section", file("[queue.max]\nall = 3"), vec![], vec![]),
        ("hosts with single brackets", file("[hosts]\nname = 'a'"), vec![], vec![]),
        ("a text for a number", file("[queue]\nmax = 'many'"), vec![], vec![]),
        ("a negative number", file("[queue]\nmax = -1"), vec![], vec![]),
        ("a number that is too large", file("[uids]\nbase = 5000000000"), vec![], vec![]),
        ("a text for a boolean", file("[engine]\nallow_plaintext = 'yes'"), vec![], vec![]),
        ("an unknown choice", file("[images]\npull = 'allways'"), vec![], vec![]),
        ("a text for a list", file("[profiles]\nonly = 'python'"), vec![], vec![]),
        ("a number for a text", file("[socket]\nmode = 660"), vec![], vec![]),
        ("a quantity without a unit", file("[queue]\npatience = 120"), vec![], vec![]),
        ("a unit of another kind", file("[cache]\nmax = '10s'"), vec![], vec![]),
        ("an unknown unit", file("[queue]\ndrain = '3 parsecs'"), vec![], vec![]),
        ("a quantity that is too fine", file("[queue]\ndrain = '0.5ms'"), vec![], vec![]),
        ("a quantity under both its names", file("[queue]\ndrain = '5s'\ndrain_ms = 5000"), vec![], vec![]),
        ("an invalid caller", file("[socket]\nadmin = ['root']"), vec![], vec![]),
        ("a mode that lets nothing connect", file("[socket]\nmode = '0555'"), vec![], vec![]),
        ("callers that are always refused", file("[socket]\nsubmit = [65534]\nadmin = [4294967295]"), vec![], vec![]),
        ("an empty path", file("[instance]\nstate_dir = ''"), vec![], vec![]),
        ("an empty name", file("[engine]\nruntime = ''"), vec![], vec![]),
        ("one socket for two", file("[socket]\npath = '/a.sock'\n[http]\nlisten = 'unix:/a.sock'"), vec![], vec![]),
        ("an invalid mode", file("[socket]\nmode = 'rw-rw----'"), vec![], vec![]),
        ("an instance's name", file("[instance]\nname = 'my judge'"), vec![], vec![]),
        ("uids of the system", file("[uids]\nbase = 0"), vec![], vec![]),
        ("uids above what can be mapped", file("[uids]\nbase = 65000"), vec![], vec![]),
        ("an empty queue", file("[queue]\nmax = 0"), vec![], vec![]),
        ("a number out of range", file("[engine]\n\ncpu_overcommit = 0"), vec![], vec![]),
        ("an invalid address", file("[engine]\nhost = 'docker.example:2376'"), vec![], vec![]),
        ("an address and a context", file("[engine]\nhost = '/a.sock'\ncontext = 'far'"), vec![], vec![]),
        ("one engine and several", file("[engine]\nhost = '/a.sock'\n[[hosts]]\nname = 'a'"), vec![], vec![]),
        ("a host's name twice", file("[[hosts]]\nname = 'a'\n[[hosts]]\nname = 'a'"), vec![], vec![]),
        ("a host's value", file("[[hosts]]\nname = 'a'\nmax_creating = 0"), vec![], vec![]),
        ("a registry that matches nothing", file("[images]\ntrusted = ['debian']"), vec![], vec![]),
        ("a missing credential", file("[engine]\ntls_key = '${CREDENTIALS_DIRECTORY}/key'"), vec![], vec![]),
        ("an unknown variable in a path", file("[socket]\npath = '${HOME}/a.sock'"), vec![], vec![]),
        ("a level of the log", file("[log]\nlevel = 'loud'"), vec![], vec![]),
        ("a module of the log", file("[log]\nlevel = 'info, pol=debug'"), vec![], vec![]),
        ("a ceiling below its floor", file("[profiles]\nfloor = 5\nceiling = 2"), vec![], vec![]),
        (
            "too many runtimes",
            profile("[[prewarm]]\n[[prewarm]]\n[[prewarm]]\n[[prewarm]]\n[[prewarm]]"),
            vec![],
            vec![],
        ),
        (
            "any entry without one",
            profile("[[prewarm]]\nany_entry = true\ncommand = ['python3', 'run.py']"),
            vec![],
            vec![],
        ),
        ("two templates", profile("[[prewarm]]\nfork = true\n[[prewarm]]\nfork = true"), vec![], vec![]),
        (
            "an unknown profile",
            profile("").into_iter().map(|(name, text)| (name, text.replace("dir =", "only = ['q']\ndir ="))).collect(),
            vec![],
            vec![],
        ),
        (
            "two mistakes in two files",
            vec![("assayd.toml", "[queue]\nmaxx = 3".into()), ("assayd.toml.d/9.toml", "[cache]\nmax = 5".into())],
            vec![],
            vec![],
        ),
        ("a variable", file(""), vec![("ASSAY_QUEUE_MAX", "many")], vec![]),
        ("a variable's quantity", file(""), vec![("ASSAY_CACHE_MAX", "10s")], vec![]),
        ("a variable that is not UTF-8", file(""), vec![("ASSAY_QUEUE_MAX", "3\u{fffd}")], vec![]),
        ("a variable's range", file(""), vec![("ASSAY_UID_BASE", "5")], vec![]),
        ("a variable that is not TOML", file(""), vec![("ASSAY_HOSTS", "near")], vec![]),
        ("a flag's key", file(""), vec![], vec![("queue.maxx", "3")]),
        ("a flag's section", file(""), vec![], vec![("qeue.max", "3")]),
        ("a flag's value", file(""), vec![], vec![("queue.max", "3.5")]),
        ("a missing folder of profiles", file("[profiles]\ndir = '/nope'"), vec![], vec![]),
        ("a profile's key", profile("limits = { memroy = '1MiB' }"), vec![], vec![]),
        ("a profile's limit", profile("[limits]\nmemory = '3GiB'"), vec![], vec![]),
        ("a profile's preset", profile("preset = 'jugde'"), vec![], vec![]),
        (
            "a profile without a command",
            vec![
                ("assayd.toml", "[profiles]\ndir = 'p'".into()),
                ("p/p.toml", PROFILE.replace("'python3', '{entry}'", "")),
            ],
            vec![],
            vec![],
        ),
        (
            "a profile without an image",
            vec![("assayd.toml", "[profiles]\ndir = 'p'".into()), ("p/p.toml", PROFILE.replace("image = 'p'", ""))],
            vec![],
            vec![],
        ),
        ("limits below a section of texts", profile("[env]\nPATH = '/bin'\nlimits = { memory = '64MiB' }"), vec![], vec![]),
        ("a setting below a section of texts", profile("[env]\npreset = 'lesson'\nmemory = '1MiB'"), vec![], vec![]),
        ("a number in a section of texts", profile("[env]\nLEVEL = 5"), vec![], vec![]),
        ("sections below a section of texts", profile("[env]\nA = 'b'\n[env.pool]\nfloor = 3"), vec![], vec![]),
        ("a profile's ceiling below its floor", profile("[pool]\nfloor = 20\nceiling = 8"), vec![], vec![]),
        ("a profile's ceiling of none", profile("[pool]\nceiling = 0"), vec![], vec![]),
        ("a placeholder", profile("compile = ['cc', '-o{stm}', '{enrty}', 'x{sources}', '-{compile_args}', '{run_args}']"), vec![], vec![]),
        ("a placeholder in another spelling", profile("compile = ['cc', '{ENTRY}', '-o{ stem }', '${entry}']"), vec![], vec![]),
        ("a command in one word", profile("compile = ['cc -o main {entry}']"), vec![], vec![]),
        ("an empty runtime of a profile", profile("runtime = ''\nsuites = ''"), vec![], vec![]),
        ("a placeholder of a runtime", profile("[[prewarm]]\ncommand = ['python3', '{file}']"), vec![], vec![]),
        ("endings that match nothing", profile("extensions = ['.py', '*.py', '', 'py', 'py', 'a/b']"), vec![], vec![]),
        ("a list of folders with a number", file("[images]\ndir = ['images', 5]"), vec![], vec![]),
        ("an empty list of folders", file("[images]\ndir = []"), vec![], vec![]),
        ("a section twice", file("[queue]\nmax = 3\n[cache]\nmax = '1MiB'\n[queue]\nmax = 4"), vec![], vec![]),
        ("a memory without a unit", profile("limits = { memory = 256 }"), vec![], vec![]),
        (
            "all mistakes of two profiles",
            vec![
                ("assayd.toml", "[profiles]\ndir = 'p'".into()),
                (
                    "p/p.toml",
                    "name = 'p'\nentry = 5\nrun = ['{x}']\nlimits = { memory = '3GiB', pid = 3 }\n[pool]\nfloor = 4\nceiling = 2"
                        .into(),
                ),
                ("p/q.toml", "name = 'q'\nimage = 'q'\nentry = 'a'\nrun = []\nmax = 3".into()),
            ],
            vec![],
            vec![],
        ),
        ("a ceiling of none", file("[profiles]\nceiling = 0"), vec![], vec![]),
        ("a variable's ceiling of none", file(""), vec![("ASSAY_POOL_CEILING", "0")], vec![]),
        ("a number that is not finite", file("[engine]\ncpu_overcommit = inf"), vec![], vec![]),
        ("a flag of two lines", file(""), vec![], vec![("socket.admin", "[1]\nx = 1")]),
        ("a profile's settings in the daemon's file", file("[limits]\nmemory = '1MiB'\n[[prewarm]]\n"), vec![], vec![]),
        ("a profile's setting in a section", file("[profiles]\nmemory = '1MiB'"), vec![], vec![]),
        ("the daemon's settings in a profile", profile("[queue]\nmax = 3\n[[hosts]]\nname = 'a'"), vec![], vec![]),
        ("a section in another section", profile("[pool]\nlimits = { memory = '1MiB' }\nenv = { A = 'b' }"), vec![], vec![]),
        ("a setting in another section", profile("[pool]\nmemory = '1MiB'\npreset = 'lesson'"), vec![], vec![]),
        ("a section of texts in another case", profile("[env]\nLimits = { memory = '1MiB' }"), vec![], vec![]),
        ("a list of sections of texts", profile("[[env]]\nPATH = '/bin'"), vec![], vec![]),
        ("variables that no program can have", profile("[env]\n'A=B' = 'x'\n'' = 'y'\nC = \"\\u0000\""), vec![], vec![]),
        (
            "names that no submission can have",
            vec![
                ("assayd.toml", "[profiles]\ndir = 'p'".into()),
                ("p/p.toml", "name = 'a b'\nimage = ''\nentry = '/etc/passwd'\nrun = ['']".into()),
            ],
            vec![],
            vec![],
        ),
        ("files outside the box", profile("compile = ['cc']\nkeep = ['/etc/passwd', '../x', 'a//b']"), vec![], vec![]),
        ("a pool that serves no submission", profile("[pool]\nreuse = 0\nmax_age = '0s'"), vec![], vec![]),
        ("a profile twice", [profile(""), vec![("p/q.toml", PROFILE.to_owned())]].concat(), vec![], vec![]),
    ];
    let mut messages = String::new();
    for (what, files, variables, flags) in &cases {
        let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let (folder, loaded) = TestCase { files: &files, variables, flags }.load();
        let error = loaded.and_then(|loaded| load_profiles(&loaded.config, &loaded.origins)).unwrap_err().to_string();
        let error = error.replace(&folder.path().display().to_string(), "/etc/assay");
        assert!(!error.contains("default:"), "{what}: {error}");
        messages.push_str(&format!("{what}:\n  failed to {}\n", error.replace('\n', "\n  ")));
    }
    insta::assert_snapshot!(messages);
}

#[test]
fn tokens_of_the_configuration_are_sections_whose_mistakes_have_their_lines() {
    let hash = "00".repeat(32);
    let good = format!(
        "[http]\napi = true\n[[http.tokens]]\nname = 'ci'\nsha256 = '{hash}'\ntenant = 'a'\nrole = 'admin'\nexpires = 2027-01-31\n"
    );
    let case = TestCase { files: &[("assayd.toml", &good)], ..EMPTY };
    let loaded = case.load().1.unwrap();
    let [token] = loaded.config.http.tokens.as_slice() else { panic!("{:?}", loaded.config.http) };
    assert_eq!(
        (token.name.as_str(), token.role.as_str(), token.expires_ms()),
        ("ci", "admin", Some(1_801_353_600_000))
    );
    // what is shown can be loaded again
    let shown = text(&loaded);
    assert!(shown.contains("[[http.tokens]]") && shown.contains(&hash), "{shown}");
    assert_eq!(load(&shown, &[]).unwrap().http, loaded.config.http);

    for (line, wrong, expected) in [
        (4, good.replace("'ci'", "'a b'"), "http.tokens.a b.name"),
        (5, good.replace(&hash, "12"), "http.tokens.ci.sha256: it is not a SHA-256"),
        (6, good.replace("'a'\n", "''\n"), "http.tokens.ci.tenant"),
        (7, good.replace("'admin'", "'root'"), "http.tokens.ci.role: \"root\" is not one of \"submit\", \"admin\""),
        (8, good.replace("2027-01-31", "'soon'"), "http.tokens.ci.expires"),
        (7, good.replace(&format!("sha256 = '{hash}'\n"), ""), "http.tokens.ci.sha256"),
    ] {
        let error = load(&wrong, &[]).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains(&format!("assayd.toml:{line}:")), "{expected}: {error}");
    }
}
