//! A file system in memory that forgets at a power cut what was not synced.
//!
//! ```text
//!  write, truncate --> pending of the file ----fsync-----> durable contents
//!  create, rename, unlink --> pending of the folder --fsync of the folder--> durable entries
//!  power cut: of each file's pending writes any sectors survive, of each folder's changes the
//!             first so many; every call fails until the disk is mounted again
//! ```
//!
//! That is less than any real file system keeps: POSIX promises no more. A failed fsync forgets
//! what was pending, as Linux does, while reads still see it.
//!
//! A process of its own serves it: SQLite maps a file of the disk into memory, and a fault there
//! holds a lock that the serving threads would wait for in the same process.

mod calls;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

/// What a disk writes as a whole.
const SECTOR: usize = 512;

/// How long the kernel may remember names and sizes: it is the only one that changes them.
const TTL: Duration = Duration::from_secs(3600);

/// Random numbers that a seed repeats (xorshift64*).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }
}

#[derive(Debug, Clone)]
enum PendingWrite {
    Data { offset: usize, data: Vec<u8> },
    Length(usize),
}

#[derive(Debug, Clone, Default)]
struct FileContents {
    current: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<PendingWrite>,
}

fn write_at(contents: &mut Vec<u8>, offset: usize, data: &[u8]) {
    if contents.len() < offset + data.len() {
        contents.resize(offset + data.len(), 0);
    }
    contents[offset..offset + data.len()].copy_from_slice(data);
}

impl FileContents {
    fn sync(&mut self) {
        for write in self.pending.drain(..) {
            match write {
                PendingWrite::Data { offset, data } => write_at(&mut self.durable, offset, &data),
                PendingWrite::Length(length) => self.durable.resize(length, 0),
            }
        }
    }

    /// Any sectors of what was pending survive.
    fn cut(&mut self, random: &mut Random) {
        let odds = [0, 1, 8, 15, 16][random.below(5) as usize];
        for write in std::mem::take(&mut self.pending) {
            match write {
                PendingWrite::Length(length) if random.below(16) < odds => self.durable.resize(length, 0),
                PendingWrite::Length(_) => {}
                PendingWrite::Data { offset, data } => {
                    let (mut at, mut rest) = (offset, data.as_slice());
                    while !rest.is_empty() {
                        let (sector, after) = rest.split_at(rest.len().min(SECTOR - at % SECTOR));
                        if random.below(16) < odds {
                            write_at(&mut self.durable, at, sector);
                        }
                        (at, rest) = (at + sector.len(), after);
                    }
                }
            }
        }
        self.current.clone_from(&self.durable);
    }
}

/// A change of a folder: a name leads to another inode, or to none.
#[derive(Debug, Clone)]
struct EntryChange(Vec<(OsString, Option<u64>)>);

#[derive(Debug, Clone, Default)]
struct FolderEntries {
    current: BTreeMap<OsString, u64>,
    durable: BTreeMap<OsString, u64>,
    pending: Vec<EntryChange>,
}

impl FolderEntries {
    fn change(&mut self, change: EntryChange) {
        apply(&mut self.current, &change);
        self.pending.push(change);
    }

    fn sync(&mut self, changes: usize) {
        for change in self.pending.drain(..changes) {
            apply(&mut self.durable, &change);
        }
    }

    fn cut(&mut self, random: &mut Random) {
        self.sync(random.below(self.pending.len() as u64 + 1) as usize);
        self.pending.clear();
        self.current.clone_from(&self.durable);
    }
}

fn apply(entries: &mut BTreeMap<OsString, u64>, EntryChange(change): &EntryChange) {
    for (name, inode) in change {
        match inode {
            Some(inode) => entries.insert(name.clone(), *inode),
            None => entries.remove(name),
        };
    }
}

#[derive(Debug, Clone)]
enum Node {
    File(FileContents),
    Folder(FolderEntries),
}

#[derive(Debug, Clone)]
struct Inode {
    node: Node,
    mode: u16,
}

#[derive(Debug)]
struct Image {
    inodes: BTreeMap<u64, Inode>,
    next: u64,
    capacity: u64,
    is_read_only: bool,
    /// Fsyncs of files that fail from now on.
    failing_syncs: u64,
    /// Changes until the power cut.
    left: Option<u64>,
    is_cut: bool,
    syncs: u64,
}

