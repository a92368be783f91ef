//! One callback: decide, resolve, connect, POST.
//!
//! ```text
//!  URL --rules--> receiver --lookup, once--> addresses --each is checked--> one of them
//!         |                                      |                           |
//!         '-- Refused                            '-- Refused                 |  connect
//!                                                                            v
//!      status <-- POST, with the name in Host <-- TLS, if https: SNI and certificate by the name
//! ```
//!
//! [`CALL_TIME`] in all. The name is looked up once, and what was checked is what is connected to.
//! A redirect is an answer like any other, and is not followed; no variable names a proxy. The
//! status is the answer: what follows it is read up to [`MAX_ANSWER_BYTES`] and thrown away.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderValue, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use url::{Host, Position, Url};

use crate::addresses::refused;
use crate::resolver::NameLookup;
use config::callbacks::{CallbackRules, Receiver};
use protocol::callback::{DELIVERY_HEADER, SIGNATURE_HEADER};
use protocol::egress::{EgressReply, EgressStep};
use telemetry::text::clean;

/// From the request of the daemon to the receiver's status.
pub const CALL_TIME: Duration = Duration::from_secs(10);

/// How long one of several addresses may take to accept a connection.
const CONNECT_TIME: Duration = Duration::from_secs(3);

/// What is read of an answer.
pub const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Addresses of a name that are tried.
const MAX_ADDRESSES: usize = 8;

/// Length of a message to the daemon.
const MAX_MESSAGE_CHARS: usize = 300;

/// What is to be delivered.
#[derive(Debug)]
pub struct Callback {
    pub url: String,
    /// Its id, the same at each try.
    pub delivery: String,
    /// The value of `Assay-Signature`.
    pub signature: String,
    pub body: Bytes,
}

/// Reads the rules that hold now. Blocks.
pub type ReadRules = Arc<dyn Fn() -> Result<CallbackRules, String> + Send + Sync>;

/// What delivers callbacks, one by one.
#[derive(Clone)]
pub struct CallbackClient {
    pub rules: ReadRules,
    pub lookup: NameLookup,
    pub tls: TlsConnector,
    /// Of one delivery: [`CALL_TIME`].
    pub call_time: Duration,
}

impl std::fmt::Debug for CallbackClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CallbackClient").field("lookup", &self.lookup).finish_non_exhaustive()
    }
}

fn failed(step: EgressStep) -> impl Fn(String) -> EgressReply {
    move |message| EgressReply::Failed { step, message: clean(&message).chars().take(MAX_MESSAGE_CHARS).collect() }
}

/// Runs one step within the time that is left.
async fn within<T>(
    deadline: Instant,
    step: EgressStep,
    work: impl Future<Output = Result<T, String>>,
) -> Result<T, EgressReply> {
    let done = timeout_at(deadline, work).await;
    done.unwrap_or_else(|_| Err("it took too long".to_owned())).map_err(failed(step))
}

impl CallbackClient {
    /// Delivers a callback once.
    pub async fn deliver(&self, callback: Callback) -> EgressReply {
        let deadline = Instant::now() + self.call_time;
        self.try_to_deliver(callback, deadline).await.unwrap_or_else(|reply| reply)
    }

    async fn try_to_deliver(&self, callback: Callback, deadline: Instant) -> Result<EgressReply, EgressReply> {
        let read = self.rules.clone();
        let rules = within(deadline, EgressStep::Request, async move {
            let read = tokio::task::spawn_blocking(move || read()).await;
            read.unwrap_or_else(|error| Err(error.to_string()))
        });
        let rules = rules.await?;
        let (url, receiver) = rules
            .admit(&callback.url)
            .map_err(|refusal| EgressReply::Refused { message: format!("the URL {refusal}") })?;
        let addresses = self.addresses(&receiver, &rules, deadline).await?;
        let stream = within(deadline, EgressStep::Connect, connect(&addresses, receiver.port)).await?;
        match receiver.is_https {
            false => post(stream, &url, &receiver, callback, deadline).await,
            true => {
                let name = server_name(&receiver).map_err(failed(EgressStep::Tls))?;
                let tls = async { self.tls.connect(name, stream).await.map_err(|error| error.to_string()) };
                let stream = within(deadline, EgressStep::Tls, tls).await?;
                post(stream, &url, &receiver, callback, deadline).await
            }
        }
    }

