//! Tokens between the store and memory: read when the store opens; when they were used is written
//! now and then, so that a request waits for no disk.

use std::sync::Arc;
use std::time::Duration;

use scheduler::StoreAccess;
use server::http::access::AccessControl;
use store::UseTokens;

/// How often it is written when tokens were used.
const PERIOD: Duration = Duration::from_secs(60);

/// Reads the tokens of a store that has just been opened.
pub(super) async fn load(store: &Arc<StoreAccess>, access: &AccessControl) {
    let Some(store) = store.get().cloned() else { return };
    match tokio::task::spawn_blocking(move || store.tokens()).await {
        Ok(Ok(tokens)) => access.set_stored(tokens),
        Ok(Err(error)) => tracing::error!(
            %error, "the tokens in the store cannot be read: only those of the configuration (http.tokens) are accepted"
        ),
        Err(_) => tracing::error!("the tokens in the store were not read"),
    }
}

/// Writes when tokens were used, until it is dropped.
pub(super) async fn keep_uses(store: Arc<StoreAccess>, access: Arc<AccessControl>) {
    loop {
        tokio::time::sleep(PERIOD).await;
        write_uses(&store, &access);
    }
}

/// Hands what was used since the last call to the store's writer. Never blocks.
pub(super) fn write_uses(store: &StoreAccess, access: &AccessControl) {
    let Some(store) = store.get() else { return };
    let used = access.take_used();
    if !used.is_empty() {
        store.use_tokens(UseTokens(used));
    }
}