impl Image {
    fn inode(&self, inode: INodeNo) -> Result<&Inode, Errno> {
        self.inodes.get(&inode.0).ok_or(Errno::ENOENT)
    }

    fn folder(&mut self, inode: INodeNo) -> Result<&mut FolderEntries, Errno> {
        match &mut self.inodes.get_mut(&inode.0).ok_or(Errno::ENOENT)?.node {
            Node::Folder(folder) => Ok(folder),
            Node::File(_) => Err(Errno::ENOTDIR),
        }
    }

    fn file(&mut self, inode: INodeNo) -> Result<&mut FileContents, Errno> {
        match &mut self.inodes.get_mut(&inode.0).ok_or(Errno::ENOENT)?.node {
            Node::File(file) => Ok(file),
            Node::Folder(_) => Err(Errno::EISDIR),
        }
    }

    fn used(&self) -> u64 {
        let lengths = self.inodes.values().map(|inode| match &inode.node {
            Node::File(file) => file.current.len() as u64,
            Node::Folder(_) => 0,
        });
        lengths.sum()
    }

    fn attributes(&self, number: u64) -> Result<FileAttr, Errno> {
        let inode = self.inode(INodeNo(number))?;
        let (kind, size) = match &inode.node {
            Node::File(file) => (FileType::RegularFile, file.current.len() as u64),
            Node::Folder(_) => (FileType::Directory, 0),
        };
        let (time, blocks) = (SystemTime::UNIX_EPOCH, size.div_ceil(512));
        let (ino, perm, ids) = (INodeNo(number), inode.mode, (0, 0));
        Ok(FileAttr {
            ino,
            size,
            blocks,
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind,
            perm,
            nlink: 1,
            uid: ids.0,
            gid: ids.1,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    fn is_alive(&self) -> Result<(), Errno> {
        if self.is_cut { Err(Errno::EIO) } else { Ok(()) }
    }

    /// Counts a change; the power goes before the last one.
    fn changes(&mut self) -> Result<(), Errno> {
        match &mut self.left {
            Some(0) => self.is_cut = true,
            Some(left) => *left -= 1,
            None => {}
        }
        self.is_alive()?;
        if self.is_read_only { Err(Errno::EROFS) } else { Ok(()) }
    }

    fn add(&mut self, parent: INodeNo, name: &OsStr, node: Node, mode: u32) -> Result<FileAttr, Errno> {
        self.changes()?;
        let number = self.next;
        let folder = self.folder(parent)?;
        if folder.current.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        folder.change(EntryChange(vec![(name.to_owned(), Some(number))]));
        self.next += 1;
        self.inodes.insert(number, Inode { node, mode: (mode & 0o7777) as u16 });
        self.attributes(number)
    }
}

/// The disk as the kernel's requests see it.
#[derive(Clone)]
struct ServedDisk(Arc<Mutex<Image>>);

impl ServedDisk {
    fn new() -> ServedDisk {
        let root = Inode { node: Node::Folder(FolderEntries::default()), mode: 0o755 };
        ServedDisk(Arc::new(Mutex::new(Image {
            inodes: [(INodeNo::ROOT.0, root)].into(),
            next: 2,
            capacity: 1 << 30,
            is_read_only: false,
            failing_syncs: 0,
            left: None,
            is_cut: false,
            syncs: 0,
        })))
    }

    fn image(&self) -> MutexGuard<'_, Image> {
        self.0.lock().unwrap()
    }

    fn mount(&self, folder: &Path, kind: &str) -> BackgroundSession {
        let mut config = Config::default();
        config.mount_options =
            vec![MountOption::FSName("volatile".to_owned()), MountOption::CUSTOM(format!("subtype={kind}"))];
        fuser::spawn_mount(self.clone(), folder, &config).unwrap()
    }

    /// The power comes back: what is left of the disk.
    fn come_back(&self, random: &mut Random) {
        let mut image = self.image();
        for inode in image.inodes.values_mut() {
            match &mut inode.node {
                Node::File(file) => file.cut(random),
                Node::Folder(folder) => folder.cut(random),
            }
        }
        let mut named = vec![INodeNo::ROOT.0];
        for inode in image.inodes.values() {
            if let Node::Folder(folder) = &inode.node {
                named.extend(folder.current.values());
            }
        }
        image.inodes.retain(|number, _| named.contains(number));
        (image.is_cut, image.left) = (false, None);
    }

    /// Carries out one line of the test's process.
    fn command(&self, session: &mut Option<BackgroundSession>, words: &[&str]) -> u64 {
        let number = |at: usize| words[at].parse::<u64>().unwrap();
        match words[0] {
            "mount" => *session = Some(self.mount(Path::new(words[1]), words[2])),
            "unmount" => {
                // a process that another test starts has our files until its exec
                while nix::mount::umount(words[1]) == Err(nix::errno::Errno::EBUSY) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                // an error says that it is unmounted already
                let _ = session.take().unwrap().umount_and_join();
            }
            "cut_after" => self.image().left = Some(number(1)),
            "cut" => self.image().is_cut = true,
            "is_cut" => return self.image().is_cut.into(),
            "come_back" => self.come_back(&mut Random::new(number(1))),
            "set_capacity" => self.image().capacity = number(1),
            "used" => return self.image().used(),
            "set_read_only" => self.image().is_read_only = number(1) == 1,
            "fail_syncs" => self.image().failing_syncs = number(1),
            "syncs" => return self.image().syncs,
            other => panic!("no command {other}"),
        }
        0
    }
}

/// Names the socket of the test to the process that serves its disk.
const SOCKET: &str = "ASSAY_VOLATILE_DISK";

#[test]
#[ignore = "the process that serves a disk to another test"]
fn serve_a_disk() {
    let Some(socket) = std::env::var_os(SOCKET) else { return };
    let mut stream = UnixStream::connect(socket).unwrap();
    let (disk, mut session) = (ServedDisk::new(), None);
    for line in BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok) {
        let answer = disk.command(&mut session, &line.split(' ').collect::<Vec<_>>());
        writeln!(stream, "{answer}").unwrap();
    }
}

/// A disk, mounted or not; the process that serves it ends on drop.
pub struct VolatileDisk {
    stream: Mutex<BufReader<UnixStream>>,
    server: Child,
}

impl Drop for VolatileDisk {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// A mounted disk; unmounted on drop.
pub struct MountedDisk<'a>(&'a VolatileDisk, PathBuf);

impl Drop for MountedDisk<'_> {
    fn drop(&mut self) {
        self.0.ask(&format!("unmount {}", self.1.display()));
    }
}

