//! Compiled artifacts on disk, addressed by what went into them.
//!
//! ```text
//!  key = hash of init, image, uid, tenant, profile, every file, and the compile step
//!        (command, environment, limits)
//!  get: entry found and its checksum right --> the compile step is skipped
//!       otherwise                          --> compiled
//!  put: after a successful compile, before anything that it made has run
//! ```
//!
//! Entries are never shared between uids or tenants. A truncated or changed file is not a valid
//! entry. The folder has a bound; the uid with the most bytes loses its least recently used
//! entries. No error here fails a submission: it counts as a miss.
//!
//! A file's name begins with its uid. Sizes and uses are known in memory; the folder is read for
//! the first entry and again after [`RESCAN`]: another daemon or an operator may change it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::cache_index::CacheIndex;
use crate::work::{CompileStep, WorkFile};
use protocol::{Account, Caller, Profile, RunFacts};

/// Permission bits of an artifact's files.
const ARTIFACT_MODE: u32 = 0o755;

/// After this time the folder is read again.
const RESCAN: Duration = Duration::from_mins(10);

/// Prefix of files that are being written.
const TEMPORARY: &str = ".tmp";

/// What the folder held when it was read, and what changed since.
#[derive(Debug, Default)]
struct FolderState {
    index: CacheIndex,
    read_at: Option<Instant>,
}

/// The cache of compiled artifacts. Clones share it.
#[derive(Debug, Clone)]
pub struct Cache {
    known: Arc<Mutex<FolderState>>,
    folder: PathBuf,
    /// Digest of the init program: another init never uses this one's entries.
    salt: [u8; 32],
    max_bytes: u64,
}

/// The key of a compile step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheKey {
    account: Account,
    hash: [u8; 32],
}

impl CacheKey {
    fn name(&self) -> OsString {
        format!("{}-{}", owner_name(&self.account), base16ct::lower::encode_string(&self.hash)).into()
    }
}

/// The first part of an entry's name. That of a uid is its number, as in version 0.1.
fn owner_name(account: &Account) -> String {
    match account {
        Account::Uid(uid) => uid.to_string(),
        Account::Token(name) => format!("token.{name}"),
        Account::Anonymous => "anon".to_owned(),
    }
}

/// The account of an entry's name.
fn owner(name: &OsStr) -> Option<Account> {
    match name.to_str()?.rsplit_once('-')?.0 {
        "anon" => Some(Account::Anonymous),
        owner => match owner.strip_prefix("token.") {
            Some(name) => Some(Account::Token(name.into())),
            None => owner.parse().ok().map(Account::Uid),
        },
    }
}

/// The result of a successful compile step.
#[derive(Debug, Clone, PartialEq)]
pub struct Artifact {
    pub facts: RunFacts,
    pub files: Vec<WorkFile>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ArtifactHeader {
    facts: RunFacts,
    /// Path and length of each file, in the order of the bytes that follow.
    files: Vec<(String, usize)>,
}

impl Artifact {
    /// An artifact of files that were collected from a sandbox.
    pub fn new(facts: RunFacts, files: Vec<(String, Vec<u8>)>) -> Artifact {
        let file = |(path, data): (String, Vec<u8>)| WorkFile { path, mode: ARTIFACT_MODE, data: Bytes::from(data) };
        Artifact { facts, files: files.into_iter().map(file).collect() }
    }

    fn encode(&self) -> Option<Vec<u8>> {
        let files = self.files.iter().map(|file| (file.path.clone(), file.data.len())).collect();
        let head = serde_json::to_vec(&ArtifactHeader { facts: self.facts.clone(), files }).ok()?;
        let mut body = u32::try_from(head.len()).ok()?.to_le_bytes().to_vec();
        body.extend_from_slice(&head);
        self.files.iter().for_each(|file| body.extend_from_slice(&file.data));
        let mut all = Sha256::digest(&body).to_vec();
        all.append(&mut body);
        Some(all)
    }

    fn decode(bytes: Vec<u8>) -> Option<Artifact> {
        let bytes = Bytes::from(bytes);
        let (sum, body) = (bytes.get(..32)?, bytes.slice(32.min(bytes.len())..));
        if Sha256::digest(&body).as_slice() != sum {
            return None;
        }
        let length = u32::from_le_bytes(body.get(..4)?.try_into().ok()?) as usize;
        let head: ArtifactHeader = serde_json::from_slice(body.get(4..4 + length)?).ok()?;
        let mut at = 4 + length;
        let mut files = Vec::with_capacity(head.files.len());
        for (path, length) in head.files {
            let end = at.checked_add(length).filter(|end| *end <= body.len())?;
            files.push(WorkFile { path, mode: ARTIFACT_MODE, data: body.slice(at..end) });
            at = end;
        }
        (at == body.len()).then_some(Artifact { facts: head.facts, files })
    }
}

impl Cache {
    /// A cache in a folder; `init` is the content of the init program. `max_bytes` 0 turns the
    /// cache off.
    pub fn new(folder: PathBuf, init: &[u8], max_bytes: u64) -> Cache {
        Cache { known: Arc::default(), folder, salt: Sha256::digest(init).into(), max_bytes }
    }

