//! Loads profiles, one TOML file each, with the same units and errors as the configuration. All
//! mistakes of all files are found, not only the first.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::json;

use super::load::{MergedSources, Origins};
use super::problem::{ConfigError, ConfigProblem, SettingOrigin, remedy};
use super::schema::{self, nearest};
use super::units::Unit;
use super::{Config, EnvVars, sources};
use protocol::Profile;
use protocol::limits::LimitError;
use protocol::placeholders::{PLACEHOLDERS, names_in};
use protocol::prewarm::{MAX_PREWARMED, PrewarmSpec};

/// Profiles as their files and the configuration say.
#[derive(Debug)]
pub struct LoadedProfiles {
    /// Ordered by name.
    pub profiles: Vec<Profile>,
    /// Settings that have no effect, or less than they say.
    pub warnings: Vec<String>,
}

/// Reads the profiles of the configured folder, ordered by name.
///
/// # Errors
/// A folder or file cannot be read, a file is not a valid profile, or a name is used twice or
/// unknown: all mistakes that were found.
pub fn load_profiles(config: &Config, origins: &Origins) -> Result<Vec<Profile>, ConfigError> {
    load_profiles_with_warnings(config, origins).map(|loaded| loaded.profiles)
}

/// The same with what deserves a warning.
///
/// # Errors
/// See [`load_profiles`].
pub fn load_profiles_with_warnings(config: &Config, origins: &Origins) -> Result<LoadedProfiles, ConfigError> {
    let folder = &config.profiles.dir;
    let read = |error: std::io::Error| {
        let message = format!(
            "{} cannot be read: {error}; use a folder with one TOML file per profile (config/profiles has the shipped ones)",
            folder.display()
        );
        ConfigError::one(origins.of("profiles.dir"), "profiles.dir", message)
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(read)? {
        let path = entry.map_err(read)?.path();
        if sources::is_read(&path) {
            paths.push(path);
        }
    }
    paths.sort();
    let (mut profiles, mut warnings, mut problems) = (Vec::<Profile>::new(), Vec::new(), Vec::new());
    let mut references = Vec::new();
    for path in paths {
        let file = ProfileFile::read(&path);
        problems.extend(file.problems);
        let Some(mut profile) = file.profile else { continue };
        if profiles.iter().any(|other| other.name == profile.name) {
            let message =
                format!("another file already has the profile {:?}; give this one another name", profile.name);
            problems.push(ConfigProblem {
                origin: SettingOrigin::File { file: path, line: 0 },
                key: "name".to_owned(),
                message,
            });
            continue;
        }
        profile.file.clone_from(&path);
        warnings.extend(file.warnings);
        references.extend(file.references);
        warnings.extend(set_levels(&mut profile, config, file.has_ceiling));
        let (ceiling, uids) = (profile.pool.ceiling, config.uids.count as usize);
        if file.has_ceiling && ceiling > uids {
            let name = &profile.name;
            warnings
                .push(format!("the ceiling of the profile {name}, {ceiling}, has no effect above uids.count, {uids}"));
        }
        profiles.push(profile);
    }
    let known: BTreeSet<&str> = profiles.iter().map(|profile| profile.name.as_str()).collect();
    // a profile that is not valid is missing for that reason
    let missing = config.profiles.only.iter().find(|name| problems.is_empty() && !known.contains(name.as_str()));
    if let Some(missing) = missing {
        let near = nearest(missing, known.iter().copied());
        let near = near.map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
        let all = known.iter().copied().collect::<Vec<_>>().join(", ");
        let message =
            format!("the profile {missing:?} does not exist in {}{near} (the profiles are {all})", folder.display());
        return Err(ConfigError::one(origins.of("profiles.only"), "profiles.only", message));
    }
    if !problems.is_empty() {
        return Err(ConfigError::Wrong(problems));
    }
    warnings.extend(references.iter().filter_map(|reference| reference.warning(&profiles)));
    if !config.profiles.only.is_empty() {
        profiles.retain(|profile| config.profiles.only.contains(&profile.name));
    }
    profiles.sort_by(|a, b| a.name.cmp(&b.name));
    warnings.extend(shared_extensions(&profiles));
    Ok(LoadedProfiles { profiles, warnings })
}

/// Languages that have one ending, and are told apart by their content (`package::Languages`).
const TOLD_APART: [[&str; 2]; 2] = [["perl", "prolog"], ["objective-c", "octave"]];

/// Endings that two profiles have, so that they stand for neither.
fn shared_extensions(profiles: &[Profile]) -> Vec<String> {
    let mut by_ending = BTreeMap::<&str, Vec<&str>>::new();
    for profile in profiles {
        for ending in &profile.extensions {
            by_ending.entry(ending).or_default().push(&profile.name);
        }
    }
    let told_apart = |names: &[&str]| TOLD_APART.iter().any(|pair| names.iter().all(|name| pair.contains(name)));
    let shared = by_ending.into_iter().filter(|(_, names)| names.len() > 1 && !told_apart(names));
    let warning = |(ending, names): (&str, Vec<&str>)| {
        let names = names.join(" and ");
        format!(
            "the profiles {names} have the same ending {ending:?} in `extensions`, so it stands for none of them; remove it from all but one"
        )
    };
    shared.map(warning).collect()
}

/// Sets the levels of a profile's pool. A ceiling is never exceeded: a floor for all pools that is
/// above a profile's own ceiling ends there, with a warning. A ceiling that is not set follows the
/// floor.
fn set_levels(profile: &mut Profile, config: &Config, has_ceiling: bool) -> Option<String> {
    let pool = &mut profile.pool;
    let stated = config.profiles.ceiling.or(has_ceiling.then_some(pool.ceiling));
    pool.floor = config.profiles.floor.unwrap_or(pool.floor);
    pool.ceiling = stated.unwrap_or(pool.ceiling.max(pool.floor)).max(1);
    if pool.floor <= pool.ceiling {
        return None;
    }
    let message = format!(
        "profiles.floor, {}, is above the ceiling of the profile {}: {} are kept; raise its pool.ceiling or profiles.ceiling",
        pool.floor, profile.name, pool.ceiling
    );
    pool.floor = pool.ceiling;
    // a ceiling for all pools below a profile's own floor is meant
    config.profiles.floor.is_some().then_some(message)
}

/// A profile that a setting of another one names, for a use that it need not be fit for.
struct ProfileReference {
    /// The name of the profile with the setting.
    from: String,
    origin: SettingOrigin,
    key: String,
    /// The name of the profile that it names.
    to: String,
    is_usable: fn(&Profile, &Profile) -> bool,
}

impl ProfileReference {
    /// Those in a profile: `suites`, and each of `imports`.
    fn of(profile: &Profile, origins: &Origins) -> Vec<ProfileReference> {
        let reference = |key: String, to: &String, is_usable: fn(&Profile, &Profile) -> bool| {
            let origin = origins.of(key.split('.').next().unwrap_or_default());
            ProfileReference { from: profile.name.clone(), origin, key, to: to.clone(), is_usable }
        };
        let suites = profile.suites.iter().map(|to| reference("suites".to_owned(), to, Profile::is_made_like));
        let imports = profile.imports.iter();
        let imports = imports.map(|(module, to)| reference(format!("imports.{module}"), to, Profile::can_run_in));
        suites.chain(imports).collect()
    }

    /// Why it has no effect, if it has none.
    fn warning(&self, profiles: &[Profile]) -> Option<String> {
        let find = |name: &str| profiles.iter().find(|profile| profile.name == name);
        let why = match (find(&self.from), find(&self.to)) {
            (Some(from), Some(to)) if (self.is_usable)(from, to) => return None,
            (_, Some(_)) => format!("the sandboxes of the profile {} are made in another way", self.to),
            (_, None) => format!("the profile {:?} does not exist", self.to),
        };
        Some(format!("{}: {} has no effect: {why}", self.origin, self.key))
    }
}

/// What a file of a profile says.
struct ProfileFile {
    profile: Option<Profile>,
    problems: Vec<ConfigProblem>,
    warnings: Vec<String>,
    references: Vec<ProfileReference>,
    /// Whether it sets `pool.ceiling`.
    has_ceiling: bool,
}

impl ProfileFile {
    fn read(path: &Path) -> ProfileFile {
        let whole = SettingOrigin::File { file: path.to_owned(), line: 0 };
        let mut merged = MergedSources::default();
        let none = |problems| ProfileFile {
            profile: None,
            problems,
            warnings: Vec::new(),
            references: Vec::new(),
            has_ceiling: false,
        };
        match sources::file(path, schema::profile(), &EnvVars::new()) {
            Ok(source) => merged.add(source),
            Err(ConfigError::Wrong(problems)) => return none(problems),
            Err(ConfigError::Read { source, .. }) => {
                let advice = if source.kind() == std::io::ErrorKind::NotFound { "" } else { remedy(&source) };
                let message = format!("it cannot be read: {source}{advice}");
                return none(vec![ConfigProblem { origin: whole, key: String::new(), message }]);
            }
        }
        let mut problems = merged.take_problems();
        let is_toml = !problems.iter().any(|problem| problem.key.is_empty());
        // what is missing is filled in, so that the rest is looked at as well
        for name in &schema::profile().required {
            if merged.has(name) {
                continue;
            }
            if is_toml && !problems.iter().any(|problem| problem.key == *name) {
                let message = "it is required, and has no default; set it".to_owned();
                problems.push(ConfigProblem { origin: whole.clone(), key: name.clone(), message });
            }
            merged.fill(name, if name == "run" { json!(["x"]) } else { json!("x") });
        }
        let (profile, origins): (Profile, Origins) = match merged.into(&whole) {
            Ok((profile, origins, _)) => (profile, origins),
            Err(ConfigError::Wrong(more)) => return none([problems, more].concat()),
            Err(error) => {
                let message = format!("failed to {error}");
                return none(vec![ConfigProblem { origin: whole, key: String::new(), message }]);
            }
        };
        let mut checks = ProfileChecks { profile: &profile, origins: &origins, whole, problems, warnings: Vec::new() };
        checks.names();
        checks.environment();
        checks.limits();
        checks.commands();
        checks.extensions();
        checks.prewarmed();
        checks.levels();
        checks.idle_settings();
        checks.kept_files();
        checks.entry_is_named();
        let ProfileChecks { problems, warnings, .. } = checks;
        let has_ceiling = origins.of("pool.ceiling") != SettingOrigin::Default;
        let references = ProfileReference::of(&profile, &origins);
        let profile = problems.is_empty().then_some(profile);
        ProfileFile { profile, problems, warnings, references, has_ceiling }
    }
}

/// Checks of one profile that the types cannot make.
struct ProfileChecks<'a> {
    profile: &'a Profile,
    origins: &'a Origins,
    whole: SettingOrigin,
    problems: Vec<ConfigProblem>,
    warnings: Vec<String>,
}