impl VolatileDisk {
    pub fn new() -> VolatileDisk {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        // also if a build has replaced the program meanwhile
        let server = Command::new("/proc/self/exe")
            .args(["--exact", "machine::volatile_disk::serve_a_disk", "--ignored"])
            .env(SOCKET, &socket)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let (stream, _) = listener.accept().unwrap();
        VolatileDisk { stream: Mutex::new(BufReader::new(stream)), server }
    }

    fn ask(&self, command: &str) -> u64 {
        let mut stream = self.stream.lock().unwrap();
        writeln!(stream.get_mut(), "{command}").unwrap();
        let mut answer = String::new();
        stream.read_line(&mut answer).unwrap();
        answer.trim().parse().unwrap_or_else(|_| panic!("{command}: the disk's process ended"))
    }

    /// Mounts it; `kind` stands behind `fuse.` in mountinfo.
    pub fn mount(&self, folder: &Path, kind: &str) -> MountedDisk<'_> {
        self.ask(&format!("mount {} {kind}", folder.display()));
        MountedDisk(self, folder.to_owned())
    }

    /// The power goes before the change after this many.
    pub fn cut_after(&self, changes: u64) {
        self.ask(&format!("cut_after {changes}"));
    }

    /// The power goes now.
    pub fn cut(&self) {
        self.ask("cut");
    }

    pub fn is_cut(&self) -> bool {
        self.ask("is_cut") == 1
    }

    /// The power comes back: a part of what was not synced is there.
    pub fn come_back(&self, random: &mut Random) {
        self.ask(&format!("come_back {}", random.below(1 << 32)));
    }

    pub fn set_capacity(&self, bytes: u64) {
        self.ask(&format!("set_capacity {bytes}"));
    }

    pub fn used(&self) -> u64 {
        self.ask("used")
    }

    pub fn set_read_only(&self, is_read_only: bool) {
        self.ask(&format!("set_read_only {}", u64::from(is_read_only)));
    }

    /// The next fsyncs of files fail.
    pub fn fail_syncs(&self, count: u64) {
        self.ask(&format!("fail_syncs {count}"));
    }

    /// Fsyncs of files that succeeded.
    pub fn syncs(&self) -> u64 {
        self.ask("syncs")
    }
}
