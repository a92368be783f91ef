//! What the store has of a submission, and in which form.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::callbacks::PendingCallback;
use judge::work::Work;
use protocol::Submission;
use store::{Store, StoredRequest};

/// Where a submission is in the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Stored {
    /// The store has nothing of it.
    #[default]
    No,
    /// It was taken in.
    Held {
        key: i64,
        /// Its start is counted.
        is_started: bool,
    },
    /// Its report is its row's.
    Answered { history: i64 },
    /// Its report was left to history, of which nothing is promised.
    Recorded,
    /// It was not taken in: it was not acknowledged, and its id is free.
    Refused,
}

/// A request as the store has it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "format", rename_all = "snake_case")]
pub(super) enum StoredForm {
    /// What the caller handed in. Its blobs are files, labelled with their ids.
    Submission {
        submission: Box<Submission>,
        /// SHA-256 of the token whose key signs its callback, in hexadecimal.
        #[serde(default)]
        callback_token: Option<String>,
    },
    /// What a daemon of version 0.1 kept at the end of a drain.
    Work { work: Box<Work> },
}

/// The outputs of a stored report or request, by label.
pub(super) fn read_files(store: &Store, files: &[store::OutputFile]) -> Result<BTreeMap<String, Bytes>, store::Error> {
    files.iter().map(|file| Ok((file.label.clone(), Bytes::from(store.output(&file.name)?)))).collect()
}

/// The hash of a token as text.
pub(super) fn token_text(token: &[u8; 32]) -> String {
    token.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn token_of(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let byte = |pair: &[u8]| Some(value(pair[0])? << 4 | value(pair[1])?);
    let bytes: Option<Vec<u8>> = digits.chunks_exact(2).map(byte).collect();
    bytes?.try_into().ok()
}

/// What a request says of its callback; the rest is not read.
#[derive(Deserialize)]
struct CallbackPart {
    callback_token: Option<String>,
    submission: Option<UrlPart>,
}

#[derive(Deserialize)]
struct UrlPart {
    callback_url: Option<String>,
}

/// The callback of a request that was taken in, whether or not its submission can still run.
pub(super) fn stored_callback(request: &StoredRequest) -> Option<PendingCallback> {
    let part: CallbackPart = serde_json::from_slice(&request.body).ok()?;
    let token = token_of(&part.callback_token?)?;
    PendingCallback::new(&part.submission?.callback_url?, token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_keeps_its_callback() {
        let callback = PendingCallback::new("https://hooks.example/a", [0xa7; 32]).unwrap();
        let token = token_text(&callback.token);
        let stored = |body: String| stored_callback(&StoredRequest { body: body.into_bytes(), files: Vec::new() });
        let body = format!(
            r#"{{"format":"submission","submission":{{"language":"x","files":[{{"path":"a"}}],"callback_url":"{}"}},"callback_token":"{token}"}}"#,
            callback.url
        );
        assert_eq!(stored(body.clone()), Some(callback));
        assert_eq!(stored(body.replace("\"callback_token\"", "\"other\"")), None);
        assert_eq!(stored(body.replace(&token, "a7")), None);
        assert_eq!(stored("{}".to_owned()), None);
    }
}
