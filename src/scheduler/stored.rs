//! What the store has of a submission, and in which form.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use judge::work::Work;
use protocol::Submission;
use store::Store;

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
    Submission { submission: Box<Submission> },
    /// What a daemon of version 0.1 kept at the end of a drain.
    Work { work: Box<Work> },
}

/// The outputs of a stored report or request, by label.
pub(super) fn read_files(store: &Store, files: &[store::OutputFile]) -> Result<BTreeMap<String, Bytes>, store::Error> {
    files.iter().map(|file| Ok((file.label.clone(), Bytes::from(store.output(&file.name)?)))).collect()
}
