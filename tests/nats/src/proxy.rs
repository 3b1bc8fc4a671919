//! A network that fails: what lies between a client and a server, cut or stalled when a test says so.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::ports;

const POLL: Duration = Duration::from_millis(1);
const BUFFER_BYTES: usize = 64 << 10;

/// Forwards connections to an address, until it is told otherwise.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    to: String,
    /// Held for moments only: to accept, to look, to change.
    state: Mutex<State>,
    /// Tells connections that wait in a stall to look again.
    changed: Condvar,
}

struct State {
    /// None: cut.
    listener: Option<TcpListener>,
    stalled: bool,
    ended: bool,
    /// How often it was cut: connections of before are gone.
    cuts: u64,
    connections: Vec<(u64, TcpStream)>,
    /// The number of the next connection.
    next: u64,
}

impl Proxy {
    /// A proxy before this address, as in `127.0.0.1:12345`.
    ///
    /// # Panics
    /// When no port is free.
    pub fn start(address: &str) -> Self {
        let port = ports::free();
        let state = State {
            listener: Some(listen(port)),
            stalled: false,
            ended: false,
            cuts: 0,
            connections: Vec::new(),
            next: 0,
        };
        let shared =
            Arc::new(Shared { to: address.to_owned(), state: Mutex::new(state), changed: Condvar::new() });
        let accepting = Some(thread::spawn({
            let shared = shared.clone();
            move || accept(&shared)
        }));
        Self { port, shared, accepting }
    }

    /// Where a client reaches the server through it.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    /// Host and port; the same for its whole life.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Drops all connections and refuses new ones, at once.
    pub fn cut(&self) {
        let mut state = self.shared.state();
        state.listener = None;
        state.cut();
        self.shared.changed.notify_all();
    }

    /// Accepts new connections, and goes on in those that were stalled.
    ///
    /// # Panics
    /// When another process has taken the port.
    pub fn heal(&self) {
        let mut state = self.shared.state();
        state.stalled = false;
        if state.listener.is_none() {
            state.listener = Some(listen(self.port));
        }
        self.shared.changed.notify_all();
    }

    /// Forwards nothing, in connections that there are and in new ones, which it accepts; until it is healed, when
    /// what was held back goes on its way.
    pub fn stall(&self) {
        self.shared.state().stalled = true;
    }

    /// How many connections it has.
    pub fn connections(&self) -> usize {
        // Each is there once per direction.
        self.shared.state().connections.len() / 2
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.state().ended = true;
        self.cut();
        if let Some(accepting) = self.accepting.take() {
            _ = accepting.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while it is stalled; whether a connection of this time goes on.
    fn goes_on(&self, cuts: u64) -> bool {
        let mut state = self.state();
        while state.stalled && state.cuts == cuts {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.cuts == cuts
    }
}

impl State {
    fn cut(&mut self) {
        self.cuts += 1;
        for (_, connection) in self.connections.drain(..) {
            _ = connection.shutdown(Shutdown::Both);
        }
    }
}

fn listen(port: u16) -> TcpListener {
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("the proxy's port is free");
    listener.set_nonblocking(true).expect("a listener can be polled");
    listener
}

fn accept(shared: &Arc<Shared>) {
    loop {
        let mut state = shared.state();
        if state.ended {
            return;
        }
        match state.listener.as_ref().map(TcpListener::accept) {
            // Both ends are known to the state before it can be cut.
            Some(Ok((client, _))) => forward(shared, &mut state, client),
            Some(Err(e)) if e.kind() != ErrorKind::WouldBlock => eprintln!("the proxy cannot accept: {e}"),
            _ => {
                drop(state);
                thread::sleep(POLL);
            }
        }
    }
}

/// Connects a client through; drops it when the server isn't there.
fn forward(shared: &Arc<Shared>, state: &mut State, client: TcpStream) {
    let Ok((back, there)) = connect(&shared.to, &client) else { return };
    let number = state.next;
    state.next += 1;
    let cuts = state.cuts;
    let (Ok(a), Ok(b)) = (client.try_clone(), there.try_clone()) else { return };
    state.connections.extend([(number, a), (number, b)]);
    for (from, to) in [(client, there), back] {
        let shared = shared.clone();
        thread::spawn(move || {
            copy(&shared, cuts, &from, &to);
            _ = from.shutdown(Shutdown::Both);
            _ = to.shutdown(Shutdown::Both);
            shared.state().connections.retain(|(n, _)| *n != number);
        });
    }
}

/// The way back, from the server to the client, and the connection to the server.
fn connect(to: &str, client: &TcpStream) -> std::io::Result<((TcpStream, TcpStream), TcpStream)> {
    let there = TcpStream::connect(to)?;
    client.set_nonblocking(false)?;
    client.set_nodelay(true)?;
    there.set_nodelay(true)?;
    Ok(((there.try_clone()?, client.try_clone()?), there))
}

/// Copies one direction to its end.
fn copy(shared: &Shared, cuts: u64, mut from: &TcpStream, mut to: &TcpStream) {
    let mut buffer = vec![0; BUFFER_BYTES];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if !shared.goes_on(cuts) || to.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}
