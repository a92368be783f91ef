//! Callbacks: reports that are to be delivered to a URL, in the outbox until they are.
//!
//! ```text
//!  Finish --one transaction--> outbox (destination 'callback') + callback (where to)
//!                                 |  ^
//!                                 |  '-- CallbackTry: in vain, next_ms later
//!                                 '----- CallbackEnd: delivered, or given up
//! ```
//!
//! What is being tried at the moment is known to the caller only: a process that ends forgets it,
//! and the next one tries again.

use rusqlite::{Connection, params};

use crate::change::{Change, Need, Rows};

/// Where a report is to be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallbackAddress {
    /// The id of the delivery, the same at each try.
    pub delivery: String,
    /// What is connected to. Receivers do not wait for each other.
    pub receiver: String,
    pub url: String,
    /// The hash of the token whose key signs it.
    pub token: [u8; 32],
}

impl CallbackAddress {
    /// Puts it into the outbox, due at once.
    pub(crate) fn insert(&self, rows: &Rows<'_>, history: i64) -> rusqlite::Result<()> {
        let mut insert = rows
            .connection
            .prepare_cached("INSERT INTO callback (history, delivery, url, token) VALUES (?1, ?2, ?3, ?4)")?;
        insert.execute(params![history, self.delivery, self.url, self.token])?;
        let mut insert = rows.connection.prepare_cached(
            "INSERT INTO outbox (history, destination, since_ms, next_ms, receiver) VALUES (?1, 'callback', ?2, ?3, ?4)",
        )?;
        insert.execute(params![history, rows.now.wall_ms, rows.now.store_ms, self.receiver]).map(drop)
    }
}

/// A receiver for which callbacks wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingReceiver {
    pub receiver: String,
    /// When the first of them is due, by the store's clock.
    pub next_ms: i64,
}

/// A callback that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueCallback {
    /// The key of its report in history.
    pub history: i64,
    /// The submission's id.
    pub id: String,
    /// Who submitted it, such as `token:ci`.
    pub principal: String,
    pub address: CallbackAddress,
    /// When its report was stored, in milliseconds since 1970.
    pub since_ms: i64,
    /// Tries so far.
    pub tries: u32,
}

pub(crate) fn receivers(connection: &Connection) -> rusqlite::Result<Vec<WaitingReceiver>> {
    let mut select = connection.prepare_cached(
        "SELECT receiver, min(next_ms) FROM outbox INDEXED BY outbox_receiver
         WHERE destination = 'callback' AND receiver IS NOT NULL GROUP BY receiver",
    )?;
    select.query_map([], |row| Ok(WaitingReceiver { receiver: row.get(0)?, next_ms: row.get(1)? }))?.collect()
}

/// How many callbacks of each principal wait.
pub(crate) fn by_principal(connection: &Connection) -> rusqlite::Result<Vec<(String, u64)>> {
    let mut select = connection.prepare_cached(
        "SELECT principal, count(*) FROM outbox JOIN history ON history.key = outbox.history
         WHERE destination = 'callback' GROUP BY principal",
    )?;
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs()));
    select.query_map([], read)?.collect()
}

/// What is due at a receiver: of each token the one that is due for the longest time, so that a
/// token with many does not hold up another.
pub(crate) fn due(
    connection: &Connection,
    receiver: &str,
    now_ms: i64,
    limit: usize,
) -> rusqlite::Result<Vec<DueCallback>> {
    let mut select = connection.prepare_cached(
        "SELECT outbox.history, history.id, history.principal, delivery, url, token, tries, since_ms, min(next_ms)
         FROM outbox INDEXED BY outbox_receiver
             JOIN callback ON callback.history = outbox.history JOIN history ON history.key = outbox.history
         WHERE destination = 'callback' AND receiver = ?1 AND next_ms <= ?2
         GROUP BY token ORDER BY min(next_ms) LIMIT ?3",
    )?;
    let read = |row: &rusqlite::Row<'_>| {
        let (delivery, url, token) = (row.get(3)?, row.get(4)?, row.get(5)?);
        Ok(DueCallback {
            history: row.get(0)?,
            id: row.get(1)?,
            principal: row.get(2)?,
            address: CallbackAddress { delivery, receiver: receiver.to_owned(), url, token },
            tries: row.get(6)?,
            since_ms: row.get(7)?,
        })
    };
    select.query_map(params![receiver, now_ms, i64::try_from(limit).unwrap_or(i64::MAX)], read)?.collect()
}