impl ProfileChecks<'_> {
    fn origin(&self, key: &str) -> SettingOrigin {
        match self.origins.of(key) {
            SettingOrigin::Default => self.whole.clone(),
            origin => origin,
        }
    }

    fn wrong(&mut self, key: &str, message: String) {
        let (origin, key) = (self.origin(key), self.origins.shown(key));
        self.problems.push(ConfigProblem { origin, key, message });
    }

    fn names(&mut self) {
        let profile = self.profile;
        let is_odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, ',' | '/' | '"');
        if profile.name.is_empty() || profile.name.len() > 64 || profile.name.contains(is_odd) {
            let message = "is not a name for `language`; use 1 to 64 bytes without spaces, commas and slashes";
            self.wrong("name", format!("{:?} {message}", profile.name));
        }
        for (key, _) in [("runtime", &profile.runtime), ("suites", &profile.suites)]
            .into_iter()
            .filter(|(_, text)| text.as_deref() == Some(""))
        {
            self.wrong(key, "it is empty; use a name, or remove the setting".to_owned());
        }
        if profile.image.is_empty() {
            self.wrong("image", "it is empty; use the name of a folder of images.dir".to_owned());
        }
        if !is_below_the_box(&profile.entry) {
            let message = "is not a file of a submission; use a relative path without . and .., such as \"main.py\"";
            self.wrong("entry", format!("{:?} {message}", profile.entry));
        }
        for path in profile.keep.iter().filter(|path| !is_below_the_box(path)) {
            let message =
                "is not below the box; use a relative path without . and .., such as \"main\" or \"**/*.class\"";
            self.wrong("keep", format!("{path:?} {message}"));
        }
    }

    /// Variables that no program can be started with.
    fn environment(&mut self) {
        let profile = self.profile;
        for (section, variables) in [("env", &profile.env), ("live_env", &profile.live_env)] {
            for (name, value) in variables {
                if name.is_empty() || name.contains(['=', '\0']) {
                    self.wrong(section, format!("{name:?} cannot be the name of a variable; it must not have ="));
                } else if value.contains('\0') {
                    self.wrong(section, format!("{name} has a NUL character, which no variable can have"));
                }
            }
        }
    }

    fn limits(&mut self) {
        let run = self.profile.run_limits();
        let compile = run.as_ref().ok().map(|run| self.profile.base_compile_limits(*run));
        let wrong = [("limits", run.err()), ("compile_limits", compile.and_then(Result::err))];
        for (section, error) in wrong {
            let Some(error) = error else { continue };
            let message = out_of_range(&error);
            self.wrong(&format!("{section}.{}", error.field), message);
        }
    }

    fn commands(&mut self) {
        let profile = self.profile;
        if profile.run.is_empty() {
            self.wrong("run", "it is empty; use a command, such as [\"python3\", \"{entry}\"]".to_owned());
        }
        let prewarm = profile.prewarm.iter().enumerate();
        let prewarm = prewarm.flat_map(|(at, spec)| {
            [(format!("prewarm.{at}.command"), &spec.command), (format!("prewarm.{at}.start"), &spec.start)]
        });
        let commands = [("run".to_owned(), &profile.run), ("compile".to_owned(), &profile.compile)];
        for (key, words) in commands.into_iter().chain(prewarm) {
            if words.first().is_some_and(String::is_empty) || words.iter().any(|word| word.contains('\0')) {
                self.wrong(&key, "no program can be started so: its name is empty, or a word has a NUL".to_owned());
            }
            if let Some(first) = words.first().filter(|first| first.contains(char::is_whitespace)) {
                let words: Vec<&str> = first.split_whitespace().collect();
                self.wrong(
                    &key,
                    format!("{first:?} is taken for the name of a program; give each word its own: {words:?}"),
                );
            }
            // braces are awk's own
            let is_awk = words.first().is_some_and(|program| program.ends_with("awk"));
            for word in words.iter().filter(|_| !is_awk) {
                if let Some(message) = wrong_placeholder(word, &key) {
                    self.wrong(&key, message);
                }
            }
        }
    }

    fn extensions(&mut self) {
        let profile = self.profile;
        for (key, endings) in [("extensions", &profile.extensions), ("source_extensions", &profile.source_extensions)] {
            for (at, ending) in endings.iter().enumerate() {
                let plain = ending.trim().trim_start_matches(['*', '.']);
                if plain.is_empty() || ending.contains('/') {
                    self.wrong(key, format!("{ending:?} is not the ending of a file name; use one such as \"py\""));
                } else if plain != ending {
                    self.wrong(key, format!("{ending:?} never matches: an ending has no dot before it; use {plain:?}"));
                } else if endings[..at].contains(ending) {
                    self.wrong(key, format!("{ending:?} is there twice; remove one"));
                }
            }
        }
    }

    fn prewarmed(&mut self) {
        let prewarm = self.profile.prewarm.clone();
        let (all, forks) = (prewarm.len(), prewarm.iter().filter(|prewarm| prewarm.fork).count());
        if all > MAX_PREWARMED {
            self.wrong("prewarm", format!("{all} runtimes are to wait; use at most {MAX_PREWARMED}"));
        } else if forks > 1 {
            self.wrong("prewarm", format!("{forks} have fork = true; at most one may"));
        }
        let has_entry = |words: &[String]| words.iter().any(|word| word == "{entry}");
        for PrewarmSpec { command, any_entry, .. } in prewarm {
            let command = if command.is_empty() { &self.profile.run } else { &command };
            if any_entry && !has_entry(command) {
                let reason = "is true, but its command has no word \"{entry}\"; add it or remove any_entry";
                self.wrong("prewarm.any_entry", reason.to_owned());
            }
        }
    }

    fn levels(&mut self) {
        let pool = self.profile.pool;
        if pool.reuse == 0 {
            self.wrong("pool.reuse", "0 serves no submission; use 1 for a sandbox of its own for each".to_owned());
        }
        if pool.max_age_s == 0 {
            self.wrong("pool.max_age_s", "0 replaces every sandbox at once; use at least \"1s\"".to_owned());
        }
        if self.origins.of("pool.ceiling") == SettingOrigin::Default {
            return;
        }
        let floor = if self.origins.of("pool.floor") == SettingOrigin::Default { 1 } else { pool.floor.max(1) };
        if pool.ceiling == 0 {
            self.wrong("pool.ceiling", "0 leaves no sandbox; use at least 1".to_owned());
        } else if pool.ceiling < floor {
            let message = format!("{} is below pool.floor, {floor}; use at least {floor}", pool.ceiling);
            self.wrong("pool.ceiling", message);
        }
    }

    /// Files that the compile step is likely not to make, or that the run would not find: then
    /// every program fails.
    fn kept_files(&mut self) {
        let profile = self.profile;
        if profile.compile.is_empty() {
            return;
        }
        let words = profile.compile.iter().skip(1).chain(&profile.run);
        let named: Vec<&str> = words.map(|word| word.trim_start_matches("./")).collect();
        let kept = profile.keep.iter().filter(|path| !path.contains(['*', '?']));
        for path in kept.filter(|path| !named.iter().any(|word| word.ends_with(path.as_str()))) {
            let Some(near) = nearest(path, named.iter().copied()) else { continue };
            let message = format!("keep: {path:?} is in no command of the profile; did you mean {near:?}?");
            self.warnings.push(format!("{}: {message}", self.origin("keep")));
        }
        let run = profile.run.first().and_then(|word| file_in_the_box(word));
        let is_kept = |path: &str| profile.keep.iter().any(|kept| kept == path || kept.contains(['*', '?']));
        if let Some(path) = run.filter(|path| !is_kept(path)) {
            let message = format!(
                "run: {path} is not in keep: what the compile step makes there is removed before the program starts"
            );
            self.warnings.push(format!("{}: {message}", self.origin("run")));
        }
    }

    /// A run command that is the same for every submission.
    fn entry_is_named(&mut self) {
        let profile = self.profile;
        let names_it = |word: &String| {
            ["{entry}", "{stem}", "{sources}", profile.entry.as_str()].iter().any(|name| word.contains(name))
        };
        if profile.compile.is_empty() && !profile.finds_start && !profile.run.iter().any(names_it) {
            let origin = self.origin("run");
            let message = "run: no word has {entry}, {stem} or {sources}, so every submission runs alike";
            self.warnings.push(format!("{origin}: {message}"));
        }
    }

    /// Settings that are set and have no effect.
    fn idle_settings(&mut self) {
        let origins = self.origins;
        let is_set = |key: &str| origins.of(key) != SettingOrigin::Default;
        if let (true, Ok(limits)) = (is_set("limits.cpu_ms") && is_set("limits.wall_ms"), self.profile.run_limits())
            && limits.cpu > limits.wall.mul_f64(limits.cpus.max(1.0))
        {
            let message = "limits.cpu has no effect above what limits.wall and limits.cpus allow";
            self.warnings.push(format!("{}: {message}", origins.of("limits.cpu_ms")));
        }
        let idle = match self.profile.compile.is_empty() {
            true => ["keep", "compile_limits", "compile_args", "source_extensions"].as_slice(),
            false => &[],
        };
        for key in idle {
            let origin = self.origins.of(key);
            if origin != SettingOrigin::Default {
                self.warnings.push(format!("{origin}: {key} has no effect without a compile command"));
            }
        }
        let (pool, origin) = (self.profile.pool, self.origins.of("pool.hot"));
        if origin == SettingOrigin::Default {
            return;
        }
        if self.profile.prewarm.is_empty() && pool.hot > 0 {
            self.warnings.push(format!("{origin}: pool.hot has no effect without a [[prewarm]] runtime"));
        } else if pool.hot > pool.ceiling.max(pool.floor) {
            let message = format!("pool.hot has no effect above the ceiling, {}", pool.ceiling.max(pool.floor));
            self.warnings.push(format!("{origin}: {message}"));
        }
    }
}

