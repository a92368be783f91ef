//! `assay store`: back up, check and shrink what the daemon keeps, and remove a tenant's data.

use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;

use super::client::RpcClient;
use super::out::{self, OutputFormat};
use super::{CliError, progress};

/// The commands below `store`.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Write a copy of the store to a new file while the daemon works; needs root, as the state
    /// folder does
    Backup {
        /// The file to make; large outputs go to FILE-outputs
        file: PathBuf,
    },
    /// Read the whole store and say what is wrong with it; exits 0 if nothing is
    Check,
    /// Write the store anew, as small as it can be; answers wait meanwhile
    Vacuum,
    /// Remove everything that is kept of a tenant: submissions, reports, outputs, receipts
    Forget {
        /// The tenant; "" is that of submissions without one
        tenant: String,
        /// Only what this uid handed in for the tenant
        #[arg(long)]
        uid: Option<u32>,
        /// Says that the data is to be removed; it cannot be brought back
        #[arg(long, required = true)]
        yes: bool,
    },
}

/// Runs `assay store`.
///
/// # Errors
/// A broken connection, an error response, or a backup that cannot be taken from the state folder.
pub async fn store(client: &mut RpcClient, output: OutputFormat, command: StoreCommand) -> Result<u8, CliError> {
    match command {
        StoreCommand::Backup { file } => backup(client, output, &file).await,
        StoreCommand::Check => check(client, output).await,
        StoreCommand::Vacuum => {
            let call = client.call("store.vacuum", json!({}));
            let reply = progress::show_while("writing the store anew", call).await?;
            output.print(&reply, || out::line(format_args!("the store has {} now", out::bytes_of(&reply, "bytes"))));
            Ok(0)
        }
        StoreCommand::Forget { tenant, uid, yes: _ } => {
            let mut params = json!({ "tenant": tenant });
            if let Some(uid) = uid {
                params["uid"] = json!(uid);
            }
            let reply = progress::show_while("removing the tenant's data", client.call("store.forget", params)).await?;
            output.print(&reply, || {
                out::line(format_args!("{} submissions and reports removed", out::text(&reply, "removed")));
            });
            Ok(0)
        }
    }
}

async fn check(client: &mut RpcClient, output: OutputFormat) -> Result<u8, CliError> {
    let reply = progress::show_while("reading the store", client.call("store.check", json!({}))).await?;
    let findings = out::list(&reply, "findings");
    output.print(&reply, || {
        if findings.is_empty() {
            out::line("the store is whole");
        }
        for finding in findings {
            out::line(out::clean(finding.as_str().unwrap_or_default()));
        }
    });
    Ok(u8::from(!findings.is_empty()))
}

/// The daemon writes the copy into its state folder, and nowhere else; it is taken from there with
/// the rights of this process.
async fn backup(client: &mut RpcClient, output: OutputFormat, file: &Path) -> Result<u8, CliError> {
    let outputs = with_suffix(file, "-outputs");
    if let Some(existing) = [file, &outputs].into_iter().find(|path| path.symlink_metadata().is_ok()) {
        return Err(CliError::Usage(format!("{} exists; name a new file", existing.display())));
    }
    let reply = progress::show_while("copying the store", client.call("store.backup", json!({}))).await?;
    let folder = PathBuf::from(reply["folder"].as_str().unwrap_or_default());
    let taken = take(&folder, file, &outputs);
    taken.map_err(|error| {
        CliError::Invalid(format!(
            "the copy is in {}, and cannot be moved to {}: {error}; run this as root, or move it yourself",
            folder.display(),
            file.display()
        ))
    })?;
    output.print(&reply, || out::line(format_args!("{} ({})", file.display(), out::bytes_of(&reply, "bytes"))));
    Ok(0)
}

fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Moves the copy out of the folder, and removes that.
fn take(folder: &Path, file: &Path, outputs: &Path) -> io::Result<()> {
    let staged = folder.join("assay.db");
    let staged_outputs = folder.join("assay.db-outputs");
    if staged_outputs.is_dir() {
        std::fs::DirBuilder::new().mode(0o700).create(outputs)?;
        for entry in std::fs::read_dir(&staged_outputs)? {
            let entry = entry?;
            copy(&entry.path(), &outputs.join(entry.file_name()))?;
        }
        File::open(outputs)?.sync_all()?;
    }
    copy(&staged, file)?;
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
    std::fs::remove_dir_all(folder)
}

/// Copies to a new private file, and syncs it.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut from = File::open(from)?;
    let mut to = File::options().create_new(true).write(true).mode(0o600).open(to)?;
    io::copy(&mut from, &mut to)?;
    to.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_copy_is_taken_out_of_the_state_folder_with_its_outputs() {
        let folder = tempfile::tempdir().unwrap();
        let staged = folder.path().join("backup");
        std::fs::create_dir_all(staged.join("assay.db-outputs")).unwrap();
        std::fs::write(staged.join("assay.db"), "rows").unwrap();
        std::fs::write(staged.join("assay.db-outputs/a"), "large").unwrap();
        let file = folder.path().join("copy.db");
        let outputs = with_suffix(&file, "-outputs");
        take(&staged, &file, &outputs).unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"rows");
        assert_eq!(std::fs::read(outputs.join("a")).unwrap(), b"large");
        assert!(!staged.exists());
        for path in [&file, &outputs.join("a")] {
            assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert!(take(&staged, &file, &outputs).is_err());
    }
}
