//! Deliveries to receivers and with name servers of ours, on loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket, UnixListener, UnixStream};
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::callback::{Callback, CallbackClient, MAX_ANSWER_BYTES};
use crate::resolver::NameLookup;
use config::callbacks::CallbackRules;
use protocol::egress::{EgressReply, EgressRequest, EgressStep, MAX_EGRESS_LINE_BYTES};

/// A name server whose answer depends on how often it was asked for IPv4 addresses.
struct NameServer {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl NameServer {
    async fn start(answers: impl Fn(usize) -> Vec<Ipv4Addr> + Send + 'static) -> NameServer {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 1500];
            while let Ok((bytes, peer)) = socket.recv_from(&mut buffer).await {
                let query = &buffer[..bytes];
                let (mut at, mut name) = (12, String::new());
                while query[at] != 0 {
                    let end = at + 1 + usize::from(query[at]);
                    name = format!("{name}{}.", String::from_utf8_lossy(&query[at + 1..end]));
                    at = end;
                }
                let question = &query[12..at + 5];
                let is_ipv4 = query[at + 2] == 1;
                let found = match is_ipv4 {
                    true => {
                        let mut log = log.lock();
                        log.push(name);
                        answers(log.len())
                    }
                    false => Vec::new(),
                };
                let mut reply = query[..2].to_vec();
                reply.extend([0x81, 0x80, 0, 1, 0, u8::try_from(found.len()).unwrap(), 0, 0, 0, 0]);
                reply.extend(question);
                for address in found {
                    reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
                    reply.extend(address.octets());
                }
                socket.send_to(&reply, peer).await.unwrap();
            }
        });
        NameServer { address, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().clone()
    }
}

/// A receiver that reads a request to the end of its body and then says what it is told to.
struct TestReceiver {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

impl TestReceiver {
    async fn start(answer: &'static str) -> TestReceiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = requests.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let request = read_request(&mut stream).await;
                log.lock().push(request);
                stream.write_all(answer.as_bytes()).await.unwrap();
                if answer.is_empty() {
                    // never answers
                    tokio::spawn(async move {
                        let _ = stream.read(&mut [0]).await;
                        std::future::pending::<()>().await;
                    });
                }
            }
        });
        TestReceiver { port, requests }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().clone()
    }
}

async fn read_request(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    loop {
        let bytes = stream.read(&mut buffer).await.unwrap_or(0);
        text.push_str(&String::from_utf8_lossy(&buffer[..bytes]));
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            if bytes == 0 {
                return text;
            }
            continue;
        };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        if bytes == 0 || body.len() >= length.unwrap_or(0) {
            return text;
        }
    }
}

