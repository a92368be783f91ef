//! The whole client against an engine whose behaviour is arbitrary bytes. Time is simulated, so a
//! deadline costs nothing; a call that does not end within a simulated day hangs.
//!
//! A script is bytes to send, with marks in between for other events. A mark is two bytes: 0xFF and
//! - `r`: the engine reads from the client before it goes on
//! - `w`: three seconds of silence
//! - `m`: the last byte is repeated two million times
//! - `c`: the connection closes; what follows is for the next one
//! - `s`: the connection stays open and silent forever; what follows is for the next one
//!
//! Any other byte after 0xFF is sent with it. The engine always reads once before it sends anything
//! on a connection, and closes at the end of the connection's script. After the whole script, no
//! connection is accepted any more.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use docker::stdcopy::Decoder;
use docker::{
    BoxedIo, BuildOptions, Client, ContainerSpec, Error, Filters, LogOptions, NetworkSpec, Pull, PullPolicy,
    WaitCondition,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{sleep, timeout};

const DAY: Duration = Duration::from_secs(86_400);
const FLOOD: usize = 2_000_000;
/// Longer than any error text: 4 KiB from a peer, quoted, and our own.
const MAX_TEXT: usize = 32 << 10;

#[derive(Debug, Clone)]
enum Step {
    Send(Vec<u8>),
    Read,
    Wait,
    Flood(u8),
    Stall,
}

/// The events on each connection.
fn parse(script: &[u8]) -> VecDeque<Vec<Step>> {
    let mut all = VecDeque::from([Vec::new()]);
    let mut bytes = Vec::new();
    let mut rest = script.iter().copied().peekable();
    while let Some(byte) = rest.next() {
        let mark = (byte == 0xff).then(|| rest.next_if(|mark| b"rwmcs".contains(mark))).flatten();
        let Some(mark) = mark else {
            bytes.push(byte);
            continue;
        };
        let last = bytes.last().copied().unwrap_or_default();
        let steps = all.back_mut().unwrap();
        if !bytes.is_empty() {
            steps.push(Step::Send(std::mem::take(&mut bytes)));
        }
        match mark {
            b'r' => steps.push(Step::Read),
            b'w' => steps.push(Step::Wait),
            b'm' => steps.push(Step::Flood(last)),
            b's' => steps.push(Step::Stall),
            _ => {}
        }
        if matches!(mark, b'c' | b's') {
            all.push_back(Vec::new());
        }
    }
    if !bytes.is_empty() {
        all.back_mut().unwrap().push(Step::Send(bytes));
    }
    all
}

/// An event on a connection. How much the engine reads at a time does not matter.
#[allow(clippy::unused_io_amount)]
async fn play(mut stream: DuplexStream, steps: Vec<Step>) -> io::Result<()> {
    let mut heard = [0; 4096];
    stream.read(&mut heard).await?;
    for step in steps {
        match step {
            Step::Send(bytes) => stream.write_all(&bytes).await?,
            Step::Read => drop(stream.read(&mut heard).await?),
            Step::Wait => sleep(Duration::from_secs(3)).await,
            Step::Flood(byte) => stream.write_all(&vec![byte; FLOOD]).await?,
            Step::Stall => std::future::pending().await,
        }
    }
    Ok(())
}

fn client_of(script: &[u8]) -> Client {
    let connections = Arc::new(Mutex::new(parse(script)));
    Client::with_connector(
        "a script",
        Arc::new(move || {
            let steps = connections.lock().unwrap().pop_front();
            Box::pin(async move {
                let steps = steps.ok_or(io::ErrorKind::ConnectionRefused)?;
                let (ours, theirs) = duplex(64 << 10);
                tokio::spawn(play(theirs, steps));
                Ok(Box::new(ours) as BoxedIo)
            })
        }),
    )
}

fn simulate(future: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(future);
}

/// Makes two calls, chosen by the first two bytes, against a script.
pub fn client(data: &[u8]) {
    let [first, second, script @ ..] = data else { return };
    simulate(async {
        let client = client_of(script);
        for which in [first, second] {
            let (endless, result) = call(&client, *which).await;
            match result {
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    assert!(error.to_string().len() <= MAX_TEXT, "a peer decides how long our errors are");
                    assert!(error.remedy().is_none_or(|remedy| remedy.len() <= MAX_TEXT));
                }
                None => assert!(endless, "a call of the kind {which} does not end"),
            }
        }
    });
}

