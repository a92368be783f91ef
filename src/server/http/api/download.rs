//! The body of a download, in pieces: it ends when its caller is not who it was any more.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use super::call::ApiCall;
use crate::calls::blobs::FoundBlob;
use crate::http::access::AccessError;

/// Bytes that are handed to the connection at a time.
const PIECE_BYTES: usize = 64 * 1024;

/// A blob on its way to its caller. The request counts until it is sent or given up.
pub(super) struct DownloadBody {
    rest: FoundBlob,
    call: ApiCall,
}

impl DownloadBody {
    pub(super) fn new(found: FoundBlob, call: ApiCall) -> DownloadBody {
        DownloadBody { rest: found, call }
    }
}

impl HttpBody for DownloadBody {
    type Data = Bytes;
    type Error = AccessError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AccessError>>> {
        if self.rest.bytes.is_empty() {
            return Poll::Ready(None);
        }
        if !self.call.context.daemon.access.is_current(&self.call.identity) {
            return Poll::Ready(Some(Err(AccessError::Unauthenticated)));
        }
        let length = self.rest.bytes.len().min(PIECE_BYTES);
        Poll::Ready(Some(Ok(Frame::data(self.rest.bytes.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.bytes.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.bytes.len() as u64)
    }
}