fn tls(roots: RootCertStore) -> TlsConnector {
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    TlsConnector::from(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

fn client(callbacks: &[String], networks: &[&str], names: Option<&NameServer>) -> CallbackClient {
    let networks: Vec<String> = networks.iter().map(|&network| network.to_owned()).collect();
    let rules = CallbackRules::new(callbacks, &networks);
    CallbackClient {
        rules: Arc::new(move || Ok(rules.clone())),
        lookup: NameLookup { server: names.map(|names| names.address) },
        tls: tls(RootCertStore::empty()),
        call_time: Duration::from_secs(30),
    }
}

fn callback(url: &str) -> Callback {
    Callback {
        url: url.to_owned(),
        delivery: "delivery-1".to_owned(),
        signature: "t=1,v1=00".to_owned(),
        body: Bytes::from_static(b"{\"id\":\"a\"}"),
    }
}

const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
const OK: &str = "HTTP/1.1 204 No Content\r\n\r\n";

#[tokio::test]
async fn the_receiver_gets_the_report_signed_with_the_name_in_host() {
    let receiver = TestReceiver::start(OK).await;
    let names = NameServer::start(|_| vec![LOOPBACK]).await;
    let host = format!("http://hooks.test:{}", receiver.port);
    let client = client(std::slice::from_ref(&host), &["127.0.0.0/8"], Some(&names));
    let reply = client.deliver(callback(&format!("{host}/a/b?c=d%20e"))).await;
    assert_eq!(reply, EgressReply::Answered { status: 204 });
    let [request] = &receiver.requests()[..] else { panic!("{:?}", receiver.requests()) };
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<&str> = head.lines().collect();
    assert_eq!(lines.remove(0), "POST /a/b?c=d%20e HTTP/1.1");
    let host = format!("host: hooks.test:{}", receiver.port);
    for expected in [
        host.as_str(),
        "content-type: application/json",
        "content-length: 10",
        "assay-delivery: delivery-1",
        "assay-signature: t=1,v1=00",
        "connection: close",
    ] {
        assert!(lines.contains(&expected), "{expected} is missing in {lines:?}");
    }
    assert_eq!(body, "{\"id\":\"a\"}");
    assert_eq!(names.asked(), ["hooks.test."], "without the search list");
}

#[tokio::test]
async fn a_name_is_looked_up_once_and_what_was_checked_is_connected_to() {
    let receiver = TestReceiver::start(OK).await;
    // an attacker's server: harmless when it is checked, the metadata service afterwards
    let names = NameServer::start(|time| vec![if time == 1 { LOOPBACK } else { METADATA }]).await;
    let host = format!("http://hooks.test:{}", receiver.port);
    let client = client(std::slice::from_ref(&host), &["127.0.0.1/32"], Some(&names));
    assert_eq!(client.deliver(callback(&host)).await, EgressReply::Answered { status: 204 });
    assert_eq!((names.asked().len(), receiver.requests().len()), (1, 1));
    let EgressReply::Refused { message } = client.deliver(callback(&host)).await else { panic!("it is delivered") };
    assert!(message.contains("hooks.test resolves to 169.254.169.254, which is link-local"), "{message}");
    assert_eq!((names.asked().len(), receiver.requests().len()), (2, 1));
}

#[tokio::test]
async fn one_address_that_is_not_public_refuses_all_of_a_name() {
    let receiver = TestReceiver::start(OK).await;
    let names = NameServer::start(|_| vec![LOOPBACK, Ipv4Addr::new(10, 0, 0, 1)]).await;
    let host = format!("http://hooks.test:{}", receiver.port);
    let some = client(std::slice::from_ref(&host), &["127.0.0.1/32"], Some(&names));
    assert!(matches!(some.deliver(callback(&host)).await, EgressReply::Refused { .. }));
    let none = client(std::slice::from_ref(&host), &[], Some(&names));
    assert!(matches!(none.deliver(callback(&host)).await, EgressReply::Refused { .. }));
    assert_eq!(receiver.requests(), Vec::<String>::new());
}

#[tokio::test]
async fn an_address_is_reached_only_where_it_is_named() {
    let receiver = TestReceiver::start(OK).await;
    let named = format!("http://127.0.0.1:{}", receiver.port);
    let client = client(std::slice::from_ref(&named), &[], None);
    assert_eq!(client.deliver(callback(&named)).await, EgressReply::Answered { status: 204 });
    for url in [
        format!("http://localhost:{}/", receiver.port),
        format!("http://2130706433:{}/", receiver.port),
        format!("http://0x7f.1:{}/", receiver.port),
        format!("http://[::ffff:7f00:1]:{}/", receiver.port),
        format!("http://[::1]:{}/", receiver.port),
        format!("https://127.0.0.1:{}/", receiver.port),
        format!("http://127.0.0.1:{}@evil/", receiver.port),
        "http://127.0.0.1/".to_owned(),
    ] {
        let reply = client.deliver(callback(&url)).await;
        assert!(matches!(reply, EgressReply::Refused { .. }), "{url}: {reply:?}");
    }
    assert_eq!(receiver.requests().len(), 1);
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let target = TestReceiver::start(OK).await;
    let location =
        format!("HTTP/1.1 307 T\r\nlocation: http://127.0.0.1:{}/\r\ncontent-length: 0\r\n\r\n", target.port);
    let receiver = TestReceiver::start(location.leak()).await;
    let hosts = [&receiver, &target].map(|receiver| format!("http://127.0.0.1:{}", receiver.port));
    let client = client(&hosts, &[], None);
    assert_eq!(client.deliver(callback(&hosts[0])).await, EgressReply::Answered { status: 307 });
    assert_eq!((receiver.requests().len(), target.requests().len()), (1, 0));
}

#[tokio::test]
async fn a_receiver_that_says_nothing_or_never_ends_its_head_fails() {
    let endless = format!("HTTP/1.1 200 OK\r\n{}", "x: y\r\n".repeat(MAX_ANSWER_BYTES / 6));
    for answer in ["", "HTTP/1.1 2", "nonsense\r\n\r\n", endless.leak()] {
        let receiver = TestReceiver::start(answer).await;
        let host = format!("http://127.0.0.1:{}", receiver.port);
        let mut client = client(std::slice::from_ref(&host), &[], None);
        if answer.is_empty() {
            client.call_time = Duration::from_millis(300);
        }
        let reply = client.deliver(callback(&host)).await;
        assert!(matches!(reply, EgressReply::Failed { step: EgressStep::Answer, .. }), "{reply:?}");
        assert_eq!(receiver.requests().len(), 1);
    }
}

#[tokio::test]
async fn an_answer_that_never_ends_is_read_up_to_its_bound() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = format!("http://127.0.0.1:{}", listener.local_addr().unwrap().port());
    let receiver = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
        // until the other side hangs up
        while stream.write_all(b"8\r\n12345678\r\n").await.is_ok() {}
    });
    let client = client(std::slice::from_ref(&host), &[], None);
    assert_eq!(client.deliver(callback(&host)).await, EgressReply::Answered { status: 200 });
    receiver.await.unwrap();
}

#[tokio::test]
async fn a_receiver_that_is_down_fails_to_connect() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let host = format!("http://127.0.0.1:{port}");
    let reply = client(std::slice::from_ref(&host), &[], None).deliver(callback(&host)).await;
    assert!(matches!(reply, EgressReply::Failed { step: EgressStep::Connect, .. }), "{reply:?}");
}