    /// The key of a compile step with this image; `None` if there is nothing to cache.
    pub fn key(
        &self,
        caller: &Caller,
        profile: &Profile,
        files: &[WorkFile],
        compile: Option<&CompileStep>,
        image: &str,
    ) -> Option<CacheKey> {
        let compile = compile.filter(|compile| !compile.keep.is_empty() && self.max_bytes > 0)?;
        let mut hash = Sha256::new_with_prefix(self.salt);
        let mut part = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        part(image.as_bytes());
        part(caller.principal.to_string().as_bytes());
        part(caller.tenant.as_bytes());
        part(&serde_json::to_vec(profile).ok()?);
        part(&serde_json::to_vec(compile).ok()?);
        for file in files {
            part(file.path.as_bytes());
            part(&file.mode.to_le_bytes());
            part(&file.data);
        }
        Some(CacheKey { account: caller.account(), hash: hash.finalize().into() })
    }

    fn path(&self, key: &CacheKey) -> PathBuf {
        self.folder.join(key.name())
    }

    /// The artifact of an earlier compile. A file that is not a valid entry is removed.
    pub async fn get(&self, key: CacheKey) -> Option<Artifact> {
        let (path, known) = (self.path(&key), self.known.clone());
        let read = move || {
            let bytes = std::fs::read(&path).ok()?;
            let artifact = Artifact::decode(bytes);
            match &artifact {
                Some(_) => {
                    known.lock().index.touch(&key.name());
                    drop(std::fs::File::open(&path).and_then(|file| file.set_modified(SystemTime::now())));
                }
                None => {
                    known.lock().index.remove(&key.name());
                    drop(std::fs::remove_file(&path));
                }
            }
            artifact
        };
        tokio::task::spawn_blocking(read).await.ok().flatten()
    }

    /// Stores an artifact in the background, unless it exceeds a quarter of the cache.
    pub fn put(&self, key: CacheKey, artifact: Artifact) {
        let (cache, path) = (self.clone(), self.path(&key));
        tokio::task::spawn_blocking(move || {
            let Some(bytes) = artifact.encode().filter(|bytes| bytes.len() as u64 <= cache.max_bytes / 4) else {
                return;
            };
            let written = write(&cache.folder, &path, &bytes);
            if let Err(error) = written.and_then(|()| cache.trim((key, bytes.len() as u64))) {
                tracing::warn!(folder = %cache.folder.display(), %error, "the compile cache cannot store an artifact");
            }
        });
    }

