//! A relay to an engine's TCP port in its network namespace. It can cut or stall connections, as a
//! network does.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::private_engine::enter;

/// A running relay; it stops with the last clone.
#[derive(Clone)]
pub struct Relay {
    inner: Arc<Inner>,
    address: SocketAddr,
}

struct Inner {
    open: Mutex<Vec<TcpStream>>,
    stalled: AtomicBool,
    stop: Arc<AtomicBool>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

/// The network namespace of the process whose pid the file holds. Read for each connection: the
/// process may restart.
fn namespace(pid_file: &Path) -> Option<PathBuf> {
    let pid: i32 = std::fs::read_to_string(pid_file).ok()?.trim().parse().ok()?;
    Some(format!("/proc/{pid}/ns/net").into())
}

impl Relay {
    /// Relays a local port to `port` on the loopback interface of the namespace of the process in
    /// `pid_file`.
    pub fn start(pid_file: PathBuf, port: u16) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let inner = Arc::new(Inner { open: Mutex::default(), stalled: AtomicBool::new(false), stop: stop.clone() });
        let weak = Arc::downgrade(&inner);
        std::thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                let Ok((near, _)) = listener.accept() else {
                    std::thread::sleep(Duration::from_millis(5));
                    continue;
                };
                near.set_nonblocking(false).unwrap();
                let (pid_file, weak) = (pid_file.clone(), weak.clone());
                std::thread::spawn(move || {
                    // the process is gone: the connection is closed
                    let Some(namespace) = namespace(&pid_file).filter(|path| path.exists()) else { return };
                    enter(&namespace);
                    let Ok(far) = TcpStream::connect(("127.0.0.1", port)) else { return };
                    let Some(inner) = weak.upgrade() else { return };
                    inner.open.lock().unwrap().extend([near.try_clone().unwrap(), far.try_clone().unwrap()]);
                    drop(inner);
                    let back = (far.try_clone().unwrap(), near.try_clone().unwrap(), weak.clone());
                    std::thread::spawn(move || copy(back.0, back.1, &back.2));
                    copy(near, far, &weak);
                });
            }
        });
        Relay { inner, address }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Cuts all open connections, also in the middle of a transfer. Returns their number.
    pub fn cut(&self) -> usize {
        let open = std::mem::take(&mut *self.inner.open.lock().unwrap());
        open.iter().filter(|stream| stream.shutdown(Shutdown::Both).is_ok()).count()
    }

    /// Stops the transfer on all connections for `time`.
    pub fn stall(&self, time: Duration) {
        self.inner.stalled.store(true, Ordering::SeqCst);
        std::thread::sleep(time);
        self.inner.stalled.store(false, Ordering::SeqCst);
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, relay: &std::sync::Weak<Inner>) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        while relay.upgrade().is_some_and(|relay| relay.stalled.load(Ordering::SeqCst)) {
            std::thread::sleep(Duration::from_millis(5));
        }
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