#[tokio::test]
async fn a_name_without_an_address_fails_to_resolve() {
    let names = NameServer::start(|_| Vec::new()).await;
    let client = client(&["hooks.test".to_owned()], &[], Some(&names));
    let reply = client.deliver(callback("https://hooks.test/")).await;
    assert!(matches!(reply, EgressReply::Failed { step: EgressStep::Resolve, .. }), "{reply:?}");
}

#[tokio::test]
async fn tls_asks_for_the_name_and_believes_only_its_certificate() {
    let issued = rcgen::generate_simple_self_signed(["hooks.test".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(issued.signing_key.serialize_der()));
    let server = ServerConfig::builder_with_provider(Arc::new(default_provider()));
    let server = server.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let server = server.with_single_cert(vec![issued.cert.der().clone()], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            log.lock().push(stream.get_ref().1.server_name().map(str::to_owned));
            read_request(&mut stream).await;
            stream.write_all(OK.as_bytes()).await.unwrap();
            let _ = stream.shutdown().await;
        }
    });
    let names = NameServer::start(|_| vec![LOOPBACK]).await;
    let hosts = ["hooks.test", "other.test"].map(|name| format!("https://{name}:{port}"));
    let mut client = client(&hosts, &["127.0.0.1/32"], Some(&names));
    let unknown = client.deliver(callback(&hosts[0])).await;
    assert!(matches!(unknown, EgressReply::Failed { step: EgressStep::Tls, .. }), "{unknown:?}");
    let mut roots = RootCertStore::empty();
    roots.add(issued.cert.der().clone()).unwrap();
    client.tls = tls(roots);
    assert_eq!(client.deliver(callback(&hosts[0])).await, EgressReply::Answered { status: 204 });
    let other = client.deliver(callback(&hosts[1])).await;
    assert!(matches!(other, EgressReply::Failed { step: EgressStep::Tls, .. }), "{other:?}");
    assert_eq!(*seen.lock(), [Some("hooks.test".to_owned())]);
}

#[tokio::test]
async fn rules_that_cannot_be_read_refuse_nothing_for_good() {
    let mut client = client(&["hooks.test".to_owned()], &[], None);
    client.rules = Arc::new(|| Err("failed to read the configuration".to_owned()));
    let reply = client.deliver(callback("https://hooks.test/")).await;
    assert!(matches!(reply, EgressReply::Failed { step: EgressStep::Request, .. }), "{reply:?}");
}

/// A server on a socket of its own, and what it replies to these bytes.
async fn replies(client: CallbackClient, requests: &[Vec<u8>]) -> Vec<EgressReply> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("egress.sock");
    let listener: UnixListener = crate::bind(&path, false).unwrap();
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(crate::serve(listener, 1, client, async { drop(ended.await) }));
    let mut replies = Vec::new();
    for request in requests {
        let mut stream = UnixStream::connect(&path).await.unwrap();
        stream.write_all(request).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.unwrap();
        replies.push(serde_json::from_str(&reply).unwrap());
    }
    drop(end);
    server.await.unwrap();
    replies
}

fn line(url: &str, body_bytes: usize) -> Vec<u8> {
    let request = EgressRequest::Callback {
        url: url.to_owned(),
        delivery: "d".to_owned(),
        signature: "s".to_owned(),
        body_bytes,
    };
    [serde_json::to_vec(&request).unwrap(), b"\n".to_vec()].concat()
}

#[tokio::test]
async fn the_socket_takes_one_bounded_request_per_connection() {
    let receiver = TestReceiver::start(OK).await;
    let host = format!("http://127.0.0.1:{}", receiver.port);
    let client = client(std::slice::from_ref(&host), &[], None);
    let good = [line(&host, 2), b"{}".to_vec()].concat();
    let requests = [
        b"{\"request\":\"probe\"}\n".to_vec(),
        good,
        b"{\"request\":\"probe\"}".to_vec(),
        b"{\"request\":\"connect\",\"host\":\"a\"}\n".to_vec(),
        [vec![b' '; MAX_EGRESS_LINE_BYTES], b"{\"request\":\"probe\"}\n".to_vec()].concat(),
        line(&host, usize::MAX),
        line(&host, 7),
    ];
    let replies = replies(client, &requests).await;
    assert_eq!(replies[..2], [EgressReply::Ready, EgressReply::Answered { status: 204 }]);
    for reply in &replies[2..] {
        assert!(matches!(reply, EgressReply::Failed { step: EgressStep::Request, .. }), "{reply:?}");
    }
    assert_eq!(receiver.requests().len(), 1);
}

#[test]
fn only_the_daemon_root_and_the_own_user_may_ask() {
    use crate::server::may;
    for (uid, expected) in [(0, true), (998, true), (997, true), (1000, false), (65_534, false), (u32::MAX, false)] {
        assert_eq!(may(uid, 998, 997), expected, "{uid}");
    }
    assert!(!may(65_534, 65_534, 65_534));
}

#[tokio::test]
async fn a_socket_that_a_dead_process_left_is_replaced_and_a_live_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("egress.sock");
    drop(crate::bind(&path, false).unwrap());
    let live = crate::bind(&path, true).unwrap();
    assert!(crate::bind(&path, false).is_err());
    drop(live);
}
