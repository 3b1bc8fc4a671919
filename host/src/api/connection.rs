//! Connections: so many at a time, each with a time for the head of its next request and for taking an answer.
//!
//! The web server has no limit of its own for who connects and says nothing, or a byte a minute, and the token can be
//! asked for only when a request's head is there. So a connection notes whether a request is being answered, and
//! without one it ends when its time is over.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Request};
use axum::middleware::Next;
use axum::response::Response;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

/// A few for each person and program that uses a host. More wait until one ends.
const CONNECTIONS_COUNT_MAX: usize = 256;

/// From the beginning of a connection, or the end of a request, until the next request's head is there. Proxies keep
/// connections for a minute.
const HEAD_MAX: Duration = Duration::from_secs(75);

/// As long as nothing of an answer is taken.
const TAKE_MAX: Duration = Duration::from_secs(30);

/// What accepts connections.
pub(super) struct Arrivals {
    listener: TcpListener,
    places: Arc<Semaphore>,
    head_max: Duration,
}

impl Arrivals {
    pub(super) fn new(listener: TcpListener) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(CONNECTIONS_COUNT_MAX)), head_max: HEAD_MAX }
    }
}

impl Listener for Arrivals {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let place = Arc::clone(&self.places).acquire_owned().await.expect("places are never closed");
        let (stream, address) = Listener::accept(&mut self.listener).await;
        // Answers are small, and somebody waits for them; without this they only come a little later.
        let _ = stream.set_nodelay(true);
        (Connection::new(stream, place, self.head_max), address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection.
pub(super) struct Connection {
    stream: TcpStream,
    activity: Activity,
    head_max: Duration,
    /// Wakes whoever waits for a request's head.
    head: Pin<Box<Sleep>>,
    /// Wakes whoever waits for an answer to be taken.
    taking: Option<Pin<Box<Sleep>>>,
    _place: OwnedSemaphorePermit,
}

/// Since when no request is being answered on a connection; none while one is. The lock is held as long as it takes to
/// read or write a time.
#[derive(Clone)]
pub(super) struct Activity(Arc<Mutex<Option<Instant>>>);

impl Activity {
    fn set(&self, idle_since: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = idle_since;
    }

    fn idle_since(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connected<IncomingStream<'_, Arrivals>> for Activity {
    fn connect_info(stream: IncomingStream<'_, Arrivals>) -> Self {
        stream.io().activity.clone()
    }
}

/// Notes while a request is being answered; its body and its handler have limits of their own.
pub(super) async fn count(
    ConnectInfo(activity): ConnectInfo<Activity>,
    request: Request,
    next: Next,
) -> Response {
    activity.set(None);
    let response = next.run(request).await;
    activity.set(Some(Instant::now()));
    response
}

impl Connection {
    fn new(stream: TcpStream, place: OwnedSemaphorePermit, head_max: Duration) -> Self {
        let now = Instant::now();
        let activity = Activity(Arc::new(Mutex::new(Some(now))));
        let head = Box::pin(tokio::time::sleep_until(now + head_max));
        Self { stream, activity, head_max, head, taking: None, _place: place }
    }

    /// Whether the time for a request's head is over; if not, the task is woken when it may be.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            let now = Instant::now();
            let deadline = self.activity.idle_since().unwrap_or(now) + self.head_max;
            if deadline <= now {
                return Poll::Ready(io::ErrorKind::TimedOut.into());
            }
            if self.head.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.head.as_mut().reset(deadline);
        }
    }

    /// Something of an answer was taken, or not yet.
    fn taken<T>(&mut self, taken: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if taken.is_ready() {
            self.taking = None;
            return taken;
        }
        let taking = self.taking.get_or_insert_with(|| Box::pin(tokio::time::sleep(TAKE_MAX)));
        taking.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Asked first: who sends a byte now and then always has something to read.
        if let Poll::Ready(error) = self.poll_overdue(cx) {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.taken(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.taken(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::time::Instant as Clock;

    use axum::Router;
    use axum::middleware::from_fn;
    use axum::routing::get;

    use super::*;

    const HEAD_MAX: Duration = Duration::from_millis(300);

    /// A server that answers after twice the time for a head.
    fn start(executor: &tokio::runtime::Runtime) -> SocketAddr {
        let listener = executor.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let slow = || async {
            tokio::time::sleep(HEAD_MAX * 2).await;
            "answered"
        };
        let app = Router::new().route("/", get(slow)).layer(from_fn(count));
        let arrivals = Arrivals { head_max: HEAD_MAX, ..Arrivals::new(listener) };
        let app = app.into_make_service_with_connect_info::<Activity>();
        executor.spawn(async move { axum::serve(arrivals, app).await });
        address
    }

    /// How long a connection lives on which this is sent, a byte each 50 ms, and what comes back.
    fn drip(address: SocketAddr, bytes: &[u8]) -> (Duration, String) {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut writer = stream.try_clone().unwrap();
        let (begun, bytes) = (Clock::now(), bytes.to_owned());
        let dripping = std::thread::spawn(move || {
            for byte in bytes {
                if writer.write_all(&[byte]).is_err() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let lived = begun.elapsed();
        drop(stream);
        dripping.join().unwrap();
        (lived, String::from_utf8(answer).unwrap())
    }

    #[test]
    fn a_head_that_comes_byte_by_byte_has_the_time_of_one_head() {
        let executor =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let address = start(&executor);
        for bytes in [&b""[..], &b"GET / HTTP/1.1\r\nHost: a\r\nX: ".repeat(2)] {
            let (lived, answer) = drip(address, bytes);
            assert!(lived > HEAD_MAX / 2 && lived < HEAD_MAX * 10, "lived {lived:?}");
            assert!(!answer.contains("200 OK"), "{answer}");
        }
    }

    #[test]
    fn a_slow_answer_does_not_end_its_connection_but_silence_behind_it_does() {
        let executor =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let address = start(&executor);
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let begun = Clock::now();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("answered"), "{answer}");
        let lived = begun.elapsed();
        assert!(lived >= HEAD_MAX * 3 && lived < HEAD_MAX * 20, "lived {lived:?}");
    }
}
