//! Several servers that are one JetStream.

use crate::server::{available, port_is_taken};
use crate::{Server, ports};

/// How often other ports are tried when somebody was faster.
const ATTEMPTS: usize = 5;

/// Servers that know each other, named `n0`, `n1` and so on. They are killed when this is dropped.
pub struct Cluster {
    servers: Vec<Server>,
}

impl Cluster {
    /// So many servers, with JetStream ready to be used; none if there is no program and none can be installed: the
    /// reason is said, and the test is counted as skipped.
    ///
    /// # Panics
    /// When the program is there and the servers don't start.
    pub fn start(count: usize) -> Option<Self> {
        Self::with(count, "")
    }

    /// Servers which each have these lines in their configuration too.
    ///
    /// # Panics
    /// When the program is there and the servers don't start.
    pub fn with(count: usize, lines: &str) -> Option<Self> {
        available()?;
        let mut failed = String::new();
        for _ in 0..ATTEMPTS {
            let cluster = Self::new(count, lines);
            match cluster.servers.iter().try_for_each(Server::launch) {
                Ok(()) => {
                    cluster.wait();
                    return Some(cluster);
                }
                Err(why) if port_is_taken(&why) => failed = why,
                Err(why) => panic!("{why}"),
            }
        }
        panic!("{failed}");
    }

    fn new(count: usize, lines: &str) -> Self {
        let routes: Vec<u16> = (0..count).map(|_| ports::free()).collect();
        let all: Vec<String> = routes.iter().map(|port| format!("\"nats://127.0.0.1:{port}\"")).collect();
        let all = all.join(", ");
        let server = |(i, port): (usize, &u16)| {
            let listen = format!("listen: \"127.0.0.1:{port}\"");
            let cluster = format!("cluster {{ name: test, {listen}, routes: [{all}] }}\n{lines}");
            Server::new(&format!("n{i}"), ports::free(), &cluster)
        };
        Self { servers: routes.iter().enumerate().map(server).collect() }
    }

    /// Where clients reach them; one address each.
    pub fn urls(&self) -> Vec<String> {
        self.servers.iter().map(Server::url).collect()
    }

    /// One of them. Its `restart` waits for JetStream, which takes most of the servers.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn server(&self, i: usize) -> &Server {
        &self.servers[i]
    }

    /// Which of them has this name, as in a stream's leader.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.servers.iter().position(|server| server.name() == name)
    }

    /// Ends one as `kill -9` does, and waits for that.
    pub fn kill(&self, i: usize) {
        self.servers[i].kill();
    }

    /// Starts one again on the same port and with what it has stored; waits until it listens. With too few of the
    /// others JetStream can't be used yet: see [`Cluster::wait`].
    ///
    /// # Panics
    /// When it doesn't start.
    pub fn restart(&self, i: usize) {
        self.servers[i].relaunch();
    }

    /// Waits until JetStream can be used at every server, with what is stored there caught up.
    ///
    /// # Panics
    /// When that takes more than a minute, as when one doesn't run.
    pub fn wait(&self) {
        self.servers.iter().for_each(Server::wait);
    }
}