    /// The addresses that may be connected to: that of the URL, or all of its name, if each of them
    /// may be.
    async fn addresses(
        &self,
        receiver: &Receiver,
        rules: &CallbackRules,
        deadline: Instant,
    ) -> Result<Vec<IpAddr>, EgressReply> {
        if let Some(address) = receiver.address() {
            return Ok(vec![address]);
        }
        let name = receiver.host.to_string();
        let lookup = async { self.lookup.addresses(&name).await.map_err(|error| format!("{name}: {error}")) };
        let found = within(deadline, EgressStep::Resolve, lookup).await?;
        for address in &found {
            if let Some(kind) = refused(*address, rules) {
                let message = format!(
                    "{name} resolves to {address}, which is {kind}; if it may be reached, name its network in \
                     http.callback_networks"
                );
                return Err(EgressReply::Refused { message });
            }
        }
        Ok(found)
    }
}

/// Connects to the first of the addresses that accepts.
async fn connect(addresses: &[IpAddr], port: u16) -> Result<TcpStream, String> {
    let mut last = String::new();
    for address in addresses.iter().take(MAX_ADDRESSES) {
        let address = SocketAddr::new(*address, port);
        last = match tokio::time::timeout(CONNECT_TIME, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => format!("{address}: {error}"),
            Err(_) => format!("{address}: it took too long"),
        };
    }
    Err(last)
}

fn server_name(receiver: &Receiver) -> Result<ServerName<'static>, String> {
    match &receiver.host {
        Host::Domain(name) => ServerName::try_from(name.clone()).map_err(|error| error.to_string()),
        Host::Ipv4(address) => Ok(ServerName::from(IpAddr::V4(*address))),
        Host::Ipv6(address) => Ok(ServerName::from(IpAddr::V6(*address))),
    }
}

fn request(url: &Url, receiver: &Receiver, callback: Callback) -> Result<Request<Full<Bytes>>, String> {
    let is_default = receiver.port == if receiver.is_https { 443 } else { 80 };
    let host = match is_default {
        true => receiver.host.to_string(),
        false => format!("{}:{}", receiver.host, receiver.port),
    };
    Request::post(&url[Position::BeforePath..Position::AfterQuery])
        .header(HOST, host)
        .header(USER_AGENT, HeaderValue::from_static(concat!("assay-egress/", env!("CARGO_PKG_VERSION"))))
        .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
        .header(DELIVERY_HEADER, callback.delivery)
        .header(SIGNATURE_HEADER, callback.signature)
        .header(http::header::CONNECTION, HeaderValue::from_static("close"))
        .body(Full::new(callback.body))
        .map_err(|error| error.to_string())
}

/// Ends the connection when the call is over.
struct CallTask(tokio::task::JoinHandle<()>);

impl Drop for CallTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn post(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    url: &Url,
    receiver: &Receiver,
    callback: Callback,
    deadline: Instant,
) -> Result<EgressReply, EgressReply> {
    let request = request(url, receiver, callback).map_err(failed(EgressStep::Request))?;
    let call = async {
        let mut builder = hyper::client::conn::http1::Builder::new();
        builder.max_buf_size(MAX_ANSWER_BYTES);
        let (mut sender, connection) =
            builder.handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        let task = CallTask(tokio::spawn(async move { drop(connection.await) }));
        let answer = sender.send_request(request).await.map_err(|error| chain(&error))?;
        Ok((answer, task))
    };
    let (mut answer, _task) = within(deadline, EgressStep::Answer, call).await?;
    let status = answer.status().as_u16();
    let rest = async {
        let mut bytes = 0;
        while let Some(Ok(frame)) = answer.frame().await {
            bytes += frame.data_ref().map_or(0, Bytes::len);
            if bytes > MAX_ANSWER_BYTES {
                break;
            }
        }
    };
    // the status has arrived: whether its receiver goes on talking makes no difference
    let _ = timeout_at(deadline, rest).await;
    Ok(EgressReply::Answered { status })
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