/// Makes a call. Returns whether it may take forever, and its result within a simulated day.
async fn call(client: &Client, which: u8) -> (bool, Option<Result<(), Error>>) {
    let kind = which % 25;
    let ended = timeout(DAY, make(client, kind)).await.ok();
    (matches!(kind, 16..=18), ended)
}

async fn make(client: &Client, kind: u8) -> Result<(), Error> {
    let filters = Filters::new().with("label", "a");
    let tar = || io::Cursor::new(vec![0; 1024]);
    match kind {
        0 => client.ping().await.map(drop),
        1 => client.version().await.map(drop),
        2 => client.info().await.map(drop),
        3 => client.disk_usage().await.map(drop),
        4 => client.create_container("a", &ContainerSpec::default()).await.map(drop),
        5 => client.inspect_container("a").await.map(drop),
        6 => client.list_containers(true, &filters).await.map(drop),
        7 => client.remove_container("a", true).await.map(drop),
        8 => client.start_container("a").await,
        9 => client.top("a").await.map(drop),
        10 => client.stats("a").await.map(drop),
        11 => client.prune_containers(&filters).await.map(drop),
        12 => client.stat_path("a", "/").await.map(drop),
        13 => client.get_archive("a", "/", 1 << 20, &mut tokio::io::sink()).await.map(drop),
        14 => client.put_archive("a", "/", tar()).await,
        15 => {
            let mut stream = client.stats_stream("a").await?;
            while stream.next().await?.is_some() {}
            Ok(())
        }
        // these three wait for something to happen, and that may be never
        16 => client.wait_container("a", WaitCondition::NextExit).await.map(drop),
        17 => {
            let mut events = client.events(&filters).await?;
            while events.next().await?.is_some() {}
            Ok(())
        }
        18 => {
            let options = LogOptions { follow: true, ..LogOptions::default() };
            client.logs("a", &options).await?.text(1 << 20).await.map(drop)
        }
        19 => client.inspect_image("a").await.map(drop),
        20 => {
            let pull = Pull { image: "a/b:1".parse().unwrap(), policy: PullPolicy::Always, credentials: None };
            client.ensure_image(&pull, &mut |_| {}).await.map(drop)
        }
        21 => client
            .build_image(&BuildOptions::default(), bytes::Bytes::from_static(&[0; 1024]), &mut |_| {})
            .await
            .map(drop),
        22 => client.load_images(tar(), &mut |_| {}).await,
        23 => client.stop_container("a", Duration::from_secs(1)).await,
        _ => client.create_network(&NetworkSpec { name: "a".to_owned(), ..NetworkSpec::default() }).await.map(drop),
    }
}

/// An attach with an arbitrary answer: it ends, and the bytes that it returns are those after the
/// head, from the first one on.
pub fn attach(data: &[u8]) {
    const PING: &[u8] = b"HTTP/1.1 200 OK\r\nApi-Version: 1.43\r\nContent-Length: 2\r\n\r\nOK\xffc";
    simulate(async {
        let client = client_of(&[PING, data].concat());
        let attached = timeout(DAY, client.attach("a")).await.expect("an attach that does not end");
        let (mut reader, mut writer) = match attached {
            Ok(stream) => stream.into_split(),
            Err(error) => return assert!(error.to_string().len() <= MAX_TEXT),
        };
        // the engine may be gone already
        let _ = writer.write_all(b"hello").await;
        let (mut got, mut decoder) = (Vec::new(), Decoder::new());
        let mut piece = [0; 1024];
        // silence may be for ever here; then what came is what there is
        while let Ok(Ok(count @ 1..)) = timeout(DAY, reader.read(&mut piece)).await {
            got.extend_from_slice(&piece[..count]);
            let _ = decoder.push(&piece[..count], |_, payload| assert!(payload.len() <= count));
        }
        let said = parse(data).into_iter().next().unwrap_or_default();
        let said = said.into_iter().flat_map(|step| match step {
            Step::Send(bytes) => bytes,
            Step::Flood(byte) => vec![byte; FLOOD],
            _ => Vec::new(),
        });
        let said: Vec<u8> = said.collect();
        // a script may wait for more than we have to say, so `got` need not reach the end
        let behind_a_line = |at: &usize| said[at - 1] == b'\n' && said[*at..].starts_with(&got);
        assert!(got.is_empty() || (1..said.len()).any(|at| behind_a_line(&at)), "bytes were lost, or made up");
    });
}