    /// Removes all entries. One that is being written stays.
    pub fn clear(&self) {
        let mut known = self.known.lock();
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| !entry.file_name().to_string_lossy().starts_with(TEMPORARY)) {
            if let Err(error) = std::fs::remove_file(entry.path())
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(file = %entry.path().display(), %error, "the compile cache cannot remove an artifact");
            }
        }
        *known = FolderState::default();
    }

    /// Counts a new entry, and removes others until the rest is within the bound.
    fn trim(&self, (key, bytes): (CacheKey, u64)) -> io::Result<()> {
        let mut known = self.known.lock();
        if known.read_at.is_none_or(|read_at| read_at.elapsed() >= RESCAN) {
            *known = FolderState { index: read_folder(&self.folder)?, read_at: Some(Instant::now()) };
        }
        known.index.insert(Some(key.account.clone()), key.name(), bytes);
        for name in known.index.trim(self.max_bytes) {
            match std::fs::remove_file(self.folder.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The entries of the folder in the order of their last use, without what is being written.
fn read_folder(folder: &Path) -> io::Result<CacheIndex> {
    let now = SystemTime::now();
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // another task may have replaced or removed it
        let Ok(meta) = entry.metadata() else { continue };
        let (used, name) = (meta.modified()?, entry.file_name());
        let is_new = now.duration_since(used).is_ok_and(|age| age < RESCAN);
        if !(is_new && name.to_string_lossy().starts_with(TEMPORARY)) {
            entries.push((used, meta.len(), name));
        }
    }
    entries.sort();
    let mut index = CacheIndex::default();
    for (_, bytes, name) in entries {
        index.insert(owner(&name), name, bytes);
    }
    Ok(index)
}

fn write(folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut temporary = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(folder)?;
    io::Write::write_all(&mut temporary, bytes)?;
    temporary.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accept::accept;
    use crate::work::Work;
    use protocol::{Outcome, Principal};
    use std::sync::Arc;

    fn work(uid: u32, change: impl FnOnce(&mut serde_json::Value)) -> Work {
        let profile: Profile =
            toml::from_str("name='c'\nimage='c'\nentry='a.c'\nrun=['./a']\ncompile=['cc','a.c']\nkeep=['a']").unwrap();
        let mut submission = serde_json::json!({ "language": "c", "files": [{ "path": "a.c", "content": "x" }] });
        change(&mut submission);
        let submission = serde_json::from_value(submission).unwrap();
        accept(&submission, &Principal::Uid(uid), &[("c".to_owned(), Arc::new(profile))].into(), &|_| None).unwrap()
    }

    fn artifact(bytes: usize) -> Artifact {
        Artifact::new(RunFacts::bare(Outcome::Exited), vec![("a".to_owned(), vec![7; bytes]), ("b".to_owned(), vec![])])
    }

    #[test]
    fn every_input_of_the_compile_step_and_the_caller_change_the_key() {
        let cache = Cache::new(PathBuf::from("/nowhere"), b"init", 1000);
        let of = |cache: &Cache, work: Work, image: &str| {
            cache.key(&work.caller, &work.profile, &work.files, work.compile.as_ref(), image).unwrap()
        };
        let key = |uid, change: fn(&mut serde_json::Value)| of(&cache, work(uid, change), "sha256:1");
        let usual = key(1, |_| {});
        assert_eq!(usual, key(1, |_| {}));
        let others = [
            key(2, |_| {}),
            key(1, |json| json["tenant"] = "t".into()),
            key(1, |json| json["files"][0]["content"] = "y".into()),
            key(1, |json| json["env"] = serde_json::json!({ "A": "B" })),
            key(1, |json| json["compile_limits"] = serde_json::json!({ "cpu_ms": 5 })),
            of(&cache, work(1, |_| {}), "sha256:2"),
            of(&Cache::new(PathBuf::from("/nowhere"), b"other", 1000), work(1, |_| {}), "sha256:1"),
        ];
        assert!(others.iter().all(|other| *other != usual));
        // what follows the compile step does not change the key
        assert_eq!(usual, key(1, |json| json["tests"] = serde_json::json!([{ "stdin": "1" }])));
    }

    #[tokio::test]
    async fn an_entry_is_returned_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().join("cache"), b"init", 10_000);
        let key = CacheKey { account: Account::Uid(1), hash: [1; 32] };
        assert_eq!(cache.get(key.clone()).await, None);
        std::fs::create_dir(folder.path().join("cache")).unwrap();
        let bytes = artifact(100).encode().unwrap();
        std::fs::write(cache.path(&key), &bytes).unwrap();
        assert_eq!(cache.get(key.clone()).await, Some(artifact(100)));
        for at in [0, 31, 32, 40, bytes.len() - 1] {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            std::fs::write(cache.path(&key), &bad).unwrap();
            assert_eq!(cache.get(key.clone()).await, None);
            assert!(!cache.path(&key).exists());
            std::fs::write(cache.path(&key), &bytes[..at]).unwrap();
            assert_eq!(cache.get(key.clone()).await, None);
        }
    }

    #[test]
    fn the_least_recently_used_entries_are_removed_first() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().to_owned(), b"init", 2500);
        write_aged(folder.path(), &[(30, "old"), (20, "older than new"), (10, "new")]);
        let newest = CacheKey { account: Account::Uid(1), hash: [1; 32] };
        cache.trim((newest, 0)).unwrap();
        assert_eq!(names(folder.path()), ["new", "older than new"]);
    }

    fn write_aged(folder: &Path, files: &[(u64, &str)]) {
        for (age, name) in files {
            let path = folder.join(name);
            std::fs::write(&path, vec![0; 1000]).unwrap();
            let then = SystemTime::now() - std::time::Duration::from_secs(*age);
            std::fs::File::open(&path).unwrap().set_modified(then).unwrap();
        }
    }

    fn names(folder: &Path) -> Vec<OsString> {
        let mut left: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        left
    }

    #[test]
    fn a_cleared_cache_has_no_entries_and_takes_new_ones() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().to_owned(), b"init", 4500);
        write_aged(folder.path(), &[(30, "8-0"), (20, "old")]);
        cache.trim((CacheKey { account: Account::Uid(8), hash: [1; 32] }, 0)).unwrap();
        cache.clear();
        assert!(names(folder.path()).is_empty());
        cache.trim((CacheKey { account: Account::Uid(8), hash: [2; 32] }, 1000)).unwrap();
        Cache::new(folder.path().join("none"), b"init", 4500).clear();
    }

    #[test]
    fn a_uid_that_compiles_much_does_not_evict_what_another_one_compiled_before() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().to_owned(), b"init", 4500);
        write_aged(folder.path(), &[(3000, "7-0"), (30, "8-0"), (20, "8-1"), (5, ".tmp1"), (3000, ".tmp2")]);
        for at in 2..9 {
            let key = CacheKey { account: Account::Uid(8), hash: [at; 32] };
            std::fs::write(cache.path(&key), vec![0; 1000]).unwrap();
            cache.trim((key, 1000)).unwrap();
        }
        let [other, last] = [7, 8].map(|at| CacheKey { account: Account::Uid(8), hash: [at; 32] }.name());
        let left = names(folder.path());
        assert_eq!(left.iter().filter(|name| owner(name) == Some(Account::Uid(7))).count(), 1, "{left:?}");
        assert!(left.contains(&other) && left.contains(&last) && left.contains(&".tmp1".into()), "{left:?}");
    }
}
