//! The store, as far as it can be opened. Where the disk does not let it be opened, the daemon goes
//! on without history and acknowledges no submission until it can.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::receipt::ReceiptIssuer;
use super::store_watch::{self, StoreWatch};
use config::{StoreSettings, bounds};
use protocol::Principal;
use protocol::status::HealthCheck;
use store::{OpenError, Options, Retention, Store};
use telemetry::metrics::MetricsWriter;

/// The store of the service, open or not.
#[derive(Debug)]
pub struct StoreAccess {
    open: OnceLock<Arc<Store>>,
    /// Signs the receipts that go into it.
    issuer: ReceiptIssuer,
    retention: Mutex<Retention>,
    /// Why it is not open.
    problem: Mutex<String>,
    watch: StoreWatch,
}

fn retention(settings: &StoreSettings) -> Retention {
    Retention {
        keep: settings.keep(),
        max_bytes: settings.max_bytes,
        keep_sources: settings.keep_sources,
        report_ttl: bounds::REPORT_TTL,
    }
}

impl StoreAccess {
    pub fn new(settings: &StoreSettings, issuer: ReceiptIssuer) -> StoreAccess {
        StoreAccess {
            open: OnceLock::new(),
            issuer,
            retention: Mutex::new(retention(settings)),
            problem: Mutex::new("it is not open yet".to_owned()),
            watch: StoreWatch::default(),
        }
    }

    /// Opens the store in the state folder. Blocks.
    ///
    /// # Errors
    /// See [`OpenError`]; [`may_pass`] says whether to try again.
    pub fn open(&self, folder: &Path) -> Result<(), OpenError> {
        let retention = self.retention.lock().clone();
        match Store::open(folder, Options { retention, ..Options::default() }) {
            Ok(store) => {
                let store = self.open.get_or_init(|| Arc::new(store));
                // a reload may have changed it meanwhile
                store.set_retention(self.retention.lock().clone());
                Ok(())
            }
            Err(error) => {
                *self.problem.lock() = error.to_string();
                Err(error)
            }
        }
    }

    /// The store, if it is open.
    pub fn get(&self) -> Option<&Arc<Store>> {
        self.open.get()
    }

    /// Asks the store how it is, again and again, until this is dropped.
    pub(super) fn start_watch(self: &Arc<Self>) {
        let access = Arc::downgrade(self);
        tokio::spawn(async move {
            while let Some(access) = access.upgrade() {
                let ask = move || access.get().into_iter().for_each(|store| access.watch.ask(store));
                let _ = tokio::task::spawn_blocking(ask).await;
                tokio::time::sleep(store_watch::PERIOD).await;
            }
        });
    }

    /// Whether it keeps what it is to keep, as a row of health.
    pub fn check(&self) -> HealthCheck {
        self.watch.check(self.problem())
    }

    /// Callbacks in its outbox, when it was asked last.
    pub(super) fn waiting_callbacks(&self) -> u64 {
        self.watch.waiting_callbacks()
    }

    /// The same of one principal.
    pub(super) fn waiting_callbacks_of(&self, principal: &Principal) -> u64 {
        self.watch.waiting_callbacks_of(&principal.to_string())
    }

    /// Writes its metrics.
    pub(super) fn write_metrics(&self, writer: &mut MetricsWriter<'_>) -> fmt::Result {
        self.watch.write(self.problem(), writer)
    }

    /// What signs the receipts that go into it.
    pub fn issuer(&self) -> &ReceiptIssuer {
        &self.issuer
    }

    /// Why it is not open.
    pub fn problem(&self) -> Option<String> {
        self.open.get().is_none().then(|| self.problem.lock().clone())
    }

    /// Changes what is kept.
    pub fn set_settings(&self, settings: &StoreSettings) {
        *self.retention.lock() = retention(settings);
        if let Some(store) = self.open.get() {
            store.set_retention(retention(settings));
        }
    }

    /// Writes what waits, and takes nothing more. Blocks.
    pub fn close(&self) {
        if let Some(store) = self.open.get() {
            store.close();
        }
    }
}

/// Whether the store may open later: the disk is full, or fails. Otherwise the operator has to do
/// something about the file.
pub fn may_pass(error: &OpenError) -> bool {
    match error {
        OpenError::Sqlite { .. } | OpenError::Io { .. } => true,
        OpenError::LaterVersion { .. } | OpenError::Foreign(_) | OpenError::InUse(_) | OpenError::Network { .. } => {
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receipt::tests::issuer;

    #[test]
    fn a_store_that_could_not_be_opened_says_why_and_opens_later() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let access = StoreAccess::new(&StoreSettings::default(), issuer());
        let error = access.open(&state).unwrap_err();
        assert!(may_pass(&error) && access.get().is_none());
        assert_eq!(access.problem(), Some(error.to_string()));
        std::fs::create_dir(&state).unwrap();
        access.open(&state).unwrap();
        assert!(access.get().is_some() && access.problem().is_none());
        assert!(
            !may_pass(&StoreAccess::new(&StoreSettings::default(), issuer()).open(&state).unwrap_err()),
            "it is in use"
        );
    }
}
