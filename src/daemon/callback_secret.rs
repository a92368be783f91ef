//! The secret from which the keys of callbacks follow: a file in the state folder, made at the
//! first start.
//!
//! A file that holds no secret stops the start. With a new one, no receiver that knows an earlier
//! key would believe a callback, so an operator decides.

use std::io;
use std::path::Path;

use super::private_file;
use protocol::callback::CallbackSecret;

/// Its name in the state folder.
const FILE: &str = "callback-secret";

/// Reads the secret, or makes it if there is none.
///
/// # Errors
/// A message: the file cannot be read or made, or holds no secret.
pub(super) fn open(folder: &Path) -> Result<CallbackSecret, String> {
    let path = folder.join(FILE);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let text = CallbackSecret::generate().map_err(|error| format!("failed to {error}"))?;
            private_file::write(folder, &path, &text)
                .map_err(|error| format!("failed to keep the secret of callbacks {}: {error}", path.display()))?;
            text
        }
        Err(error) => return Err(format!("failed to read the secret of callbacks {}: {error}", path.display())),
    };
    CallbackSecret::from_text(&text).map_err(|error| {
        format!(
            "failed to {error}: {}; put it back from a backup, or remove it: the next start makes a new one, and every \
             receiver of callbacks needs a new key",
            path.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_secret_is_made_once_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path()).unwrap().key(&[7; 32]);
        let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["callback-secret"]);
        let mode = std::fs::metadata(folder.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(open(folder.path()).unwrap().key(&[7; 32]) == first);
    }

    #[test]
    fn a_file_that_holds_no_secret_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), "0f").unwrap();
        let message = open(folder.path()).unwrap_err();
        assert!(message.contains("callback-secret; put it back from a backup, or remove it"), "{message}");
        assert_eq!(std::fs::read(folder.path().join(FILE)).unwrap(), b"0f");
    }
}
