//! The events of a submission as server-sent events: `id` is the event's number, `event` its kind,
//! `data` its JSON as on the socket. `event: done` is the last; a client that has it need not
//! connect again.

use std::convert::Infallible;
use std::sync::Arc;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{Stream, unfold};
use http::{HeaderMap, HeaderValue};

use super::call::{ApiCall, RequestRoom};
use super::problem::Problem;
use super::query::{Id, Params};
use crate::calls::error::CallError;
use crate::calls::events::event_body;
use crate::calls::socket_bytes::{ByteAccount, HeldBytes};
use crate::calls::{submissions, to_value};
use crate::http::access::{AccessControl, Identity};
use config::bounds;
use judge::events::{EventReader, NumberedEvent};
use protocol::http::TenantQuery;
use serde_json::json;

const LAST_EVENT_ID: &str = "last-event-id";

/// The number of the first event to send.
pub(super) fn first_event(headers: &HeaderMap) -> Result<u64, CallError> {
    let Some(last) = headers.get(LAST_EVENT_ID) else { return Ok(0) };
    let number =
        last.to_str().ok().and_then(|text| text.trim().parse::<u64>().ok()).and_then(|last| last.checked_add(1));
    number.ok_or_else(|| CallError::bad("Last-Event-ID", "Last-Event-ID: must be the id of an event of this stream"))
}

/// A stream of events under way.
struct Following {
    id: String,
    events: Option<EventReader>,
    access: Arc<AccessControl>,
    identity: Identity,
    account: ByteAccount,
    /// Counts the event that is being sent.
    sending: Option<HeldBytes>,
    _room: RequestRoom,
}

impl Following {
    /// The next event, once there is room for it.
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Following)> {
        self.sending = None;
        let events = self.events.as_mut()?;
        let next = tokio::select! {
            next = events.next() => next,
            // the token was revoked, or the session is over
            () = self.access.ended(&self.identity) => return None,
        };
        let event = match next {
            Some(NumberedEvent { seq, event, dropped_bytes }) => {
                let mut body = event_body(&self.id, seq, event);
                body.dropped_bytes = Some(dropped_bytes).filter(|bytes| *bytes > 0);
                let (kind, text) = (body.kind.as_str(), to_value(&body).to_string());
                self.sending = Some(self.account.hold_when_free(text.len()).await);
                Event::default().id(seq.to_string()).event(kind).data(text)
            }
            None => {
                self.events = None;
                Event::default().event("done").data(json!({ "id": self.id, "state": "done" }).to_string())
            }
        };
        Some((Ok(event), self))
    }
}

fn stream(following: Following) -> impl Stream<Item = Result<Event, Infallible>> {
    unfold(following, Following::next)
}

pub(super) async fn follow(
    call: ApiCall,
    Id(id): Id,
    Params(TenantQuery { tenant }): Params<TenantQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let first = first_event(&headers)?;
    let room = call.room_for_stream()?;
    let handle = submissions::find(&call.context, &id, tenant.as_deref())?;
    let following = Following {
        id: handle.id.clone(),
        events: Some(handle.io.log.read_from(first)),
        access: call.context.daemon.access.clone(),
        identity: call.identity.clone(),
        account: call.context.account.clone(),
        sending: None,
        _room: room,
    };
    let pulse = KeepAlive::new().interval(bounds::EVENT_STREAM_PULSE);
    let mut response = Sse::new(stream(following)).keep_alive(pulse).into_response();
    // a reverse proxy must not gather events
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_goes_on_after_the_last_event_that_was_received() {
        let first = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(LAST_EVENT_ID, HeaderValue::from_str(text).unwrap());
            first_event(&headers).ok()
        };
        assert_eq!(first_event(&HeaderMap::new()).ok(), Some(0));
        assert_eq!((first("0"), first(" 41 "), first("x"), first("-1")), (Some(1), Some(42), None, None));
        assert_eq!(first(&u64::MAX.to_string()), None);
    }
}
