//! The cancellation matrix: every step of a sandbox's creation succeeds, fails, is slow, never ends
//! or loses its reply, crossed with the future being dropped at every poll. Runs in simulated time
//! against a fake engine that tracks its containers: at the end none is left, and every uid is
//! free.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use docker::{BoxedIo, Client};
use protocol::{Isolation, Preset};
use sandbox::lifecycle::{CreateOptions, Slots, create};
use sandbox::policy::{MemoryOverheads, SandboxPlan, approve, build};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::sleep;
use wire::codec::{decode_to_init, encode_from_init};
use wire::frame::{FromInit, Ready, ToInit, VERSION};
use wire::stream::FrameReader;

use crate::engine::docker::support::read_request;

const STEPS: [&str; 5] = ["create", "attach", "start", "hello", "remove"];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Behaviour {
    Succeeds,
    Fails,
    IsSlow,
    NeverEnds,
    /// The engine does it, and the connection ends before the reply.
    LosesReply,
}

const BEHAVIOURS: [Behaviour; 5] =
    [Behaviour::Succeeds, Behaviour::Fails, Behaviour::IsSlow, Behaviour::NeverEnds, Behaviour::LosesReply];

/// Containers by name, and whether they run.
type Containers = Arc<Mutex<BTreeMap<String, bool>>>;

#[derive(Clone)]
struct Engine {
    containers: Containers,
    step: &'static str,
    /// The behaviour of the first call of that step.
    behaviour: Arc<Mutex<Behaviour>>,
}

impl Engine {
    fn client(&self) -> Client {
        let engine = self.clone();
        Client::with_connector(
            "a fake engine",
            Arc::new(move || {
                let (ours, theirs) = duplex(64 << 10);
                tokio::spawn(engine.clone().serve(theirs));
                Box::pin(async move { Ok(Box::new(ours) as BoxedIo) })
            }),
        )
    }

    /// The behaviour of this call. Only the first call of the step is special; a second one
    /// succeeds.
    fn behaviour(&self, step: &str) -> Behaviour {
        if step != self.step {
            return Behaviour::Succeeds;
        }
        std::mem::replace(&mut *self.behaviour.lock().unwrap(), Behaviour::Succeeds)
    }

