//! Content that is larger than a body of JSON: uploaded in pieces, downloaded as an attachment that
//! no browser shows.

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION};
use http::{HeaderValue, StatusCode};

use super::body::{self, Pieces};
use super::call::ApiCall;
use super::download::DownloadBody;
use super::problem::Problem;
use super::query::Id;
use super::reply;
use crate::calls::blobs;
use crate::calls::error::CallError;
use crate::calls::pace::CallerPace;
use crate::calls::to_value;
use config::bounds;
use protocol::code::Code;
use protocol::results::BlobPut;
use scheduler::BlobStore as _;

/// Bytes that are gathered before they are added, because each time all blobs are counted.
const PIECE_BYTES: usize = 128 * 1024;

/// A blob that is removed unless it is completed.
struct BlobUpload<'a> {
    call: &'a ApiCall,
    id: Option<String>,
    bytes: u64,
    is_complete: bool,
}

impl BlobUpload<'_> {
    fn add(&mut self, data: &[u8], is_last: bool) -> Result<(), CallError> {
        let context = &self.call.context;
        let blobs = &context.daemon.blobs;
        let id = blobs.put(&context.peer.principal, self.id.as_deref(), self.bytes, data, is_last)?;
        self.bytes += data.len() as u64;
        self.is_complete = is_last;
        self.id = Some(id);
        Ok(())
    }
}

impl Drop for BlobUpload<'_> {
    fn drop(&mut self) {
        if let (false, Some(id)) = (self.is_complete, &self.id) {
            self.call.context.daemon.blobs.remove(id);
        }
    }
}

/// The next piece; a client that does not keep the pace is given up.
async fn next_piece(pieces: &mut Pieces, pace: &mut CallerPace) -> Result<Option<Bytes>, Problem> {
    let Ok(piece) = tokio::time::timeout_at(pace.until(), pieces.next()).await else {
        let (least, seconds) = (bounds::SLOW_READER_BYTES, bounds::SLOW_READER.as_secs());
        let message = format!("less than {least} bytes of the body arrived in {seconds} s");
        return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, Code::BadRequest, message));
    };
    let piece = piece?;
    pace.add(piece.as_ref().map_or(0, Bytes::len));
    Ok(piece)
}

pub(super) async fn upload(call: ApiCall, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    body::check_type(&parts.headers, "application/octet-stream")?;
    let mut pieces = Pieces::new(&parts.headers, body, bounds::MAX_BLOB_BYTES, "")?;
    let mut pace = CallerPace::new();
    let mut upload = BlobUpload { call: &call, id: None, bytes: 0, is_complete: false };
    let mut gathered = BytesMut::new();
    while let Some(piece) = next_piece(&mut pieces, &mut pace).await? {
        gathered.extend_from_slice(&piece);
        if gathered.len() >= PIECE_BYTES {
            upload.add(&gathered, false)?;
            gathered.clear();
        }
    }
    call.check_current()?;
    upload.add(&gathered, true)?;
    let blob = upload.id.clone().unwrap_or_default();
    drop(upload);
    let location = HeaderValue::try_from(format!("/api/v1/blobs/{blob}"));
    let mut response = reply::json(StatusCode::CREATED, Body::from(to_value(&BlobPut { blob }).to_string()));
    response.headers_mut().extend(location.ok().map(|location| (LOCATION, location)));
    Ok(response)
}

pub(super) async fn download(call: ApiCall, Id(id): Id) -> Result<Response, Problem> {
    let found = blobs::find(&call.context, &id).await?;
    let mut response = Body::new(DownloadBody::new(found, call)).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox; default-src 'none'"));
    Ok(response)
}
