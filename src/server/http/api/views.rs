//! Routes that only read what the daemon knows.

use std::sync::LazyLock;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;

use super::call::ApiCall;
use super::problem::Problem;
use super::reply;
use crate::calls::context::ResultText;
use crate::calls::views;
use protocol::openapi;

pub(super) async fn profiles(call: ApiCall) -> Result<Response, Problem> {
    let context = &call.context;
    let result = context.account.work(0, || ResultText::of(&views::profiles(&context.daemon))).await;
    reply::counted(&context.account, result.into())
}

/// The status; what it says of other callers and of hosts is for admins.
pub(super) async fn status(call: ApiCall) -> Result<Response, Problem> {
    let context = &call.context;
    let make = || {
        let mut status = views::status(&context.daemon);
        if !context.peer.is_admin {
            status.queue.callers.clear();
            status.hosts.clear();
            status.pools.clear();
        }
        ResultText::of(&status)
    };
    let result = context.account.work(0, make).await;
    reply::counted(&context.account, result.into())
}

pub(super) async fn openapi(_: ApiCall) -> Response {
    static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| openapi::document().to_string().into());
    reply::json(StatusCode::OK, Body::from(DOCUMENT.clone()))
}