    async fn serve(self, mut stream: DuplexStream) {
        let mut buffer = Vec::new();
        while let Some((request, _)) = read_request(&mut stream, &mut buffer).await {
            let path = request.split('?').next().unwrap().to_owned();
            let name = path.split('/').nth(2).unwrap_or_default().to_owned();
            let verb = path.split('/').nth(3).unwrap_or_default().to_owned();
            let step = match (path.split(' ').next().unwrap(), name.as_str(), verb.as_str()) {
                ("POST", "create", _) => "create",
                ("POST", _, "attach") => "attach",
                ("POST", _, "start") => "start",
                ("DELETE", ..) => "remove",
                _ => "look",
            };
            let behaviour = self.behaviour(step);
            let reply = if behaviour == Behaviour::Fails {
                (500, r#"{"message":"scripted"}"#.to_owned())
            } else {
                self.act(step, &request, &name)
            };
            match behaviour {
                Behaviour::IsSlow => sleep(Duration::from_secs(4)).await,
                Behaviour::NeverEnds => std::future::pending().await,
                Behaviour::LosesReply => return,
                Behaviour::Succeeds | Behaviour::Fails => {}
            }
            if step == "attach" && reply.0 == 101 {
                let head = "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
                if stream.write_all(head.as_bytes()).await.is_ok() {
                    self.init(stream, &name).await;
                }
                return;
            }
            let (status, body) = reply;
            let head = format!("HTTP/1.1 {status} X\r\nApi-Version: 1.43\r\nContent-Length: {}\r\n\r\n", body.len());
            let text =
                if status == 204 { "HTTP/1.1 204 X\r\nApi-Version: 1.43\r\n\r\n".to_owned() } else { head + &body };
            if stream.write_all(text.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    fn act(&self, step: &str, request: &str, name: &str) -> (u16, String) {
        let mut containers = self.containers.lock().unwrap();
        let missing = (404, r#"{"message":"No such container"}"#.to_owned());
        match step {
            "create" => {
                let name = request.split_once("name=").unwrap().1.to_owned();
                containers.insert(name.clone(), false);
                (201, format!(r#"{{"Id":"{name}","Warnings":[]}}"#))
            }
            "attach" if containers.contains_key(name) => (101, String::new()),
            "start" => match containers.get_mut(name) {
                Some(running) => {
                    *running = true;
                    (204, String::new())
                }
                None => missing,
            },
            "remove" => match containers.remove(name) {
                Some(_) => (204, String::new()),
                None => missing,
            },
            "look" if request.contains("_ping") => (200, "OK".to_owned()),
            "look" if containers.contains_key(name) => {
                (200, format!(r#"{{"Id":"{name}","Name":"/{name}","Config":{{"Labels":{{}}}}}}"#))
            }
            _ => missing,
        }
    }

    /// The init behind an attach. It exits at the end of the stream, and a running container is
    /// then removed (AutoRemove).
    async fn init(&self, mut stream: DuplexStream, name: &str) {
        let mut frames = FrameReader::new();
        let mut piece = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut piece).await {
            frames.push(&piece[..count]);
            while let Ok(Some(body)) = frames.next() {
                let Ok(ToInit::Hello(hello)) = decode_to_init(body) else { continue };
                match self.behaviour("hello") {
                    Behaviour::Fails | Behaviour::LosesReply => return self.exit(name),
                    Behaviour::IsSlow => sleep(Duration::from_secs(1)).await,
                    Behaviour::NeverEnds => continue,
                    Behaviour::Succeeds => {}
                }
                let mut bytes = Vec::new();
                encode_from_init(&FromInit::Ready(Box::new(ready(hello.nonce))), &mut bytes);
                let mut framed = vec![1, 0, 0, 0];
                framed.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
                framed.extend_from_slice(&bytes);
                if stream.write_all(&framed).await.is_err() {
                    break;
                }
            }
        }
        self.exit(name);
    }

    fn exit(&self, name: &str) {
        let mut containers = self.containers.lock().unwrap();
        if containers.get(name) == Some(&true) {
            containers.remove(name);
        }
    }
}

fn ready(nonce: [u8; 16]) -> Ready {
    let limits = Preset::Judge.limits();
    let split = 1 << 5 | 1 << 6 | 1 << 7;
    Ready {
        version: VERSION,
        nonce,
        cgroup_version: 2,
        memory_bytes: SandboxPlan::container_memory(&limits, MemoryOverheads::default()),
        pids: u64::from(SandboxPlan::container_pids(&limits, MemoryOverheads::default())),
        nano_cpus: SandboxPlan::nano_cpus(&limits),
        cap_bnd: split,
        cap_eff: split,
        no_new_privs: true,
        seccomp: 2,
        only_loopback: true,
        readonly_root: true,
        box_tmpfs: true,
        ..Ready::default()
    }
}

/// Gives up a future at its n-th poll.
struct DropAtPoll<F>(F, usize);

impl<F: Future + Unpin> Future for DropAtPoll<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.1 == 0 {
            return Poll::Ready(None);
        }
        self.1 -= 1;
        Pin::new(&mut self.0).poll(cx).map(Some)
    }
}

/// One creation. Returns whether it ended before it was dropped at the poll number `polls`.
fn scenario(step: &'static str, behaviour: Behaviour, polls: usize) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let engine = Engine { containers: Containers::default(), step, behaviour: Arc::new(Mutex::new(behaviour)) };
        let (client, slots) = (engine.client(), Slots::new(52_000, 4));
        let limits = Preset::Judge.limits();
        let slot = slots.take("assay-1".to_owned()).unwrap();
        let plan = SandboxPlan {
            image_id: format!("sha256:{}", "a".repeat(64)),
            instance: "test-1".to_owned(),
            profile: "python".to_owned(),
            uid: slot.uid(),
            isolation: Isolation::Split,
            runtime: None,
            apparmor: None,
            slot: slot.number(),
            limits,
            overheads: MemoryOverheads::default(),
            network_disabled: true,
        };
        let recipe = CreateOptions {
            approved: approve(build(&plan)).unwrap(),
            limits,
            isolation: plan.isolation,
            overheads: MemoryOverheads::default(),
            slot,
            prewarm: Vec::new(),
        };
        let made = DropAtPoll(pin!(create(&client, recipe)), polls).await;
        let ended = made.is_some();
        if behaviour == Behaviour::Succeeds || step == "remove" {
            assert!(made.as_ref().is_none_or(Result::is_ok), "{step} {behaviour:?} after {polls} polls: {made:?}");
        }
        drop(made);
        // longer than all deadlines and pauses together
        sleep(Duration::from_secs(1800)).await;
        let left = engine.containers.lock().unwrap().clone();
        assert!(left.is_empty(), "{step} {behaviour:?}, dropped at poll {polls}: {left:?}");
        let free = std::iter::from_fn(|| slots.take("free".to_owned())).fold(Vec::new(), |mut all, slot| {
            all.push(slot);
            all
        });
        assert_eq!(free.len(), 4, "{step} {behaviour:?}, dropped at poll {polls}: a uid is not free");
        ended
    })
}

#[test]
fn a_creation_leaves_nothing_however_a_step_behaves_and_whenever_it_is_dropped() {
    let mut count = 0;
    for step in STEPS {
        for behaviour in BEHAVIOURS {
            let ended_at = (0..400).find(|polls| {
                count += 1;
                scenario(step, behaviour, *polls)
            });
            assert!(ended_at.is_some(), "{step} {behaviour:?} never ends");
            assert!(ended_at > Some(2), "{step} {behaviour:?}: there were too few polls to drop it at");
        }
    }
    eprintln!("{count} scenarios");
}