/// A file that a command names by a path of its own in the folder of a program: `./main`, without a
/// placeholder.
fn file_in_the_box(word: &str) -> Option<&str> {
    let path = word.strip_prefix("./").or_else(|| word.strip_prefix("/box/"))?;
    (!path.contains(['{', '}'])).then_some(path)
}

/// Whether a path, or a pattern of paths, stays in the folder of a program.
fn is_below_the_box(path: &str) -> bool {
    path.split('/').all(|part| !["", ".", ".."].contains(&part)) && !path.chars().any(char::is_control)
}

fn out_of_range(error: &LimitError) -> String {
    let shown = |number: &str| match (Unit::of(error.field), number.parse()) {
        (Some((unit, _)), Ok(number)) => format!("{:?}", unit.show(number)),
        _ => number.to_owned(),
    };
    let (given, low, high) = (shown(&error.requested), shown(&error.low), shown(&error.high));
    format!("{given} is out of range; use {low} to {high}")
}

/// What is wrong with a word of a command: a name in braces that nothing replaces would reach the
/// program as it is, and every run would fail as if the submission were at fault. `key` is the
/// command's.
fn wrong_placeholder(word: &str, key: &str) -> Option<String> {
    let options = match key {
        "compile" => Some("compile_args"),
        "run" => Some("run_args"),
        _ => None,
    };
    let known = || PLACEHOLDERS.iter().copied().chain(options);
    for (before, braces) in
        word.match_indices('{').filter_map(|(at, _)| Some((&word[..at], word[at..].split_once('}')?.0)))
    {
        let (given, meant) = (&braces[1..], braces[1..].trim().to_lowercase());
        if given != meant && !before.ends_with('$') && known().any(|known| known == meant) {
            return Some(format!("{word:?}: {{{given}}} stands for nothing; did you mean {{{meant}}}?"));
        }
    }
    for found in names_in(word) {
        let name = found.name;
        let is_several = name == "sources" || Some(name) == options;
        if is_several && word.len() != name.len() + "{}".len() {
            return Some(format!("{word:?}: {{{name}}} stands for several words; give it a word of its own"));
        }
        if known().any(|known| known == name) {
            continue;
        }
        let near = nearest(name, known());
        if near.is_none() && found.is_attached {
            continue;
        }
        let near = near.map(|near| format!("; did you mean {{{near}}}?")).unwrap_or_default();
        let known = known().map(|name| format!("{{{name}}}")).collect::<Vec<_>>().join(", ");
        return Some(format!("{word:?}: {{{name}}} stands for nothing{near} (the placeholders are {known})"));
    }
    None
}
