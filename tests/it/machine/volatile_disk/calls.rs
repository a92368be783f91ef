//! The calls of the file system, as the kernel makes them.

use super::*;

impl Filesystem for ServedDisk {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut image = self.image();
        let found = image.folder(parent).and_then(|folder| folder.current.get(name).copied().ok_or(Errno::ENOENT));
        match found.and_then(|number| image.attributes(number)) {
            Ok(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
            Err(error) => reply.error(error),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.image().attributes(inode.0) {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        inode: INodeNo,
        mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut image = self.image();
        let mut set = || {
            if let Some(size) = size {
                image.changes()?;
                let file = image.file(inode)?;
                file.current.resize(size as usize, 0);
                file.pending.push(PendingWrite::Length(size as usize));
            }
            if let (Some(mode), Some(inode)) = (mode, image.inodes.get_mut(&inode.0)) {
                inode.mode = (mode & 0o7777) as u16;
            }
            image.attributes(inode.0)
        };
        match set() {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let folder = Node::Folder(FolderEntries::default());
        match self.image().add(parent, name, folder, mode & !umask) {
            Ok(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
            Err(error) => reply.error(error),
        }
    }

    fn create(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, _: i32, reply: ReplyCreate) {
        match self.image().add(parent, name, Node::File(FileContents::default()), mode & !umask) {
            Ok(attributes) => {
                reply.created(&TTL, &attributes, Generation(0), FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
            }
            Err(error) => reply.error(error),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let mut image = self.image();
        let removed = image.changes().and_then(|()| image.folder(parent)).and_then(|folder| {
            folder.current.contains_key(name).then_some(()).ok_or(Errno::ENOENT)?;
            folder.change(EntryChange(vec![(name.to_owned(), None)]));
            Ok(())
        });
        answer(removed, reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mut image = self.image();
        let renamed = image.changes().and_then(|()| image.folder(parent)).and_then(|folder| {
            let number = *folder.current.get(name).ok_or(Errno::ENOENT)?;
            // the store renames within its folder only
            (parent == new_parent).then_some(()).ok_or(Errno::EXDEV)?;
            folder.change(EntryChange(vec![(name.to_owned(), None), (new_name.to_owned(), Some(number))]));
            Ok(())
        });
        answer(renamed, reply);
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut image = self.image();
        match image.is_alive().and_then(|()| image.file(inode)) {
            Ok(file) => {
                let start = (offset as usize).min(file.current.len());
                let end = (start + size as usize).min(file.current.len());
                reply.data(&file.current[start..end]);
            }
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut image = self.image();
        let room = image.capacity.saturating_sub(image.used());
        let written = image.changes().and_then(|()| image.file(inode)).and_then(|file| {
            let end = offset as usize + data.len();
            let grows = end.saturating_sub(file.current.len()) as u64;
            (grows <= room).then_some(()).ok_or(Errno::ENOSPC)?;
            write_at(&mut file.current, offset as usize, data);
            file.pending.push(PendingWrite::Data { offset: offset as usize, data: data.to_vec() });
            Ok(())
        });
        match written {
            Ok(()) => reply.written(data.len() as u32),
            Err(error) => reply.error(error),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        answer(self.image().is_alive(), reply);
    }

    fn fsync(&self, _: &Request, inode: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let mut image = self.image();
        let is_failing = image.failing_syncs > 0;
        let synced = image.changes().and_then(|()| image.file(inode)).and_then(|file| match is_failing {
            true => {
                file.pending.clear();
                Err(Errno::EIO)
            }
            false => {
                file.sync();
                Ok(())
            }
        });
        match synced {
            Ok(()) => image.syncs += 1,
            Err(_) => image.failing_syncs = image.failing_syncs.saturating_sub(1),
        }
        answer(synced, reply);
    }

    fn fsyncdir(&self, _: &Request, inode: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let mut image = self.image();
        let synced = image.changes().and_then(|()| image.folder(inode)).map(|folder| folder.sync(folder.pending.len()));
        answer(synced, reply);
    }

    fn readdir(&self, _: &Request, inode: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let mut image = self.image();
        let entries = match image.folder(inode) {
            Ok(folder) => folder.current.clone(),
            Err(error) => return reply.error(error),
        };
        for (at, (name, number)) in entries.into_iter().enumerate().skip(offset as usize) {
            let kind = image.attributes(number).map_or(FileType::RegularFile, |attributes| attributes.kind);
            if reply.add(INodeNo(number), at as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let image = self.image();
        let (total, free) = (image.capacity / 4096, image.capacity.saturating_sub(image.used()) / 4096);
        reply.statfs(total, free, free, 1 << 20, 1 << 20, 4096, 255, 4096);
    }
}

fn answer(result: Result<(), Errno>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}