/// A callback was tried in vain.
#[derive(Debug)]
pub struct CallbackTry {
    /// The key of its report in history.
    pub history: i64,
    /// When it is tried again, by the store's clock.
    pub next_ms: i64,
    /// Whether it counts: a try that did not leave this machine does not.
    pub counts: bool,
}

impl Change for CallbackTry {
    type Output = ();
    const NEED: Need = Need::Now;

    fn bytes(&self) -> usize {
        0
    }

    fn apply(&self, rows: &mut Rows<'_>) -> rusqlite::Result<()> {
        let mut update = rows.connection.prepare_cached(
            "UPDATE outbox SET tries = tries + ?3, next_ms = ?2 WHERE history = ?1 AND destination = 'callback'",
        )?;
        update.execute(params![self.history, self.next_ms, i64::from(self.counts)]).map(drop)
    }
}

/// A callback is delivered, or given up. Its report stays in history.
#[derive(Debug)]
pub struct CallbackEnd {
    /// The key of its report in history.
    pub history: i64,
}

impl Change for CallbackEnd {
    type Output = ();
    const NEED: Need = Need::Now;

    fn bytes(&self) -> usize {
        0
    }

    fn apply(&self, rows: &mut Rows<'_>) -> rusqlite::Result<()> {
        for delete in [
            "DELETE FROM callback WHERE history = ?1",
            "DELETE FROM outbox WHERE history = ?1 AND destination = 'callback'",
        ] {
            rows.connection.prepare_cached(delete)?.execute([self.history])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{MINUTE_MS, TestTime, accept, answer, eventually, finish, intake, open, options};
    use crate::{Finish, Forget, Retention, Store};

    fn address(receiver: &str, url: &str) -> CallbackAddress {
        CallbackAddress {
            delivery: format!("delivery of {url}"),
            receiver: receiver.to_owned(),
            url: url.to_owned(),
            token: [7; 32],
        }
    }

    /// The key in history of a report whose callback waits.
    fn answered(store: &Store, id: &str, receiver: &str) -> i64 {
        let key = accept(store, intake("t", id, id));
        answer(store, Finish { callback: Some(address(receiver, id)), ..finish(key, "t", id, "report") })
    }

    fn due(store: &Store, receiver: &str) -> Vec<(String, u32)> {
        let due = store.due_callbacks(receiver, 10).unwrap();
        due.into_iter().map(|callback| (callback.id, callback.tries)).collect()
    }

    #[test]
    fn a_callback_waits_with_its_report_until_it_is_delivered() {
        let (folder, time) = (tempfile::tempdir().unwrap(), TestTime::new());
        let store = open(folder.path(), &time);
        let history = answered(&store, "a", "https://r:443");
        let [found] = &store.due_callbacks("https://r:443", 10).unwrap()[..] else { panic!("none is due") };
        assert_eq!((found.history, found.tries, found.principal.as_str()), (history, 0, "uid:1000"));
        assert_eq!(found.address, address("https://r:443", "a"));
        assert_eq!((store.figures().unwrap().callbacks, store.figures().unwrap().outbox), (1, 1));
        let next_ms = store.now_ms() + 5000;
        store.callback_tried(CallbackTry { history, next_ms, counts: true }).wait().unwrap();
        assert!(due(&store, "https://r:443").is_empty());
        let receiver = "https://r:443".to_owned();
        assert_eq!(store.waiting_receivers().unwrap(), [WaitingReceiver { receiver, next_ms }]);
        time.advance(5000);
        assert_eq!(due(&store, "https://r:443"), [("a".to_owned(), 1)]);
        let next_ms = store.now_ms();
        store.callback_tried(CallbackTry { history, next_ms, counts: false }).wait().unwrap();
        assert_eq!(due(&store, "https://r:443"), [("a".to_owned(), 1)], "a try that does not count");
        store.end_callback(CallbackEnd { history }).wait().unwrap();
        assert!(store.waiting_receivers().unwrap().is_empty());
        assert_eq!((store.figures().unwrap().callbacks, store.figures().unwrap().outbox), (0, 1));
        assert!(store.report(history).unwrap().is_some());
    }

    #[test]
    fn receivers_wait_apart_and_survive_the_process() {
        let (folder, time) = (tempfile::tempdir().unwrap(), TestTime::new());
        let store = open(folder.path(), &time);
        for (id, receiver) in [("a", "r1"), ("b", "r1"), ("c", "r2")] {
            answered(&store, id, receiver);
            time.advance(1);
        }
        drop(store);
        let store = open(folder.path(), &time);
        let receivers: Vec<String> =
            store.waiting_receivers().unwrap().into_iter().map(|waiting| waiting.receiver).collect();
        assert_eq!(receivers, ["r1", "r2"]);
        assert_eq!(due(&store, "r1"), [("a".to_owned(), 0)], "b is of the same token");
        assert_eq!(store.due_callbacks("r1", 1).unwrap().len(), 1);
        assert_eq!(due(&store, "r2"), [("c".to_owned(), 0)]);
        assert_eq!(store.figures().unwrap().callbacks_by_principal, [("uid:1000".to_owned(), 3)]);
    }

    #[test]
    fn a_token_with_many_callbacks_does_not_hold_up_another() {
        let (folder, time) = (tempfile::tempdir().unwrap(), TestTime::new());
        let store = open(folder.path(), &time);
        for id in ["a", "b", "c"] {
            answered(&store, id, "r");
            time.advance(1);
        }
        let key = accept(&store, intake("t", "other", "other"));
        let callback = Some(CallbackAddress { token: [8; 32], ..address("r", "other") });
        answer(&store, Finish { callback, ..finish(key, "t", "other", "report") });
        assert_eq!(due(&store, "r"), [("a".to_owned(), 0), ("other".to_owned(), 0)]);
    }

    #[test]
    fn history_stays_until_its_callback_is_over_and_is_forgotten_with_it() {
        let (folder, time) = (tempfile::tempdir().unwrap(), TestTime::new());
        let store = open(folder.path(), &time);
        store.set_retention(Retention { keep: std::time::Duration::from_secs(600), ..Retention::default() });
        let history = answered(&store, "a", "r");
        let forgotten = answered(&store, "b", "r");
        let plain = {
            let key = accept(&store, intake("t", "c", "c"));
            answer(&store, finish(key, "t", "c", "report"))
        };
        time.advance(60 * MINUTE_MS);
        store.set_retention(Retention { keep: std::time::Duration::from_secs(600), ..Retention::default() });
        eventually("old history goes", || store.report(plain).unwrap().is_none());
        assert!(store.report(history).unwrap().is_some());
        store.end_callback(CallbackEnd { history }).wait().unwrap();
        eventually("delivered history goes", || store.report(history).unwrap().is_none());
        assert!(store.report(forgotten).unwrap().is_some());
        store.forget(Forget { tenant: "t".to_owned(), principal: None }).wait().unwrap();
        assert!(store.waiting_receivers().unwrap().is_empty());
        assert!(!crate::tests::is_in_files(folder.path(), "delivery of b"));
    }

    #[test]
    fn a_damaged_file_loses_no_callback_that_can_be_read() {
        let (folder, time) = (tempfile::tempdir().unwrap(), TestTime::new());
        let store = Store::open(folder.path(), options(&time)).unwrap();
        let history = answered(&store, "a", "r");
        time.advance(60 * MINUTE_MS);
        eventually("the id is free", || store.known(10).unwrap().is_empty());
        drop(store);
        let damaged = folder.path().join("assay.db");
        let mut into = rusqlite::Connection::open_in_memory().unwrap();
        for migration in crate::schema::MIGRATIONS {
            into.execute_batch(migration).unwrap();
        }
        crate::salvage::salvage(&damaged, &mut into).unwrap();
        let [found] = &super::due(&into, "r", i64::MAX, 10).unwrap()[..] else { panic!("it is lost") };
        assert_eq!((found.history, found.address.url.as_str()), (history, "a"));
        let report = "SELECT count(*) FROM report WHERE history = ?1";
        assert_eq!(into.query_row(report, [history], |row| row.get::<_, i64>(0)).unwrap(), 1);
    }
}
