//! The key that signs receipts: a file in the state folder, made at the first start.
//!
//! A file that holds no key stops the start. A new key in its place would sign receipts that those
//! who know the old one refuse, so an operator decides.

use std::io;
use std::path::Path;

use super::private_file;
use protocol::ReceiptKey;

/// The key's name in the state folder.
const FILE: &str = "receipt-key.pem";

/// Reads the key, or makes it if there is none.
///
/// # Errors
/// A message: the file cannot be read or made, or holds no key.
pub(super) fn open(folder: &Path) -> Result<ReceiptKey, String> {
    let path = folder.join(FILE);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(folder, &path)?,
        Err(error) => return Err(format!("failed to read the key of receipts {}: {error}", path.display())),
    };
    ReceiptKey::from_pem(&text).map_err(|error| {
        format!(
            "failed to {error}: {}; put it back from a backup, or remove it: the next start makes a new one, and \
             earlier receipts stay valid with the old public key only",
            path.display()
        )
    })
}

fn make(folder: &Path, path: &Path) -> Result<String, String> {
    let text = ReceiptKey::generate().map_err(|error| format!("failed to {error}"))?;
    private_file::write(folder, path, &text)
        .map_err(|error| format!("failed to keep the key of receipts {}: {error}", path.display()))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_key_is_made_once_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path()).unwrap();
        let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["receipt-key.pem"]);
        let mode = std::fs::metadata(folder.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(open(folder.path()).unwrap().public(), first.public());
    }

    #[test]
    fn a_file_that_holds_no_key_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), "").unwrap();
        let message = open(folder.path()).unwrap_err();
        assert!(message.contains("receipt-key.pem; put it back from a backup, or remove it"), "{message}");
        assert_eq!(std::fs::read(folder.path().join(FILE)).unwrap(), b"");
        std::fs::remove_file(folder.path().join(FILE)).unwrap();
        open(folder.path()).unwrap();
    }
}
